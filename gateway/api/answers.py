"""What a client of an order route is told: each outcome of placement as a response."""

from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from typing import Any, Literal, TypeAlias, assert_never

import orjson

from gateway.api.forwarding import client_fields
from gateway.ledger import EntryUnreadable, LedgerUnavailable
from gateway.orders.entry import Entry, KeptAnswer
from gateway.orders.states import Status
from gateway.placement import (
    Busy,
    KeyMismatch,
    KeyUnreadable,
    Placed,
    Settled,
    StillPending,
)
from middleware.messages import RawHeaders, without
from middleware.problems import Problem
from middleware.values import light

STATUS_PATH = "/_gateway/orders/"
RETRY_AFTER_S = 2
"""For a status that moves within seconds: a poll costs the gateway one read by key."""

KeyStatus: TypeAlias = Literal["created", "attached", "replayed", "pending", "mismatch"]


@light
@dataclass(frozen=True, slots=True)
class Told:
    """One whole response, in bytes."""

    status: int
    phrase: bytes
    headers: RawHeaders
    body: bytes


def safe_new_key(entry: Entry) -> bool:
    """Whether an order under a new key could not be a second one: this key's entry has ended
    without an order, and nothing contradicts that. A received order will still be sent."""
    return entry.status in (Status.REJECTED, Status.FAILED) and not entry.disputed


def order_members(entry: Entry | None) -> dict[str, Any]:
    """What every problem on an order route says of the order."""
    if entry is None:
        return {"order": None, "order_status": None, "safe_new_key": False}
    return {
        "order": entry.id,
        "order_status": entry.status.value,
        "safe_new_key": safe_new_key(entry),
    }


def status_url(entry: Entry) -> str:
    return STATUS_PATH + entry.id


def tell(placed: Placed, key_field: str, now: float, *, anonymous: bool) -> Told:
    """The response to a submission. Raises Problem for what is an error to the client."""
    match placed:
        case Settled(entry):
            return _settled(placed, entry, key_field, now)
        case StillPending(entry):
            return _pending(entry, key_field)
        case KeyMismatch(entry):
            raise _mismatch(entry, key_field, anonymous=anonymous)
        case KeyUnreadable(entry):
            raise _trouble(
                "key-unreadable",
                "The key can not be compared",
                "A newer version of the gateway holds this key. Repeat with the same key.",
                entry,
                key_field,
            )
        case Busy(entry):
            raise Problem(
                409,
                "order-in-flight",
                "The same order is being placed",
                "Repeat with the same key after Retry-After, or ask the status URL.",
                members={**order_members(entry), "status_url": status_url(entry)},
                headers={"Retry-After": str(RETRY_AFTER_S), **_key_headers("pending", key_field)},
                repeat_is_safe=True,
            )
        case _:
            assert_never(placed)


@light
@dataclass(frozen=True, slots=True)
class Relayed:
    """The upstream's answer to an order: its ``fields``, and our ``own`` instead of any of the
    same names (``client_fields``)."""

    status: int
    phrase: bytes
    fields: RawHeaders
    own: RawHeaders
    body: bytes


def relayed(placed: Settled, key_field: str, now: float) -> Relayed | None:
    """None where there is no such answer, or none any more: then ``tell`` says what there is."""
    entry, kept, live = placed.entry, placed.entry.answer, placed.live
    if kept is None or kept.body is None or _forgotten(entry, now):
        return None
    fields = live.headers if live is not None else kept.headers
    own = _own_fields(placed, entry, key_field, source=b"upstream")
    return Relayed(kept.status, kept.phrase, fields, own, kept.body)


def _settled(placed: Settled, entry: Entry, key_field: str, now: float) -> Told:
    if _forgotten(entry, now):
        raise _gone(entry, key_field)
    if entry.answer is None:
        return _settled_without_answer(placed, entry, key_field)
    found = relayed(placed, key_field, now)
    if found is None:
        return _too_large(placed, entry, entry.answer, key_field)
    fields = client_fields(found.fields, *found.own)
    return Told(found.status, found.phrase, fields, found.body)


def _too_large(placed: Settled, entry: Entry, kept: KeptAnswer, key_field: str) -> Told:
    """The outcome stands, also for the first to ask: an answer that can't be repeated is told to
    nobody. Only its digest was kept."""
    own = _own_fields(placed, entry, key_field, source=b"gateway")
    document = {
        "id": entry.id,
        "status": entry.status.value,
        "answer": "too large to keep",
        "digest": kept.digest,
    }
    described = (b"content-encoding", b"content-range", b"digest", b"etag", b"content-md5")
    told = without(kept.headers, frozenset(described))
    fields = client_fields(told, (b"Content-Type", b"application/json"), *own)
    return Told(kept.status, kept.phrase, fields, orjson.dumps(document))


def _forgotten(entry: Entry, now: float) -> bool:
    settled_at = entry.updated_at if entry.settled_at is None else entry.settled_at
    return now >= settled_at + entry.promise.retention_s


