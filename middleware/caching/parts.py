"""Answers that hold a part of the representation: 206 (RFC 9111 sections 3.3 and 3.4). Pure."""

from dataclasses import replace

from middleware.caching.asked import Asked, Received
from middleware.caching.entries import Entry, Span
from middleware.caching.ranges import content_range, joined
from middleware.caching.storing import Keep
from middleware.caching.validating import same_strongly

VERBATIM = (b"if-range", b"range")


def may_be_kept(asked: Asked, entry: Entry | None) -> bool:
    """A part that was asked for, and is not here as a part of the whole."""
    whole = entry is not None and entry.span is None and entry.status == 200
    return b"range" in asked.fields and not whole


def span_of(received: Received, body_bytes: int | None = None) -> Span | None:
    """What a 206 holds; None for one that holds several ranges, or doesn't say plainly what."""
    span = content_range(received.fields.get(b"content-range"))
    if span is not None and body_bytes not in (None, span.last - span.first + 1):
        return None
    return span


def verbatim(keep: Keep) -> Keep:
    """For the very same ranges only: nothing can be cut from such a part, nor joined to it."""
    return replace(keep, vary=tuple(sorted({*keep.vary, *VERBATIM})))


def completed(made: Entry, span: Span, entry: Entry | None) -> Entry:
    """A part joined with the part that was here (RFC 9111 section 3.4), whole if that is all."""
    body = made.body
    if entry is not None and entry.span is not None and same_strongly(made, entry):
        both = joined(entry.body, entry.span, body, span)
        if both is not None:
            body, span = both
    if span.last - span.first + 1 == span.total:
        lines = b"".join(
            b"%b: %b\r\n" % field for field in made.headers if field[0].lower() != b"content-range"
        )
        return replace(made, status=200, phrase=b"OK", lines=lines, body=body, span=None)
    return replace(made, body=body, span=span)
