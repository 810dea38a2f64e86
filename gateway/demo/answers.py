"""What a customer may conclude from an answer. Pure: replies in, conclusions out."""

import base64
import binascii
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

import orjson

from gateway.demo.wire import Outcome, Reply, Silence
from gateway.orders.states import FINAL, Status
from middleware.messages import first

AGAIN_S = 0.4
"""Before asking again, where nobody said how long."""

AGAIN_S_MAX = 2.0
"""Customers don't wait longer than this, whatever ``Retry-After`` asks: the demo is short."""

GONE = 410
"""It is over, and its answer is past its time."""

_NOT_ADMITTED = frozenset({401, 403, 407})
_ASK_AGAIN = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True)
class Definite:
    """Something to believe: final, failed, or waiting for a person (``dead_letter``). ``gone``: it
    is over, and its answer is past its time."""

    status: Status
    code: int | None = None
    body: bytes = b""
    order_id: str | None = None
    about: str | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Watch:
    """Not final yet: look at ``target``. ``status`` is what the gateway said of the order."""

    target: str
    status: Status
    after_s: float = AGAIN_S


@dataclass(frozen=True, slots=True)
class Again:
    """Nothing is known: submit again, with the same key."""

    after_s: float = AGAIN_S


Conclusion: TypeAlias = Definite | Watch | Again


def conclude(outcome: Outcome) -> Conclusion:
    """What a submission through the gateway came to (DESIGN section 4)."""
    if isinstance(outcome, Silence):
        return Again()
    if outcome.status == 202:
        return _accepted(outcome)
    if _is_problem(outcome):
        return _problem(outcome)
    return conclude_bare(outcome)


def conclude_bare(outcome: Outcome) -> Definite | Again:
    """What the backend's own answer means to a customer."""
    if isinstance(outcome, Silence):
        return Again()
    code = outcome.status
    if 200 <= code < 300:
        return _final(Status.CONFIRMED, code, outcome.body)
    if code in _NOT_ADMITTED:
        return Definite(Status.FAILED, code, outcome.body)
    if 400 <= code < 500 and code not in _ASK_AGAIN:
        return _final(Status.REJECTED, code, outcome.body)
    return Again(_retry_after_s(outcome))


def conclude_status(outcome: Outcome, target: str) -> Conclusion:
    """What the status page at ``target`` says. A page that is gone means: submit again."""
    if isinstance(outcome, Silence):
        return Watch(target, Status.IN_DOUBT)
    fields = _fields(outcome.body)
    status = _status(fields.get("status"))
    if outcome.status in (404, 410):
        return Again()
    if outcome.status != 200 or status is None:
        return Watch(target, Status.IN_DOUBT, _retry_after_s(outcome))
    if status in FINAL:
        return _kept(status, fields.get("answer"))
    if status is Status.FAILED or status is Status.DEAD_LETTER:
        return Definite(status)
    return Watch(target, status)


def _accepted(reply: Reply) -> Conclusion:
    fields = _fields(reply.body)
    status = _status(fields.get("status")) or Status.IN_DOUBT
    if status is Status.DEAD_LETTER:
        return Definite(status)
    location = (first(reply.headers, b"location") or b"").decode("latin-1")
    target = location or fields.get("status_url") or _page_of(fields.get("id"))
    if not isinstance(target, str):
        return Again(_retry_after_s(reply))
    return Watch(_origin_form(target), status)


def _problem(reply: Reply) -> Conclusion:
    """The gateway's own errors. A complaint about the request itself is never an answer to the
    order: the customer goes on asking, and the oracle will see an order without an answer."""
    fields = _fields(reply.body)
    status = _status(fields.get("order_status"))
    if status is Status.FAILED and fields.get("safe_new_key") is True:
        return Definite(Status.FAILED, reply.status)
    if reply.status == GONE and status in FINAL:
        return Definite(status, gone=True)
    page = _page_of(fields.get("order"))
    if page is None or status is None or status is Status.FAILED:
        return Again(_retry_after_s(reply))
    return Watch(page, status, _retry_after_s(reply))


def _kept(status: Status, answer: object) -> Conclusion:
    if not isinstance(answer, dict) or not isinstance(answer.get("status"), int):
        return Again()
    return _final(status, answer["status"], _kept_body(answer))


def _kept_body(answer: dict[str, object]) -> bytes:
    encoded = answer.get("body_base64")
    if isinstance(encoded, str):
        try:
            return base64.b64decode(encoded, validate=True)
        except binascii.Error:
            return b""
    body = answer.get("body")
    if isinstance(body, str):
        return body.encode()
    return b"" if body is None else orjson.dumps(body)


def _final(status: Status, code: int, body: bytes) -> Definite:
    shown = _shown(body)
    order_id, about = shown.get("id"), shown.get("reference")
    return Definite(
        status,
        code,
        body,
        order_id if isinstance(order_id, str) else None,
        about if isinstance(about, str) else None,
    )


def _shown(body: bytes) -> dict[str, object]:
    """The order in an answer: an object, or the first of a list (what a lookup found)."""
    try:
        shown = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(shown, list) and shown:
        shown = shown[0]
    return shown if isinstance(shown, dict) else {}


def _fields(body: bytes) -> dict[str, object]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _is_problem(reply: Reply) -> bool:
    kind = first(reply.headers, b"content-type") or b""
    return kind.split(b";")[0].strip().lower() == b"application/problem+json"


def _status(word: object) -> Status | None:
    return Status(word) if isinstance(word, str) and word in set(Status) else None


def _page_of(order: object) -> str | None:
    return f"/_gateway/orders/{order}" if isinstance(order, str) and order else None


def _origin_form(target: str) -> str:
    parts = urlsplit(target)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def _retry_after_s(reply: Reply) -> float:
    asked = first(reply.headers, b"retry-after") or b""
    return min(float(asked), AGAIN_S_MAX) if asked.isdigit() else AGAIN_S
