"""Strict, incremental reading of one answer, without I/O.

Linear in the bytes received, however small the pieces: heads are gathered and read once whole,
lengths are counted, and only chunked bodies go piece by piece through httptools.
"""

from collections.abc import Callable

import httptools

from gateway.orders.attempts import LostReason
from gateway.upstream.heads import AnswerHead, Broken, Framing, read_head, status_of
from gateway.upstream.limits import HopLimits

_BEGINNING = b"HTTP/1."
_EMPTY_LINE = b"\r\n\r\n"
_CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class AnswerReader:
    """Reads the answer to one request.

    ``head`` is set as soon as the final (not 1xx) head is whole, ``done`` when the whole answer
    is, ``surplus`` when bytes came after its end: the answer counts, its connection does not.
    ``begun``: a first byte has come. ``status``: a status line was read, final or not. ``interim``
    is told each 1xx head; without it they are passed over.
    """

    def __init__(
        self,
        method: bytes,
        limits: HopLimits,
        interim: Callable[[AnswerHead], None] | None = None,
    ) -> None:
        self._method = method
        self._limits = limits
        self._interim = interim
        self._head_bytes = bytearray()
        self._interims = 0
        self._left = 0
        self._chunks: _ChunkedBody | None = None
        self.begun = False
        self.done = False
        self.surplus = False
        self.status: int | None = None
        self.head: AnswerHead | None = None

    @property
    def reusable(self) -> bool:
        """The connection is in step and may carry another request."""
        return self.done and not self.surplus and self.head is not None and self.head.keep_alive

    def feed(self, data: bytes) -> bytes:
        """Take what was received; return the body bytes in it. Raises Broken."""
        self.begun = True
        while self.head is None and data:
            data = self._feed_head(data)
        if self.done:
            self.surplus = self.surplus or bool(data)
            return b""
        return self._feed_body(self.head, data) if self.head is not None and data else b""

    def end(self, *, clean: bool) -> None:
        """The connection has ended: cleanly (FIN) or not (RST). Raises Broken, unless it is
        this end that completes the answer."""
        if self.done:
            return
        if not self.begun:
            raise Broken(LostReason.CLOSED if clean else LostReason.RESET)
        if not clean or self.head is None or self.head.framing is not Framing.UNTIL_CLOSE:
            raise Broken(LostReason.TRUNCATED)
        self.done = True

    def _feed_head(self, data: bytes) -> bytes:
        """Gather the head; return what follows it."""
        gathered = self._head_bytes
        known = len(gathered)
        if not known and (end := data.find(_EMPTY_LINE)) >= 0:
            return self._end_head(data, end)
        gathered += data
        if not gathered.startswith(_BEGINNING[: len(gathered)]):
            raise Broken(LostReason.MALFORMED)
        end = gathered.find(_EMPTY_LINE, max(0, known - 3))
        if end < 0:
            self._check_partial_head(known)
            return b""
        whole = bytes(gathered)
        gathered.clear()
        return self._end_head(whole, end)

    def _end_head(self, data: bytes, end: int) -> bytes:
        """Read the head whose empty line is at ``end``; return what follows it."""
        end += len(_EMPTY_LINE)
        raw = data[:end]
        try:
            if len(raw) > self._limits.head_bytes_max:
                raise Broken(LostReason.TOO_LARGE)
            head = read_head(raw, self._method, self._limits.headers_max)
        except Broken:
            self.status = status_of(raw) or self.status
            raise
        self._take_head(head)
        return data[end:]

    def _check_partial_head(self, known: int) -> None:
        """An answer with bare line feeds never has an empty line: tell at once, not at timeout."""
        gathered = self._head_bytes
        start = known - 1 if known and gathered[known - 1] == 0x0D else known
        if len(gathered) > self._limits.head_bytes_max:
            reason = LostReason.TOO_LARGE
        elif gathered.count(b"\n", start) != gathered.count(b"\r\n", start):
            reason = LostReason.MALFORMED
        else:
            return
        self.status = status_of(bytes(gathered)) or self.status
        raise Broken(reason)

    def _take_head(self, head: AnswerHead) -> None:
        self.status = head.status
        if head.interim:
            self._interims += 1
            if self._interims > self._limits.interim_max:
                raise Broken(LostReason.TOO_LARGE)
            if self._interim is not None:
                self._interim(head)
            return
        self.head = head
        if head.framing is Framing.LENGTH:
            self._left = head.content_length or 0
            self.done = not self._left
        elif head.framing is Framing.CHUNKED:
            self._chunks = _ChunkedBody(self._limits)
        else:
            self.done = head.framing is Framing.NO_BODY

    def _feed_body(self, head: AnswerHead, data: bytes) -> bytes:
        if head.framing is Framing.UNTIL_CLOSE:
            return data
        if self._chunks is not None:
            body = self._chunks.feed(data)
            self.done, self.surplus = self._chunks.done, self._chunks.surplus
            return body
        body = data[: self._left]
        self._left -= len(body)
        self.done = not self._left
        self.surplus = len(body) < len(data)
        return body


class _ChunkedBody:
    """A chunked body (RFC 9112 section 7.1), through httptools; trailers are read and dropped."""

    def __init__(self, limits: HopLimits) -> None:
        self._limits = limits
        self._pieces: list[bytes] = []
        self._moved = False
        self._quiet_bytes = 0
        self._trailers = 0
        self._last_bytes = b""
        self.done = False
        self.surplus = False
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(_CHUNKED_HEAD)

    def feed(self, data: bytes) -> bytes:
        """Return the body bytes in ``data``. Raises Broken."""
        self._moved = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, Broken):
                raise error.__context__ from None
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.done:
                raise Broken(LostReason.MALFORMED) from error
            self.surplus = True
        self._check_quiet(len(data))
        self._check_end(data)
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        return body

    def _check_quiet(self, received: int) -> None:
        """Extensions and trailers make no callback until they end: count what passes in silence."""
        self._quiet_bytes = 0 if self._moved else self._quiet_bytes + received
        if self._quiet_bytes > self._limits.framing_bytes_max:
            raise Broken(LostReason.TOO_LARGE)

    def _check_end(self, data: bytes) -> None:
        """llhttp skips empty lines before a next message: only the last bytes show them."""
        self._last_bytes = (self._last_bytes + data[-5:])[-5:]
        if self.done and (self._last_bytes[1:] != _EMPTY_LINE or self._last_bytes[0] in b"\r\n"):
            self.surplus = True

    def on_message_begin(self) -> None:
        self.surplus = self.done

    def on_chunk_header(self) -> None:
        self._moved = True

    def on_body(self, piece: bytes) -> None:
        self._moved = True
        if not self.done:  # else it is the body of a second answer in the same piece
            self._pieces.append(piece)

    def on_header(self, _name: bytes, _value: bytes) -> None:
        """A trailer, except for the one field of the head that started the parser."""
        self._trailers += 1
        if self._trailers > self._limits.headers_max and not self.done:
            raise Broken(LostReason.TOO_LARGE)

    def on_message_complete(self) -> None:
        self._moved = True
        self.done = True
