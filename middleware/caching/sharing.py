"""What several processes keep together, behind what each keeps in its memory.

The rules are the same. An answer that one of them fetched is another's only if nothing that
touches it was changed since its fetch began, as far back as the log of changes tells; its age is
counted by the store's clock. A store that is away, or slow, is a miss.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import NamedTuple, Protocol

from middleware.caching.asked import Asked
from middleware.caching.changes import Changes
from middleware.caching.encoding import decoded, encoded
from middleware.caching.entries import Entry, select
from middleware.caching.memory import SELECTIONS_MAX
from middleware.caching.policy import CachePolicy
from middleware.caching.storing import EVERY_FIELD
from middleware.clock import Clock
from middleware.errors import CannotGoOn, Fault
from middleware.tasks import Tasks, TasksClosed

AWAY_S = 2.0
"""A store that failed is not asked again for so long: each request that asks pays the timeout."""

STALE_KEPT_S = 300.0
"""Beyond its freshness, an answer that can be asked about is kept for so long."""

WRITES_MAX = 32
WRITE_BYTES_MAX = 16 * 1024**2
"""On their way to the store; what comes beyond that is not shared."""

PLAIN = b"p"
"""The field of the answer for all requests."""

_SEPARATOR = b"\0"


class StoreAway(CannotGoOn):
    """The store gave no answer."""

    fault = Fault.STORE


class Found(NamedTuple):
    """``names``: by which fields of the request answers of the resource are selected, each as it
    was given to ``put``. ``answers``: with their age in the store, of the fields asked for."""

    names: Sequence[bytes]
    answers: Sequence[tuple[float, bytes]]


class SharedStore(Protocol):
    """The port: some answers under one name. Methods raise StoreAway. It forgets what it likes."""

    async def find(self, resource: bytes, fields: Sequence[bytes]) -> Found: ...

    async def put(
        self, resource: bytes, field: bytes, names: bytes, data: bytes, ttl_s: float
    ) -> None: ...

    async def close(self) -> None: ...


class Sharing:
    """One process's way to what is shared. ``timeout_s``: for one look."""

    def __init__(
        self,
        store: SharedStore,
        *,
        changes: Changes,
        clock: Clock,
        tasks: Tasks,
        object_bytes_max: int,
        timeout_s: float,
    ) -> None:
        self._store = store
        self._changes = changes
        self._clock = clock
        self._tasks = tasks
        self._object_bytes_max = object_bytes_max
        self._timeout_s = timeout_s
        self._away_until = 0.0
        self._writes = 0
        self._write_bytes = 0
        self.found = 0
        self.missed = 0
        self.failed = 0

    @property
    def away(self) -> bool:
        """Whether the store failed just now, and is left alone."""
        return self._clock.monotonic() < self._away_until

    async def recall(self, asked: Asked, policy: CachePolicy) -> Entry | None:
        """What another process kept for ``asked``, unless something has changed it since."""
        if self.away or self._changes.settling:
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await self._answers(asked, policy)
        except (StoreAway, TimeoutError):
            self._failed()
            return None
        entries = [self._judged(asked, policy, *each) for each in answers]
        good = [each for each in entries if each is not None]
        self.found += bool(good)
        self.missed += not good
        return min(good, key=lambda each: each.initial_age_s, default=None)

    async def _answers(self, asked: Asked, policy: CachePolicy) -> Sequence[tuple[float, bytes]]:
        resource = _resource(asked.host, asked.target, policy)
        found = await self._store.find(resource, (PLAIN,))
        if not found.names:
            return found.answers
        chosen = [tuple(names.split(_SEPARATOR)) for names in found.names[:SELECTIONS_MAX]]
        fields = [_field(names, select(names, asked)) for names in chosen]
        return (*found.answers, *(await self._store.find(resource, fields)).answers)

    def _judged(
        self, asked: Asked, policy: CachePolicy, stored_s: float, data: bytes
    ) -> Entry | None:
        now, strict = self._clock.monotonic(), policy.strict(asked.path)
        stored = decoded(data, since=now, storing=policy.storing, strict=strict)
        if stored is None or stored_s < 0:
            return None
        entry, position = stored.entry, self._changes.position_of(stored.stamp)
        if position is None or (entry.host, entry.target) != (asked.host, asked.target):
            return None
        if entry.values != select(entry.vary, asked):
            return None
        if self._changes.outdated(position, entry.host, entry.target, entry.groups):
            return None
        # It was written up to a timeout after its age was taken.
        age_s = entry.initial_age_s + stored_s + self._timeout_s
        return replace(entry, initial_age_s=age_s, position=position)

    def share(self, entry: Entry, policy: CachePolicy) -> None:
        """Let others have it, in the background, unless it is one client's."""
        stamp = None if self._changes.settling else self._changes.stamp(entry.position)
        if stamp is None or self.away or not _for_others(entry, policy):
            return
        age_s = entry.age_s(self._clock.monotonic())
        ttl_s = _ttl_s(entry, age_s)
        size = len(entry.body) + len(entry.lines)
        full = self._writes >= WRITES_MAX or self._write_bytes + size > WRITE_BYTES_MAX
        if ttl_s <= 0 or size > self._object_bytes_max or full:
            return
        data = encoded(entry, age_s=age_s, stamp=stamp)
        self._writes += 1
        self._write_bytes += size
        try:
            self._tasks.start(self._write(entry, policy, data, ttl_s), name="share an answer")
        except TasksClosed:
            self._written(size)

    async def _write(self, entry: Entry, policy: CachePolicy, data: bytes, ttl_s: float) -> None:
        resource = _resource(entry.host, entry.target, policy)
        field = _field(entry.vary, entry.values) if entry.vary else PLAIN
        names = _SEPARATOR.join(entry.vary)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._store.put(resource, field, names, data, ttl_s)
        except (StoreAway, TimeoutError):
            self._failed()
        finally:
            self._written(len(entry.body) + len(entry.lines))

    def _written(self, size: int) -> None:
        self._writes -= 1
        self._write_bytes -= size

    def _failed(self) -> None:
        self.failed += 1
        self._away_until = self._clock.monotonic() + AWAY_S

    async def close(self) -> None:
        await self._store.close()


def _for_others(entry: Entry, policy: CachePolicy) -> bool:
    """A whole answer to GET that no client's own words select."""
    own = policy.storing.credentials | {EVERY_FIELD}
    return not entry.head_only and entry.span is None and own.isdisjoint(entry.vary)


def _ttl_s(entry: Entry, age_s: float) -> float:
    has_validator = entry.etag is not None or entry.last_modified is not None
    windows = (entry.stale_while_revalidate_s, entry.stale_if_error_s or 0)
    return entry.lifetime_s - age_s + max(STALE_KEPT_S if has_validator else 0.0, *windows)


def _resource(host: bytes, target: bytes, policy: CachePolicy) -> bytes:
    """A name of one length. What routes say of storing is in it: what was kept under other rules
    is another resource's."""
    storing = policy.storing
    named = (sorted(storing.credentials), sorted(storing.session_cookies))
    rules = (storing.targets, *named, storing.behind_proxies)
    return _digest(host, target, repr(rules).encode())


def _field(names: tuple[bytes, ...], values: tuple[bytes, ...]) -> bytes:
    return b"v" + _digest(*names, b"", *values)


def _digest(*parts: bytes) -> bytes:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(b"%d:%b" % (len(part), part))
    return digest.digest().hex().encode()
