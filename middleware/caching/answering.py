"""What of a kept answer goes to one client: the whole, a part, or "you have it". Pure."""

from dataclasses import dataclass

from middleware.caching.asked import Asked
from middleware.caching.entries import Entry
from middleware.caching.ranges import (
    Piece,
    Unsatisfiable,
    Wanted,
    boundary,
    cut,
    multipart,
    wanted,
    within,
)
from middleware.caching.storing import PARTIAL
from middleware.caching.validating import not_modified, same_for_range
from middleware.messages import RawHeaders, first, without

_CONDITIONAL_STATUSES = frozenset({200, PARTIAL})
"""Conditions and ranges speak of a representation; other answers are given as they are (RFC 9110
section 13.2.1)."""

_DESCRIBES_BODY = frozenset(
    {b"content-encoding", b"content-language", b"content-length", b"content-md5"}
    | {b"content-range", b"content-type", b"digest", b"content-digest"}
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What goes out, but for Age and Cache-Status."""

    status: int
    phrase: bytes
    headers: RawHeaders
    body: bytes


def range_of(asked: Asked, entry: Entry, now: float) -> Wanted:
    """The ranges of ``entry`` that ``asked`` wants; None for the whole."""
    value = asked.fields.get(b"range")
    if value is None or asked.method != b"GET" or entry.status not in _CONDITIONAL_STATUSES:
        return None
    if entry.status == PARTIAL and entry.span is None:  # kept for these very ranges
        return None
    if not same_for_range(asked.fields, entry, now):
        return None
    total = len(entry.body) if entry.span is None else entry.span.total
    return wanted(value, total)


def covers(asked: Asked, entry: Entry, now: float) -> bool:
    """Whether what is here is enough: always, but for a part (RFC 9111 section 3.3)."""
    if entry.span is None:
        return entry.status != PARTIAL or asked.method == b"GET"
    pieces = range_of(asked, entry, now)
    if isinstance(pieces, Unsatisfiable):
        return True
    return pieces is not None and len(pieces) == 1 and within(pieces[0], entry.span)


def shown(asked: Asked, entry: Entry, now: float) -> Shown:
    """The answer to ``asked`` from ``entry``, which covers it. ``now`` by the wall clock."""
    if entry.status in _CONDITIONAL_STATUSES:
        if not_modified(asked.fields, entry, now):
            return Shown(304, b"Not Modified", without(entry.headers, _DESCRIBES_BODY), b"")
        pieces = range_of(asked, entry, now)
        if pieces is not None:
            return _in_part(entry, pieces)
    return Shown(entry.status, entry.phrase, entry.headers, entry.body)


def _in_part(entry: Entry, pieces: tuple[Piece, ...] | Unsatisfiable) -> Shown:
    total = len(entry.body) if entry.span is None else entry.span.total
    if isinstance(pieces, Unsatisfiable):
        said = (b"Content-Range", b"bytes */%d" % total)
        headers = (*without(entry.headers, _DESCRIBES_BODY), said)
        return Shown(416, b"Range Not Satisfiable", headers, b"")
    headers = without(entry.headers, frozenset({b"content-range"}))
    if len(pieces) == 1:
        piece = pieces[0]
        said = (b"Content-Range", b"bytes %d-%d/%d" % (piece.first, piece.last, total))
        body = cut(entry.body, piece, entry.span)
        return Shown(PARTIAL, b"Partial Content", (*headers, said), body)
    kind = first(headers, b"content-type") or b""
    body = multipart(entry.body, pieces, kind, total)
    described = b"multipart/byteranges; boundary=" + boundary(entry.body)
    headers = without(headers, frozenset({b"content-type"}))
    return Shown(PARTIAL, b"Partial Content", (*headers, (b"Content-Type", described)), body)
