"""The contract of holds, leases and guarded writes, on every store."""

import asyncio
from dataclasses import replace

import pytest

from gateway.ledger import LEASE_MARGIN, LeaseLost, Ledger, LedgerUnavailable
from gateway.orders import life
from gateway.orders.entry import AttemptResult
from gateway.orders.states import Reason, Status

from .making import (
    LEASE_S,
    NOT_SENT,
    Stores,
    answered,
    dead_letter,
    ended,
    failed,
    fresh,
    in_doubt,
    settled,
    submission,
)

SOON_S = 10.0


# --- guarded writes --------------------------------------------------------------------------


async def test_a_write_replaces_the_entry(ledger: Ledger) -> None:
    entry, lease = await fresh(ledger)
    after = await ended(ledger, entry, lease, answered(201))
    assert await ledger.find(entry.id) == after
    assert after.request is None


async def test_a_write_under_an_old_status_is_lease_lost(ledger: Ledger) -> None:
    entry, lease = await fresh(ledger)
    after = await ended(ledger, entry, lease, answered(201))
    with pytest.raises(LeaseLost):
        await ended(ledger, entry, lease, answered(422))
    assert await ledger.find(entry.id) == after


async def test_a_write_under_an_old_token_is_lease_lost(stores: Stores) -> None:
    first, second = await stores.replica("one"), await stores.replica("two")
    entry, lease = await in_doubt(first, due_in_s=0)
    (taken,) = await second.lease_due(10)
    with pytest.raises(LeaseLost):
        await first.write(lease, entry, life.quiet(entry))
    assert await first.find(entry.id) == taken.entry


async def test_a_forged_token_is_lease_lost(ledger: Ledger) -> None:
    entry, lease = await fresh(ledger)
    forged = replace(entry, token=entry.token + 1)
    with pytest.raises(LeaseLost):
        await ledger.write(replace(lease, token=forged.token), forged, forged)
    with pytest.raises(LeaseLost):
        await ledger.write(lease, forged, forged)
    with pytest.raises(LeaseLost):
        await ledger.write(replace(lease, token=0), entry, entry)


async def test_a_lease_writes_no_other_order(ledger: Ledger) -> None:
    entry, _ = await fresh(ledger)
    _, lease = await fresh(ledger, submission("other"))
    with pytest.raises(ValueError, match="no other order"):
        await ledger.write(lease, entry, entry)


async def test_a_write_to_an_order_that_is_gone_is_lease_lost(stores: Stores) -> None:
    ledger = await stores.replica()
    entry, lease = await fresh(ledger)
    after = await ended(ledger, entry, lease, answered(201))
    stores.clock.advance(1e9)
    await ledger.retire(10)
    with pytest.raises(LeaseLost):
        await ledger.write(lease, after, after)


# --- holds -----------------------------------------------------------------------------------


async def test_a_hold_is_trusted_less_than_it_lasts(stores: Stores) -> None:
    ledger = await stores.replica()
    trusted_s = LEASE_S * (1 - LEASE_MARGIN)
    assert ledger.hold.trusted_until == stores.clock.monotonic() + trusted_s
    assert ledger.hold.valid(stores.clock.monotonic())
    assert not ledger.hold.valid(stores.clock.monotonic() + trusted_s)


async def test_renewing_keeps_the_hold_and_its_entries(stores: Stores) -> None:
    first, second = await stores.replica("one"), await stores.replica("two")
    entry, lease = await fresh(first)
    hold = first.hold
    for _ in range(5):
        stores.clock.advance(LEASE_S / 3)
        await first.renew_hold()
        await second.renew_hold()
        assert await second.lease_due(10) == []
    assert first.hold is hold
    assert stores.clock.monotonic() < hold.trusted_until
    await ended(first, entry, lease, answered(201))


async def test_a_lapsed_hold_is_never_valid_again(stores: Stores) -> None:
    ledger = await stores.replica()
    hold = ledger.hold
    stores.clock.advance(LEASE_S * (1 - LEASE_MARGIN))
    await ledger.renew_hold()
    assert ledger.hold is not hold
    assert ledger.hold.holder != hold.holder
    assert not hold.valid(0.0)
    assert ledger.hold.valid(stores.clock.monotonic())


