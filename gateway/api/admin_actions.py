"""What an operator does with one order: each action once, by a nonce of its own."""

import asyncio
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
from aiohttp import web

from gateway.api.admin_documents import OPERATOR, action_members, as_json, whole
from gateway.api.waiting import once, preferred_wait_s
from gateway.ledger import Ledger
from gateway.orders.entry import Entry, Event
from gateway.orders.operating import (
    ActionRefused,
    Refusal,
    action_of,
    ask_lookup,
    ask_resend,
    resolve,
    result_of,
)
from gateway.orders.states import IllegalMove, Outcome, Reason, Status
from gateway.telemetry import Telemetry
from middleware.problems import Problem, ProblemType

NOTE_CHARS_MAX = 1000
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
NONCE = re.compile(r"[!-~]{1,128}")
"""Visible ASCII: room for two UUIDs and a name."""
_OUTCOMES: dict[str, Outcome] = {
    "confirmed": Status.CONFIRMED,
    "rejected": Status.REJECTED,
    "failed": Status.FAILED,
}

REFUSALS: dict[Refusal, str] = {
    Refusal.SETTLED: "It is settled already.",
    Refusal.NOT_IN_DOUBT: "It is not in doubt: it will be sent by itself.",
    Refusal.ATTEMPT_UNDER_WAY: "An attempt is under way; it ends within attempt_timeout_s.",
    Refusal.NO_LOOKUP: "Its route's upstream can't be asked.",
    Refusal.ABSENCE_PROVED: "The upstream was asked, and it is proved that it has no such order.",
    Refusal.SECOND_ORDER: (
        "An earlier attempt may still take effect, and the upstream is not sure to know the key:"
        " one more attempt could make a second order."
    ),
    Refusal.NOT_QUIET: (
        "What was sent may still take effect, until settle_s after the last attempt: only then can"
        " anybody know that there is no order. Where the upstream deduplicates it is sent again by"
        " itself, each time anew, until doubt_within_s is over."
    ),
}


@dataclass(frozen=True, slots=True)
class Word:
    """What an operator said: who, why, under which nonce; ``outcome`` only to resolve."""

    operator: str
    nonce: str
    note: str | None
    outcome: Outcome | None

    @property
    def who(self) -> str:
        return OPERATOR + self.operator


Apply: TypeAlias = Callable[[Entry, float, Word], Entry]


class AdminActions:
    """``POST /admin/orders/{id}/lookup``, ``/resend`` and ``/resolve``.

    An action is an amendment: it works also while a worker holds the order, which has lost it
    then. Looking up and sending again is done by whoever takes the order next.
    """

    def __init__(self, *, ledger: Ledger, telemetry: Telemetry) -> None:
        self._ledger = ledger
        self._telemetry = telemetry

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/admin/orders/{id}/lookup", self.lookup),
            web.post("/admin/orders/{id}/resend", self.resend),
            web.post("/admin/orders/{id}/resolve", self.resolve),
        ]

    async def lookup(self, request: web.Request) -> web.Response:
        """Ask the upstream now; ``409`` where it can't be asked, or nothing is in doubt."""
        return await self._act(request, Reason.OPERATOR_LOOKUP, _lookup)

    async def resend(self, request: web.Request) -> web.Response:
        """Send it again now; ``409`` where that could make a second order."""
        return await self._act(request, Reason.OPERATOR_RESEND, _resend)

    async def resolve(self, request: web.Request) -> web.Response:
        """A person settles an order in doubt or a dead letter; ``409`` in any other status, and
        where it may still be placed, so that nobody can know that it was not."""
        return await self._act(request, Reason.OPERATOR, _resolve)

    async def _act(self, request: web.Request, reason: Reason, apply: Apply) -> web.Response:
        word = await _word(request, resolving=reason is Reason.OPERATOR)
        entry_id = request.match_info["id"]
        before = await self._ledger.find(entry_id)
        if before is None:
            raise _not_found()
        after = await self._amend(before, word, apply)
        if after is not None:
            self._telemetry.moved(before, after)
        entry = after or await self._ledger.find(entry_id)
        action = None if entry is None else action_of(entry, word.nonce)
        if entry is None or action is None:
            raise _not_found()
        if not _same(action, reason, word):
            raise _nonce_used(entry, word.nonce)
        entry = await self._awaited(request, entry, action)
        document = {**whole(entry, self._ledger.now()), "action": action_members(entry, action)}
        done = result_of(entry, action) is not None
        headers = {} if after is not None else {"Idempotent-Replayed": "true"}
        return as_json(document, 200 if done else 202, headers)

    async def _amend(self, before: Entry, word: Word, apply: Apply) -> Entry | None:
        """None where this nonce has acted already."""

        def change(entry: Entry, now: float) -> Entry | None:
            return None if action_of(entry, word.nonce) else apply(entry, now, word)

        try:
            return await self._ledger.amend(before.id, change)
        except ActionRefused as refused:
            raise _refused(refused) from refused
        except IllegalMove as illegal:
            current = await self._ledger.find(before.id) or before
            raise _not_resolvable(current) from illegal

    async def _awaited(self, request: web.Request, entry: Entry, action: Event) -> Entry:
        """``Prefer: wait=N``: until it is known what came of the action."""
        wait_s = preferred_wait_s(request.raw_headers)
        if wait_s is None:
            return entry
        by = asyncio.get_running_loop().time() + wait_s
        return await once(self._ledger, entry, lambda e: result_of(e, action) is not None, by)


