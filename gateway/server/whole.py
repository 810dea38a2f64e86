"""A request that came in one piece, without a second reading of it."""

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


class WholeRequest(StorefrontRequest):
    """The request made of it. What nobody asks for is not made: aiohttp's parser reads the bytes
    when somebody wants its multidict, its URL or its stream, and only then."""

    def __init__(  # aiohttp's would want the message: nothing of it is called
        self, whole: Whole, protocol: RequestHandler, task: "asyncio.Task[None]", loop: Any
    ) -> None:
        head = self.head = self._head = whole.head
        self._raw = whole.raw
        self._protocol = protocol
        self._task = task
        self._loop = loop
        self._method = head.method.decode("ascii")
        self._cache = {}
        self._state = {} if whole.course is None else whole.course.marks()
        self.handler = None if whole.course is None else whole.course.handler
        self._client_max_size = len(whole.raw)
        self._client_max_fields = 1000  # aiohttp's own
        self._transport_sslcontext = protocol.ssl_context
        self._transport_peername = protocol.peername
        self._transport_sockname = protocol.sockname
        self._reading: tuple[RawRequestMessage, StreamReader] | None = None
        self._writer: AbstractStreamWriter | None = None

    @property
    def whole_body(self) -> bytes:
        size = self._head.body_bytes
        return self._raw[-size:] if size else b""

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

    @property
    def can_read_body(self) -> bool:
        return bool(self._head.body_bytes) and (self._reading is None or super().can_read_body)

    @property
    def body_arrived(self) -> bool:
        return True

    def _cancel(self, exc: BaseException) -> None:
        """The connection is lost; the body is not."""

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
    def _payload(self) -> StreamReader:  # type: ignore[override]
        return self._read()[1]

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
