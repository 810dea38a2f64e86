"""Ledgers read from outside, by nothing that a gateway uses: what is on record at this moment (I7),
and, in the end, whether the whole of it fits together."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import apsw
import redis.asyncio
from redis import exceptions as errors
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.demo.books import Submitted
from gateway.orders.entry import Entry
from gateway.orders.states import PENDING, Status
from gateway.stores import valkey_codec
from gateway.stores.sqlite_rows import SqliteRows
from gateway.stores.valkey_keys import NUMBER, STATUSES, Bucket, Layout, Place
from gateway.stores.valkey_rows import member_parts
from middleware.idempotency.rules import scope_digest

PATIENCE_S = 30.0
"""For a server that is away to come back, or for another to take its place."""

SCOPE = "header:authorization"
"""What customers are told apart by: the orders of one are in one bucket."""

UNDER_WAY = (Status.DISPATCHED, Status.IN_DOUBT)


class Witness(Protocol):
    """``close`` it in the end."""

    async def has_dispatch_of(self, submitted: Submitted) -> bool:
        """Whether the ledger shows an attempt to send what the backend got."""
        ...

    async def pending(self) -> int: ...

    async def entries(self) -> list[Entry]: ...

    async def flaws(self) -> list[str]:
        """What does not fit together, where nothing is under way any more."""
        ...

    async def close(self) -> None: ...


class FileWitness:
    """Of an SQLite ledger."""

    def __init__(self, ledger: Path) -> None:
        self._db = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
        self._db.set_busy_timeout(2000)
        self._rows = SqliteRows(self._db, "")
        self._ids: dict[str, str] = {}
        self._seen = 0

    async def has_dispatch_of(self, submitted: Submitted) -> bool:
        for seq, entry in self._rows.whole(self._seen, 1_000_000):
            self._seen = seq
            self._ids[entry.upstream_key] = entry.id
        kept = self._rows.by_id(self._ids.get(submitted.key or "", ""))
        return kept is not None and bool(kept.entry.attempts)

    async def pending(self) -> int:
        counted = self._rows.counts().by_status
        return sum(counted[status] for status in PENDING)

    async def entries(self) -> list[Entry]:
        return [entry for _, entry in self._rows.whole(0, 1_000_000)]

    async def flaws(self) -> list[str]:
        said = [row[0] for row in self._db.execute("PRAGMA integrity_check")]
        lost = [] if self._rows.counts().conserved else ["entries are not conserved"]
        return lost + [each for each in said if each != "ok"]

    async def close(self) -> None:
        self._db.close()


class RemoteWitness:
    """Of a ledger on servers at these ports, whichever of them are masters just now."""

    def __init__(self, ports: Sequence[int], prefix: str = "ordergate") -> None:
        once = Retry(NoBackoff(), 0)
        self._clients = [
            redis.asyncio.Redis(port=port, protocol=2, socket_timeout=2, retry=once)
            for port in ports
        ]
        self._layout = Layout(prefix)
        self._places: dict[str, Place] = {}
        self._known: set[bytes] = set()

    async def has_dispatch_of(self, submitted: Submitted) -> bool:
        """One server that shows it is enough; where none does, those that are away are waited
        for: what was acknowledged must be there when they are back."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    asked = (self._shows(client, submitted) for client in self._clients)
                    said = await asyncio.gather(*asked, return_exceptions=True)
                    if True in said:
                        return True
                    if False in said and not any(isinstance(each, Exception) for each in said):
                        return False
                    await asyncio.sleep(0.1)
        return False

    async def _shows(self, client: "redis.asyncio.Redis", submitted: Submitted) -> bool | None:
        """None: it is not this node's to say."""
        try:
            return await self._has(client, submitted)
        except errors.MovedError:
            return None

    async def _has(self, client: "redis.asyncio.Redis", submitted: Submitted) -> bool:
        key = submitted.key or ""
        scope = scope_digest(SCOPE, submitted.who.encode("latin-1"))
        bucket = self._layout.bucket(scope, key)
        for statuses in (UNDER_WAY, STATUSES):
            if key not in self._places:
                await self._learn(client, bucket, statuses)
        if key not in self._places:
            return False
        (fields,) = await _orders(client, [self._places[key]])
        return bool(fields) and bool(valkey_codec.entry(fields).attempts)

    async def _learn(
        self, client: "redis.asyncio.Redis", bucket: Bucket, statuses: Sequence[Status]
    ) -> None:
        """Where the orders of these statuses lie."""
        places = await _places(client, bucket, statuses)
        new = [place for place in places if place.order not in self._known]
        for place, fields in zip(new, await _orders(client, new), strict=True):
            if fields:
                self._places[valkey_codec.entry(fields).upstream_key] = place
                self._known.add(place.order)

    async def _buckets(self) -> AsyncIterator[tuple["redis.asyncio.Redis", Bucket]]:
        """Each, with the master that has it."""
        for client in self._clients:
            (role,) = await _ask(client, [("ROLE",)])
            for bucket in self._layout.buckets if role[0] == b"master" else ():
                with contextlib.suppress(errors.MovedError):
                    await _ask(client, [("EXISTS", bucket.meta)])
                    yield client, bucket

    async def pending(self) -> int:
        names = [f"s{NUMBER[status]}" for status in PENDING]
        sums = 0
        async for client, bucket in self._buckets():
            (counts,) = await _ask(client, [("HMGET", bucket.meta, *names)])
            sums += sum(int(each or 0) for each in counts)
        return sums

    async def entries(self) -> list[Entry]:
        found = []
        async for client, bucket in self._buckets():
            places = await _places(client, bucket, STATUSES)
            found += [valkey_codec.entry(each) for each in await _orders(client, places)]
        return found

    async def flaws(self) -> list[str]:
        found: list[str] = []
        async for client, bucket in self._buckets():
            view = await BucketView.of(client, bucket)
            found += [f"bucket {bucket.number}: {each}" for each in view.flaws()]
        return found

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()


