"""The contract of orders that this version can't read, written by a newer one or damaged: each is
there, stays as it is, holds up nobody, and operators are shown it."""

import asyncio
from pathlib import Path
from typing import Any

import apsw
import orjson
import pytest
from structlog.testing import capture_logs

from gateway.ledger import EntryUnreadable, LedgerRefused
from gateway.orders.bookkeeping import raise_token
from gateway.orders.entry import Entry
from gateway.orders.states import Status
from gateway.stores import codec, valkey_codec
from gateway.stores.moving import move
from gateway.stores.sqlite import SqliteLedger
from gateway.stores.sqlite_backup import back_up
from gateway.stores.sqlite_moving import SqliteSource, SqliteTarget
from gateway.stores.unreadable import AGAIN_S, FORGOTTEN_S
from gateway.stores.valkey import ValkeyLedger

from .conftest import KINDS
from .making import (
    HOST,
    LEASE_S,
    PROMISE,
    AnyLedger,
    Stores,
    answered,
    attached,
    ended,
    fresh,
    in_doubt,
    settled,
    submission,
)

ENCODED = [kind for kind in KINDS if kind != "memory"]
"""In memory an entry is kept as it is."""

on_each_store = pytest.mark.parametrize("stores", ENCODED, indirect=True)


# --- what a newer version, or a bad disk, makes of an order ----------------------------------


def newer(document: list[Any]) -> bytes:
    """A field more than is known."""
    return orjson.dumps([*document, "a field of version 3"])


def newer_event(document: list[Any]) -> bytes:
    document[-1][-1][3] = "settled_by_an_oracle"
    return orjson.dumps(document)


def longer_event(document: list[Any]) -> bytes:
    document[-1][-1].append("a field of version 3")
    return orjson.dumps(document)


def garbage(_: list[Any]) -> bytes:
    return b"[[,"


def no_text(_: list[Any]) -> bytes:
    return b"\xff\xfe"


SPOILT = (newer, newer_event, longer_event, garbage, no_text)


async def spoil(ledger: AnyLedger, entry: Entry, how: Any = newer) -> None:
    """Make of the stored order what ``how`` makes of its document."""
    document = how(orjson.loads(codec.document(entry)))
    if isinstance(ledger, ValkeyLedger):
        columns, _ = orjson.loads(valkey_codec._document(entry))
        raw = document
        if document.startswith(b"[") and how is not garbage:
            raw = orjson.dumps([columns, document.decode()])
        place = ledger._layout.place_of(entry)
        await ledger._calls.read(place.bucket, "HSET", place.order, "d", raw)
        return
    assert isinstance(ledger, SqliteLedger)
    statement = "UPDATE orders SET doc = CAST(? AS TEXT) WHERE id = ?"
    await ledger._write(lambda rows: rows._write(statement, (document, entry.id)))


async def mend(ledger: AnyLedger, entry: Entry) -> None:
    await spoil(ledger, entry, orjson.dumps)


async def raw(ledger: AnyLedger, entry: Entry) -> Any:
    """All that is stored of it, byte for byte."""
    if isinstance(ledger, ValkeyLedger):
        place = ledger._layout.place_of(entry)
        flat = await ledger._calls.read(place.bucket, "HGETALL", place.order)
        return sorted(zip(flat[::2], flat[1::2], strict=True))
    assert isinstance(ledger, SqliteLedger)
    query = "SELECT seq, status, token, holder, due_at, CAST(doc AS BLOB) FROM orders WHERE id = ?"
    return await ledger._read(lambda rows: rows._db.execute(query, (entry.id,)).fetchall())


# --- nobody acts on it -----------------------------------------------------------------------


@on_each_store
@pytest.mark.parametrize("how", SPOILT, ids=lambda how: how.__name__)
async def test_what_can_not_be_read_is_passed_over_and_stays_as_it_is(
    stores: Stores, how: Any
) -> None:
    ledger = await stores.replica()
    spoilt, _ = await in_doubt(ledger, submission("spoilt"), due_in_s=0)
    good, _ = await in_doubt(ledger, submission("good"), due_in_s=0)
    await spoil(ledger, spoilt, how)
    before = await raw(ledger, spoilt)
    with capture_logs() as logs:
        taken = await ledger.lease_due(10)
        assert await ledger.lease_due(10) == []
    assert [each.entry.id for each in taken] == [good.id]
    assert await raw(ledger, spoilt) == before
    assert list(ledger.unreadable) == [spoilt.id]
    told = [each for each in logs if each.get("order") == spoilt.id]
    assert [(each["log_level"], each["event"]) for each in told] == [
        ("error", "an order can not be read")
    ]
    assert (await ledger.counts()).by_status[Status.IN_DOUBT] == 2
    assert ledger.trouble is None


