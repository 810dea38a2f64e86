"""Entries to columns and back, byte for byte.

What guards and indices need has columns of its own (schema.sql); the small rest is one JSON
document; request and answer have a head (JSON, bytes as Latin-1) and a body (as it is). A field
that is missing in what was stored takes its default; a change of shape that this can't read
raises the schema's version.
"""

from functools import lru_cache
from typing import Any

import orjson

from gateway.orders.entry import (
    Attempt,
    AttemptResult,
    Entry,
    Event,
    KeptAnswer,
    KeptRequest,
    KeyKind,
)
from gateway.orders.promise import Capability, LookupPlan, OutcomeTable, Promise
from gateway.orders.states import Reason, Status
from middleware.messages import RawHeaders

PROMISES_MAX = 1024
"""Distinct promises kept decoded: one a route and configuration, of a kilobyte each."""


# --- the document ----------------------------------------------------------------------------


def document(entry: Entry) -> str:
    """All of the entry that has no column of its own."""
    return orjson.dumps(
        {
            "upstream_key": entry.upstream_key,
            "canonical_fingerprint": entry.canonical_fingerprint,
            "first_dispatched_at": entry.first_dispatched_at,
            "doubt_since": entry.doubt_since,
            "not_before": entry.not_before,
            "quiet_attempt": entry.quiet_attempt,
            "attempts": entry.attempts,
            "events": entry.events,
        }
    ).decode()


def _attempt(stored: dict[str, Any]) -> Attempt:
    if stored.get("result") is not None:
        stored["result"] = AttemptResult(stored["result"])
    return Attempt(**stored)


def _event(stored: dict[str, Any]) -> Event:
    if stored["source"] is not None:
        stored["source"] = Status(stored["source"])
    stored["target"] = Status(stored["target"])
    stored["reason"] = Reason(stored["reason"])
    return Event(**stored)


# --- the promise -----------------------------------------------------------------------------


@lru_cache(PROMISES_MAX)
def promise_text(promise: Promise) -> str:
    return orjson.dumps(promise, default=_sorted).decode()


def _sorted(value: object) -> list[str]:
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"a promise holds no {type(value).__name__}")


@lru_cache(PROMISES_MAX)
def promise(text: str) -> Promise:
    stored = orjson.loads(text)
    stored["capabilities"] = frozenset(map(Capability, stored["capabilities"]))
    if stored.get("lookup") is not None:
        stored["lookup"] = LookupPlan(**stored["lookup"])
    stored["outcomes"] = OutcomeTable(**_tuples(stored["outcomes"]))
    return Promise(**_tuples(stored))


def _tuples(stored: dict[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
    }


# --- request and answer ----------------------------------------------------------------------


def request_head(request: KeptRequest) -> str:
    return orjson.dumps(
        [_text(request.method), _text(request.target), _texts(request.headers)]
    ).decode()


def request(head: str, body: bytes) -> KeptRequest:
    method, target, headers = orjson.loads(head)
    return KeptRequest(_bytes(method), _bytes(target), _headers(headers), body)


def answer_head(answer: KeptAnswer) -> str:
    return orjson.dumps(
        [answer.status, _text(answer.phrase), _texts(answer.headers), answer.digest, answer.source]
    ).decode()


def answer(head: str, body: bytes | None) -> KeptAnswer:
    status, phrase, headers, digest, source = orjson.loads(head)
    return KeptAnswer(status, _bytes(phrase), _headers(headers), body, digest, source)


def _text(raw: bytes) -> str:
    return raw.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


def _texts(headers: RawHeaders) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _headers(stored: list[list[str]]) -> RawHeaders:
    return tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in stored)


# --- the whole -------------------------------------------------------------------------------

COLUMNS = (
    "o.id, o.scope, o.key, o.key_kind, o.fingerprint, o.status, o.token, o.claim_id,"
    " o.created_at, o.claimed_at, o.updated_at, o.settled_at, o.disputed, o.promise, o.doc"
)
"""What ``entry`` takes, in its order."""


def entry(
    order_id: str,
    scope: str,
    key: str,
    key_kind: KeyKind,
    fingerprint: str,
    status: str,
    token: int,
    claim_id: str,
    created_at: float,
    claimed_at: float,
    updated_at: float,
    settled_at: float | None,
    disputed: int,
    promised: str,
    doc: str,
    *,
    kept_request: KeptRequest | None = None,
    kept_answer: KeptAnswer | None = None,
) -> Entry:
    rest = orjson.loads(doc)
    rest["attempts"] = tuple(map(_attempt, rest["attempts"]))
    rest["events"] = tuple(map(_event, rest["events"]))
    return Entry(
        id=order_id,
        scope=scope,
        key=key,
        key_kind=key_kind,
        fingerprint=fingerprint,
        status=Status(status),
        token=token,
        claim_id=claim_id,
        created_at=created_at,
        claimed_at=claimed_at,
        updated_at=updated_at,
        settled_at=settled_at,
        disputed=bool(disputed),
        promise=promise(promised),
        request=kept_request,
        answer=kept_answer,
        **rest,
    )
