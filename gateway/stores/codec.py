"""Entries to columns and back, byte for byte.

What guards and indices need has columns of its own (schema_2.sql); the small rest is one JSON
array; request and answer have a head (fields by line, bytes as Latin-1) and a body (as it is). A
field that is missing in what was stored takes its default; what schema 1 wrote (JSON objects, JSON
heads) is read as well. A change of shape that this can't read raises the schema's version.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from operator import attrgetter
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


# --- keys ------------------------------------------------------------------------------------


def key_digest(scope: str, key: str) -> bytes:
    """What a key is found by: 128 bits are enough that nobody's key meets another's."""
    return hashlib.sha256(f"{len(scope)}:{scope}{key}".encode()).digest()[:16]


# --- the document ----------------------------------------------------------------------------

_REST = (
    "upstream_key",
    "canonical_fingerprint",
    "first_dispatched_at",
    "doubt_since",
    "not_before",
    "quiet_attempt",
)
_ATTEMPT = tuple(Attempt.__match_args__)
_EVENT = tuple(Event.__match_args__)

_rest_of = attrgetter(*_REST)
_attempt_of = attrgetter(*_ATTEMPT)
_event_of = attrgetter(*_EVENT)


def document(entry: Entry) -> str:
    """All of the entry that has no column of its own, by position."""
    attempts = [_attempt_of(attempt) for attempt in entry.attempts]
    events = [_event_of(event) for event in entry.events]
    return orjson.dumps((*_rest_of(entry), attempts, events)).decode()


def _document(text: str) -> dict[str, Any]:
    stored = orjson.loads(text)
    if isinstance(stored, dict):  # of schema 1
        rest = stored
    else:
        *fields, attempts, events = stored
        rest = dict(zip(_REST, fields, strict=True))
        rest["attempts"] = [_named(_ATTEMPT, each) for each in attempts]
        rest["events"] = [_named(_EVENT, each) for each in events]
    rest["attempts"] = tuple(map(_attempt, rest["attempts"]))
    rest["events"] = tuple(map(_event, rest["events"]))
    return rest


def _named(names: tuple[str, ...], values: list[Any]) -> dict[str, Any]:
    if len(values) > len(names):
        raise ValueError("it has fields that this version does not know")
    return dict(zip(names, values, strict=False))  # a later field is missing in an older row


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
    return _head((request.method, request.target), request.headers)


def request(head: str, body: bytes) -> KeptRequest:
    method, target, *fields = _parts(head)
    return KeptRequest(method, target, _pairs(fields), body)


def answer_head(answer: KeptAnswer) -> str:
    first = (b"%d" % answer.status, answer.phrase, answer.digest.encode(), answer.source.encode())
    return _head(first, answer.headers)


def answer(head: str, body: bytes | None) -> KeptAnswer:
    status, phrase, digest, source, *fields = _parts(head)
    origin: Any = source.decode()
    return KeptAnswer(int(status), phrase, _pairs(fields), body, digest.decode(), origin)


_JSON = "["


def _head(first: tuple[bytes, ...], fields: RawHeaders) -> str:
    """One part a line; as JSON where a part could not be told from its neighbours."""
    parts = [*first, *chain.from_iterable(fields)]
    head = b"\n".join(parts)
    if head.count(b"\n") >= len(parts) or b"\0" in head or head[:1] == b"[":
        return orjson.dumps([part.decode("latin-1") for part in parts]).decode()
    return head.decode("latin-1")


def _parts(head: str) -> list[bytes]:
    if not head.startswith(_JSON):
        return head.encode("latin-1").split(b"\n")
    return [part.encode("latin-1") for part in _flat(orjson.loads(head))]


def _flat(stored: list[Any]) -> list[str]:
    """The parts in their order; schema 1 kept the fields as pairs, a status as a number."""
    match stored:
        case [method, target, list(fields)]:
            return [method, target, *chain.from_iterable(fields)]
        case [status, phrase, list(fields), digest, source]:
            return [str(status), phrase, digest, source, *chain.from_iterable(fields)]
        case _:
            return stored


def _pairs(parts: Sequence[bytes]) -> RawHeaders:
    return tuple(zip(parts[::2], parts[1::2], strict=True))


# --- the whole -------------------------------------------------------------------------------

COLUMNS = (
    "o.id, o.scope, o.key, o.key_kind, o.fingerprint, o.status, o.token, o.claim_id,"
    " o.created_at, o.claimed_at, o.updated_at, o.settled_at, o.disputed,"
    " (SELECT p.text FROM promises p WHERE p.number = o.promise), o.doc"
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
        **_document(doc),
    )