async def test_a_claim_under_a_lapsed_hold_takes_a_new_one(stores: Stores) -> None:
    ledger = await stores.replica()
    old = ledger.hold
    stores.clock.advance(LEASE_S * 2)
    _, lease = await fresh(ledger)
    assert lease.hold is ledger.hold
    assert lease.hold is not old
    assert await ledger.lease_due(10) == []


async def test_the_entries_of_a_lapsed_hold_are_lost_even_to_its_own_process(
    stores: Stores,
) -> None:
    ledger = await stores.replica()
    entry, lease = await fresh(ledger)
    stores.clock.advance(LEASE_S)
    await ledger.renew_hold()
    (taken,) = await ledger.lease_due(10)
    assert taken.entry.status is Status.IN_DOUBT
    with pytest.raises(LeaseLost):
        await ended(ledger, entry, lease, answered(201))


async def test_a_hold_that_the_store_calls_lapsed_takes_nothing(stores: Stores) -> None:
    ledger = await stores.replica()
    pending, _ = await in_doubt(ledger, due_in_s=0)
    await fresh(ledger, submission("held"))
    hold = ledger.hold
    await stores.end_hold(ledger)
    for call in (ledger.claim(submission("new")), ledger.lease_due(10)):
        with pytest.raises(LedgerUnavailable) as caught:
            await call
        assert caught.value.written is False
    assert (await ledger.counts()).made == 2
    assert await ledger.find(pending.id) == pending
    await ledger.renew_hold()
    assert ledger.hold is not hold
    assert not hold.valid(0.0)
    assert [leased.entry.key for leased in await ledger.lease_due(10)] == ["held", "key"]


async def test_a_lapsed_hold_is_not_renewed_in_the_store_either(stores: Stores) -> None:
    ledger = await stores.replica()
    entry, _ = await fresh(ledger)
    stores.clock.advance(LEASE_S * (1 - LEASE_MARGIN))
    await ledger.renew_hold()
    stores.clock.advance(LEASE_S * LEASE_MARGIN)
    (taken,) = await ledger.lease_due(10)
    assert taken.entry.id == entry.id


# --- taking over -----------------------------------------------------------------------------


async def test_a_dispatched_order_of_a_dead_worker_is_in_doubt_never_received(
    stores: Stores,
) -> None:
    dead, heir = await stores.replica("dead"), await stores.replica("heir")
    entry, lease = await fresh(dead)
    stores.clock.advance(LEASE_S)
    await heir.renew_hold()
    (taken,) = await heir.lease_due(10)
    assert taken.entry.status is Status.IN_DOUBT
    assert taken.entry.attempts[0].result is AttemptResult.LOST
    assert taken.entry.events[-1].reason is Reason.LEASE_EXPIRED
    assert taken.entry.events[-1].who == "heir"
    assert taken.entry.token > entry.token
    assert taken.lease.token == taken.entry.token
    assert taken.lease.hold is heir.hold
    assert taken.entry.request == entry.request
    assert await heir.find(entry.id) == taken.entry
    with pytest.raises(LeaseLost):
        await ended(dead, entry, lease, answered(201))


async def test_a_received_order_of_a_dead_worker_stays_received(stores: Stores) -> None:
    dead, heir = await stores.replica("dead"), await stores.replica("heir")
    entry, _ = await fresh(dead, submission(dispatch=False))
    stores.clock.advance(LEASE_S)
    await heir.renew_hold()
    (taken,) = await heir.lease_due(10)
    assert taken.entry == replace(entry, token=entry.token + 1)


async def test_nothing_is_taken_from_a_hold_that_lives(stores: Stores) -> None:
    first, second = await stores.replica("one"), await stores.replica("two")
    await fresh(first)
    stores.clock.advance(LEASE_S / 2)
    await second.renew_hold()
    assert await second.lease_due(10) == []


