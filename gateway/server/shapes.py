"""Requests with the same field names as many before, read in one look.

Where there is too much to do, nearly all that is done is to refuse. What is read of a request then
is what decides that it is one, whole and well formed, and what its refusal repeats.
"""

import re
from functools import lru_cache
from typing import ClassVar

from gateway.server.heads import HOST, LENGTH, TARGET, VALUE, are_plain
from middleware.idempotency.rules import ORDINARY_KEY
from middleware.messages import RawHeaders, names_of

SEEN_MIN = 64
"""Of a shape, before it is worth an expression of its own: to make one takes a third of a
millisecond, as long as so many heads are read in the usual way."""

SHAPES_MAX = 256

NAMES_BYTES_MAX = 1024
"""Of a shape, all its names together: an expression takes time and memory by their length, and each
connection may keep one of its own."""

_OWN_PATTERNS = {
    b"host": HOST.pattern,
    b"connection": rb"(?i:keep-alive)",
    b"content-length": rb"(" + LENGTH.pattern + rb")",
    b"idempotency-key": rb"(" + ORDINARY_KEY + rb")",
}


class Shape:
    """The heads with these field names, in this order and case. ``look(raw)``: a match where
    ``raw`` begins with one that ``heads.read_head`` takes for ordinary and to stay connected, and
    that has nothing unusual in it; it ends where the head does. Its groups: method 1, target 2,
    ``key`` and ``length``, which are empty where there is no such field. Until many were ``seen``
    there is never a match."""

    __slots__ = ("_names", "_seen", "key", "length", "look")
    _since_made: ClassVar[int] = 0
    """How many were seen, of whatever shape, since an expression was made: clients that have names
    of their own, each, are not to have all of them made at once."""

    def __init__(self, names: tuple[bytes, ...]) -> None:
        lower = [name.lower() for name in names]
        self._names = names
        self._seen = 0
        captured = [name for name in lower if name in (b"content-length", b"idempotency-key")]
        captured += [name for name in (b"content-length", b"idempotency-key") if name not in lower]
        self.length = 3 + captured.index(b"content-length")
        self.key = 3 + captured.index(b"idempotency-key")
        self.look = _NEVER.match

    def seen(self) -> None:
        """One more, read in the usual way."""
        Shape._since_made += 1
        if self._seen < SEEN_MIN - 1:
            self._seen += 1
        elif self._seen < SEEN_MIN <= Shape._since_made:
            self._seen = SEEN_MIN
            Shape._since_made = 0
            self.look = self._expression().match

    def _expression(self) -> re.Pattern[bytes]:
        lines = b"".join(map(_line, self._names))
        start = rb"([A-Z]+) (" + TARGET.pattern + rb") HTTP/1\.1\r\n"
        return re.compile(start + lines + rb"\r\n()()")


_NEVER = re.compile(rb"(?!)")


def _line(name: bytes) -> bytes:
    own = _OWN_PATTERNS.get(name.lower())
    value = VALUE if own is None else rb"[\t ]*+" + own
    return re.escape(name) + rb":" + value + rb"\r\n"


@lru_cache(SHAPES_MAX)
def _shape(names: tuple[bytes, ...]) -> Shape | None:
    small = sum(map(len, names)) <= NAMES_BYTES_MAX
    return Shape(names) if small and are_plain(names) else None


def shape_of(fields: RawHeaders) -> Shape | None:
    """What a well-formed head with ``fields`` has in common with others; None where these names
    may say more than an ordinary request does, or are large."""
    shape = _shape(names_of(fields))
    if shape is not None:
        shape.seen()
    return shape
