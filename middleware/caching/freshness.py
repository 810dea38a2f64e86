"""For how long an answer is fresh, and how old it is (RFC 9111 section 4.2). Pure."""

from collections.abc import Mapping
from math import floor

from middleware.caching.dates import parse_date
from middleware.caching.directives import ResponseDirectives
from middleware.caching.fields import age_value

HEURISTIC_STATUSES = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
"""RFC 9110 section 15.1: cacheable without being told so."""

HEURISTIC_SHARE = 0.1
"""Of the time since the last change; what RFC 9111 section 4.2.2 calls typical."""

HEURISTIC_MAX_S = 86_400.0
"""Nobody asked for it, so a mistake in it is over by tomorrow."""


def explicit_lifetime_s(
    directives: ResponseDirectives, fields: Mapping[bytes, bytes], received_at: float
) -> float | None:
    """What the answer says (section 4.2.1), 0 for what is not understood; None: it says nothing."""
    if directives.s_maxage is not None:
        return float(directives.s_maxage)
    if directives.max_age is not None:
        return float(directives.max_age)
    if directives.targeted or b"expires" not in fields:
        return None
    # What is no date is in the past (section 5.3), and several are none (section 4.2.1 allows it).
    expires = parse_date(fields[b"expires"], received_at) or 0.0
    return max(0.0, expires - date_of(fields, received_at))


def date_of(fields: Mapping[bytes, bytes], received_at: float) -> float:
    """The Date, or the time of receipt where there is no good one (RFC 9110 section 6.6.1)."""
    found = parse_date(fields.get(b"date", b""), received_at)
    return received_at if found is None else found


def heuristic_lifetime_s(
    status: int,
    directives: ResponseDirectives,
    fields: Mapping[bytes, bytes],
    received_at: float,
) -> float:
    """Section 4.2.2: a tenth of the time since Last-Modified; 0 where guessing is not allowed."""
    if status not in HEURISTIC_STATUSES and not directives.public:
        return 0.0
    modified = parse_date(fields.get(b"last-modified", b""), received_at)
    if modified is None:
        return 0.0
    since_s = date_of(fields, received_at) - modified
    return min(max(0.0, since_s * HEURISTIC_SHARE), HEURISTIC_MAX_S)


def initial_age_s(fields: Mapping[bytes, bytes], asked_at: float, received_at: float) -> float:
    """``corrected_initial_age`` (section 4.2.3). An upstream whose clock is ahead gains nothing,
    and a Date, which has whole seconds, costs no part of one."""
    apparent = max(0.0, floor(received_at) - date_of(fields, received_at))
    corrected = age_value(fields) + max(0.0, received_at - asked_at)
    return max(apparent, corrected)
