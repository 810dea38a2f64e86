"""Which answers mean what: data of the route, with defaults for a first attempt.

An answer is judged by its status first and may only lose weight from there: a confirming
answer that is cut short, unframed or without the promised id proves nothing.
"""

import json
import re
from codecs import BOM_UTF8
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeAlias

import orjson

from gateway.orders.attempts import Answer
from gateway.orders.promise import OutcomeTable
from middleware.messages import first as first_value


class Inconclusive(StrEnum):
    """Why an answer proves nothing."""

    ACCEPTED_ONLY = "accepted_only"
    REDIRECT = "redirect"
    SERVER_ERROR = "server_error"
    REQUEST_TIMEOUT = "request_timeout"
    LISTED = "listed_as_doubt"
    REFUSAL_NOT_LISTED = "refusal_not_listed"
    RESEND_PROVES_NOTHING = "resend_proves_nothing"
    UNFRAMED = "answer_without_length"
    NOT_WHOLE = "json_not_whole"
    ID_MISSING = "answer_id_missing"
    UNKNOWN_STATUS = "unknown_status"


@dataclass(frozen=True, slots=True)
class Confirms:
    """The upstream holds the order."""


@dataclass(frozen=True, slots=True)
class Refuses:
    """The upstream refused the order; this attempt made nothing."""


@dataclass(frozen=True, slots=True)
class NotAdmitted:
    """No order was made, and other credentials may succeed (401, 403, 407)."""


@dataclass(frozen=True, slots=True)
class NotProcessed:
    """The upstream did not look at it: try again, not before ``retry_after_s`` (425, 429)."""

    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class ProvesNothing:
    reason: Inconclusive


Verdict: TypeAlias = Confirms | Refuses | NotAdmitted | NotProcessed | ProvesNothing

_UNPROVING_ON_RESEND = frozenset({401, 403, 404, 407, 408, 409, 425, 429})
"""On a re-send these may speak of the other attempt (a lock, a limit), not of the order."""

_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
"""An array index (RFC 6901 section 4), in no more digits than an array could have."""

RETRY_AFTER_S_MAX = 3600.0
"""A longer Retry-After would only move the order past its place_within_s."""


def judge(answer: Answer, table: OutcomeTable, *, resend: bool) -> Verdict:
    """What ``answer`` proves about the attempt it answers.

    ``resend`` is True where an earlier attempt may still have taken effect.
    """
    verdict = _by_status(answer, table)
    if resend and (
        answer.status in _UNPROVING_ON_RESEND
        or answer.status >= 500
        or isinstance(verdict, NotAdmitted | NotProcessed)
    ):
        return ProvesNothing(Inconclusive.RESEND_PROVES_NOTHING)
    if isinstance(verdict, Confirms | Refuses):
        return _weakness(answer, table, verdict) or verdict
    return verdict


def _by_status(answer: Answer, table: OutcomeTable) -> Verdict:
    status = answer.status
    match _listed(status, table):
        case "confirmed_when":
            return Confirms()
        case "rejected_when":
            return Refuses()
        case "not_admitted_when":
            return NotAdmitted()
        case "not_processed_when":
            return NotProcessed(retry_after_s(answer))
        case "in_doubt_when":
            return ProvesNothing(Inconclusive.LISTED)
        case _:
            return _by_default(answer, names_refusals=bool(table.rejected_when))


def _listed(status: int, table: OutcomeTable) -> str | None:
    """The list that names ``status``; its own code counts before its class."""
    if not table.lists_any:
        return None
    for name in (str(status), f"{status // 100}xx"):
        for listing in (
            "in_doubt_when",
            "not_processed_when",
            "not_admitted_when",
            "rejected_when",
            "confirmed_when",
        ):
            if name in getattr(table, listing):
                return listing
    return None


