"""``[limits]``."""

from typing import Annotated

from pydantic import Field

from gateway.settings.section import GIB, KIB, Section
from gateway.settings.values import (
    Bytes,
    Count,
    Seconds,
    SecondsOrZero,
)


class LimitsSettings(Section):
    """``[limits]``: what the storefront listener and plain routes bear."""

    requests_max: Count = 1024
    """Requests at work at once; one more waits for its turn. At 100 ms each that is ten times what
    one core can carry. Fewer are let in at first (requests_min), and while the process is late
    (``lag_s``)."""

    requests_min: Count = 64
    """As few it may come down to: enough to keep a core busy, and to fill two batches of the
    ledger."""

    queue_max: Annotated[int, Field(ge=0, le=100_000)] = 256
    """Requests that wait for their turn, orders before reads; one more gets 503 at once."""

    queue_s: Annotated[SecondsOrZero, Field(le=60)] = 0.5
    """For so long; 503 then, and at once where it would take more than half of it. A wait that is
    longer than the work only adds to a jam: where somebody has waited for so long on end, who would
    have to wait for more than 100 ms is refused at once."""

    bodies_max: Count = 4096
    """Requests whose body is waited for at once, in each process, beside requests_max: of orders,
    and of up to 64 KiB elsewhere, which may be three quarters of them. One more gets 503. More than
    one address may have connections, so that nobody can take all of them; each may hold an order
    of body_bytes_max."""

    lag_s: Annotated[Seconds, Field(ge=0.001, le=10)] = 0.003
    """An event loop that is late by more, again and again, has more to do than it can: fewer
    requests are let in until it keeps up. A request takes some turns of it, and a refusal one; more
    at work at once makes the turns longer, and no more orders."""

    adaptive: bool = False
    """Whether fewer are let in also while requests take more than twice as long as they did: for
    upstreams that get slower the more they are asked."""

    connections_max: Count = 12_000
    """Clients connected at once, to all workers together (each takes its share); one more gets 503.
    Room for waits_max and some; the limit of open files must be higher."""

    connections_per_address_max: Count = 2_000
    """The same for one address that is no trusted proxy; one more gets 429. A large office behind
    one address, not a flood."""

    requests_per_connection_max: Count = 10_000
    """Then a connection is closed after its answer, so that balancers can spread the load anew."""

    pipelined_max: Count = 32
    """Requests of one connection that were read and wait for their turn; the rest stays unread."""

    orders_per_client_max: Count = 100_000
    """New orders of one client (its scope; of nobody, its address) within orders_window_s, in each
    process; one more gets 429, repeats do not. Some 30 a second for an hour are a flood."""

    orders_window_s: Seconds = 3600.0
    """The window in which they are counted; it slides."""

    waits_max: Count = 10_000
    """Status requests that wait at once (``Prefer: wait``), beside requests_max. One more is
    answered at once. Each costs some 30 KiB."""

    target_bytes_max: Bytes = 8 * KIB
    """The longest path and query; 414 beyond."""

    head_bytes_max: Bytes = 32 * KIB
    """The largest request header; 431 beyond."""

    fields_max: Count = 100
    """The most header fields; 431 beyond."""

    header_s: Seconds = 10.0
    """From the first byte of a request to the end of its header; 408 beyond."""

    idle_s: Seconds = 75.0
    """A connection without a request is closed after this. Longer than load balancers keep a
    connection (60 s), so that it is they who close."""

    write_s: Seconds = 30.0
    """A client that takes nothing of its answer for so long is gone."""

    body_s: Seconds = 30.0
    """For the whole body of an order: 1 MiB in 30 s is a poor mobile network."""

    plain_body_bytes_max: Bytes = GIB
    """The largest body passed through on other routes; 413 beyond."""

    plain_body_idle_s: Seconds = 30.0
    """The longest pause in such a body; 408 beyond."""

    uploads_max: Count = 24
    """Such bodies that are passed on at once while they come, in each process; one more gets 503.
    Each holds a connection to the upstream for as long as its client takes: with as many tunnels as
    there may be (tunnels_max), reads have some left (``plain_connections_max``). Bodies up to 64
    KiB that say their length are waited for first, and hold none."""

    plain_head_s: Seconds = 60.0
    """From the end of a plain request to the head of its answer: reports and exports are slow."""

    plain_quiet_s: Seconds = 60.0
    """The longest pause of the upstream within an answer that is passed through."""

    tunnels_max: Count = 64
    """WebSockets open at once, in each process; one more gets 503. Each holds a connection to the
    upstream: half of connections_max, a part of what is no order's (``plain_connections_max``)."""

    tunnel_idle_s: Seconds = 300.0
    """A WebSocket in which nothing moved for so long is closed. Clients ping every minute or so."""

    plain_total_s: Seconds = 3600.0
    """For the whole of a plain request, retries and the last byte of its answer included:
    connecting and every wait above have what is left of it at most. A gigabyte at 2 Mbit/s."""

    def share(self, total: int, workers: int) -> int:
        """One worker's part of what all have together: the kernel spreads connections evenly."""
        return -(-total // workers)
