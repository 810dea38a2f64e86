"""Validators, preconditions, and what a 304 or a HEAD says of a kept answer (RFC 9110 sections 8.8
and 13, RFC 9111 section 4.3). Pure."""

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum, auto

from middleware.caching.asked import Asked, Received
from middleware.caching.dates import parse_date
from middleware.caching.directives import response_directives
from middleware.caching.entries import Entry, kept_headers, make_entry
from middleware.caching.fields import entity_tags
from middleware.caching.storing import Keep, NotStored, StoringPolicy, may_store
from middleware.messages import RawHeaders, without

CONDITIONS = frozenset({b"if-none-match", b"if-modified-since", b"if-range", b"range"})
"""What the cache itself answers, and leaves out when it asks for the whole."""

NOT_UPDATED = frozenset({b"content-encoding", b"content-length", b"content-range"})
"""Fields that say how the kept bytes are to be read, which a 304 does not send again (RFC 9111
section 3.2)."""


def opaque(etag: bytes) -> bytes:
    return etag[2:] if etag[:2] == b"W/" else etag


def weakly_equal(one: bytes, other: bytes) -> bool:
    """RFC 9110 section 8.8.3.2."""
    return opaque(one) == opaque(other)


def strongly_equal(one: bytes, other: bytes) -> bool:
    return one == other and one[:2] != b"W/"


def not_modified(fields: Mapping[bytes, bytes], entry: Entry, now: float) -> bool:
    """Whether the client has what is kept already (RFC 9111 section 4.3.2). If-None-Match takes
    precedence; a date that is none is passed over. ``now`` by the wall clock."""
    wanted = fields.get(b"if-none-match")
    if wanted is not None:
        if wanted.strip() == b"*":
            return True
        etag = entry.etag
        return etag is not None and any(weakly_equal(each, etag) for each in entity_tags(wanted))
    since = fields.get(b"if-modified-since")
    if since is None or (at := parse_date(since, now)) is None:
        return False
    modified = entry.modified_at(now)
    if modified is None:
        modified = parse_date(entry.fields.get(b"date", b""), now)
    return modified is not None and modified <= at


def same_for_range(fields: Mapping[bytes, bytes], entry: Entry, now: float) -> bool:
    """If-Range (RFC 9110 section 13.1.5): a strong match, or the very date where that is strong."""
    condition = fields.get(b"if-range")
    if condition is None:
        return True
    if entry.etag is not None and b'"' in condition:
        return strongly_equal(condition, entry.etag)
    at = parse_date(condition, now)
    return at is not None and at == entry.modified_at(now) and has_strong_date(entry, now)


def same_strongly(one: Entry, other: Entry) -> bool:
    """Whether both are surely of the same bytes (RFC 9110 section 8.8.3.2)."""
    return one.etag is not None and other.etag is not None and strongly_equal(one.etag, other.etag)


def has_strong_date(entry: Entry, now: float) -> bool:
    """Section 8.8.2.2: it is older than the answer by a second at least."""
    modified, date = entry.modified_at(now), parse_date(entry.fields.get(b"date", b""), now)
    return modified is not None and date is not None and date - modified >= 1


def conditional(headers: RawHeaders, entry: Entry) -> RawHeaders:
    """The request that asks whether ``entry`` still holds (section 4.3.1). The client's own
    conditions are answered from what comes of it."""
    asking = without(headers, CONDITIONS)
    if entry.etag is not None:
        asking = (*asking, (b"If-None-Match", entry.etag))
    if entry.last_modified is not None:
        asking = (*asking, (b"If-Modified-Since", entry.last_modified))
    return asking


