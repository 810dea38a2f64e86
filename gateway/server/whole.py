"""Requests of an ordinary head, without a second reading of it: those that came in one piece, and
those whose body, of a known length, is still to come."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion, HttpVersion10, HttpVersion11
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDictProxy
from yarl import URL

from gateway.server.heads import Head
from gateway.server.requests import StorefrontRequest
from middleware.messages import RawHeaders


class Course(Protocol):
    """A request that was begun before the handler was asked (``at_once``)."""

    @property
    def handler(self) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        """The one that goes on with it, whatever was configured since."""
        ...

    def marks(self) -> dict[Any, Any]:
        """The keys that tell it how far things are."""
        ...

    def abandoned(self) -> None:
        """It will not be asked: the client has left."""
        ...

    def cancel(self) -> None:
        """End it now."""
        ...


class Whole(NamedTuple):
    """An ordinary head (``Head.ordinary``) and the bytes of the request, body included.
    ``course``: what was begun of it."""

    head: Head
    raw: bytes
    course: Course | None = None


class Holding(Protocol):
    """A connection that can be held back until its body is taken."""

    @property
    def connected(self) -> bool: ...

    def body_holds(self, hold: bool, /) -> None: ...


class _Flow:
    """As much of a protocol as a StreamReader knows."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Holding) -> None:
        self._connection = connection

    @property
    def connected(self) -> bool:
        return self._connection.connected

    def pause_reading(self) -> None:
        self._connection.body_holds(True)

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: ARG002 - there is none
        self._connection.body_holds(False)


class SizedBody(StreamReader):
    """The body of an ordinary head, of a known length, as it comes: past aiohttp's parser, which
    would copy it."""

    __slots__ = ()

    def __init__(self, connection: Holding, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(_Flow(connection), limit, loop=loop)  # type: ignore[arg-type]

    async def gathered(self, size: int) -> bytes:
        """All ``size`` bytes of it, once the last is in; none may have been read. Raises what the
        body broke off for."""
        self.set_read_chunk_size(size)
        self._protocol.resume_reading()
        broken = self.exception()
        if broken is None:
            await self.wait_eof()
            broken = self.exception()
        if broken is not None:
            raise broken
        pieces = range(len(self._buffer))
        return b"".join([super(SizedBody, self)._read_nowait_chunk(-1) for _ in pieces])

    def _read_nowait_chunk(self, n: int) -> bytes:
        piece = super()._read_nowait_chunk(n)
        return piece if type(piece) is bytes else bytes(piece)

    def feed(self, piece: bytes | memoryview, *, last: bool) -> None:
        self.feed_data(piece)  # type: ignore[arg-type]  # nobody but the method above takes it out
        if last:
            self.feed_eof()


class Sized(NamedTuple):
    """An ordinary head and its bytes; what ``head.body_bytes`` counts comes into ``body``."""

    head: Head
    raw: bytes
    body: SizedBody


class _OrdinaryRequest(StorefrontRequest):
    """What nobody asks for is not made: aiohttp's parser reads the bytes when somebody wants its
    multidict, its URL or its stream, and only then."""

    def __init__(  # aiohttp's would want the message: nothing of it is called
        self, of: Whole | Sized, protocol: RequestHandler, task: "asyncio.Task[None]", loop: Any
    ) -> None:
        head = self.head = self._head = of.head
        self._raw = of.raw
        self._protocol = protocol
        self._task = task
        self._loop = loop
        self._method = head.method.decode("ascii")
        self._cache = {}
        self._state = {}
        self._client_max_size = len(of.raw) + (head.body_bytes or 0)
        self._client_max_fields = 1000  # aiohttp's own
        self._transport_sslcontext = protocol.ssl_context
        self._transport_peername = protocol.peername
        self._transport_sockname = protocol.sockname
        self._reading: tuple[RawRequestMessage, StreamReader] | None = None
        self._writer: AbstractStreamWriter | None = None

    @property
    def agrees(self) -> bool:
        return True  # there is one reading

    @property
    def method(self) -> str:
        return self._method

    @property
    def raw_path(self) -> str:
        return self._head.target.decode("ascii")

    @property
    def raw_headers(self) -> RawHeaders:
        return self._head.fields

    @property
    def keep_alive(self) -> bool:
        return not self._head.closes

    def _read(self) -> tuple[RawRequestMessage, StreamReader]:
        if self._reading is None:
            raw = self._head.for_parser(self._raw)
            size = len(raw)
            parser = HttpRequestParser(
                self._protocol,
                self._loop,
                size,  # never holds the connection back: all of it is here
                max_line_size=size,
                max_field_size=size,
                max_headers=size,
                auto_decompress=False,
            )
            ((self._reading, *_), _, _) = parser.feed_data(raw)
        return self._reading

    @property
    def _message(self) -> RawRequestMessage:  # type: ignore[override]
        return self._read()[0]

    @property
    def _headers(self) -> "CIMultiDictProxy[str]":  # type: ignore[override]
        return self._message.headers

    @property
    def _rel_url(self) -> URL:  # type: ignore[override]
        return self._message.url

    @property
    def _version(self) -> HttpVersion:  # type: ignore[override]
        return HttpVersion11 if self._head.minor else HttpVersion10

    @property
    def _payload_writer(self) -> AbstractStreamWriter:  # type: ignore[override]
        if self._writer is None:
            self._writer = StreamWriter(self._protocol, self._loop)
        return self._writer


class WholeRequest(_OrdinaryRequest):
    """The request made of it."""

    def __init__(
        self, whole: Whole, protocol: RequestHandler, task: "asyncio.Task[None]", loop: Any
    ) -> None:
        super().__init__(whole, protocol, task, loop)
        if whole.course is not None:
            self._state = whole.course.marks()
            self.handler = whole.course.handler

    @property
    def whole_body(self) -> bytes:
        size = self._head.body_bytes
        return self._raw[-size:] if size else b""

    @property
    def can_read_body(self) -> bool:
        return bool(self._head.body_bytes) and (self._reading is None or super().can_read_body)

    @property
    def body_arrived(self) -> bool:
        return True

    def _cancel(self, exc: BaseException) -> None:
        """The connection is lost; the body is not."""

    @property
    def _payload(self) -> StreamReader:  # type: ignore[override]
        return self._read()[1]


class SizedRequest(_OrdinaryRequest):
    """The request whose body is still coming."""

    def __init__(
        self, sized: Sized, protocol: RequestHandler, task: "asyncio.Task[None]", loop: Any
    ) -> None:
        super().__init__(sized, protocol, task, loop)
        self._payload = self._body = sized.body

    @property
    def content_length(self) -> int | None:
        return self._head.body_bytes

    async def gathered(self) -> bytes:
        """The body, once its last byte is in, put together out of the pieces as they came. None of
        it may have been read. Raises what the body broke off for."""
        return await self._body.gathered(self._head.body_bytes or 0)
