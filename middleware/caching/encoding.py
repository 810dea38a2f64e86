"""Kept answers as bytes, for a store that other processes read. Pure.

One version at a time: what another version wrote is as if it were not there. ``stamp`` says of
which position of which log of changes it is.
"""

import struct
from collections.abc import Iterable
from enum import IntFlag, auto
from typing import NamedTuple

from middleware.caching.entries import Entry, Span
from middleware.caching.storing import StoringPolicy

VERSION = 1

_HEAD = struct.Struct("!BHHddIqQQQ")
"""Version, flags, status; age and lifetime in seconds; windows (-1: none); the span."""

_LENGTH = struct.Struct("!I")


class _Flag(IntFlag):
    NO_CACHE = auto()
    NEVER_STALE = auto()
    IMMUTABLE = auto()
    PUBLIC = auto()
    SPAN = auto()
    ETAG = auto()
    LAST_MODIFIED = auto()


class Stored(NamedTuple):
    """What was read. ``entry`` has the age that it had when it was written, and no position yet."""

    stamp: bytes
    entry: Entry


class _Broken(ValueError):
    """It is no entry, or another version's."""


def encoded(entry: Entry, *, age_s: float, stamp: bytes) -> bytes:
    """``age_s``: how old it is now."""
    span = entry.span or Span(0, 0, 0)
    error_s = -1 if entry.stale_if_error_s is None else entry.stale_if_error_s
    head = _HEAD.pack(
        VERSION,
        _flags(entry),
        entry.status,
        age_s,
        entry.lifetime_s,
        entry.stale_while_revalidate_s,
        error_s,
        *(span.first, span.last, span.total),
    )
    texts = (stamp, entry.host, entry.target, entry.phrase, entry.etag or b"")
    lists = (entry.vary, entry.values, entry.groups)
    return b"".join(
        (
            head,
            *(_text(each) for each in (*texts, entry.last_modified or b"", entry.lines)),
            *(_texts(each) for each in lists),
            entry.body,
        )
    )


def _flags(entry: Entry) -> int:
    shown = {
        _Flag.NO_CACHE: entry.no_cache,
        _Flag.NEVER_STALE: entry.never_stale,
        _Flag.IMMUTABLE: entry.immutable,
        _Flag.PUBLIC: entry.public,
        _Flag.SPAN: entry.span is not None,
        _Flag.ETAG: entry.etag is not None,
        _Flag.LAST_MODIFIED: entry.last_modified is not None,
    }
    return sum(flag for flag, is_set in shown.items() if is_set)


def _text(text: bytes) -> bytes:
    return _LENGTH.pack(len(text)) + text


def _texts(texts: Iterable[bytes]) -> bytes:
    known = tuple(texts)
    return _LENGTH.pack(len(known)) + b"".join(map(_text, known))


def decoded(data: bytes, *, since: float, storing: StoringPolicy, strict: bool) -> Stored | None:
    """None for what is no entry of this version. ``since``, ``storing``, ``strict``: the reader's
    own."""
    try:
        return _decoded(_Reader(data), since, storing, strict)
    except (struct.error, _Broken):
        return None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = _HEAD.size
        self.head = _HEAD.unpack_from(data)

    def text(self) -> bytes:
        (size,) = _LENGTH.unpack_from(self._data, self._at)
        begin = self._at + _LENGTH.size
        self._at = begin + size
        if self._at > len(self._data):
            raise _Broken
        return self._data[begin : self._at]

    def texts(self) -> tuple[bytes, ...]:
        (count,) = _LENGTH.unpack_from(self._data, self._at)
        if count > len(self._data):
            raise _Broken
        self._at += _LENGTH.size
        return tuple(self.text() for _ in range(count))

    def rest(self) -> bytes:
        return self._data[self._at :]


def _decoded(reader: _Reader, since: float, storing: StoringPolicy, strict: bool) -> Stored:
    version, number, status, age_s, lifetime_s, refresh_s, error_s, *span = reader.head
    if version != VERSION:
        raise _Broken
    flags = _Flag(number)
    stamp, host, target, phrase, etag, modified, lines = (reader.text() for _ in range(7))
    vary, values, groups = (reader.texts() for _ in range(3))
    return Stored(
        stamp,
        Entry(
            host=host,
            target=target,
            head_only=False,
            vary=vary,
            values=values,
            status=status,
            phrase=phrase,
            lines=lines,
            body=reader.rest(),
            span=Span(*span) if _Flag.SPAN in flags else None,
            since=since,
            initial_age_s=age_s,
            lifetime_s=lifetime_s,
            no_cache=_Flag.NO_CACHE in flags,
            never_stale=_Flag.NEVER_STALE in flags,
            immutable=_Flag.IMMUTABLE in flags,
            public=_Flag.PUBLIC in flags,
            stale_while_revalidate_s=refresh_s,
            stale_if_error_s=None if error_s < 0 else error_s,
            etag=etag if _Flag.ETAG in flags else None,
            last_modified=modified if _Flag.LAST_MODIFIED in flags else None,
            groups=groups,
            position=-1,
            strict=strict,
            storing=storing,
        ),
    )
