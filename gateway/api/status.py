"""Where an order is, for the client that has its id or its key."""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from gateway.api.answers import (
    RETRY_AFTER_S,
    STATUS_PATH,
    Told,
    ledger_unavailable,
    order_members,
    safe_new_key,
    status_url,
)
from gateway.api.replay_check import NotLetIn, ReplayCheck
from gateway.api.waiting import once, preferred_wait_s
from gateway.ledger import Ledger, LedgerUnavailable
from gateway.orders.claiming import ANONYMOUS
from gateway.orders.entry import Entry, KeptAnswer
from middleware.idempotency.gate import Shows
from middleware.idempotency.rules import Key, parse_key, scope_digest, unguessable
from middleware.messages import RawHeaders, values
from middleware.problems import Problem, ProblemType


class StatusApi:
    """Handles ``GET /_gateway/orders/{id}`` and ``GET /_gateway/orders?key=…``.

    ``Prefer: wait=N`` waits until the order no longer moves by itself; with ``If-None-Match``
    until it has moved at all. ``waits_max`` wait at once, and one more is answered at once,
    without ``Preference-Applied``. ``aside`` is entered while one waits: it costs memory, and
    nobody's turn.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        replay_check: ReplayCheck,
        scopes: tuple[Shows, ...],
        respond: Callable[[Told], web.StreamResponse],
        aside: Callable[[], AbstractContextManager[None]],
        waits_max: int,
    ) -> None:
        self._ledger = ledger
        self._replay_check = replay_check
        self._scopes = scopes
        self._respond = respond
        self._aside = aside
        self._waits_max = waits_max
        self.waiting = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The status, or 404: an order of somebody else looks like none."""
        if request.method not in ("GET", "HEAD"):
            raise Problem.of(ProblemType.METHOD_NOT_ALLOWED, headers={"Allow": "GET, HEAD"})
        wait_s = preferred_wait_s(request.raw_headers)
        try:
            entry = await self._entry(request)
            if entry is None:
                raise Problem.of(ProblemType.NOT_FOUND, "No such order, or not yours.")
            known = if_none_match(request.raw_headers)
            if wait_s is not None and self.waiting < self._waits_max:
                entry = await self._wait(entry, known, wait_s)
            else:
                wait_s = None
        except NotLetIn as refused:
            return self._respond(refused.told)
        except LedgerUnavailable as trouble:
            raise ledger_unavailable(trouble, None) from trouble
        return self._respond(_told(entry, known, wait_s, self._ledger.now()))

    async def _entry(self, request: web.BaseRequest) -> Entry | None:
        path, _, query = request.raw_path.partition("?")
        if path.startswith(STATUS_PATH) and len(path) > len(STATUS_PATH):
            return await self._ledger.find(path[len(STATUS_PATH) :])
        keys = parse_qs(query, keep_blank_values=True).get("key", [])
        if len(keys) != 1:
            raise Problem.of(ProblemType.MALFORMED_REQUEST, "Give one key: ?key=…")
        key = parse_key([keys[0].encode("utf-8")])
        if not isinstance(key, Key):
            raise Problem.of(ProblemType.KEY_INVALID, "Give the Idempotency-Key that you sent.")
        return await self._by_key(request, key.text)

    async def _by_key(self, request: web.BaseRequest, key: str) -> Entry | None:
        """By key within the scope that the request shows, as its order route would read it."""
        for source in self._scopes:
            shown = source.read(request.raw_headers)
            if len(shown) == 1:
                entry = await self._ledger.find_by_key(scope_digest(source.kind, shown[0]), key)
                if entry is not None:
                    await self._may_see(request, entry)
                    return entry
        # Without credentials only a key that nobody can guess counts, as when it was submitted.
        return await self._ledger.find_by_key(ANONYMOUS, key) if unguessable(key) else None

    async def _may_see(self, request: web.BaseRequest, entry: Entry) -> None:
        """By the id alone anybody may who was told it; by key, whom the upstream lets in."""
        by = asyncio.get_running_loop().time() + entry.promise.attempt_timeout_s
        await self._replay_check.let_in(request, entry, by=by)

    async def _wait(self, entry: Entry, known: frozenset[str], wait_s: int) -> Entry:
        by = asyncio.get_running_loop().time() + wait_s

        def moved(latest: Entry) -> bool:
            return not latest.pending or (bool(known) and not _matches(known, etag(latest)))

        self.waiting += 1
        try:
            with self._aside():
                return await once(self._ledger, entry, moved, by)
        finally:
            self.waiting -= 1