async def test_closing_gives_everything_back_at_once(stores: Stores) -> None:
    first, second = await stores.replica("one"), await stores.replica("two")
    entry, _ = await fresh(first)
    hold = first.hold
    await first.close()
    assert not hold.valid(stores.clock.monotonic())
    (taken,) = await second.lease_due(10)
    assert taken.entry.id == entry.id


async def test_a_crash_gives_nothing_back_before_the_hold_has_lapsed(stores: Stores) -> None:
    first, second = await stores.replica("one"), await stores.replica("two")
    entry, _ = await fresh(first)
    first.crash()
    assert await second.lease_due(10) == []
    stores.clock.advance(LEASE_S)
    (taken,) = await second.lease_due(10)
    assert taken.entry.id == entry.id


async def test_a_closed_ledger_is_unavailable_and_says_so(stores: Stores) -> None:
    ledger = await stores.replica()
    open_trouble = ledger.trouble
    await ledger.close()
    assert (open_trouble, ledger.trouble) == (None, "the ledger is not open")
    for call in (ledger.claim(submission()), ledger.find("x"), ledger.renew_hold()):
        with pytest.raises(LedgerUnavailable) as caught:
            await call
        assert caught.value.written is False


# --- due work --------------------------------------------------------------------------------


async def test_released_work_is_due_after_its_time(stores: Stores) -> None:
    ledger = await stores.replica()
    entry, lease = await in_doubt(ledger)
    await ledger.release(lease, due_in_s=3)
    assert await ledger.find(entry.id) == entry
    stores.clock.advance(2.9)
    assert await ledger.lease_due(10) == []
    stores.clock.advance(0.2)
    (taken,) = await ledger.lease_due(10)
    assert taken.entry.id == entry.id
    assert await ledger.lease_due(10) == []


async def test_a_write_can_give_the_entry_back(stores: Stores) -> None:
    ledger = await stores.replica()
    entry, lease = await fresh(ledger)
    await ended(ledger, entry, lease, NOT_SENT, due_in_s=3)
    assert await ledger.lease_due(10) == []
    stores.clock.advance(3)
    (taken,) = await ledger.lease_due(10)
    assert taken.entry.status is Status.RECEIVED


async def test_a_lost_lease_releases_nothing(stores: Stores) -> None:
    first, second = await stores.replica("one"), await stores.replica("two")
    entry, lease = await in_doubt(first, due_in_s=0)
    (taken,) = await second.lease_due(10)
    await first.release(lease, due_in_s=0)
    assert await first.lease_due(10) == []
    assert await first.find(entry.id) == taken.entry


async def test_an_order_that_is_over_is_never_due(stores: Stores) -> None:
    ledger = await stores.replica()
    entry, lease = await fresh(ledger, submission("a"))
    await ended(ledger, entry, lease, answered(201), due_in_s=0)
    await settled(ledger, submission("b"), 422)
    await failed(ledger, submission("c"))
    await dead_letter(ledger, submission("d"))
    stores.clock.advance(LEASE_S * 3)
    assert await ledger.lease_due(10) == []


async def test_due_work_comes_in_order_and_in_portions(stores: Stores) -> None:
    dead, ledger = await stores.replica("dead"), await stores.replica("heir")
    for key in ("o1", "o2"):
        await fresh(dead, submission(key))
    for key, due_in_s in (("d3", 3.0), ("d1", 1.0), ("d2", 2.0), ("later", 99.0)):
        await in_doubt(ledger, submission(key), due_in_s=due_in_s)
    stores.clock.advance(LEASE_S)
    assert await ledger.lease_due(0) == []
    first = await ledger.lease_due(3)
    second = await ledger.lease_due(3)
    assert [leased.entry.key for leased in first] == ["o1", "o2", "d1"]
    assert [leased.entry.key for leased in second] == ["d2", "d3"]


async def test_two_replicas_never_take_the_same_work(stores: Stores) -> None:
    first, second = await stores.replica("one"), await stores.replica("two")
    for number in range(20):
        await in_doubt(first, submission(f"key-{number}"), due_in_s=0)
    taken = await asyncio.gather(*(each.lease_due(5) for each in [first, second] * 3))
    ids = [leased.entry.id for portion in taken for leased in portion]
    assert len(ids) == len(set(ids)) == 20
