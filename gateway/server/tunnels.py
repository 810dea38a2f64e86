"""Answering that the connection no longer speaks HTTP."""

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from gateway.server.answers import field_lines
from gateway.server.ends import ClientEnd
from gateway.server.requests import StorefrontRequest
from middleware.messages import RawHeaders
from middleware.problems import STAMP


class Switched(web.StreamResponse):
    """``101 Switching Protocols`` (RFC 9110 section 15.2.2). Once it is prepared the client's end
    is the handler's; the connection is closed when the handler returns this."""

    def __init__(self, headers: RawHeaders) -> None:
        super().__init__(status=101)
        self._lines = field_lines(headers)
        self._begun = False

    @property
    def prepared(self) -> bool:
        return self._begun

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the head."""
        if self._begun:
            return None
        if not isinstance(request, StorefrontRequest):
            raise TypeError("tunnels need the storefront's server")
        self._begun = True
        self._keep_alive = False
        request.answer = self
        stamped = [(n.encode("ascii"), v.encode()) for n, v in (request.get(STAMP) or {}).items()]
        lines = (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n",
            *self._lines,
            *field_lines(tuple(stamped)),
            b"Date: %b\r\n\r\n" % request.wire.date(),
        )
        await request.wire.send(b"".join(lines))
        return None

    async def write_eof(self, data: bytes | bytearray | memoryview = b"") -> None:
        """The tunnel has ended: nothing is left to say."""


def client_end(request: web.BaseRequest) -> ClientEnd | None:
    """The client's end, where this request asks for another protocol."""
    if not isinstance(request, StorefrontRequest) or request.head is None:
        return None
    return request.wire.client_end if request.head.upgrade else None
