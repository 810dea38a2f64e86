"""What one client may ask and cost. Sizes in bytes, times in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """The defaults suit a listener behind a load balancer; each says why it is what it is."""

    target_bytes_max: int = 8_192
    """What browsers and proxies agree on (RFC 9112 section 3 asks for 8000 at least)."""

    encoded_slashes_pass: bool = False
    """Whether a path may hold ``%2F`` and ``%5C``: where one server decodes them and the next does
    not, they take the path apart in two ways. For backends with ids such as ``a%2Fb``."""

    head_bytes_max: int = 32_768
    """Request line and header together: large cookies and a token fit, a flood does not."""

    fields_max: int = 100
    """Browsers send some twenty, proxies add ten."""

    header_s: float = 10.0
    """From a request's first byte to the end of its header. A head is a packet or two."""

    idle_s: float = 75.0
    """A kept-alive connection without a request: longer than load balancers keep theirs (60 s),
    so that it is they who close and no request meets a closing connection."""

    write_s: float = 30.0
    """A client that takes nothing for so long, with its buffer full, is gone."""

    linger_s: float = 2.0
    """Before we close: a client that says nothing for so long has nothing more on its way (a lost
    packet is repeated within a second). One that never stops has ``write_s``."""

    drain_idle_s: float = 1.0
    """How long an idle connection is left open while draining: a request on its way to us
    still gets its answer, with ``Connection: close``."""

    read_buffer_bytes: int = 65_536
    """A body that nobody reads stops the connection at twice this."""

    connections_max: int = 10_000
    """Below the usual limit of open files (a connection costs one, its upstream another)."""

    connections_per_address_max: int = 2_000
    """Of one address that is no trusted proxy: an office behind one address, not a flood."""

    requests_per_connection_max: int = 10_000
    """Now and then a connection is made anew, so that load balancers can spread the load."""

    pipelined_max: int = 32
    """Requests of one connection that were read and are not answered. Browsers pipeline none."""

    backlog: int = 4_096
    """Connections that the kernel holds while the loop is busy, as far as ``somaxconn`` lets it.
    Who finds no place tries again a second later."""
