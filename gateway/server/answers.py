"""Answers written byte for byte: what an upstream said, in our framing."""

import re
from typing import TypeAlias

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from gateway.server.requests import StorefrontRequest
from middleware.messages import PHRASES, RawHeaders, are_lines, are_tokens, values, without
from middleware.problems import STAMP, Fields

OURS = frozenset(
    {
        b"connection",
        b"content-length",
        b"keep-alive",
        b"proxy-connection",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields that speak of the connection or the framing: these are ours to write, never relayed."""

ONE_WRITE_BYTES_MAX = 65_536
"""An answer's head and body go out together up to here; a larger body is not copied for that."""

Buffer: TypeAlias = bytes | bytearray | memoryview

_FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_BODILESS = frozenset({204, 304})
_SWITCHING = 101


class AnswerBroken(ConnectionResetError):
    """An answer could not be completed; the connection was reset so that the client sees it."""


class _RawAnswer(web.StreamResponse):
    """A status line and fields as given; fields set on ``headers`` replace those of their name.

    Raises ValueError for a status that is not final or for bytes that would break the framing.
    """

    def __init__(self, status: int, headers: RawHeaders, phrase: bytes) -> None:
        if not 200 <= status <= 599:
            raise ValueError(f"{status} is no final status")
        if _FORBIDDEN.search(phrase):
            raise ValueError("a control character in the reason phrase")
        self._lines = field_lines(headers)
        phrase = phrase or PHRASES.get(status, b"")
        super().__init__(status=status, reason=phrase.decode("latin-1"))
        self.raw_headers = headers
        self._phrase = phrase
        self._request: StorefrontRequest | None = None
        self._done = False

    @property
    def prepared(self) -> bool:
        return self._request is not None

    def _begin(self, request: web.BaseRequest) -> StorefrontRequest:
        if not isinstance(request, StorefrontRequest):
            raise TypeError("raw answers need the storefront's server")
        if request.answer is not None:
            request.wire.abort()
            raise AnswerBroken("another answer has already begun")
        request.answer = self
        self._request = request
        return request

    def _has_body(self, request: StorefrontRequest) -> bool:
        return request.method != "HEAD" and self.status not in _BODILESS

    def _given_length(self) -> int | None:
        """Content-Length as given, where it is beyond doubt."""
        given = values(self.raw_headers, b"content-length")
        return int(given[0]) if len(given) == 1 and _DIGITS.fullmatch(given[0]) else None

    def _head(self, request: StorefrontRequest, framing: bytes) -> bytes:
        """The head. ``framing`` is a field line or nothing.

        A Content-Length that is right stays where it was, as it was written.
        """
        self._keep_alive = self._keep_alive is not False and request.wire.persists(request)
        own = self._own_fields(request)
        lines = [b"HTTP/1.1 %d %b\r\n" % (self.status, self._phrase)]
        dated = b"date" in own
        for (name, _), line in zip(self.raw_headers, self._lines, strict=True):
            lower = name.lower()
            if lower in OURS:
                if lower != b"content-length" or line.lower() != framing.lower():
                    continue
                framing = b""
            elif lower in own:
                continue
            elif lower == b"date":
                dated = True
            lines.append(line)
        if own:
            lines += field_lines(tuple(own.values()))
        if not dated:
            lines.append(b"Date: %b\r\n" % request.wire.date())
        lines += (framing, self._connection(request), b"\r\n")
        return b"".join(lines)

    def _own_fields(self, request: StorefrontRequest) -> dict[bytes, tuple[bytes, bytes]]:
        """What middlewares put on the response or stamped on the request, by lower-case name."""
        own: dict[bytes, tuple[bytes, bytes]] = {}
        for fields in (self.headers, request.get(STAMP)):
            if not fields:
                continue
            for text, value in fields.items():
                name = text.encode("ascii")
                if (lower := name.lower()) not in OURS:
                    own[lower] = (name, value.encode())
        return own

    def _connection(self, request: StorefrontRequest) -> bytes:
        if not self._keep_alive:
            return b"Connection: close\r\n"
        old = request.head is not None and request.head.minor == 0
        return b"Connection: keep-alive\r\n" if old else b""


class RawResponse(_RawAnswer):
    """A whole answer, written in one go.

    Written as given but for ``OURS``; Date is added where it is missing, Content-Length follows
    from the body. The answer to a HEAD and a 304 keep the Content-Length they were given (it
    speaks of another answer's body), a 204 has none.
    """

    def __init__(
        self, status: int, headers: RawHeaders, body: bytes = b"", *, phrase: bytes = b""
    ) -> None:
        super().__init__(status, headers, phrase)
        self.raw_body = body
        self._body_length = len(body)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Bind to the request. Nothing is written before ``write_eof``."""
        if not self.prepared:
            self._begin(request)
        return None

    async def write_eof(self, data: Buffer = b"") -> None:
        """Write the answer; returns when the client's connection has taken it."""
        if self._done:
            return
        request = self._request
        if request is None or data:
            raise RuntimeError("a whole answer is prepared, then ended without more data")
        self._done = True
        head = self._head(request, self._framing(request))
        body = self.raw_body if self._has_body(request) else b""
        self._body_length = len(body)
        if len(body) <= ONE_WRITE_BYTES_MAX:
            await request.wire.send(head + body)
        else:
            await request.wire.send(head)
            await request.wire.send(body)

    def _framing(self, request: StorefrontRequest) -> bytes:
        length: int | None = len(self.raw_body)
        if self.status == 204:
            return b""
        if not self._has_body(request):
            given = self._given_length()
            length = given if given is not None else (length or None)
        return b"" if length is None else b"Content-Length: %d\r\n" % length


class RawStream(_RawAnswer):
    """An answer whose body comes piece by piece, with no more in memory than one piece.

    Of known length (``length``, or the Content-Length given) or chunked; to an HTTP/1.0 client
    of unknown length, ended by the connection. Whatever goes wrong after ``prepare`` (an
    exception of the handler, a body that is too short or too long, a client that takes
    nothing) resets the connection: a part never passes for the whole.
    """

    def __init__(
        self, status: int, headers: RawHeaders, *, phrase: bytes = b"", length: int | None = None
    ) -> None:
        super().__init__(status, headers, phrase)
        self._left = self._given_length() if length is None else length
        self._chunks = False
        self._bodiless = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the head."""
        if self.prepared:
            return None
        bound = self._begin(request)
        self._bodiless = not self._has_body(bound)
        old = bound.head is not None and bound.head.minor == 0
        framing = b""
        if self.status != 204 and self._left is not None:
            framing = b"Content-Length: %d\r\n" % self._left
        elif not self._bodiless and old:
            self._keep_alive = False
        elif not self._bodiless:
            self._chunks = True
            framing = b"Transfer-Encoding: chunked\r\n"
        await bound.wire.send(self._head(bound, framing))
        return None

    async def write(self, data: Buffer) -> None:
        """Send one piece; waits while the client is slow. Raises ConnectionResetError."""
        request = self._begun()
        if self._bodiless or not data:
            return
        piece = bytes(data)
        if self._left is not None:
            if len(piece) > self._left:
                self._break(request, "the body is longer than its Content-Length")
            self._left -= len(piece)
        self._body_length += len(piece)
        await request.wire.send(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunks else piece)

    async def write_eof(self, data: Buffer = b"") -> None:
        """End the body."""
        if self._done:
            return
        request = self._begun()
        await self.write(data)
        self._done = True
        if self._left and not self._bodiless:
            self._break(request, "the body is shorter than its Content-Length")
        if self._chunks:
            await request.wire.send(b"0\r\n\r\n")

    def abort(self) -> None:
        """Give up: the client is to see that this is not the whole answer."""
        self._done = True
        self._begun().wire.abort()

    def _begun(self) -> StorefrontRequest:
        if self._request is None:
            raise RuntimeError("prepare the answer first")
        return self._request

    def _break(self, request: StorefrontRequest, why: str) -> None:
        self._done = True
        request.wire.abort()
        raise AnswerBroken(why)


def send_interim(
    request: web.BaseRequest, status: int, headers: RawHeaders, phrase: bytes = b""
) -> None:
    """A 1xx before the answer to ``request``: nothing where that has begun, or to a client of
    HTTP/1.0, which would take it for the answer (RFC 9110 section 15.2). Raises ValueError for
    what would break the framing."""
    if not isinstance(request, StorefrontRequest) or not request.may_have_interim:
        return
    if not 100 < status < 200 or status == _SWITCHING or _FORBIDDEN.search(phrase):
        raise ValueError(f"{status} is no interim status to pass on")
    lines = b"".join(field_lines(without(headers, OURS)))
    phrase = phrase or PHRASES.get(status, b"")
    request.wire.send_interim(b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, phrase, lines))


def field_lines(headers: RawHeaders) -> list[bytes]:
    """The fields as lines. Raises ValueError for what would break the framing."""
    lines = [b"%b: %b\r\n" % field for field in headers]
    if not are_tokens([name for name, _ in headers]) or not are_lines(b"".join(lines), len(lines)):
        raise ValueError(f"fields that can not be sent: {headers!r:.200}")
    return lines


def raw_response(status: int, fields: Fields, body: bytes) -> web.StreamResponse:
    """The factory that the problems middleware takes (``middleware.problems``)."""
    return RawResponse(status, tuple((n.encode("ascii"), v.encode()) for n, v in fields), body)
