"""How much of everything the hop takes, and for how long."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HopLimits:
    """Limits of the hop to one origin, in one process.

    ``connections_max``: 128 orders at once at 100 ms each are 1280 a second; an upstream that
    needs more is helped by more replicas, not by more sockets of one.
    ``plain_max``: as many of them may requests hold that are no orders: an upload, a download or a
    tunnel may be as slow as its client likes.
    ``waiting_max``: a queue eight times the pool is already longer than anyone's patience.
    ``connect_timeout_s``: for callers to pass to ``connect``; one lost SYN is repeated after 1 s.
    ``idle_s``: a pooled connection is used again only if it last worked less than this ago.
    The shortest keep-alive in common use is gunicorn's 2 s (Node, uvicorn, Apache: 5 s); half
    of it leaves the other half for the way there.
    ``stale_s``: the same, asked once more at the first byte: what was taken in time may have
    waited for the ledger. Still under those 2 s.
    ``age_s``: no connection is used for longer: a name in DNS may lead elsewhere by then.
    ``head_bytes_max``, ``headers_max``: four times what common servers accept from a client,
    and a few more fields than Apache's hundred.
    ``interim_max``: 1xx answers before the real one; nobody sends more than two or three.
    ``framing_bytes_max``: what a chunked body may spend on extensions and trailers in a row
    without a byte of body.
    ``answer_bytes_cap``: an order's answer is read (and digested) so far and no further: an
    upstream that sends without end must not hold a connection and a core for ever.
    ``buffer_bytes_max``: of a streamed answer, what waits for a slow reader before the
    upstream is held back. One read of the loop (256 KiB) may come on top.
    """

    connections_max: int = 128
    plain_max: int = 96
    waiting_max: int = 1024
    connect_timeout_s: float = 2.0
    idle_s: float = 1.0
    stale_s: float = 1.5
    age_s: float = 300.0
    head_bytes_max: int = 32_768
    headers_max: int = 128
    interim_max: int = 16
    framing_bytes_max: int = 8_192
    answer_bytes_cap: int = 67_108_864
    buffer_bytes_max: int = 131_072

    def __post_init__(self) -> None:
        if self.connections_max < 1:
            raise ValueError("a pool has room for one connection at least")
        if self.stale_s < self.idle_s:
            raise ValueError("stale_s is at least idle_s: else nothing taken could be used")


@dataclass(frozen=True, slots=True)
class StreamTimeouts:
    """Limits of one streamed exchange.

    ``head_s`` runs from the end of the request to the answer's head. ``quiet_s`` bounds every
    single wait for the upstream: to take more of the request, to send more of the answer.
    Waiting for the client is bounded by the server, not here.
    """

    head_s: float = 30.0
    quiet_s: float = 30.0
