"""Large ledgers for ``./run bench growth``: orders through the ledger's own port, and from
``COPY_FROM`` settled ones on copies of those, as the store itself keeps them (a million orders
through the port are half an hour)."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import apsw
import orjson
import redis

from benchmarks.order_layers import END, WHO, Bench
from gateway.ledger import Ledger
from gateway.orders import life
from gateway.orders.attempts import Lost, LostReason
from gateway.orders.states import Status
from gateway.settings.ledger_urls import parse_remote
from gateway.stores.codec import key_digest
from gateway.stores.valkey_keys import NUMBER, Bucket, Layout, Place
from gateway.stores.valkey_rows import member_parts

AT_ONCE = 256
"""Orders under way while filling: what a store takes in one batch."""

COPY_FROM = 10_000
NEVER_S = 1_000_000.0


async def fill(ledger: Ledger, settled: int, pending: int) -> None:
    """So many more, through the port; the pending ones are in doubt, and due in eleven days."""
    bench = Bench(ledger)
    left = iter([True] * settled + [False] * pending)
    numbers = count()

    async def make() -> None:
        for ends in left:
            request = replace(await bench.request(next(numbers)), dispatch=True)
            claim = await ledger.claim(request)
            assert claim.lease is not None
            entry = claim.claimed.entry
            end = END if ends else Lost(LostReason.TIMEOUT, 100)
            after = life.end_attempt(entry, end, ledger.now(), WHO)
            await ledger.write(claim.lease, entry, after, due_in_s=None if ends else NEVER_S)

    await asyncio.gather(*(make() for _ in range(AT_ONCE)))


def copy(url: str, number: int) -> None:
    """So many more settled orders, each with a key of its own. No gateway may be on the ledger."""
    if url.startswith("sqlite"):
        _copy_rows(Path(url.removeprefix("sqlite:///")), number)
    else:
        _copy_hashes(url, number)


# --- SQLite ----------------------------------------------------------------------------------


def _copy_rows(file: Path, number: int) -> None:
    """In SQL. What is measured next must not pay for it: the file is synced in the end."""
    db = apsw.Connection(str(file))
    db.pragma("synchronous", "OFF")
    db.pragma("cache_size", -1_000_000)
    db.create_scalar_function("digest_of", lambda *of: key_digest(*of), 2, deterministic=True)
    columns = [row[1] for row in db.execute("PRAGMA table_info(orders)")]
    anew = {
        "seq": "seq + :by",
        "key": "key || :tag",
        "id": "id || :tag",
        "key_digest": "digest_of(scope, key || :tag)",
    }
    chosen = ", ".join(anew.get(name, name) for name in columns)
    some = "(SELECT seq FROM orders WHERE status = 'confirmed' ORDER BY seq LIMIT :number)"
    steps = (
        f"INSERT INTO answers SELECT seq + :by, head, body FROM answers WHERE seq IN {some}",
        f"INSERT INTO orders SELECT {chosen} FROM orders WHERE seq IN {some}",
        "UPDATE tally SET made = made + :number, confirmed = confirmed + :number",
    )
    for start in range(0, number, COPY_FROM):
        newest = db.execute("SELECT max(seq) FROM orders").fetchone()[0]
        names = {"by": newest, "tag": f"-{newest}", "number": min(COPY_FROM, number - start)}
        with db:
            for step in steps:
                db.execute(step, names)
        db.pragma("wal_checkpoint(TRUNCATE)")
    db.close()
    with file.open("rb") as written:
        os.fsync(written.fileno())


# --- Valkey ----------------------------------------------------------------------------------


def _copy_hashes(url: str, number: int) -> None:
    remote = parse_remote(url)
    host, port = remote.hosts[0]
    client = redis.Redis(host=host, port=port, protocol=2)
    layout = Layout(remote.prefix)
    kept = [each for bucket in layout.buckets for each in _kept(client, bucket)]
    made = int(sum(int(client.hget(bucket.meta, "made") or 0) for bucket in layout.buckets))
    copies = islice(_copies(layout, kept, made), number)
    while some := list(islice(copies, 500)):
        pipeline = client.pipeline(transaction=False)
        for place, entry_id, fields, until in some:
            _put(pipeline, place, entry_id, fields, until)
        pipeline.execute()


Kept = tuple[dict[bytes, bytes], float]
"""The fields of a settled order, and until when its answer is kept."""


def _kept(client: Any, bucket: Bucket) -> Iterator[Kept]:
    members = client.zrange(bucket.statuses[NUMBER[Status.CONFIRMED] - 1], 0, COPY_FROM // 32)
    for member in members:
        order = bucket.order(member_parts(member)[1])
        yield client.hgetall(order), client.zscore(bucket.answers, member)


def _copies(
    layout: Layout, kept: list[Kept], made: int
) -> Iterator[tuple[Place, str, dict[bytes, bytes], float]]:
    for tag in count(made):
        for fields, until in kept:
            columns, document = orjson.loads(fields[b"d"])
            columns[0], columns[2] = f"{columns[0]}-{tag}", f"{columns[2]}-{tag}"
            entry_id, scope, key = columns[:3]
            changed = {b"d": orjson.dumps([columns, document]), b"id": entry_id.encode()}
            yield layout.place(scope, key), entry_id, {**fields, **changed}, until


def _put(
    pipeline: Any, place: Place, entry_id: str, fields: dict[bytes, bytes], until: float
) -> None:
    """As ``scripts/put.lua`` leaves a settled order."""
    bucket, status = place.bucket, NUMBER[Status.CONFIRMED]
    number = int(fields[b"n"])
    member = f"{number:016}:{place.ref}"
    pipeline.hset(place.order, mapping=fields)
    pipeline.set(bucket.by_id(entry_id), place.ref)
    pipeline.zadd(bucket.statuses[status - 1], {member: number})
    pipeline.zadd(bucket.answers, {member: until})
    pipeline.hincrby(bucket.meta, "made", 1)
    pipeline.hincrby(bucket.meta, f"s{status}", 1)
