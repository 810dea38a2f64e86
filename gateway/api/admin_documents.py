"""Orders as operators see them, in JSON."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson
from aiohttp import web

from gateway.api.status import answer_members, public
from gateway.ledger import Counts, UnreadableEntry
from gateway.orders.entry import Attempt, Entry, Event
from gateway.orders.operating import result_of
from gateway.orders.states import Reason
from gateway.settings import Settings

ACTIONS = {
    Reason.OPERATOR_LOOKUP: "lookup",
    Reason.OPERATOR_RESEND: "resend",
    Reason.OPERATOR: "resolve",
}
OPERATOR = "operator:"
"""In front of an operator's name, where a replica's could stand too."""

HIDDEN = "(hidden)"
_SECRET = re.compile(r"token|secret|password|credential(?!s$)", re.IGNORECASE)


def summary(entry: Entry, now: float) -> dict[str, Any]:
    return {
        "id": entry.id,
        "status": entry.status.value,
        "route": entry.promise.route,
        "upstream": entry.promise.upstream,
        "created_at": entry.created_at,
        "updated_at": entry.updated_at,
        "age_s": round(max(0.0, now - entry.created_at), 3),
        "attempts": len(entry.attempts),
        "reason": entry.events[-1].reason.value if entry.events else None,
        "disputed": entry.disputed,
    }


def outline(entry: UnreadableEntry, now: float) -> dict[str, Any]:
    """What is known of an order that can't be read."""
    return {
        "id": entry.id,
        "status": entry.status,
        "created_at": entry.created_at,
        "age_s": round(max(0.0, now - entry.created_at), 3),
        "why": entry.why,
    }


def whole(entry: Entry, now: float) -> dict[str, Any]:
    """Everything but keys, credentials and the request's bytes."""
    document = {**public(entry), **summary(entry, now)}
    document["upstream_key"] = entry.upstream_key
    document["token"] = entry.token
    document["attempts"] = [_attempt(attempt) for attempt in entry.attempts]
    document["timeline"] = [_event(event) for event in entry.events]
    document["answer"] = None if entry.answer is None else answer_members(entry.answer)
    return document


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "began_at": attempt.began_at,
        "result": None if attempt.result is None else attempt.result.value,
        "reason": attempt.reason,
        "answer_status": attempt.answer_status,
        "written_bytes": attempt.written_bytes,
        "resend": attempt.resend,
        "after_quiet": attempt.after_quiet,
        "made_nothing": attempt.made_nothing,
    }


def _event(event: Event) -> dict[str, Any]:
    return {
        "at": event.at,
        "from": None if event.source is None else event.source.value,
        "to": event.target.value,
        "reason": event.reason.value,
        "who": event.who,
        "attempt": event.attempt,
        "detail": event.detail,
        "nonce": event.nonce,
    }


def action_members(entry: Entry, action: Event) -> dict[str, Any]:
    """An operator's action, and what came of it; ``result`` is None while nothing did."""
    result = result_of(entry, action)
    return {
        "name": ACTIONS[action.reason],
        "nonce": action.nonce,
        "operator": action.who.removeprefix(OPERATOR),
        "reason": action.detail,
        "at": action.at,
        "result": None if result is None else _event(result),
    }


def counts_members(counts: Counts, now: float) -> dict[str, Any]:
    """Conservation, and how long the longest waits have lasted. ``gap`` is 0, or one is lost."""
    return {
        "made": counts.made,
        "removed": counts.removed,
        "by_status": {status.value: count for status, count in counts.by_status.items()},
        "disputed": counts.disputed,
        "gap": counts.made - counts.removed - sum(counts.by_status.values()),
        "oldest_pending_age_s": _age_s(counts.oldest_pending_at, now),
        "oldest_dead_letter_age_s": _age_s(counts.oldest_dead_letter_at, now),
    }


def _age_s(since: float | None, now: float) -> float | None:
    return None if since is None else round(max(0.0, now - since), 3)


def effective(settings: Settings) -> dict[str, Any]:
    """The whole configuration as it is in force, every default written out, no secret in it."""
    document: dict[str, Any] = _shown(settings.model_dump(mode="json"))
    return document


def _shown(value: Any, name: str = "") -> Any:
    match value:
        case dict():
            return {key: _shown(part, key) for key, part in value.items()}
        case list():
            return [_shown(part, name) for part in value]
        case str() if _SECRET.search(name) and not name.endswith("_file"):
            return HIDDEN
        case str() if "@" in value and "://" in value:
            return _without_user(value)
        case _:
            return value


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host))


def as_json(
    document: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps(document),
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )
