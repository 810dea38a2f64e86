"""What may be kept, for whom, and for how long (RFC 9111 section 3). Pure.

In a shop two customers must never see each other's answers: where the RFC lets a shared cache
choose, this one keeps only what the upstream surely meant for everybody.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from middleware.caching.asked import CREDENTIALS, OVERRIDING, Asked, Received
from middleware.caching.directives import ResponseDirectives, response_directives
from middleware.caching.freshness import (
    HEURISTIC_STATUSES,
    explicit_lifetime_s,
    heuristic_lifetime_s,
    initial_age_s,
)
from middleware.caching.fronting import URI_SAID, says_uri
from middleware.caching.varying import ANYTHING, vary_names

UNDERSTOOD = frozenset(
    {200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308}
    | {400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417}
    | {421, 422, 426, 500, 501, 502, 503, 504, 505}
)
"""Final statuses whose meaning for caches is known (RFC 9110 section 15)."""

PARTIAL, NOT_MODIFIED = 206, 304

REQUESTS_FAULT = frozenset({400, 401, 403, 406, 407, 408, 409, *range(411, 418), *range(421, 432)})
"""Errors that may be the fault of something in the request that is not in its key: too large or
garbled a field, a client that is unwelcome. They are repeated only to requests that show the very
same fields, so that nobody can have them told to others (cache poisoning)."""

UNREPEATABLE = frozenset({413, 428, 429, 431, 511})
"""Never kept: RFC 6585 forbids it of those that it defines, and 413 is about one request's body,
or its header."""

GONE = frozenset({404, 410})

ORDINARY_BYTES_MAX = 8_192
"""An answer of an error class to a request whose header is larger is nobody else's: the upstream
may have choked on it, whatever it calls that."""

EVERY_FIELD = b"\0every field"
"""Beside the names of Vary: all that the request says selects."""


class NotStored(StrEnum):
    """Why an answer is not kept; the detail of Cache-Status."""

    METHOD = "method"
    OVERRIDING = "request-overrides-target"
    PERSONAL = "personal-path"
    REQUEST_NO_STORE = "request-no-store"
    NO_STORE = "no-store"
    PRIVATE = "private"
    STATUS = "status"
    CREDENTIALS = "credentials"
    SETS_COOKIE = "set-cookie"
    VARIES = "vary-any"
    NOT_CACHEABLE = "no-freshness"
    USELESS = "no-validator"
    UNFRAMED = "unframed"
    TOO_LARGE = "too-large"
    OUTDATED = "changed-meanwhile"
    UNSURE = "changes-unknown"


@dataclass(frozen=True, slots=True)
class Keep:
    """Leave to keep an answer. ``vary``: which fields of the request select it."""

    directives: ResponseDirectives
    vary: tuple[bytes, ...]
    lifetime_s: float
    initial_age_s: float


@dataclass(frozen=True, slots=True)
class StoringPolicy:
    """``targets``: targeted fields that speak to this cache, the most specific first.
    ``credentials``: lower-case names of fields that show who the client is.
    ``session_cookies``: the cookies that do; with none named, every cookie does.
    ``behind_proxies``: what proxies in front say of the URI is believed, also by the upstream."""

    targets: tuple[bytes, ...] = (b"cdn-cache-control",)
    credentials: frozenset[bytes] = CREDENTIALS
    session_cookies: frozenset[bytes] = frozenset()
    behind_proxies: bool = False


Kept: TypeAlias = Keep | NotStored


def may_store(asked: Asked, answer: Received, policy: StoringPolicy) -> Kept:
    """Whether ``answer`` to ``asked`` may be kept. Its method is the caller's business."""
    directives = response_directives(answer.fields, policy.targets)
    refused = (
        _by_request(asked)
        or _by_directives(answer.status, directives)
        or _by_credentials(asked, answer, directives, policy)
    )
    if refused is not None:
        return refused
    vary = _selecting(asked, answer, directives, policy)
    if ANYTHING in vary:
        return NotStored.VARIES
    return _with_lifetime(answer, directives, vary)


def _by_request(asked: Asked) -> NotStored | None:
    if not OVERRIDING.isdisjoint(asked.fields):
        return NotStored.OVERRIDING
    return NotStored.REQUEST_NO_STORE if asked.directives.no_store else None


def _by_directives(status: int, directives: ResponseDirectives) -> NotStored | None:
    if status < 200 or status == NOT_MODIFIED or status in UNREPEATABLE:
        return NotStored.STATUS
    if directives.must_understand:  # section 5.2.2.3: it takes the place of no-store
        if status not in UNDERSTOOD:
            return NotStored.STATUS
    elif directives.no_store:
        return NotStored.NO_STORE
    return NotStored.PRIVATE if directives.private else None


def _by_credentials(
    asked: Asked, answer: Received, directives: ResponseDirectives, policy: StoringPolicy
) -> NotStored | None:
    """Section 3.5, and more: a session cookie is as good as Authorization, and an answer that
    sets a cookie was made for one client, unless the upstream says that it is public."""
    if directives.declared_public:
        return None
    shown = credentials_shown(asked.fields, policy)
    if shown and not (shown <= {b"authorization"} and directives.must_revalidate):
        return NotStored.CREDENTIALS
    if b"set-cookie" in answer.fields and b"set-cookie" not in directives.withheld:
        return NotStored.SETS_COOKIE
    return None


def credentials_shown(fields: Mapping[bytes, bytes], policy: StoringPolicy) -> frozenset[bytes]:
    """The fields of a request that show who the client is."""
    shown = policy.credentials.intersection(fields)
    if b"cookie" in shown and policy.session_cookies:
        pairs = fields[b"cookie"].replace(b",", b";").split(b";")
        names = {pair.partition(b"=")[0].strip() for pair in pairs}
        if policy.session_cookies.isdisjoint(names):
            return shown - {b"cookie"}
    return shown


def _selecting(
    asked: Asked, answer: Received, directives: ResponseDirectives, policy: StoringPolicy
) -> tuple[bytes, ...]:
    """Vary, and what selects besides: credentials that must-revalidate let in select for their
    own client alone; what is said of the URI selects as Host does."""
    names = set(vary_names(answer.fields))
    if policy.behind_proxies or says_uri(asked.fields):
        names.add(URI_SAID)
    if not directives.declared_public:
        names |= credentials_shown(asked.fields, policy)
    large = sum(len(value) for value in asked.fields.values()) > ORDINARY_BYTES_MAX
    if answer.status in REQUESTS_FAULT or (large and answer.status >= 400):
        names.add(EVERY_FIELD)
    return tuple(sorted(names))


def _with_lifetime(
    answer: Received, directives: ResponseDirectives, vary: tuple[bytes, ...]
) -> Kept:
    fields, status = answer.fields, answer.status
    lifetime = explicit_lifetime_s(directives, fields, answer.received_at)
    if lifetime is None:
        if status not in HEURISTIC_STATUSES and not directives.public:
            return NotStored.NOT_CACHEABLE
        lifetime = heuristic_lifetime_s(status, directives, fields, answer.received_at)
    age = initial_age_s(fields, answer.asked_at, answer.received_at)
    has_validator = b"etag" in fields or b"last-modified" in fields
    has_window = directives.stale_while_revalidate or directives.stale_if_error
    if lifetime <= 0 and not has_validator and not has_window:
        return NotStored.USELESS
    return Keep(directives, vary, lifetime, age)
