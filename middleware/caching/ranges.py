"""Ranges of bytes: what a request wants, and what of it is here (RFC 9110 section 14). Pure."""

import re
from dataclasses import dataclass
from typing import TypeAlias

from middleware.caching.entries import Span

RANGES_MAX = 8
"""Of one request; who asks for more gets the whole (RFC 9110 section 14.2 allows it)."""

_RANGE = re.compile(rb"(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")
_CONTENT_RANGE = re.compile(rb"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Piece:
    """From ``first`` to ``last``, inclusive, of the whole representation."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """No range of the set has a byte of the representation in it: 416."""


Wanted: TypeAlias = tuple[Piece, ...] | Unsatisfiable | None
"""None: the whole, as there is no range or none that counts."""


def wanted(value: bytes | None, total: int) -> Wanted:
    """What ``Range`` asks for of ``total`` bytes. What is malformed or of another unit is passed
    over."""
    if value is None:
        return None
    unit, equals, text = value.partition(b"=")
    if not equals or unit.strip().lower() != b"bytes":
        return None
    parts = [part.strip(b" \t") for part in text.split(b",")]
    found = [_RANGE.fullmatch(part) for part in parts if part]
    if not found or len(found) > RANGES_MAX:
        return None
    pieces = []
    for each in found:
        if each is None or (each[2] and int(each[2]) < int(each[1])):
            return None
        piece = _piece(each, total)
        if piece is not None:
            pieces.append(piece)
    return _merged(pieces) if pieces else Unsatisfiable()


def _piece(found: "re.Match[bytes]", total: int) -> Piece | None:
    if found[3] is not None:
        length = min(int(found[3]), total)
        return Piece(total - length, total - 1) if length else None
    first = int(found[1])
    last = min(int(found[2]), total - 1) if found[2] else total - 1
    return Piece(first, last) if first < total else None


def _merged(pieces: list[Piece]) -> tuple[Piece, ...]:
    """Overlapping and adjoining ones as one, in ascending order (section 14.2)."""
    merged: list[Piece] = []
    for piece in sorted(pieces, key=lambda each: each.first):
        if merged and piece.first <= merged[-1].last + 1:
            merged[-1] = Piece(merged[-1].first, max(merged[-1].last, piece.last))
        else:
            merged.append(piece)
    return tuple(merged)


def within(piece: Piece, span: Span | None) -> bool:
    return span is None or (span.first <= piece.first and piece.last <= span.last)


def cut(body: bytes, piece: Piece, span: Span | None) -> bytes:
    """The bytes of ``piece``; ``body`` holds ``span``, or the whole."""
    offset = 0 if span is None else span.first
    return body[piece.first - offset : piece.last - offset + 1]


def content_range(value: bytes | None) -> Span | None:
    """What a 206 holds; None for several ranges, an unknown total, or nonsense."""
    found = _CONTENT_RANGE.fullmatch((value or b"").strip())
    if found is None:
        return None
    span = Span(int(found[1]), int(found[2]), int(found[3]))
    return span if span.first <= span.last < span.total else None


def joined(body: bytes, span: Span, other: bytes, other_span: Span) -> tuple[bytes, Span] | None:
    """Both parts of one representation as one run of bytes (RFC 9111 section 3.4); None where
    they neither touch nor overlap. Where both have a byte, ``other``'s counts."""
    if span.total != other_span.total:
        return None
    if other_span.first > span.last + 1 or span.first > other_span.last + 1:
        return None
    before = body[: max(0, other_span.first - span.first)]
    after = body[other_span.last + 1 - span.first :] if other_span.last < span.last else b""
    first, last = min(span.first, other_span.first), max(span.last, other_span.last)
    return before + other + after, Span(first, last, span.total)


def multipart(body: bytes, pieces: tuple[Piece, ...], kind: bytes, total: int) -> bytes:
    """Section 15.3.7.2. The boundary is no secret: it only must not be in the bytes."""
    mark = boundary(body)
    parts = []
    for piece in pieces:
        head = b"\r\n--%b\r\n" % mark
        if kind:
            head += b"Content-Type: %b\r\n" % kind
        head += b"Content-Range: bytes %d-%d/%d\r\n\r\n" % (piece.first, piece.last, total)
        parts.append(head + body[piece.first : piece.last + 1])
    return b"".join(parts) + b"\r\n--%b--\r\n" % mark


def boundary(body: bytes) -> bytes:
    number = 0
    while (mark := b"ordergate-part-%d" % number) in body:
        number += 1
    return mark
