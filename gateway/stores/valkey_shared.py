"""Answers that gateways share, on Valkey or Redis: bounded, and worth nothing to anybody if lost.

One hash a resource: a field for each answer, one for when it was put, and one for each set of
request fields that select. The least recently used resources of a bucket go when it is full. Times
are the server's own, so that no two gateways' clocks are ever compared; a put that comes later
than its age allows is not done.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from gateway.settings.ledger_urls import RemoteUrl
from gateway.stores.valkey_checks import Facts
from gateway.stores.valkey_finding import FAILURES, Finding
from gateway.stores.valkey_keys import BUCKETS, Bucket, Layout
from gateway.stores.valkey_lane import Args, Command
from gateway.stores.valkey_nodes import Access, Node, info
from gateway.stores.valkey_scripts import scripts
from middleware.caching.sharing import Found, StoreAway

FIELDS_MAX = 200
"""Of one resource: 64 variants have three fields each at most; then it begins anew."""

_FIND, _PUT = "shared_find", "shared_put"


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
        self._bucket_bytes_max = bytes_max // BUCKETS
        self._late_s = late_s
        self._now = now
        self._layout = Layout(f"{url.prefix}:shared")
        names = (_FIND, _PUT)
        self._finding = Finding(url, access, self._layout, names, "the shared answers")
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
            nodes = (await self._finding.servers()).nodes
            servers = [(await Facts.of(node), await _memory_bytes_max(node)) for node in nodes]
        except FAILURES as error:
            raise StoreAway(f"the shared answers' servers say nothing: {error}") from error
        return SharedLook(servers, looks_s)

    async def close(self) -> None:
        await self._finding.close()

    def _bucket(self, resource: bytes) -> Bucket:
        spread = hashlib.blake2b(resource, digest_size=4).digest()
        return self._layout.buckets[int.from_bytes(spread, "big") % BUCKETS]

    async def _script(self, name: str, bucket: Bucket, keys: tuple[bytes, ...], args: Args) -> Any:
        try:
            node = (await self._finding.servers()).node(bucket)
            command = ("EVALSHA", scripts()[name].sha, len(keys), *keys, *args)
            return await node.lane.submit(Command(command, acknowledged=False))
        except FAILURES as error:
            looking = self._finding.look_again(error)
            if looking is not None:
                await asyncio.shield(looking)
            raise StoreAway(f"the shared answers can't be reached: {error}") from error
        except asyncio.CancelledError:  # a server that is silent is found elsewhere, too
            self._finding.look_again(None)
            raise


async def _memory_bytes_max(node: Node) -> int:
    (raw,) = await node.ask(("INFO", "memory"))
    return 0 if isinstance(raw, Exception) else int(info(raw).get("maxmemory", 0))


def _key(bucket: Bucket, resource: bytes) -> bytes:
    return bucket.meta + b":" + resource


def _index(bucket: Bucket) -> bytes:
    return bucket.meta + b":used"


def _sizes(bucket: Bucket) -> bytes:
    return bucket.meta + b":sizes"
