"""Finding the end of a chunked body (RFC 9112 section 7.1). Pure.

aiohttp's parser decodes the chunks; it can't say where in a segment the body ended, sets no
bound to chunk extensions and trailers, and (3.14.5, C parser) puts the last trailer field into
the header of the *next* request on the connection. So trailers never reach it.
"""

import re
from enum import Enum, auto

CHUNK_LINE_BYTES_MAX = 256
"""Sixteen hex digits and a signed extension fit; extensions are ignored anyway."""

TRAILER_BYTES_MAX = 8_192
"""Discarded as they come (RFC 9110 section 6.5.1); more of them is an attack."""

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t -~\x80-\xff]*)?")
"""No white space before an extension, which RFC 9112 would have us take: llhttp won't."""
_TRAILER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+")


class BadChunk(Exception):
    """The chunks can't be followed any further: nobody knows where the next request begins."""


class _At(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    END = auto()


class ChunkedBody:
    """Follows one body. ``ended`` is True once its last byte was seen."""

    def __init__(self) -> None:
        self._at = _At.SIZE
        self._line = bytearray()
        self._left = 0
        self._trailer_bytes = 0

    @property
    def ended(self) -> bool:
        return self._at is _At.END

    def take(self, data: bytes, begin: int) -> tuple[bytes, int]:
        """What of ``data`` from ``begin`` belongs to the body, without trailers, and its end.

        The bytes are handed on to the parser as they are; an empty trailer section is put in
        place of the real one. Raises BadChunk.
        """
        kept: list[bytes] = []
        at = begin
        while at < len(data) and not self.ended:
            start, state = at, self._at
            at = self._step(data, at)
            if state is not _At.TRAILER:
                kept.append(data[start:at])
        if self.ended:
            kept.append(b"\r\n")
        return (kept[0] if len(kept) == 1 else b"".join(kept)), at

    def _step(self, data: bytes, at: int) -> int:
        match self._at:
            case _At.DATA:
                return self._take_data(data, at)
            case _At.SIZE | _At.DATA_END | _At.TRAILER:
                return self._take_line(data, at)
            case _At.END:
                raise BadChunk

    def _take_data(self, data: bytes, at: int) -> int:
        end = min(len(data), at + self._left)
        self._left -= end - at
        if not self._left:
            self._at = _At.DATA_END
        return end

    def _take_line(self, data: bytes, at: int) -> int:
        """Gather a line up to its CR LF, also over segments, never beyond its bound."""
        bound = 2 if self._at is _At.DATA_END else CHUNK_LINE_BYTES_MAX
        if self._at is _At.TRAILER:
            bound = TRAILER_BYTES_MAX - self._trailer_bytes
        feed = data.find(b"\n", at)
        end = len(data) if feed < 0 else feed + 1
        self._line += data[at:end]
        if len(self._line) > bound:
            raise BadChunk
        if feed >= 0:
            if not self._line.endswith(b"\r\n"):
                raise BadChunk
            line = bytes(self._line[:-2])
            self._line.clear()
            self._end_line(line)
        return end

    def _end_line(self, line: bytes) -> None:
        match self._at:
            case _At.SIZE:
                self._begin_chunk(line)
            case _At.DATA_END:
                if line:
                    raise BadChunk
                self._at = _At.SIZE
            case _At.TRAILER:
                self._end_trailer_line(line)
            case _At.DATA | _At.END:
                raise BadChunk

    def _begin_chunk(self, line: bytes) -> None:
        size = _CHUNK_LINE.fullmatch(line)
        if size is None:
            raise BadChunk
        self._left = int(size.group(1), 16)
        self._at = _At.DATA if self._left else _At.TRAILER

    def _end_trailer_line(self, line: bytes) -> None:
        """A request that hides behind a broken empty line is not taken for a trailer."""
        if not line:
            self._at = _At.END
        elif not _TRAILER_LINE.fullmatch(line):
            raise BadChunk
        self._trailer_bytes += len(line) + 2
