"""One request that goes upstream on behalf of the cache, and what becomes of its answer."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TypeAlias

from aiohttp import web

from middleware.caching.asked import Asked, Received
from middleware.caching.entries import Entry, Span, make_entry
from middleware.caching.fills import Fetched, Fill, Flight, FlightKey
from middleware.caching.outgoing import STATUS_FIELD, Room, completed, once, relay, respond
from middleware.caching.policy import CachePolicy
from middleware.caching.ranges import content_range
from middleware.caching.rules import STALE_IF_ERROR_STATUSES, Forwarded, usable_on_error
from middleware.caching.status import forwarded, hit
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
    conditional,
    freshened,
    has_validator,
    head_agrees,
    not_modified,
    rest_of,
)
from middleware.messages import RawHeaders
from middleware.problems import Problem

Fetch: TypeAlias = Callable[[bytes, RawHeaders], Awaitable[Fetched]]
"""Send the request at hand with this method and these fields. Raises Problem."""


class Exchange:
    """``position``: the changes known when it began; None: unknown, so nothing is kept.
    ``entry``: what is kept and asked about. ``flight``: those who wait for this answer."""

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
        collapsed: bool = False,
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
        self._collapsed = collapsed
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

    async def refresh(self) -> None:
        """The same for nobody: only what is kept is renewed."""
        try:
            await self._run(None)
        except Problem:
            pass
        finally:
            self._land()

    async def _run(self, request: web.BaseRequest | None) -> web.StreamResponse:
        entry, headers = self._entry, self._asked.headers
        rest = rest_of(self._asked, entry) if self._why is Forwarded.PARTIAL else None
        if rest is not None:
            headers = rest
        asks = entry is not None and has_validator(entry) and self._why is not Forwarded.PARTIAL
        if asks and entry is not None:
            headers = conditional(headers, entry)
        try:
            answer, received = await self._send(headers)
        except Problem as problem:
            if problem.status >= 500 and (stale := self._stand_in()) is not None:
                self._land()
                return stale
            raise
        if answer.status in STALE_IF_ERROR_STATUSES and (stale := self._stand_in()) is not None:
            await answer.aclose()
            self._land()
            return stale
        if asks and entry is not None and answer.status == NOT_MODIFIED:
            return await self._validated(request, entry, answer, received)
        if rest is not None and entry is not None and answer.status != 200:
            return await self._completed(request, entry, answer, received)
        if self._asked.method == b"HEAD" and entry is not None and not entry.head_only:
            self._compare(entry, answer, received)
        return await self._passed(request, answer, received)

    async def _send(self, headers: RawHeaders) -> tuple[Fetched, Received]:
        clock = self._room.clock
        asked_at = clock.wall()
        answer = await self._fetch(self._asked.method, headers)
        received = Received(
            answer.status,
            answer.phrase,
            answer.headers,
            asked_at,
            max(asked_at, clock.wall()),
            answer.framed,
        )
        return answer, received

    def _stand_in(self) -> web.StreamResponse | None:
        """What is kept, for an upstream that fails."""
        entry, now = self._entry, self._room.clock.monotonic()
        if entry is None or entry.span is not None:
            return None
        if not usable_on_error(self._asked, entry, now=now, strict=self._strict):
            return None
        return respond(self._room, self._asked, entry, hit(entry.lifetime_s - entry.age_s(now)))

    # --- the answer is about what is kept ------------------------------------------------------

    async def _validated(
        self, request: web.BaseRequest | None, entry: Entry, answer: Fetched, received: Received
    ) -> web.StreamResponse:
        await answer.aclose()
        fresh = self._freshened(entry, received)
        if fresh is Freshened.OTHER:
            self._room.store.remove(entry)
            self._entry = None
            return await self._run(request)
        if isinstance(fresh, Entry):
            self._keep(fresh)
            self._note(shareable=True)
            said = forwarded(self._why, status=NOT_MODIFIED, stored=True, collapsed=self._collapsed)
        else:
            self._room.store.remove(entry)
            self._note(shareable=False)
            said = forwarded(self._why, status=NOT_MODIFIED, detail=fresh)
            fresh = once(entry, received)
        self._land()
        return respond(self._room, self._asked, fresh, said)

    async def _completed(
        self, request: web.BaseRequest | None, entry: Entry, answer: Fetched, received: Received
    ) -> web.StreamResponse:
        """The rest of a kept part was asked for. Anything else than that rest is as if nothing had
        been kept."""
        span = content_range(received.fields.get(b"content-range"))
        body = b""
        if (
            answer.status == PARTIAL
            and span is not None
            and span.total <= self._room.limits.object_bytes_max
        ):
            async with aclosing(answer):
                body = b"".join([piece async for piece in answer])
        await answer.aclose()
        kept = may_store(self._asked, received, self._policy.storing)
        made = None
        if isinstance(kept, Keep) and span is not None and len(body) == span.last - span.first + 1:
            part = self._made(received, kept, body, since=self._room.clock.monotonic(), span=span)
            made = completed(part, span, entry)
        if made is None or made.span is not None:
            self._room.store.remove(entry)
            self._entry = None
            return await self._run(request)
        self._keep(made)
        self._note(shareable=True)
        self._land()
        said = forwarded(self._why, status=PARTIAL, stored=True, collapsed=self._collapsed)
        return respond(self._room, self._asked, made, said)

    def _freshened(self, entry: Entry, received: Received) -> Entry | NotStored | Freshened:
        since = self._room.clock.monotonic()
        asked = replace(self._asked, method=b"HEAD" if entry.head_only else b"GET")
        fresh = freshened(asked, entry, received, self._policy.storing, since=since)
        if isinstance(fresh, Entry):
            return (
                NotStored.UNSURE
                if self._position is None
                else replace(fresh, position=self._position)
            )
        return fresh

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
        return self._room.store.put(entry)

    # --- the answer is a new one ---------------------------------------------------------------

    async def _passed(
        self, request: web.BaseRequest | None, answer: Fetched, received: Received
    ) -> web.StreamResponse:
        kept = self._may_keep(answer, received)
        if isinstance(kept, NotStored):
            self._note(shareable=False)
            self._land()
            self._supersede(answer.status)
            said = forwarded(self._why, status=answer.status, detail=self._detail or kept)
            return await self._streamed(request, answer, said)
        self._note(shareable=True)
        fill = Fill(
            answer,
            self._room.limits.object_bytes_max,
            self._room.buffers,
            lambda body: self._store(received, kept, body),
            self._given_up,
        )
        self._room.tasks.start(self._filled(fill), name="fill the cache")
        said = forwarded(self._why, status=answer.status, stored=True, collapsed=self._collapsed)
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
                return respond(self._room, self._asked, made, said)
        headers = (*answer.headers, (STATUS_FIELD, said))
        response = self._room.stream(answer.status, headers, answer.phrase, answer.content_length)
        await relay(request, response, fill)
        return response

    async def _streamed(
        self, request: web.BaseRequest | None, answer: Fetched, said: bytes
    ) -> web.StreamResponse:
        async with aclosing(answer):
            if request is None:
                return web.StreamResponse()
            headers = (*answer.headers, (STATUS_FIELD, said))
            response = self._room.stream(
                answer.status, headers, answer.phrase, answer.content_length
            )
            await response.prepare(request)
            async for piece in answer:
                await response.write(piece)
            await response.write_eof()
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
        if answer.status == PARTIAL and self._span(received) is None:
            return NotStored.STATUS
        if answer.status >= 500 and self._still_good():
            return NotStored.STATUS
        return may_store(self._asked, received, self._policy.storing)

    def _still_good(self) -> bool:
        """An upstream that fails must not take a usable answer's place."""
        entry, now = self._entry, self._room.clock.monotonic()
        return entry is not None and not entry.no_cache and entry.age_s(now) < entry.lifetime_s

    def _span(self, received: Received) -> Span | None:
        """The part that a 206 holds, if it was asked for and is worth keeping beside what is
        here."""
        if b"range" not in self._asked.fields:
            return None
        entry = self._entry
        if entry is not None and entry.span is None and entry.status == 200:
            return None
        return content_range(received.fields.get(b"content-range"))

    def _supersede(self, status: int) -> None:
        """The upstream has another answer now, and it may not be kept."""
        definite = (status < 400 and status != PARTIAL) or status in GONE
        if self._entry is not None and definite and self._detail is None:
            self._room.store.remove(self._entry)

    def _store(self, received: Received, kept: Keep, body: bytes) -> None:
        if self._position is None:
            return
        span = self._span(received) if received.status == PARTIAL else None
        if span is not None and len(body) != span.last - span.first + 1:
            return
        made = self._made(received, kept, body, since=self._room.clock.monotonic(), span=span)
        self._keep(made if span is None else completed(made, span, self._entry))

    def _made(
        self, received: Received, kept: Keep, body: bytes, *, since: float, span: Span | None = None
    ) -> Entry:
        return make_entry(
            self._asked,
            received,
            kept,
            body,
            since=since,
            position=-1 if self._position is None else self._position,
            storing=self._policy.storing,
            strict=self._policy.strict(self._asked.path),
            span=span,
        )

    def _note(self, *, shareable: bool) -> None:
        if self._key:
            self._room.flights.note(self._key, shareable=shareable)

    def _land(self) -> None:
        if self._flight is not None:
            self._room.flights.end(self._key, self._flight)
            self._flight = None
