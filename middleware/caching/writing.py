"""Unsafe requests: what they may have changed is ended everywhere before they are answered."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from aiohttp import web

from middleware.caching.asked import Asked, Received
from middleware.caching.changes import Changes, ChangesUnknown
from middleware.caching.entries import make_entry
from middleware.caching.exchange import Fetch
from middleware.caching.fills import Fetched, Fill
from middleware.caching.freshness import explicit_lifetime_s
from middleware.caching.invalidation import Mark, Touches, of_answer, of_target, same_origin
from middleware.caching.outgoing import STATUS_FIELD, Room, relay
from middleware.caching.policy import CachePolicy
from middleware.caching.rules import Forwarded
from middleware.caching.status import forwarded
from middleware.caching.storing import Keep, NotStored, may_store
from middleware.problems import Problem

ACKNOWLEDGED_WITHIN_S = 5.0
"""Whoever changed something waits so long for the log to take it; then it is told an error, as
others might go on showing what was before."""

RETRY_S = 0.1

GROUPS_MAX = 256
"""Of the answers that one change ends: what one URI may show, of all of its variants."""


class Writing:
    """One unsafe request on its way to the upstream and back."""

    def __init__(self, room: Room, asked: Asked, policy: CachePolicy, fetch: Fetch) -> None:
        self._room = room
        self._asked = asked
        self._policy = policy
        self._fetch = fetch
        self._since = 0.0

    async def run(self, request: web.BaseRequest) -> web.StreamResponse:
        """What it may have changed is ended before it is answered, and, where orders are concerned,
        before it is sent too. Raises Problem."""
        asked, clock, changes = self._asked, self._room.clock, self._room.changes
        touched = self._policy.touched(asked)
        grouped = self._groups_of((of_target(asked),))  # as what is told before is then ended
        if touched:
            await _tell_before(changes, touched)
        began = changes.position
        asked_at = clock.wall()
        try:
            answer = await self._fetch(asked.method, asked.headers)
        except Problem as problem:
            if not problem.repeat_is_safe:  # it may have had its effect
                await acknowledged(changes, (*touched, of_target(asked)))
            raise
        self._since = clock.monotonic()
        received = Received(
            answer.status, answer.phrase, answer.headers, asked_at, clock.wall(), answer.framed
        )
        ended = of_answer(asked, answer.status, received.fields)
        grouped = (*grouped, *self._groups_of(ended)) if ended else ()
        marks = tuple(dict.fromkeys((*touched, *ended, *grouped)))
        try:
            await acknowledged(changes, marks)
        except BaseException:
            await answer.aclose()
            raise
        undisturbed = changes.position - began == len(marks)
        kept = self._may_keep(answer, received) if undisturbed else None
        return await self._answered(request, answer, received, kept)

    def _groups_of(self, marks: tuple[Mark, ...]) -> tuple[Mark, ...]:
        """The cache groups of what these end here: whatever shares them ends too (RFC 9875 section
        2.2)."""
        grouped = (
            Mark(Touches.GROUP, group, mark.host)
            for mark in marks
            if mark.touches is Touches.URL
            for entry in self._room.store.at(mark.host, mark.name)
            for group in entry.groups
        )
        return tuple(islice(grouped, GROUPS_MAX))

    async def _answered(
        self, request: web.BaseRequest, answer: Fetched, received: Received, kept: Keep | None
    ) -> web.StreamResponse:
        room, position = self._room, self._room.changes.position

        def whole(body: bytes) -> None:
            if kept is not None:
                self._store(received, kept, body, position)

        said = forwarded(Forwarded.METHOD, status=answer.status, stored=kept is not None)
        headers = (*answer.headers, (STATUS_FIELD, said))
        response = room.stream(answer.status, headers, answer.phrase, answer.content_length)
        bytes_max = room.limits.object_bytes_max if kept is not None else 0
        fill = Fill(answer, bytes_max, room.buffers, whole)
        room.tasks.start(fill.run(), name="answer a change")
        await relay(request, response, fill)
        return response

    def _store(self, received: Received, kept: Keep, body: bytes, position: int) -> None:
        made = make_entry(
            replace(self._asked, method=b"GET"),
            received,
            kept,
            body,
            since=self._since,
            position=position,
            storing=self._policy.storing,
            strict=self._policy.strict(self._asked.path),
        )
        if not self._room.changes.outdated(position, made.host, made.target, made.groups):
            self._room.store.put(made)
            self._room.share(made, self._policy)

    def _may_keep(self, answer: Fetched, received: Received) -> Keep | None:
        """The answer to a POST that says it is what a GET would show (RFC 9110 section 9.3.3)."""
        asked = self._asked
        if asked.method != b"POST" or answer.status != 200 or not answer.framed:
            return None
        located = received.fields.get(b"content-location")
        if located is None or same_origin(asked.host, asked.target, located) != asked.target:
            return None
        if self._room.changes.position < 0 or self._policy.personal(asked.path):
            return None
        kept = may_store(asked, received, self._policy.storing)
        if isinstance(kept, NotStored):
            return None
        explicit = explicit_lifetime_s(kept.directives, received.fields, received.received_at)
        return kept if explicit else None


async def _tell_before(changes: Changes, marks: tuple[Mark, ...]) -> None:
    try:
        await changes.tell(marks)
    except ChangesUnknown as trouble:
        raise _unacknowledged(sent=False) from trouble


async def acknowledged(changes: Changes, marks: tuple[Mark, ...]) -> None:
    """Tell every replica; returns once all of them must hear. Raises Problem after
    ``ACKNOWLEDGED_WITHIN_S``."""
    with suppress(TimeoutError):
        async with asyncio.timeout(ACKNOWLEDGED_WITHIN_S):
            while True:
                with suppress(ChangesUnknown):
                    await changes.tell(marks)
                    return
                await asyncio.sleep(RETRY_S)
    raise _unacknowledged(sent=True)


def _unacknowledged(*, sent: bool) -> Problem:
    detail = (
        "The change may have been made, and others may still be shown what was before."
        if sent
        else "Nothing was sent. Try again."
    )
    return Problem(
        503,
        "change-unacknowledged",
        "The change could not be made known to all replicas",
        detail,
        headers={"Retry-After": "1"},
        repeat_is_safe=not sent,
    )