@dataclass(slots=True)
class BucketView:
    """All of one bucket. ``indexed`` are its orders by the status that an index gives them."""

    meta: Mapping[bytes, bytes]
    indexed: Mapping[bytes, int]
    orders: Mapping[bytes, Mapping[bytes, bytes]]
    held: set[bytes]
    due: set[bytes]
    age: set[bytes]
    dead: set[bytes]

    @classmethod
    async def of(cls, client: "redis.asyncio.Redis", bucket: Bucket) -> "BucketView":
        sets = (bucket.due, bucket.age, bucket.dead, *bucket.statuses)
        meta, held, *members = await _ask(
            client,
            [
                *(("HGETALL", key) for key in (bucket.meta, bucket.held)),
                *(("ZRANGE", key, 0, -1) for key in sets),
            ],
        )
        due, age, dead, *by_status = map(set, members)
        indexed = {each: n for n, some in enumerate(by_status, start=1) for each in some}
        found = await _orders(client, [Place(bucket, member_parts(each)[1]) for each in indexed])
        orders = dict(zip(indexed, found, strict=True))
        return cls(dict(meta), indexed, orders, set(held), due, age, dead)

    def flaws(self) -> Iterator[str]:
        counted = {n: int(self.meta.get(b"s%d" % n, 0)) for n in NUMBER.values()}
        made, removed = int(self.meta.get(b"made", 0)), int(self.meta.get(b"removed", 0))
        if made != removed + sum(counted.values()):
            yield f"entries are not conserved: {made} made, {removed} removed, {counted}"
        for number, count in counted.items():
            there = sum(each == number for each in self.indexed.values())
            if there != count:
                yield f"{there} of status {number} are there, {count} are counted"
        for member, number in self.indexed.items():
            yield from self._order_flaws(member, number)
        waiting = {each for each, number in self.indexed.items() if number <= len(PENDING)}
        if self.age != waiting:
            yield f"the index by age differs: {self.age ^ waiting}"
        parked = {each for each, n in self.indexed.items() if n == NUMBER[Status.DEAD_LETTER]}
        if self.dead != parked:
            yield f"the index of dead letters differs: {self.dead ^ parked}"
        if strange := (self.due | self.held) - waiting - parked:
            yield f"held or due, and not waiting: {strange}"

    def _order_flaws(self, member: bytes, number: int) -> Iterator[str]:
        order = self.orders[member]
        if int(order.get(b"st", 0)) != number:
            yield f"{member!r} is indexed as {number} and is {order.get(b'st')!r}"
        if number <= len(PENDING) and (member in self.held) == (member in self.due):
            yield f"{member!r} is pending, and not either held or due"


async def _places(
    client: "redis.asyncio.Redis", bucket: Bucket, statuses: Sequence[Status]
) -> list[Place]:
    indices = [bucket.statuses[NUMBER[status] - 1] for status in statuses]
    found = await _ask(client, [("ZRANGE", index, 0, -1) for index in indices])
    return [Place(bucket, member_parts(each)[1]) for members in found for each in members]


async def _orders(client: "redis.asyncio.Redis", places: Sequence[Place]) -> list[Any]:
    """The hash of each, by field; empty where there is none."""
    return await _ask(client, [("HGETALL", place.order) for place in places])


async def _ask(client: "redis.asyncio.Redis", commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Each command's reply. Raises MovedError where another node of a cluster has it, RedisError
    where the server can't say."""
    if not commands:
        return []
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return list(await pipeline.execute())