def _by_default(answer: Answer, *, names_refusals: bool) -> Verdict:
    match answer.status:
        case 202:
            return ProvesNothing(Inconclusive.ACCEPTED_ONLY)
        case 401 | 403 | 407:
            return NotAdmitted()
        case 425 | 429:
            return NotProcessed(retry_after_s(answer))
        case 408:
            return ProvesNothing(Inconclusive.REQUEST_TIMEOUT)
        case status if 200 <= status < 300:
            return Confirms()
        case status if 300 <= status < 400:
            return ProvesNothing(Inconclusive.REDIRECT)
        case status if 400 <= status < 500:
            if names_refusals:
                return ProvesNothing(Inconclusive.REFUSAL_NOT_LISTED)
            return Refuses()
        case status if 500 <= status < 600:
            return ProvesNothing(Inconclusive.SERVER_ERROR)
        case _:
            return ProvesNothing(Inconclusive.UNKNOWN_STATUS)


def _weakness(
    answer: Answer, table: OutcomeTable, verdict: Confirms | Refuses
) -> ProvesNothing | None:
    """JSON that breaks off was cut short, and so may be what it says. To doubt a refusal is to send
    the order again: one whose body never was JSON, whatever its type, stands."""
    if not answer.framed:
        return ProvesNothing(Inconclusive.UNFRAMED)
    refuses = isinstance(verdict, Refuses)
    needs_id = not refuses and table.answer_id is not None
    begins = answer.body.removeprefix(BOM_UTF8).strip()[:1]
    is_said_to_be = _is_json(answer) and (begins in (b"{", b"[") if refuses else begins != b"")
    if not (needs_id or is_said_to_be):
        return None
    try:
        document = _loads(answer.body)
    except (ValueError, RecursionError):
        return ProvesNothing(Inconclusive.NOT_WHOLE)
    if needs_id and at_pointer(document, table.answer_id or "") in (None, ""):
        return ProvesNothing(Inconclusive.ID_MISSING)
    return None


def _is_json(answer: Answer) -> bool:
    """A JSON media type (RFC 6839 section 3.1: also ``+json``) in no content coding."""
    kind = first_value(answer.headers, b"content-type")
    if kind is None or not _names_json(kind):
        return False
    return first_value(answer.headers, b"content-encoding") is None


@lru_cache(64)  # of upstreams, a handful; of the longest heads, 4 MiB
def _names_json(media_type: bytes) -> bool:
    kind = media_type.split(b";")[0].strip().lower()
    return kind == b"application/json" or kind.endswith(b"+json")


def parsed(body: bytes) -> Any:
    """The JSON document, or None where ``body`` isn't a whole one (or is a bare ``null``)."""
    try:
        return _loads(body)
    except (ValueError, RecursionError):
        return None


def _loads(body: bytes) -> Any:
    """As lenient as the grammar (RFC 8259): with a byte order mark, which says nothing, halves of
    surrogate pairs, as a cut emoji leaves them, and numbers beyond a double. Raises ValueError and
    RecursionError."""
    text = body.removeprefix(BOM_UTF8)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text.decode("utf-8"), parse_constant=_no_number)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def at_pointer(document: Any, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901), or None where there is none, or no pointer."""
    if pointer and not pointer.startswith("/"):
        return None  # else it would point at the whole document, which is always there
    value = document
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        match value:
            case dict() if name in value:
                value = value[name]
            case list() if _INDEX.fullmatch(name) and int(name) < len(value):
                value = value[int(name)]
            case _:
                return None
    return value


def retry_after_s(answer: Answer) -> float | None:
    """Retry-After (RFC 9110 section 10.2.3): seconds, or a date, counted from the answer's own Date
    so that no clock of ours matters. None without one that can be read."""
    value = first_value(answer.headers, b"retry-after")
    if value is None:
        return None
    if value.isdigit():
        return min(float(value), RETRY_AFTER_S_MAX)
    date = first_value(answer.headers, b"date")
    if date is None:
        return None
    try:
        until, said = (parsedate_to_datetime(each.decode("ascii")) for each in (value, date))
        return min(max(0.0, (until - said).total_seconds()), RETRY_AFTER_S_MAX)
    except (ValueError, TypeError, OverflowError):
        return None