@on_each_store
async def test_an_orphan_that_can_not_be_read_is_passed_over(stores: Stores) -> None:
    ours, theirs = await stores.replica(), await stores.replica("replica-2")
    spoilt, _ = await in_doubt(theirs, submission("spoilt"))
    good, _ = await in_doubt(theirs, submission("good"))
    await spoil(theirs, spoilt)
    theirs.crash()
    stores.clock.advance(LEASE_S)
    assert [each.entry.id for each in await ours.lease_due(10)] == [good.id]


@on_each_store
async def test_many_that_can_not_be_read_hold_up_no_other(stores: Stores) -> None:
    ledger = await stores.replica()
    for number in range(7):
        entry, _ = await in_doubt(ledger, submission(f"spoilt-{number}"), due_in_s=0)
        await spoil(ledger, entry)
    stores.clock.advance(1)
    good, _ = await in_doubt(ledger, submission("good"), due_in_s=0)
    taken: list[str] = []
    for _ in range(5):
        taken += [each.entry.id for each in await ledger.lease_due(2)]
    assert taken == [good.id]


@on_each_store
async def test_what_can_be_read_again_is_taken_again(stores: Stores) -> None:
    ledger = await stores.replica()
    spoilt, _ = await in_doubt(ledger, due_in_s=0)
    await spoil(ledger, spoilt)
    assert await ledger.lease_due(10) == []
    await mend(ledger, spoilt)
    stores.clock.advance(AGAIN_S)
    await ledger.renew_hold()
    (taken,) = await ledger.lease_due(10)
    assert taken.entry.id == spoilt.id
    stores.clock.advance(FORGOTTEN_S)
    assert ledger.unreadable == {}


# --- its key is taken ------------------------------------------------------------------------


@on_each_store
@pytest.mark.parametrize("how", SPOILT, ids=lambda how: how.__name__)
async def test_a_key_whose_order_can_not_be_read_is_refused_and_never_free(
    stores: Stores, how: Any
) -> None:
    ledger = await stores.replica()
    spoilt, _ = await fresh(ledger)
    await spoil(ledger, spoilt, how)
    before = await raw(ledger, spoilt)
    for ask in (
        ledger.claim(submission()),
        ledger.peek(submission()),
        ledger.find(spoilt.id),
        ledger.find_by_key("scope", "key"),
        ledger.disclaim(submission()),
        ledger.amend(spoilt.id, lambda entry, now: None),
    ):
        with pytest.raises(EntryUnreadable) as caught:
            await ask
        assert caught.value.entry_id == spoilt.id
        assert caught.value.written is False
        assert spoilt.id in str(caught.value)
    assert ledger.trouble is None
    assert await raw(ledger, spoilt) == before
    assert (await ledger.counts()).made == 1
    await fresh(ledger, submission("another"))


@on_each_store
async def test_claims_together_with_one_that_can_not_be_read_are_taken(stores: Stores) -> None:
    ledger = await stores.replica()
    spoilt, _ = await fresh(ledger)
    await spoil(ledger, spoilt)
    results = await asyncio.gather(
        *(ledger.claim(submission(key)) for key in ("a", "key", "b")), return_exceptions=True
    )
    assert isinstance(results[1], EntryUnreadable)
    assert not isinstance(results[0], BaseException)
    assert not isinstance(results[2], BaseException)


@on_each_store
async def test_a_submission_that_attaches_to_what_can_not_be_read_is_refused(
    stores: Stores,
) -> None:
    ledger = await stores.replica()
    spoilt, _ = await fresh(ledger, attached())
    await spoil(ledger, spoilt)
    with pytest.raises(EntryUnreadable):
        await ledger.claim(attached())
    with pytest.raises(EntryUnreadable):
        await ledger.peek(attached())
    assert (await ledger.counts()).made == 1