def _own_fields(
    placed: Settled, entry: Entry, key_field: str, *, source: bytes
) -> tuple[tuple[bytes, bytes], ...]:
    key_status = _key_status(placed, entry)
    settled_at = entry.updated_at if entry.settled_at is None else entry.settled_at
    expires = _http_date(int(settled_at + entry.promise.retention_s))
    fields = [
        (b"Idempotency-Key", key_field.encode("ascii")),
        (b"Idempotency-Status", key_status.encode("ascii")),
        (b"Idempotency-Expires", expires),
        (b"Gateway-Source", source),
        (b"Gateway-Order", entry.id.encode("ascii")),
    ]
    if placed.replayed:
        fields.append((b"Idempotent-Replayed", b"true"))
    return tuple(fields)


@lru_cache(64)
def _http_date(at_s: int) -> bytes:
    """Orders that settle in one second expire in one."""
    return formatdate(at_s, usegmt=True).encode("ascii")


def _key_status(placed: Settled, entry: Entry) -> KeyStatus:
    if entry.attached:
        return "attached"
    return "replayed" if placed.replayed else "created"


def _settled_without_answer(placed: Settled, entry: Entry, key_field: str) -> Told:
    """Settled by a person or by proof of absence: there is no answer of the upstream to give."""
    if entry.status is Status.CONFIRMED:
        own = _own_fields(placed, entry, key_field, source=b"gateway")
        body = orjson.dumps({"id": entry.id, "status": entry.status.value})
        return Told(200, b"OK", ((b"Content-Type", b"application/json"), *own), body)
    if entry.status is Status.REJECTED:
        raise Problem(
            409,
            "order-rejected",
            "The order was rejected",
            "The shop's staff settled this order as rejected.",
            members=order_members(entry),
            headers=_key_headers("replayed", key_field),
        )
    if entry.disputed:
        raise _trouble(
            "order-disputed",
            "What became of the order is disputed",
            "Ask the shop's staff before ordering again.",
            entry,
            key_field,
        )
    raise _trouble(
        "order-failed",
        "The order was not placed",
        "No order was made. Repeat with the same key, or order anew under a new one.",
        entry,
        key_field,
    )


def _pending(entry: Entry, key_field: str) -> Told:
    document = {
        "id": entry.id,
        "status": entry.status.value,
        "status_url": status_url(entry),
        "safe_new_key": False,
    }
    fields: RawHeaders = (
        (b"Content-Type", b"application/json"),
        (b"Cache-Control", b"no-store"),
        (b"Location", status_url(entry).encode("ascii")),
        (b"Retry-After", str(RETRY_AFTER_S).encode("ascii")),
        (b"Idempotency-Key", key_field.encode("ascii")),
        (b"Idempotency-Status", b"pending"),
        (b"Gateway-Source", b"gateway"),
        (b"Gateway-Order", entry.id.encode("ascii")),
    )
    return Told(202, b"Accepted", fields, orjson.dumps(document))


def _mismatch(entry: Entry, key_field: str, *, anonymous: bool) -> Problem:
    members = {} if anonymous else order_members(entry)
    became = "" if anonymous else f" The first order is {entry.status.value}."
    return Problem(
        422,
        "key-mismatch",
        "The idempotency key belongs to another submission",
        f"This key was used with another body, method or path.{became}"
        " If this is meant as another order, give it a key of its own.",
        members=members,
        headers=_key_headers("mismatch", key_field),
    )


def _gone(entry: Entry, key_field: str) -> Problem:
    return Problem(
        410,
        "answer-gone",
        "The answer is no longer kept",
        f"The order was {entry.status.value}; the time for which its answer is kept is over.",
        members=order_members(entry),
        headers=_key_headers("replayed", key_field),
    )


def _trouble(slug: str, title: str, detail: str, entry: Entry | None, key_field: str) -> Problem:
    return Problem(
        503,
        slug,
        title,
        detail,
        members=order_members(entry),
        headers={"Retry-After": str(RETRY_AFTER_S), **_key_headers("created", key_field)},
    )


def ledger_unavailable(trouble: LedgerUnavailable, key_field: str | None) -> Problem:
    """Nothing may be sent; the same key again is always right."""
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    again = "Repeat the same request, unchanged."
    if key_field is not None:
        headers["Idempotency-Key"] = key_field
        again = "Repeat with the same key."
    if isinstance(trouble, EntryUnreadable):
        return Problem(
            503,
            "order-unreadable",
            "What is kept of the order can not be read",
            f"There is an order, and nothing was sent for this request. {again}",
            members=order_members(None),
            headers=headers,
            repeat_is_safe=True,
        )
    return Problem(
        503,
        "ledger-unavailable",
        "Orders can not be recorded at the moment",
        again,
        members=order_members(None),
        headers=headers,
        repeat_is_safe=True,
    )


def _key_headers(key_status: KeyStatus, key_field: str) -> dict[str, str]:
    return {"Idempotency-Key": key_field, "Idempotency-Status": key_status}
