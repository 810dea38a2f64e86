"""The storefront's request, and its bytes as they came."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from aiohttp import web
from aiohttp.streams import StreamReader

from gateway.server.ends import ClientEnd
from gateway.server.heads import Head
from middleware.messages import RawHeaders
from middleware.problems import STAMP


class Wire(Protocol):
    """What a request's connection does for its answer."""

    client_end: ClientEnd | None
    """The client's end of a tunnel, where its last request asks for one."""

    def persists(self, request: "StorefrontRequest") -> bool:
        """Whether another request may follow the answer to this one."""
        ...

    def date(self) -> bytes:
        """Now, as a Date field's value."""
        ...

    async def send(self, data: bytes) -> None:
        """Write, waiting while the client takes nothing; ConnectionResetError if it is gone."""
        ...

    def send_interim(self, data: bytes) -> None:
        """Write a whole 1xx answer."""
        ...

    def abort(self) -> None:
        """Reset the connection, so that what was sent can't pass for whole."""
        ...


class StorefrontRequest(web.BaseRequest):
    """aiohttp's request, plus what the strict reading knows of it.

    ``answer`` is whatever response object has put its first byte on the wire: there is one.
    """

    stamps_answers = True
    wire: Wire
    head: Head | None = None
    answer: web.StreamResponse | None = None
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = None
    """Instead of the server's own."""
    _continued = False
    _over = False

    @property
    def content(self) -> StreamReader:
        """The body. The first look at it is what sends ``100 Continue`` (RFC 9110 10.1.1)."""
        self._ask_for_body()
        return self._payload

    async def read(self) -> bytes:
        self._ask_for_body()
        return await super().read()

    @property
    def can_read_body(self) -> bool:
        """Also True of a body that broke before anyone looked at it: whoever reads it is told,
        and nobody takes it for an empty one."""
        return not self._payload.at_eof() or self._payload.exception() is not None

    @property
    def whole_body(self) -> bytes | None:
        """The body, where it came in one piece with the head."""
        return None

    @property
    def body_arrived(self) -> bool:
        """Whether the last byte of the body is in."""
        return self._payload.is_eof()

    @property
    def agrees(self) -> bool:
        """Whether both readings of the head say the same."""
        head, told = self.head, self._message
        theirs = (told.method.encode(), self.raw_path.encode(), self.raw_headers)
        return head is not None and (head.parsed_as, head.target, head.fields) == theirs

    @property
    def method(self) -> str:
        """By the strict reading."""
        return self._method if self.head is None else self.head.method.decode("ascii")

    @property
    def may_have_interim(self) -> bool:
        """Whether its answer is still to come, and its client knows what a 1xx is."""
        old = self.head is None or self.head.minor == 0
        return self.answer is None and not self._over and not old

    def let_go(self) -> None:
        """It is answered. Request and answer know each other, and the task its frames: the cycles
        end here, or the garbage collector would walk through all the memory to end them."""
        self.answer = None
        self._over = True
        self._task = None  # type: ignore[assignment]

    # Mapping's own ``get`` and ``in`` raise and catch an exception for each key that is not there.

    def get(self, key: Any, default: Any = None) -> Any:
        return self._state.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._state

    def _ask_for_body(self) -> None:
        if self._continued or self.head is None or not self.head.expects_continue:
            return
        self._continued = True
        begun = self._payload.total_bytes > 0 or self._payload.is_eof()
        if not begun and self.answer is None:
            self.wire.send_interim(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        """aiohttp's own responses: the stamp, no Server field, and keep-alive as we have it."""
        if self.answer is None:  # a response without state is falsy
            self.answer = response
        response.headers.pop("Server", None)
        response.headers.update(self.get(STAMP) or {})


def body_at_hand(request: web.BaseRequest) -> bytes | None:
    """The whole body, where its last byte is in and none of it was read; else None, and nothing
    is asked of the client."""
    if not isinstance(request, StorefrontRequest) or not request.body_arrived:
        return None
    whole = request.whole_body
    if whole is not None:
        return whole
    content = request.content
    return content.read_nowait() if content.exception() is None else None


def raw_target(request: web.BaseRequest) -> bytes:
    """The request target byte for byte: nothing decoded, joined or normalised."""
    return request.raw_path.encode("utf-8", "surrogateescape")


def raw_headers(request: web.BaseRequest) -> RawHeaders:
    """The field lines in order, names in their case, values without outer white space."""
    return request.raw_headers


def address_of(request: web.BaseRequest) -> str:
    """The address at the other end of the connection: a client, or the proxy in front."""
    return request.remote or ""
