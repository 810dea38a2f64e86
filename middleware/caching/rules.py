"""What to do about one request, given what is kept (RFC 9111 section 4). Pure."""

from enum import StrEnum
from typing import NamedTuple, TypeAlias

from middleware.caching.answering import covers
from middleware.caching.asked import OVERRIDING, Asked
from middleware.caching.entries import Entry

STALE_IF_ERROR_STATUSES = frozenset({500, 502, 503, 504})
"""RFC 5861 section 4."""

_PRECONDITIONS = frozenset({b"if-match", b"if-unmodified-since"})
"""Only the upstream can judge these (RFC 9111 section 4.3.2)."""


class Forwarded(StrEnum):
    """Why a request goes upstream: the ``fwd`` of Cache-Status (RFC 9211 section 2.2)."""

    BYPASS = "bypass"
    METHOD = "method"
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    REQUEST = "request"
    STALE = "stale"
    PARTIAL = "partial"


class Serve(NamedTuple):
    """Answer from what is kept. ``refresh``: and ask anew in the background (RFC 5861)."""

    entry: Entry
    age_s: float
    refresh: bool = False


class Ask(NamedTuple):
    """Ask upstream; about ``entry``, where there is one that may still hold."""

    why: Forwarded
    entry: Entry | None = None


class GiveUp(NamedTuple):
    """504: only-if-cached, and nothing usable is (RFC 9111 section 5.2.1.7)."""


Decision: TypeAlias = Serve | Ask | GiveUp


def bypassed(asked: Asked) -> bool:
    """Requests that are neither answered from the cache nor kept: a GET with a body (it is not in
    the key), one that means another target than it says, one whose conditions are not ours."""
    return (
        asked.has_body
        or not OVERRIDING.isdisjoint(asked.fields)
        or not _PRECONDITIONS.isdisjoint(asked.fields)
    )


def decide(
    asked: Asked, entry: Entry | None, *, now: float, wall: float, varies: bool, strict: bool
) -> Decision:
    """``entry``: the selected kept answer. ``varies``: there are others of this URI. ``strict``:
    never stale, whatever anyone allows: an order can change what this shows."""
    if entry is None:
        return _ask(asked, Ask(Forwarded.VARY_MISS if varies else Forwarded.URI_MISS))
    age = entry.age_s(now)
    why = _unusable(asked, entry, age)
    if why is None:
        left = entry.lifetime_s - age
        if left > 0:
            served: Decision = Serve(entry, age)
        else:
            served = _stale(asked, entry, age, strict=strict)
    else:
        served = Ask(why, entry)
    if isinstance(served, Serve) and not covers(asked, entry, wall):
        served = Ask(Forwarded.PARTIAL, entry)
    return _ask(asked, served)


def _ask(asked: Asked, decision: Decision) -> Decision:
    if asked.directives.only_if_cached and isinstance(decision, Ask):
        return GiveUp()
    return decision


def _unusable(asked: Asked, entry: Entry, age: float) -> Forwarded | None:
    """Why it can't be used without asking, whether it is fresh or not (sections 4, 5.2)."""
    wants = asked.directives
    if entry.no_cache:
        return Forwarded.STALE
    if wants.no_cache:
        return Forwarded.REQUEST
    if wants.max_age is not None and age > wants.max_age and not _immutable(entry, age):
        return Forwarded.REQUEST
    if wants.min_fresh is not None and entry.lifetime_s - age < wants.min_fresh:
        return Forwarded.REQUEST if entry.lifetime_s > age else Forwarded.STALE
    return None


def _immutable(entry: Entry, age: float) -> bool:
    """Whether asking anew, as a reload with ``max-age=0`` does, would be in vain (RFC 8246 section
    2.1); ``no-cache`` asks all the same."""
    return entry.immutable and age < entry.lifetime_s


def _stale(asked: Asked, entry: Entry, age: float, *, strict: bool) -> Decision:
    over = age - entry.lifetime_s
    if not strict and not entry.never_stale:
        allowed = asked.directives.max_stale
        if allowed is not None and over <= allowed:
            return Serve(entry, age)
        if 0 < entry.stale_while_revalidate_s >= over:
            return Serve(entry, age, refresh=True)
    return Ask(Forwarded.STALE, entry)


def usable_on_error(
    asked: Asked, entry: Entry, *, now: float, strict: bool, away_s: float = 0.0
) -> bool:
    """Whether ``entry`` may stand in for an upstream that fails (RFC 5861 section 4): within its
    window, or the one that the request grants, and where nothing forbids stale answers. Where
    neither says anything, for ``away_s``: an upstream that can't be reached can't be asked (RFC
    9111 section 4.2.4)."""
    wants = asked.directives
    if strict or entry.never_stale or entry.no_cache or wants.no_cache:
        return False
    over = entry.age_s(now) - entry.lifetime_s
    granted = [each for each in (entry.stale_if_error_s, wants.stale_if_error) if each is not None]
    if granted:
        return over <= max(granted) and max(granted) > 0
    return wants.max_age is None and wants.min_fresh is None and over <= away_s and away_s > 0
