"""The cache: looks up, asks upstream, keeps, and passes on what was changed."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import assert_never

from aiohttp import web

from middleware.caching.asked import Asked
from middleware.caching.changes import ChangeLog, Changes, ChangesUnknown
from middleware.caching.entries import Entry
from middleware.caching.exchange import Exchange, Fetch
from middleware.caching.fills import Buffers, Flight, FlightKey, Flights
from middleware.caching.invalidation import Mark
from middleware.caching.memory import MemoryStore
from middleware.caching.outgoing import MakeStream, MakeWhole, respond
from middleware.caching.policy import Background, CacheLimits, CachePolicy
from middleware.caching.rules import Ask, Decision, Forwarded, GiveUp, Serve, bypassed, decide
from middleware.caching.sharing import SharedStore, Sharing
from middleware.caching.status import forwarded, hit
from middleware.caching.storing import NotStored, credentials_shown
from middleware.caching.variants import askable, fits
from middleware.caching.writing import Writing, acknowledged
from middleware.clock import Clock
from middleware.messages import RawHeaders, first
from middleware.problems import Problem
from middleware.tasks import Tasks, TasksClosed

_NOT_PLAIN = frozenset({b"if-modified-since", b"if-none-match", b"if-range", b"range"})

BUFFERS_SHARE = 0.5
"""Of the cache's bytes, what answers on their way into it may take besides. Beyond it they are
streamed past, and not kept."""

LISTEN_EVERY_S = 0.5
"""How soon a replica hears of changes to what is served without asking."""


LOOK_EVERY_S = 0.3
"""How often a gateway without a cache looks whether others have one: two looks may fail before it
tells of its changes in vain."""


class Cache:
    """One process's cache. ``takes(pattern, path)`` matches path patterns of marks."""

    def __init__(
        self,
        *,
        limits: CacheLimits,
        clock: Clock,
        tasks: Tasks,
        log: ChangeLog,
        takes: Callable[[bytes, bytes], bool],
        whole: MakeWhole,
        stream: MakeStream,
        shared: SharedStore | None = None,
        background: Background = nullcontext,
    ) -> None:
        self._background = background
        self.limits = limits
        self.clock = clock
        self.tasks = tasks
        self.whole = whole
        self.stream = stream
        self.store = MemoryStore(limits.bytes_max, takes)
        self.flights = Flights(clock.monotonic)
        self.buffers = Buffers(int(limits.bytes_max * BUFFERS_SHARE))
        self.hits = 0
        self.forwarded = 0
        self._log = log
        self.changes = Changes(
            log,
            apply=self._apply,
            forget=self.store.clear,
            takes=takes,
            tasks=tasks,
            recalls=shared is not None,
        )
        self.shared = None if shared is None else self._sharing(shared)

    def _sharing(self, store: SharedStore) -> Sharing:
        return Sharing(
            store,
            changes=self.changes,
            clock=self.clock,
            tasks=self.tasks,
            object_bytes_max=self.limits.shared_object_bytes_max,
            timeout_s=self.limits.shared_timeout_s,
        )

    def share(self, entry: Entry, policy: CachePolicy) -> None:
        """Let other processes have what was fetched here."""
        if self.shared is not None:
            self.shared.share(entry, policy)

    # --- what needs nobody ---------------------------------------------------------------------

    def at_hand(self, asked: Asked) -> Serve | None:
        """What a plain GET may be answered with at once: no question to the log or the upstream,
        no conditions, no parts. Anything else is ``serve``'s."""
        entry, varies = self.store.find(asked)
        if entry is None or entry.status != 200 or self.changes.position < 0:
            return None
        if entry.strict and not self.changes.nothing_new():
            return None
        if entry.span is not None or bypassed(asked) or not _NOT_PLAIN.isdisjoint(asked.fields):
            return None
        if not fits(asked, entry, entry.storing):
            return None
        decision = decide(
            asked, entry, now=self.clock.monotonic(), wall=0.0, varies=varies, strict=entry.strict
        )
        if not isinstance(decision, Serve) or decision.refresh:
            return None
        return decision

    # --- requests ------------------------------------------------------------------------------

    async def serve(
        self, request: web.BaseRequest, asked: Asked, policy: CachePolicy, fetch: Fetch
    ) -> web.StreamResponse:
        """The answer to a request on a cached route. Raises Problem."""
        if asked.method not in (b"GET", b"HEAD"):
            if not asked.safe:
                return await self.change(request, asked, policy, fetch)
            return await self._past(request, asked, policy, fetch, Forwarded.METHOD, None)
        if bypassed(asked):
            return await self._past(
                request, asked, policy, fetch, Forwarded.BYPASS, NotStored.OVERRIDING
            )
        if policy.personal(asked.path):
            return await self._past(
                request, asked, policy, fetch, Forwarded.BYPASS, NotStored.PERSONAL
            )
        return await self._read(request, asked, policy, fetch)

    async def _read(
        self, request: web.BaseRequest, asked: Asked, policy: CachePolicy, fetch: Fetch
    ) -> web.StreamResponse:
        """From what is kept, from what another request is just fetching, or from upstream."""
        strict, waited_for = policy.strict(asked.path), None
        recalled = self.shared is None
        while True:
            if (strict or self.changes.position < 0) and not await self._heard() and strict:
                return await self._past(
                    request, asked, policy, fetch, Forwarded.BYPASS, NotStored.UNSURE
                )
            decision = self._decide(asked, policy, strict=strict)
            match decision:
                case Serve():
                    return self._served(asked, policy, fetch, decision, waited_for)
                case GiveUp():
                    if recalled or not await self._recall(asked, policy):
                        raise _not_here()
                    recalled = True
                case Ask():
                    key = () if waited_for else self._shared_key(asked, policy, decision)
                    flight = self.flights.under_way(key)
                    if flight is not None:
                        waited_for = decision.why
                        self.flights.waited += 1
                        await flight.landed()
                        continue
                    lead = key, self.flights.begin(key) if key else None
                    if not recalled and await self._recalled(asked, policy, decision, *lead):
                        recalled = True
                        continue
                    waited = waited_for is not None
                    exchange = self._exchange(asked, policy, fetch, decision, strict, waited)
                    exchange.lead(*lead)
                    return await exchange.run(request)
                case _:
                    assert_never(decision)

    async def _recalled(
        self,
        asked: Asked,
        policy: CachePolicy,
        ask: Ask,
        key: FlightKey,
        flight: Flight | None,
    ) -> bool:
        """Whether another process has what would be asked for: then ``flight`` has landed."""
        found = False
        if ask.why not in (Forwarded.URI_MISS, Forwarded.VARY_MISS, Forwarded.STALE):
            return False
        try:
            found = await self._recall(asked, policy)
        except BaseException:
            self.flights.end(key, flight)
            raise
        if found:
            self.flights.end(key, flight)
        return found

    async def _recall(self, asked: Asked, policy: CachePolicy) -> bool:
        """Take over what another process keeps, where that is better than what is here."""
        found = None if self.shared is None else await self.shared.recall(asked, policy)
        if found is None:
            return False
        kept, _ = self.store.find(asked)
        now = self.clock.monotonic()
        if kept is not None and found.lifetime_s - found.age_s(now) <= 0:
            return False
        return self.store.put(found)

    def _decide(self, asked: Asked, policy: CachePolicy, *, strict: bool) -> Decision:
        entry, varies = self._find(asked, policy)
        now, wall = self.clock.monotonic(), self.clock.wall()
        return decide(asked, entry, now=now, wall=wall, varies=varies, strict=strict)

    def _served(
        self,
        asked: Asked,
        policy: CachePolicy,
        fetch: Fetch,
        served: Serve,
        waited_for: Forwarded | None,
    ) -> web.StreamResponse:
        """``waited_for``: why it would have been forwarded, had not another request been."""
        entry, age_s, refresh = served
        self.hits += 1
        if refresh:
            self._refresh(asked, policy, fetch, entry)
        ttl_s = entry.lifetime_s - age_s
        said = forwarded(waited_for, collapsed=True, ttl_s=ttl_s) if waited_for else hit(ttl_s)
        return respond(self, asked, entry, said)

    async def _heard(self) -> bool:
        if self.changes.nothing_new():
            return True
        try:
            await self.changes.check()
        except ChangesUnknown:
            return False
        return not self.changes.settling

    def _find(self, asked: Asked, policy: CachePolicy) -> tuple[Entry | None, bool]:
        """What ``asked`` may be answered with, and whether there is something else at its URI."""
        entry, varies = self.store.find(asked)
        if entry is None and asked.method == b"HEAD":
            entry, more = self.store.find(asked, head=True)
            varies = varies or more
        if entry is not None and not fits(asked, entry, policy.storing):
            return None, True
        return entry, varies

    def _shared_key(self, asked: Asked, policy: CachePolicy, ask: Ask) -> FlightKey:
        """Whose answer others may wait for; empty where nobody should."""
        fields = asked.fields
        if asked.method != b"GET" or b"range" in fields or asked.directives.no_store:
            return ()
        if ask.why not in (Forwarded.URI_MISS, Forwarded.VARY_MISS, Forwarded.STALE):
            return ()
        if ask.entry is None and (b"if-none-match" in fields or b"if-modified-since" in fields):
            return ()
        public = ask.entry is not None and ask.entry.public
        if not public and credentials_shown(fields, policy.storing):
            return ()
        return self.store.selection(asked)

    def _exchange(
        self,
        asked: Asked,
        policy: CachePolicy,
        fetch: Fetch,
        ask: Ask,
        strict: bool,
        waited: bool,
    ) -> Exchange:
        self.forwarded += 1
        others: tuple[Entry, ...] = ()
        if ask.why is Forwarded.VARY_MISS:
            others = askable(asked, self.store.at(asked.host, asked.target), policy.storing)
        return Exchange(
            self,
            asked,
            policy,
            fetch,
            why=ask.why,
            entry=ask.entry,
            position=self.changes.position,
            strict=strict,
            waited=waited,
            variants=others,
        )

    def _refresh(self, asked: Asked, policy: CachePolicy, fetch: Fetch, entry: Entry) -> None:
        """One in the background, whoever asked (RFC 5861 section 3)."""
        key = self.store.selection(asked)
        flight = self.flights.begin(key)
        if flight is None:
            return
        plain = replace(asked, method=b"GET")
        exchange = self._exchange(
            plain, policy, fetch, Ask(Forwarded.STALE, entry), strict=False, waited=False
        )
        exchange.lead(key, flight)
        try:
            refreshing = exchange.refresh(self._background)
            self.tasks.start(refreshing, name="refresh the cache")
        except TasksClosed:
            self.flights.end(key, flight)

    async def _past(
        self,
        request: web.BaseRequest,
        asked: Asked,
        policy: CachePolicy,
        fetch: Fetch,
        why: Forwarded,
        detail: NotStored | None,
    ) -> web.StreamResponse:
        """Straight through: nothing is looked up and nothing kept."""
        if asked.directives.only_if_cached and asked.method in (b"GET", b"HEAD"):
            raise _not_here()
        exchange = Exchange(self, asked, policy, fetch, why=why, detail=detail or NotStored.METHOD)
        return await exchange.run(request)

    # --- changes -------------------------------------------------------------------------------

    async def change(
        self, request: web.BaseRequest, asked: Asked, policy: CachePolicy, fetch: Fetch
    ) -> web.StreamResponse:
        """An unsafe request: what it may have changed is ended before it is answered. Raises
        Problem."""
        return await Writing(self, asked, policy, fetch).run(request)

    async def acknowledged(self, marks: tuple[Mark, ...]) -> None:
        """Tell every replica; returns once all of them must hear. Raises Problem."""
        await acknowledged(self.changes, marks)

    async def listen(self) -> None:
        """A duty: hear of changes also where nobody asks. Never returns."""
        while True:
            with suppress(ChangesUnknown):
                await self.changes.check()
            await asyncio.sleep(LISTEN_EVERY_S)

    async def look_out(self) -> None:
        """A duty, where nothing is kept: know whether others keep something. Returns once there is
        nothing to find out any more."""
        again = True
        while again:
            with suppress(ChangesUnknown):
                again = await self.changes.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def close(self) -> None:
        await self._log.close()
        if self.shared is not None:
            await self.shared.close()

    def _apply(self, mark: Mark, position: int) -> None:
        self.store.end(mark, position, self.clock.monotonic())


def asked_of(request: web.BaseRequest, headers: RawHeaders) -> Asked:
    """``headers``: what of its header reaches the upstream."""
    return Asked(
        request.method.encode("ascii"),
        (first(headers, b"host") or b"").lower(),
        request.raw_path.encode("utf-8", "surrogateescape"),
        headers,
        request.can_read_body,
    )


def _not_here() -> Problem:
    return Problem(
        504,
        "not-in-cache",
        "No usable answer is in the cache",
        "The request says only-if-cached: leave that out to have the upstream asked.",
        headers={"Cache-Status": "ordergate; detail=only-if-cached"},
        repeat_is_safe=True,
    )
