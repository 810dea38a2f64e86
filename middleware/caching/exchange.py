"""One request that goes upstream on behalf of the cache, and what becomes of its answer."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TypeAlias

from aiohttp import web

from middleware.caching.asked import Asked, Received
from middleware.caching.entries import Entry, Span, make_entry
from middleware.caching.fills import Fetched, Fill, Flight, FlightKey, gathered
from middleware.caching.outgoing import (
    STATUS_FIELD,
    Room,
    once,
    relay,
    respond,
    streamed,
)
from middleware.caching.parts import completed, may_be_kept, span_of, verbatim
from middleware.caching.policy import Background, CachePolicy
from middleware.caching.questions import Asks, question
from middleware.caching.rules import STALE_IF_ERROR_STATUSES, Forwarded, usable_on_error
from middleware.caching.status import forwarded
from middleware.caching.storing import (
    GONE,
    NOT_MODIFIED,
    PARTIAL,
    Keep,
    Kept,
    NotStored,
    may_store,
)
from middleware.caching.validating import (
    Freshened,
    freshened,
    head_agrees,
    not_modified,
    unkept,
)
from middleware.caching.variants import means_the_clients, named
from middleware.messages import RawHeaders
from middleware.problems import Problem

Fetch: TypeAlias = Callable[[bytes, RawHeaders], Awaitable[Fetched]]
"""Send the request at hand with this method and these fields. Raises Problem."""


class Exchange:
    """``position``: the changes known when it began; None: unknown, so nothing is kept.
    ``entry``: what is kept and asked about; ``variants``: what else of the URI is. ``waited``: in
    vain, for another's answer. ``flight``: those who wait for this one."""

    def __init__(
        self,
        room: Room,
        asked: Asked,
        policy: CachePolicy,
        fetch: Fetch,
        *,
        why: Forwarded,
        entry: Entry | None = None,
        position: int | None = None,
        strict: bool = False,
        detail: NotStored | None = None,
        waited: bool = False,
        variants: tuple[Entry, ...] = (),
    ) -> None:
        self._room = room
        self._asked = asked
        self._policy = policy
        self._fetch = fetch
        self._why = why
        self._entry = entry
        self._position = position
        self._strict = strict
        self._detail = detail
        self._collapsed = False if waited else None
        self._variants = variants
        self._since = 0.0
        self._key: FlightKey = ()
        self._flight: Flight | None = None

    def lead(self, key: FlightKey, flight: Flight | None) -> None:
        self._key, self._flight = key, flight

    async def run(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer for ``request``; raises Problem where there is none."""
        try:
            return await self._run(request)
        except BaseException:
            self._land()
            raise

    async def refresh(self, background: Background) -> None:
        """The same for nobody: only what is kept is renewed, unless there is more urgent work."""
        try:
            async with background():
                await self._run(None)
        except Problem:
            pass
        finally:
            self._land()

    async def _run(self, request: web.BaseRequest | None) -> web.StreamResponse:
        asks, headers = question(self._asked, self._why, self._entry, self._variants)
        try:
            answer, received = await self._send(headers)
        except Problem as problem:
            stale = self._stand_in(away=problem.away) if problem.status >= 500 else None
            if stale is None:
                raise
            return stale
        if answer.status in STALE_IF_ERROR_STATUSES:
            stale = self._stand_in(status=answer.status)
            if stale is not None:
                await answer.aclose()
                return stale
        return await self._taken(request, asks, answer, received)

    async def _taken(
        self, request: web.BaseRequest | None, asks: Asks, answer: Fetched, received: Received
    ) -> web.StreamResponse:
        """By what it is about."""
        entry, unchanged = self._entry, answer.status == NOT_MODIFIED
        if asks is Asks.WHICH_HOLDS and unchanged:
            return await self._selected(request, answer, received)
        if entry is not None:
            if asks is Asks.WHETHER_IT_HOLDS and unchanged:
                return await self._validated(request, entry, answer, received)
            if asks is Asks.FOR_THE_REST and answer.status != 200:
                return await self._completed(request, entry, answer, received)
            if self._asked.method == b"HEAD" and not entry.head_only:
                self._compare(entry, answer, received)
        return await self._passed(request, answer, received)

    async def _send(self, headers: RawHeaders) -> tuple[Fetched, Received]:
        clock = self._room.clock
        asked_at = clock.wall()
        answer = await self._fetch(self._asked.method, headers)
        self._since = clock.monotonic()
        received = Received(
            answer.status,
            answer.phrase,
            answer.headers,
            asked_at,
            max(asked_at, clock.wall()),
            answer.framed,
        )
        return answer, received

    def _stand_in(
        self, *, status: int | None = None, away: bool = False
    ) -> web.StreamResponse | None:
        """What is kept, for an upstream that fails."""
        entry, now = self._entry, self._room.clock.monotonic()
        if entry is None or entry.span is not None:
            return None
        away_s = self._room.limits.stale_when_away_s if away else 0.0
        if not usable_on_error(self._asked, entry, now=now, strict=self._strict, away_s=away_s):
            return None
        ttl_s = entry.lifetime_s - entry.age_s(now)
        said = forwarded(self._why, status=status, ttl_s=ttl_s, detail="upstream-failed")
        self._land()
        return respond(self._room, self._asked, entry, said)

    # --- the answer is about what is kept ------------------------------------------------------

    async def _validated(
        self, request: web.BaseRequest | None, entry: Entry, answer: Fetched, received: Received
    ) -> web.StreamResponse:
        await answer.aclose()
        fresh = self._freshened(entry, received)
        if not isinstance(fresh, Entry):
            self._room.store.remove(entry)
        if fresh is Freshened.OTHER:
            self._entry = None
            return await self._run(request)
        return self._renewed(fresh, entry, received)

    async def _selected(
        self, request: web.BaseRequest | None, answer: Fetched, received: Received
    ) -> web.StreamResponse:
        """Another variant is what this request is to have, too (RFC 9111 section 4.3.4)."""
        chosen, self._variants = named(self._variants, received), ()
        if chosen is None and means_the_clients(self._asked, received):
            return await self._passed(request, answer, received)
        await answer.aclose()
        fresh = Freshened.OTHER if chosen is None else self._freshened(chosen, received, moved=True)
        if chosen is None or fresh is Freshened.OTHER:
            return await self._run(request)
        return self._renewed(fresh, chosen, received)

    def _renewed(
        self, fresh: Entry | NotStored, entry: Entry, received: Received
    ) -> web.StreamResponse:
        """What a 304 left of ``entry``: kept, or good for this client alone."""
        self._note(shareable=isinstance(fresh, Entry))
        if isinstance(fresh, Entry):
            said = self._said(NOT_MODIFIED, stored=self._keep(fresh))
        else:
            said = self._said(NOT_MODIFIED, detail=fresh)
            fresh = once(entry, received)
        self._land()
        return respond(self._room, self._asked, fresh, said, unkept(received, fresh))

    async def _completed(
        self, request: web.BaseRequest | None, entry: Entry, answer: Fetched, received: Received
    ) -> web.StreamResponse:
        """The rest of a kept part was asked for. Anything else than that rest is as if nothing had
        been kept."""
        made = await self._joined(entry, answer, received) if answer.status == PARTIAL else None
        await answer.aclose()
        if made is None or made.span is not None:
            self._room.store.remove(entry)
            self._entry = None
            return await self._run(request)
        said = self._said(PARTIAL, stored=self._keep(made))
        self._note(shareable=True)
        self._land()
        return respond(self._room, self._asked, made, said, unkept(received, made))

    async def _joined(self, entry: Entry, answer: Fetched, received: Received) -> Entry | None:
        span, limits = span_of(received), self._room.limits
        kept = may_store(self._asked, received, self._policy.storing)
        if span is None or span.total > limits.object_bytes_max or isinstance(kept, NotStored):
            return None
        body = await gathered(answer, span.last - span.first + 1, self._room.buffers)
        if body is None or span_of(received, len(body)) is None:
            return None
        return completed(self._made(received, kept, body, span=span), span, entry)

    def _freshened(
        self, entry: Entry, received: Received, *, moved: bool = False
    ) -> Entry | NotStored | Freshened:
        asked = replace(self._asked, method=b"HEAD" if entry.head_only else b"GET")
        storing = self._policy.storing
        fresh = freshened(asked, entry, received, storing, since=self._since, moved=moved)
        if not isinstance(fresh, Entry):
            return fresh
        known = self._position
        return NotStored.UNSURE if known is None else replace(fresh, position=known)

    def _compare(self, entry: Entry, answer: Fetched, received: Received) -> None:
        """What the answer to a HEAD says of the kept one (RFC 9111 section 4.3.5)."""
        if answer.status >= 500:
            return
        fresh: object = None
        if head_agrees(entry, received, answer.content_length):
            fresh = self._freshened(entry, received)
        if isinstance(fresh, Entry):
            self._keep(fresh)
        else:
            self._room.store.remove(entry)

    def _keep(self, entry: Entry) -> bool:
        changes = self._room.changes
        if changes.outdated(entry.position, entry.host, entry.target, entry.groups):
            if self._entry is not None:
                self._room.store.remove(self._entry)
            return False
        kept = self._room.store.put(entry)
        if kept:
            self._room.share(entry, self._policy)
        return kept

    # --- the answer is a new one ---------------------------------------------------------------

    async def _passed(
        self, request: web.BaseRequest | None, answer: Fetched, received: Received
    ) -> web.StreamResponse:
        kept = self._may_keep(answer, received)
        if isinstance(kept, NotStored):
            self._note(shareable=False)
            self._land()
            self._supersede(answer.status)
            said = self._said(answer.status, detail=self._detail or kept)
            return await streamed(self._room, request, answer, said)
        self._note(shareable=True)
        fill = Fill(
            answer,
            self._room.limits.object_bytes_max,
            self._room.buffers,
            lambda body: self._store(received, kept, body),
            self._given_up,
        )
        self._room.tasks.start(self._filled(fill), name="fill the cache")
        said = self._said(answer.status, stored=True)
        return await self._shared(request, answer, received, kept, fill, said)

    def _given_up(self) -> None:
        """It will not be kept: nobody has to wait for this client to take it all."""
        self._note(shareable=False)
        self._land()

    async def _filled(self, fill: Fill) -> None:
        try:
            await fill.run()
        finally:
            self._land()

    async def _shared(
        self,
        request: web.BaseRequest | None,
        answer: Fetched,
        received: Received,
        kept: Keep,
        fill: Fill,
        said: bytes,
    ) -> web.StreamResponse:
        if request is None:
            fill.abandon()
            async with aclosing(fill.pieces()) as pieces:
                async for _ in pieces:
                    pass
            return web.StreamResponse()
        if self._entry is not None and answer.status == 200:
            made = self._made(received, kept, b"", since=0.0)
            if not_modified(self._asked.fields, made, received.received_at):
                fill.abandon()
                return respond(self._room, self._asked, made, said, unkept(received, made))
        headers = (*answer.headers, (STATUS_FIELD, said))
        response = self._room.stream(answer.status, headers, answer.phrase, answer.content_length)
        await relay(request, response, fill)
        return response

    def _may_keep(self, answer: Fetched, received: Received) -> Kept:
        if self._detail is not None:
            return self._detail
        if self._position is None:
            return NotStored.UNSURE
        if not answer.framed:
            return NotStored.UNFRAMED
        if (answer.content_length or 0) > self._room.limits.object_bytes_max:
            return NotStored.TOO_LARGE
        if answer.status == PARTIAL and not may_be_kept(self._asked, self._entry):
            return NotStored.STATUS
        if answer.status >= 500 and self._still_good():
            return NotStored.STATUS
        return may_store(self._asked, received, self._policy.storing)

    def _still_good(self) -> bool:
        """An upstream that fails must not take a usable answer's place."""
        entry, now = self._entry, self._room.clock.monotonic()
        return entry is not None and not entry.no_cache and entry.age_s(now) < entry.lifetime_s

    def _supersede(self, status: int) -> None:
        """The upstream has another answer now, and it may not be kept."""
        definite = (status < 400 and status != PARTIAL) or status in GONE
        if self._entry is not None and definite and self._detail is None:
            self._room.store.remove(self._entry)

    def _store(self, received: Received, kept: Keep, body: bytes) -> None:
        if self._position is None:
            return
        span = span_of(received, len(body)) if received.status == PARTIAL else None
        if received.status == PARTIAL and span is None:
            kept = verbatim(kept)
        made = self._made(received, kept, body, span=span)
        self._keep(made if span is None else completed(made, span, self._entry))

    def _made(
        self,
        received: Received,
        kept: Keep,
        body: bytes,
        *,
        since: float | None = None,
        span: Span | None = None,
    ) -> Entry:
        return make_entry(
            self._asked,
            received,
            kept,
            body,
            since=self._since if since is None else since,
            position=-1 if self._position is None else self._position,
            storing=self._policy.storing,
            strict=self._policy.strict(self._asked.path),
            span=span,
        )

    def _said(self, status: int, *, stored: bool = False, detail: NotStored | None = None) -> bytes:
        collapsed = self._collapsed
        return forwarded(
            self._why, status=status, stored=stored, collapsed=collapsed, detail=detail
        )

    def _note(self, *, shareable: bool) -> None:
        if self._key:
            self._room.flights.note(self._key, shareable=shareable)

    def _land(self) -> None:
        if self._flight is not None:
            self._room.flights.end(self._key, self._flight)
            self._flight = None
