"""Answers that gateways share, on Valkey or Redis: bounded, and worth nothing to anybody if lost.

One hash a resource: a field for each answer, one for when it was put, and one for each set of
request fields that select. The least recently used resources of a bucket go when it is full. Times
are the server's own, so that no two gateways' clocks are ever compared; a put that comes later
than its age allows is not done.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from redis import exceptions as errors

from gateway.settings.ledger_urls import RemoteUrl
from gateway.stores.valkey_checks import Facts
from gateway.stores.valkey_keys import BUCKETS, Bucket, Layout
from gateway.stores.valkey_lane import Args, Command, NotDone, ReplyLost, Unacknowledged
from gateway.stores.valkey_nodes import Access, Ask, Node, info
from gateway.stores.valkey_scripts import scripts
from gateway.stores.valkey_servers import Parts, Servers, servers
from middleware.caching.sharing import Found, StoreAway
from middleware.tasks import Tasks, TasksClosed

FIELDS_MAX = 200
"""Of one resource: 64 variants have three fields each at most; then it begins anew."""

CLOSE_S = 2.0

_FIND, _PUT = "shared_find", "shared_put"
_FAILURES = (NotDone, ReplyLost, Unacknowledged, errors.RedisError, OSError)


@dataclass(frozen=True, slots=True)
class SharedLook:
    """What somebody sees who writes nothing: of each server what it is and its ``maxmemory`` (0:
    none), and how long some look-ups took."""

    servers: list[tuple[Facts, int]]
    looks_s: list[float]


class ValkeySharedStore:
    """The ``SharedStore`` port at ``url``. ``late_s``: how late a put may be."""

    def __init__(
        self,
        url: RemoteUrl,
        *,
        access: Access,
        bytes_max: int,
        late_s: float,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._url = url
        self._access = access
        self._bucket_bytes_max = bytes_max // BUCKETS
        self._late_s = late_s
        self._now = now
        self._layout = Layout(f"{url.prefix}:shared")
        self._tasks = Tasks(lambda _name, _error: None)  # whoever called is told
        self._servers: Servers | None = None
        self._starting: asyncio.Task[Servers] | None = None
        self._clock: tuple[float, float] | None = None

    async def find(self, resource: bytes, fields: Sequence[bytes]) -> Found:
        bucket = self._bucket(resource)
        keys = (_key(bucket, resource), _index(bucket))
        server_ms, names, answers = await self._script(_FIND, bucket, keys, tuple(fields))
        self._clock = (self._now(), server_ms)
        pairs = zip(answers[::2], answers[1::2], strict=True)
        there = [((server_ms - put_ms) / 1000, data) for put_ms, data in pairs if put_ms >= 0]
        return Found(tuple(names), there)

    async def put(
        self, resource: bytes, field: bytes, names: bytes, data: bytes, ttl_s: float
    ) -> None:
        """Nothing is done before something was looked for: the server's time must be known."""
        if self._clock is None or len(data) > self._bucket_bytes_max:
            return
        known_at, server_ms = self._clock
        until_ms = server_ms + (self._now() - known_at + self._late_s) * 1000
        bucket = self._bucket(resource)
        keys = (_key(bucket, resource), _index(bucket), _sizes(bucket))
        limits = (self._bucket_bytes_max, FIELDS_MAX, int(until_ms))
        args = (field, names, data, max(1, int(ttl_s * 1000)), *limits)
        await self._script(_PUT, bucket, keys, args)

    async def look(self, times: int) -> SharedLook:
        """Raises StoreAway."""
        looks_s = []
        for _ in range(times):
            began = self._now()
            await self.find(b"nothing", ())
            looks_s.append(self._now() - began)
        try:
            nodes = (await self._started()).nodes
            servers = [(await Facts.of(node), await _memory_bytes_max(node)) for node in nodes]
        except _FAILURES as error:
            raise StoreAway(f"the shared answers' servers say nothing: {error}") from error
        return SharedLook(servers, looks_s)

    async def close(self) -> None:
        await self._tasks.close(CLOSE_S)
        if self._servers is not None:
            await self._servers.close()
            self._servers = None

    def _bucket(self, resource: bytes) -> Bucket:
        spread = hashlib.blake2b(resource, digest_size=4).digest()
        return self._layout.buckets[int.from_bytes(spread, "big") % BUCKETS]

    async def _script(self, name: str, bucket: Bucket, keys: tuple[bytes, ...], args: Args) -> Any:
        try:
            node = (await self._started()).node(bucket)
            command = ("EVALSHA", scripts()[name].sha, len(keys), *keys, *args)
            return await node.lane.submit(Command(command, acknowledged=False))
        except _FAILURES as error:
            looking = self._look_again(error if isinstance(error, NotDone) else None)
            if looking is not None:
                await asyncio.shield(looking)
            raise StoreAway(f"the shared answers can't be reached: {error}") from error
        except asyncio.CancelledError:  # a server that is silent is found elsewhere, too
            self._look_again(None)
            raise

    def _look_again(self, refusal: NotDone | None) -> "asyncio.Task[None] | None":
        """The next one may find it elsewhere; to its end, though it takes longer than anybody
        waits for an answer."""
        if self._servers is None:
            return None
        with suppress(TasksClosed):
            return self._tasks.start(self._look(self._servers, refusal), name="look for the store")
        return None

    async def _look(self, found: Servers, refusal: NotDone | None) -> None:
        with suppress(*_FAILURES):
            await found.refresh(refusal)

    async def _started(self) -> Servers:
        """Once for all who ask, and to its end: where the first server asked is silent, it takes
        longer than anybody waits for an answer."""
        if self._servers is not None:
            return self._servers
        if self._starting is None or self._starting.done():
            try:
                self._starting = self._tasks.start(self._start(), name="find the store")
            except TasksClosed as closed:
                raise NotDone("the store is closed", elsewhere=False) from closed
        return await asyncio.shield(self._starting)

    async def _start(self) -> Servers:
        texts = [scripts()[name].text for name in (_FIND, _PUT)]
        parts = Parts(self._url, self._access, self._layout, texts, self._tasks, _greet)
        found = servers(parts)
        try:
            await found.start()
        except BaseException:
            await found.close()
            raise
        self._servers = found
        return found


async def _memory_bytes_max(node: Node) -> int:
    (raw,) = await node.ask(("INFO", "memory"))
    return 0 if isinstance(raw, Exception) else int(info(raw).get("maxmemory", 0))


async def _greet(_node: Node, _told: Mapping[str, str], _ask: Ask) -> None:
    """Any master will do."""


def _key(bucket: Bucket, resource: bytes) -> bytes:
    return bucket.meta + b":" + resource


def _index(bucket: Bucket) -> bytes:
    return bucket.meta + b":used"


def _sizes(bucket: Bucket) -> bytes:
    return bucket.meta + b":sizes"