def _lookup(entry: Entry, now: float, word: Word) -> Entry:
    return ask_lookup(entry, word.note, now, word.who, word.nonce)


def _resend(entry: Entry, now: float, word: Word) -> Entry:
    return ask_resend(entry, word.note, now, word.who, word.nonce)


def _resolve(entry: Entry, now: float, word: Word) -> Entry:
    assert word.outcome is not None  # noqa: S101 - read with the word
    return resolve(entry, word.outcome, word.note or "", now, word.who, word.nonce)


def _same(action: Event, reason: Reason, word: Word) -> bool:
    """Whether ``action`` is what this very word asks for."""
    said = (action.reason, action.who, action.detail) == (reason, word.who, word.note)
    return said and word.outcome in (None, action.target)


# --- reading --------------------------------------------------------------------------------


async def _word(request: web.Request, *, resolving: bool) -> Word:
    """Raises Problem where something is missing or not what it should be."""
    try:
        document = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise _malformed(resolving) from error
    if not isinstance(document, dict):
        raise _malformed(resolving)
    operator = _text(document, "operator", resolving)
    note = _text(document, "reason", resolving)
    outcome = _OUTCOMES.get(str(document.get("outcome")))
    if operator is None or (resolving and (note is None or outcome is None)):
        raise _malformed(resolving)
    nonce = _nonce(document.get("nonce"), request)
    return Word(operator, nonce, note, outcome if resolving else None)


def _text(document: dict[str, Any], name: str, resolving: bool) -> str | None:
    if name not in document:
        return None
    given = document[name]
    text = given.strip() if isinstance(given, str) else ""
    if not text or len(given) > NOTE_CHARS_MAX or CONTROL.search(text):
        raise _malformed(resolving)
    return text


def _nonce(member: Any, request: web.Request) -> str:
    """From the member or from ``Idempotency-Key``, with or without quotes; once."""
    fields = [field.strip().strip('"') for field in request.headers.getall("Idempotency-Key", [])]
    given = [*fields, *([] if member is None else [member])]
    nonce = given[0] if given and all(each == given[0] for each in given) else None
    if not isinstance(nonce, str) or not NONCE.fullmatch(nonce):
        raise Problem.of(
            ProblemType.MALFORMED_REQUEST,
            "Give each action one nonce of its own, as the member nonce or as Idempotency-Key:"
            " 1 to 128 visible ASCII characters. Repeat the same action under the same nonce.",
        )
    return nonce


def _malformed(resolving: bool) -> Problem:
    members = '"operator": "your name", "nonce": "new for each action", "reason": "why, in words"'
    if resolving:
        members = f'"outcome": "confirmed|rejected|failed", {members}'
    return Problem.of(
        ProblemType.MALFORMED_REQUEST,
        f"Send JSON: {{{members}}}. No text is longer than {NOTE_CHARS_MAX} characters.",
    )


# --- refusing -------------------------------------------------------------------------------


def _not_found() -> Problem:
    return Problem.of(ProblemType.NOT_FOUND, "There is no such order.")


def _members(entry: Entry) -> dict[str, Any]:
    return {"order": entry.id, "order_status": entry.status.value}


def _refused(refused: ActionRefused) -> Problem:
    entry, wait_s = refused.entry, refused.wait_s
    later = "" if wait_s is None else f" Say it again in {math.ceil(wait_s)} s."
    return Problem(
        409,
        "order-action-refused",
        "The order does not allow this now",
        f"{REFUSALS[refused.refusal]} The order is {entry.status.value}.{later}",
        members={**_members(entry), "refusal": refused.refusal.value},
        headers={} if wait_s is None else {"Retry-After": str(math.ceil(wait_s))},
    )


def _not_resolvable(entry: Entry) -> Problem:
    under_way = " An attempt is under way." if entry.open_attempt is not None else ""
    return Problem(
        409,
        "order-not-resolvable",
        "The order can not be resolved in its status",
        f"It is {entry.status.value}; only an order in doubt or a dead letter can be.{under_way}",
        members=_members(entry),
    )


def _nonce_used(entry: Entry, nonce: str) -> Problem:
    return Problem(
        409,
        "nonce-used",
        "The nonce belongs to another action",
        "Another action on this order was done under this nonce. Give each one of its own.",
        members={**_members(entry), "nonce": nonce},
    )
