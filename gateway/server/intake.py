"""Cuts a connection's bytes into heads and bodies, and judges each head. Pure.

The parser behind it gets one head or one piece of one body at a time, so it never sees what was
refused, never sees two messages at once, and never sees trailers.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from gateway.server.chunks import BadChunk, ChunkedBody
from gateway.server.heads import Head, Refused, check_request_line, read_head
from gateway.server.limits import ServerLimits

_LINE_BYTES_EXTRA = 64
"""Room for the longest method and the version beside the target."""

_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")


class NewRequest(NamedTuple):
    """A head that may be served; ``raw`` is all of it, with the empty line, and the body too
    where the one piece that came is the request, from its first byte to its last."""

    head: Head
    raw: bytes


class BodyPart(NamedTuple):
    """Bytes of the body as they are framed: the very ones that came, or a view of some of them. A
    body is large; it is copied once, by whoever puts it together."""

    raw: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Refuse:
    """A request that is not served. Nothing after it can be read."""

    reason: Refused


@dataclass(frozen=True, slots=True)
class BodyBroken:
    """The body of the last request can't be followed. Nothing after it can be read."""


@dataclass(frozen=True, slots=True)
class Beyond:
    """Bytes after a request that asks for another protocol: whatever they are, they are not HTTP
    of ours."""

    raw: bytes


Taken: TypeAlias = NewRequest | BodyPart | Refuse | BodyBroken | Beyond


class Intake:
    """One connection's reader. ``stopped`` is True once nothing more will be read."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._head_end_max = limits.head_bytes_max - 4
        self._head = bytearray()
        self._line_checked = False
        self._body_left = 0
        self._chunked: ChunkedBody | None = None
        self._closes = False
        self._beyond = False
        self.stopped = False

    @property
    def in_head(self) -> bool:
        """Whether a head has begun and is not whole."""
        return bool(self._head)

    @property
    def between(self) -> bool:
        """Whether the next byte begins a request that may be read."""
        busy = self._head or self._body_left or self._chunked or self._beyond
        return not (busy or self.stopped)

    @property
    def in_body(self) -> bool:
        """Whether bytes of the last request's body are still to come."""
        return self._body_left > 0 or self._chunked is not None

    def stop(self) -> None:
        """Read nothing more; what comes is dropped."""
        self.stopped = True
        self._body_left, self._chunked = 0, None
        self._clear_head()

    def whole(self, data: bytes) -> Head | None:
        """The head of the request that ``data`` is, from its first byte to its last. None where it
        is anything else: then ``take`` judges it. Only ``between`` two requests."""
        end = data.find(b"\r\n\r\n")
        if not 0 <= end <= self._head_end_max:
            return None
        head = read_head(data[: end + 2], self._limits)
        if isinstance(head, Refused) or head.closes or head.upgrade:
            return None
        return head if head.body_bytes == len(data) - end - 4 else None

    def take(self, data: bytes) -> Iterator[Taken]:
        """What ``data`` holds, in order; to be consumed to its end, unless it is stopped."""
        at = 0
        taken: Taken | None
        while at < len(data) and not self.stopped:
            if self._beyond:
                yield Beyond(data[at:])
                return
            if self._chunked is not None:
                taken, at = self._take_chunks(self._chunked, data, at)
            elif self._body_left:
                taken, at = self._take_sized(data, at)
            else:
                taken, at = self._take_head(data, at)
            if taken is not None:
                yield taken

    def _take_sized(self, data: bytes, at: int) -> tuple[Taken, int]:
        end = min(len(data), at + self._body_left)
        self._body_left -= end - at
        self._stop_after_last()
        all_of_it = end - at == len(data)
        return BodyPart(data if all_of_it else memoryview(data)[at:end]), end

    def _take_chunks(self, chunked: ChunkedBody, data: bytes, at: int) -> tuple[Taken, int]:
        try:
            raw, end = chunked.take(data, at)
        except BadChunk:
            self.stop()
            return BodyBroken(), len(data)
        if chunked.ended:
            self._chunked = None
            self._stop_after_last()
        return BodyPart(raw), end

    def _take_head(self, data: bytes, at: int) -> tuple[Taken | None, int]:
        """Gather a head; judge its first line as soon as that is there, then the whole."""
        at = self._skip_empty_lines(data, at)
        if at == len(data):
            return None, at
        begin = len(self._head)
        if not begin and 0 <= (end := data.find(b"\r\n\r\n", at)) <= at + self._head_end_max:
            return self._end_head(data[at : end + 4], data, end + 4)
        room = self._limits.head_bytes_max + 5 - begin
        self._head += data[at : at + room]
        end = self._head.find(b"\r\n\r\n", max(0, begin - 3))
        refused = self._check_line() or (self._check_partial(begin) if end < 0 else None)
        if refused is not None:
            return self._refuse(refused), len(data)
        if end < 0:
            return None, min(len(data), at + room)
        return self._end_head(bytes(self._head[: end + 4]), data, at + end + 4 - begin)

    def _skip_empty_lines(self, data: bytes, at: int) -> int:
        """Empty lines before a request are forgiven (RFC 9112 section 2.2), however cut."""
        if self._head == b"\r" and data.startswith(b"\n", at):
            self._head.clear()
            at += 1
        while not self._head and data.startswith(b"\r\n", at):
            at += 2
        return at

    def _check_line(self) -> Refused | None:
        if self._line_checked:
            return None
        end = self._head.find(b"\r\n")
        if end < 0:
            long = len(self._head) > self._limits.target_bytes_max + _LINE_BYTES_EXTRA
            return Refused.TARGET_TOO_LONG if long else None
        self._line_checked = True
        return check_request_line(bytes(self._head[:end]), self._limits)

    def _check_partial(self, begin: int) -> Refused | None:
        if not self._head[:1].isalpha() and self._head != b"\r":
            return Refused.NOT_HTTP
        if _BARE_LINE_FEED.search(self._head, begin):
            return Refused.BARE_LINE_FEED
        if len(self._head) > self._limits.head_bytes_max:
            return Refused.HEAD_TOO_LARGE
        return None

    def _end_head(self, raw: bytes, data: bytes, at: int) -> tuple[Taken, int]:
        """Judge the head ``raw``, which ends before ``data[at]``."""
        self._clear_head()
        if len(raw) > self._limits.head_bytes_max:
            return self._refuse(Refused.HEAD_TOO_LARGE), at
        head = read_head(raw[:-2], self._limits)
        if isinstance(head, Refused):
            return self._refuse(head), at
        if head.body_bytes is None:
            self._chunked = ChunkedBody()
        elif at == len(raw) and at + head.body_bytes == len(data):
            raw, at = data, len(data)
        else:
            self._body_left = head.body_bytes
        self._closes = head.closes
        self._beyond = head.upgrade
        self._stop_after_last()
        return NewRequest(head, raw), at

    def _refuse(self, reason: Refused) -> Refuse:
        self.stop()
        return Refuse(reason)

    def _stop_after_last(self) -> None:
        """What follows a request that says it is the last is not a request."""
        if self._closes and not self.in_body:
            self.stop()

    def _clear_head(self) -> None:
        self._head.clear()
        self._line_checked = False
