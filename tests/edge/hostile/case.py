"""One hostile request, and what becomes of it."""

from dataclasses import dataclass

H = b"Host: shop\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: shop\r\n\r\n"
"""What smuggling is for: a request that nobody upstream of the backend has judged."""

CHUNKED = b"POST /up HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED_ORDER = CHUNKED.replace(b"/up", b"/orders")
ME = b"Authorization: Bearer me"


@dataclass(frozen=True)
class Case:
    """``statuses`` are all answers on the connection, in order; ``forwarded`` is how many requests
    the backend sees. It answers ``POST /orders`` with 201 and everything else with 200."""

    group: str
    name: str
    sent: bytes
    statuses: tuple[int, ...]
    forwarded: int = 0
    methods: tuple[bytes, ...] = (b"GET",)
    begun: bool = False
    """The backend may see a request begin whose body then breaks off: it was being streamed."""


def line(text: bytes, rest: bytes = H) -> bytes:
    """A request without a body, by its request line."""
    return text + b"\r\n" + rest + b"\r\n"