# --- it is shown -----------------------------------------------------------------------------


@on_each_store
@pytest.mark.parametrize("how", SPOILT, ids=lambda how: how.__name__)
async def test_pages_name_what_can_not_be_read_beside_the_others(stores: Stores, how: Any) -> None:
    ledger = await stores.replica()
    spoilt, _ = await in_doubt(ledger, submission("spoilt"))
    good, _ = await in_doubt(ledger, submission("good"))
    await spoil(ledger, spoilt, how)
    for statuses in ((), (Status.IN_DOUBT,)):
        page = await ledger.page(statuses)
        assert [each.id for each in page.entries] == [good.id]
        (shown,) = page.unreadable
        assert (shown.id, shown.status) == (spoilt.id, "in_doubt")
        assert shown.created_at == pytest.approx(spoilt.created_at, abs=1)
        assert shown.why
    first = await ledger.page(limit=1)
    assert (first.entries, len(first.unreadable)) == ((), 1)
    second = await ledger.page(limit=1, after=first.next)
    assert [each.id for each in second.entries] == [good.id]


@on_each_store
async def test_who_waits_for_others_hears_of_them(stores: Stores) -> None:
    ours, theirs = await stores.replica(), await stores.replica("replica-2")
    spoilt, _ = await in_doubt(theirs, submission("spoilt"))
    entry, lease = await fresh(theirs, submission("good"))
    watches = [ours.watchers.add(each.id) for each in (spoilt, entry)]
    for each in (spoilt, entry):
        ours.watchers.note(each)
    moved = await theirs.amend(spoilt.id, lambda entry, _: raise_token(entry))
    assert moved is not None
    await spoil(theirs, moved)
    await ended(theirs, entry, lease, answered(201))
    async with asyncio.timeout(20):
        while (await watches[1].next()).status is not Status.CONFIRMED:
            pass
    for each, watch in zip((spoilt, entry), watches, strict=True):
        ours.watchers.remove(each.id, watch)


# --- as time goes by -------------------------------------------------------------------------


@on_each_store
async def test_what_can_not_be_read_keeps_no_other_from_being_forgotten(stores: Stores) -> None:
    ledger = await stores.replica()
    spoilt = await settled(ledger, submission("spoilt"))
    stores.clock.advance(1)
    await settled(ledger, submission("good"))
    await spoil(ledger, spoilt)
    stores.clock.advance(PROMISE.retention_s + PROMISE.tombstone_s + 1)
    await ledger.renew_hold()
    for _ in range(6):
        await ledger.retire(1)
    assert await ledger.find_by_key("scope", "good") is None
    assert (await ledger.counts()).conserved


# --- copies of a file ------------------------------------------------------------------------


async def a_file_with_both(path: Path) -> tuple[str, str]:
    """An order that can be read and one that can't; their ids."""
    stores = Stores("sqlite inline", path)
    ledger = await stores.replica()
    spoilt, _ = await in_doubt(ledger, submission("spoilt"))
    good = await settled(ledger, submission("good"))
    await spoil(ledger, spoilt)
    await stores.close()
    return spoilt.id, good.id


async def test_a_copy_to_another_ledger_names_what_it_can_not_read(tmp_path: Path) -> None:
    spoilt, _ = await a_file_with_both(tmp_path / "ledger.db")
    stores = Stores("sqlite inline", tmp_path / "ledger.db")
    source = SqliteSource(tmp_path / "ledger.db", host=HOST, clock=stores.clock)
    target = SqliteTarget(tmp_path / "other.db", host=HOST, clock=stores.clock)
    with pytest.raises(LedgerRefused, match=rf"{spoilt}.*adopt = true"):
        await move(source, target, lambda *_: None)
    await source.close()
    await target.close()


async def test_a_backup_has_also_what_can_not_be_read(tmp_path: Path) -> None:
    spoilt, good = await a_file_with_both(tmp_path / "ledger.db")
    made = back_up(tmp_path / "ledger.db", tmp_path / "backup.db", at="now")
    assert made.orders == 2
    db = apsw.Connection(str(tmp_path / "backup.db"))
    assert db.execute("SELECT id FROM orders ORDER BY seq").fetchall() == [(spoilt,), (good,)]
    db.close()