def rest_of(asked: Asked, entry: Entry | None) -> RawHeaders | None:
    """The request for what a kept part lacks at its end, or before its beginning (RFC 9111 section
    3.3, RFC 9110 section 14.2); None where one range can't make it whole."""
    if entry is None or entry.span is None or asked.method != b"GET" or b"range" in asked.fields:
        return None
    first, last, total = entry.span.first, entry.span.last, entry.span.total
    if entry.etag is None or entry.etag[:2] == b"W/" or (first and last < total - 1):
        return None
    asking = without(asked.headers, CONDITIONS)
    wants = b"bytes=0-%d" % (first - 1) if first else b"bytes=%d-" % (last + 1)
    return (*asking, (b"Range", wants), (b"If-Range", entry.etag))


def has_validator(entry: Entry) -> bool:
    return entry.etag is not None or entry.last_modified is not None


class Freshened(Enum):
    """What an answer about a kept one comes to, where it does not update it."""

    OTHER = auto()
    """It speaks of another representation."""


def freshened(
    asked: Asked,
    entry: Entry,
    answer: Received,
    policy: StoringPolicy,
    *,
    since: float,
    moved: bool = False,
) -> Entry | NotStored | Freshened:
    """``entry`` as a 304 (or a HEAD that agrees) leaves it (sections 3.2, 4.3.4, 4.3.5), or why
    it may not be kept any longer. ``moved``: for requests like ``asked``, which did not select
    it before."""
    if not _about(entry, answer):
        return Freshened.OTHER
    merged = merged_headers(entry.headers, answer.headers)
    whole = replace(answer, status=entry.status, phrase=entry.phrase, headers=merged)
    keep = may_store(asked, whole, policy)
    if isinstance(keep, NotStored):
        return keep
    renewed = _renewed(asked, entry, whole, keep, since=since)
    if keep.vary == entry.vary and not moved:
        return replace(renewed, values=entry.values)
    return renewed


def _about(entry: Entry, answer: Received) -> bool:
    """Whether a 304 speaks of ``entry``: an ETag decides alone, as it does at the upstream; else
    the date must be the same. What the 304 leaves out is not held against it."""
    etag, modified = answer.fields.get(b"etag"), answer.fields.get(b"last-modified")
    if entry.etag is not None:
        return etag is None or weakly_equal(etag, entry.etag)
    return modified is None or entry.last_modified is None or modified == entry.last_modified


def _renewed(asked: Asked, entry: Entry, whole: Received, keep: Keep, *, since: float) -> Entry:
    return make_entry(
        asked,
        whole,
        keep,
        entry.body,
        since=since,
        position=entry.position,
        span=entry.span,
        storing=entry.storing,
        strict=entry.strict,
    )


def merged_headers(kept: RawHeaders, newer: RawHeaders) -> RawHeaders:
    """Every field of the newer answer replaces all kept lines of its name."""
    newer = without(kept_headers_of(newer), NOT_UPDATED)
    named = frozenset(name.lower() for name, _ in newer)
    return (*without(kept, named), *newer)


def kept_headers_of(headers: RawHeaders) -> RawHeaders:
    """Age stays: it is part of how old the validated answer is."""
    ages = tuple(field for field in headers if field[0].lower() == b"age")
    return (*kept_headers(headers, frozenset()), *ages)


def unkept(answer: Received, entry: Entry) -> RawHeaders:
    """What ``answer`` says to its own client beside what is kept of it as ``entry``: cookies, and
    the fields that ``private`` and ``no-cache`` name."""
    kept = entry.fields
    names = response_directives(kept, entry.storing.targets).withheld | {b"set-cookie"}
    own = names - NOT_UPDATED - kept.keys()
    return tuple(field for field in answer.headers if field[0].lower() in own)


def head_agrees(entry: Entry, answer: Received, length: int | None) -> bool:
    """Whether the answer to a HEAD can be about the kept one (section 4.3.5)."""
    if entry.status != answer.status:
        return False
    fields = answer.fields
    if length is not None and entry.span is None and length != len(entry.body):
        return False
    for name, kept in ((b"etag", entry.etag), (b"last-modified", entry.last_modified)):
        if name in fields and kept is not None and fields[name] != kept:
            return False
    return True
