"""What an operator asked for reaches whoever takes the order next, on every store."""

import asyncio
from dataclasses import replace

import pytest

from gateway.ledger import LeaseLost, Ledger, Watchers
from gateway.orders import life
from gateway.orders.entry import Entry
from gateway.orders.operating import ActionRefused, ask_lookup, ask_resend
from gateway.orders.promise import Capability, LookupPlan
from gateway.orders.states import Reason, Status

from .making import PROMISE, WHO, Stores, dead_letter, fresh, in_doubt, submission

ABLE = replace(
    PROMISE,
    capabilities=frozenset(Capability),
    lookup=LookupPlan("GET", "/orders/{key}"),
    dedup_for_s=3600.0,
)


def lookup(entry: Entry, now: float) -> Entry:
    return ask_lookup(entry, "a call", now, "operator:eva", "n-1")


def resend(entry: Entry, now: float) -> Entry:
    return ask_resend(entry, None, now, "operator:eva", "n-1")


async def test_a_dead_letter_is_taken_for_a_lookup_and_then_left_again(ledger: Ledger) -> None:
    entry = await dead_letter(ledger, submission(promise=ABLE))
    assert await ledger.lease_due(10) == []
    asked = await ledger.amend(entry.id, lookup)
    assert asked is not None
    assert asked.events[-1].nonce == "n-1"
    (leased,) = await ledger.lease_due(10)
    assert leased.entry.id == entry.id
    assert leased.entry.token > asked.token
    assert leased.entry.asked is Reason.OPERATOR_LOOKUP
    quiet = life.quiet(leased.entry)
    await ledger.write(leased.lease, leased.entry, quiet)
    after = life.no_evidence(quiet, "status 500", ledger.now(), WHO)
    await ledger.write(leased.lease, quiet, after)
    assert await ledger.find(entry.id) == after
    assert await ledger.lease_due(10) == []


async def test_a_lookup_that_was_asked_for_outlives_its_worker(stores: Stores) -> None:
    first, second = await stores.replica("one"), await stores.replica("two")
    entry = await dead_letter(first, submission(promise=ABLE))
    await first.amend(entry.id, lookup)
    assert len(await first.lease_due(10)) == 1
    assert await second.lease_due(10) == []
    await stores.end_hold(first)
    (leased,) = await second.lease_due(10)
    assert leased.entry.asked is Reason.OPERATOR_LOOKUP
    assert leased.entry.status is Status.DEAD_LETTER


async def test_an_ask_takes_the_order_from_the_worker_that_holds_it(ledger: Ledger) -> None:
    entry, lease = await in_doubt(ledger, submission(promise=ABLE))
    await ledger.amend(entry.id, resend)
    with pytest.raises(LeaseLost):
        await ledger.write(lease, entry, life.quiet(entry))
    (leased,) = await ledger.lease_due(10)
    assert leased.entry.asked is Reason.OPERATOR_RESEND


async def test_a_refused_ask_changes_nothing(ledger: Ledger) -> None:
    entry, lease = await fresh(ledger, submission(promise=ABLE))
    with pytest.raises(ActionRefused):
        await ledger.amend(entry.id, lookup)
    assert await ledger.find(entry.id) == entry
    lost = life.take_over(entry, ledger.now(), WHO)
    await ledger.write(lease, entry, replace(lost, token=entry.token))


async def test_a_dead_letter_sent_again_counts_as_pending_again(ledger: Ledger) -> None:
    entry = await dead_letter(ledger, submission(promise=ABLE))
    await ledger.amend(entry.id, resend)
    counts = await ledger.counts()
    assert counts.conserved
    assert counts.by_status[Status.IN_DOUBT] == 1
    assert counts.by_status[Status.DEAD_LETTER] == 0


# --- watching -------------------------------------------------------------------------------


async def entry_and_next(ledger: Ledger) -> tuple[Entry, Entry]:
    entry, _ = await fresh(ledger)
    return entry, life.take_over(entry, ledger.now(), WHO)


async def test_an_older_reading_hides_no_newer_one(ledger: Ledger) -> None:
    older, newer = await entry_and_next(ledger)
    watchers = Watchers()
    watch = watchers.add(older.id)
    watchers.publish(newer)
    watchers.publish(older)
    watchers.note(older)
    assert watch.latest == newer
    assert watchers.known(older.id) == (newer.token, newer.status.value, newer.updated_at)
    watchers.remove(older.id, watch)
    assert watchers.known(older.id) is None
    assert watchers.watched == ()


@pytest.mark.parametrize("first", ["older", "newer"])
async def test_the_oldest_that_a_watcher_has_read_is_what_is_known(
    ledger: Ledger, first: str
) -> None:
    """Else a change that only one watcher saw would never be told to the other."""
    older, newer = await entry_and_next(ledger)
    watchers = Watchers()
    watchers.note(older)
    assert watchers.known(older.id) is None
    for _ in range(2):
        watchers.add(older.id)
    for entry in (older, newer) if first == "older" else (newer, older):
        watchers.note(entry)
    assert watchers.known(older.id) == (older.token, older.status.value, older.updated_at)


async def test_another_process_wakes_a_watcher_that_has_noted_what_it_read(
    stores: Stores,
) -> None:
    ours, theirs = await stores.replica("one"), await stores.replica("two")
    entry = await dead_letter(theirs, submission(promise=ABLE))
    watch = ours.watchers.add(entry.id)
    found = await ours.find(entry.id)
    assert found is not None
    ours.watchers.note(found)
    await dead_letter(theirs, submission("another"))
    await theirs.amend(entry.id, lookup)
    async with asyncio.timeout(5):
        latest = await watch.next()
    assert latest.asked is Reason.OPERATOR_LOOKUP