def etag(entry: Entry) -> str:
    """Strong (RFC 9110 section 8.8.1): the digest of the very bytes, so it changes with each
    move."""
    return _etag(orjson.dumps(public(entry)))


def _etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def if_none_match(headers: RawHeaders) -> frozenset[str]:
    """The entity tags that the client has, compared weakly (RFC 9110 section 13.1.2)."""
    tags = (tag.strip() for value in values(headers, b"if-none-match") for tag in value.split(b","))
    return frozenset(tag.removeprefix(b"W/").decode("latin-1") for tag in tags if tag)


def _matches(known: frozenset[str], tag: str) -> bool:
    return tag in known or "*" in known


def _told(entry: Entry, known: frozenset[str], wait_s: int | None, now: float) -> Told:
    """``wait_s``: the preference that was honoured."""
    if entry.settled and now >= (entry.settled_at or 0.0) + entry.promise.retention_s:
        raise _gone(entry)
    body = orjson.dumps(public(entry))
    tag = _etag(body)
    fields: list[tuple[bytes, bytes]] = [
        (b"Cache-Control", b"no-store"),
        (b"ETag", tag.encode("ascii")),
        (b"Gateway-Source", b"gateway"),
        (b"Gateway-Order", entry.id.encode("ascii")),
    ]
    if entry.pending:
        fields.append((b"Retry-After", str(RETRY_AFTER_S).encode("ascii")))
    if wait_s is not None:
        fields.append((b"Preference-Applied", b"wait=%d" % wait_s))
    if _matches(known, tag):
        return Told(304, b"Not Modified", tuple(fields), b"")
    return Told(200, b"OK", ((b"Content-Type", b"application/json"), *fields), body)


def _gone(entry: Entry) -> Problem:
    return Problem(
        410,
        "answer-gone",
        "The answer is no longer kept",
        f"The order was {entry.status.value}; the time for which its answer is kept is over.",
        members=order_members(entry),
        headers={"Gateway-Order": entry.id},
    )


def public(entry: Entry) -> dict[str, Any]:
    """What a customer may know: no replica's name, no operator's, no credentials."""
    return {
        "id": entry.id,
        "status": entry.status.value,
        "status_url": status_url(entry),
        "safe_new_key": safe_new_key(entry),
        "disputed": entry.disputed,
        "created_at": entry.created_at,
        "updated_at": entry.updated_at,
        "attempts": len(entry.attempts),
        "timeline": [
            {
                "at": event.at,
                "from": None if event.source is None else event.source.value,
                "to": event.target.value,
                "reason": event.reason.value,
            }
            for event in entry.events
        ],
        "answer": None if entry.answer is None else answer_members(entry.answer),
    }


def answer_members(answer: KeptAnswer) -> dict[str, Any]:
    """A kept answer in JSON: the body as text where it is UTF-8, else in base64."""
    members: dict[str, Any] = {
        "status": answer.status,
        "headers": [
            [name.decode("latin-1"), value.decode("latin-1")] for name, value in answer.headers
        ],
        "source": answer.source,
        "digest": answer.digest,
        "body": None,
    }
    if answer.body is not None:
        try:
            members["body"] = answer.body.decode("utf-8")
        except UnicodeDecodeError:
            members["body_base64"] = base64.b64encode(answer.body).decode("ascii")
    return members
