"""The contract of amendments and of ledger time, on every store."""

import pytest

from gateway.ledger import LeaseLost, Ledger
from gateway.orders import life
from gateway.orders.entry import Entry
from gateway.orders.states import Status

from .making import (
    LOST,
    Stores,
    answered,
    dead_letter,
    ended,
    fresh,
    in_doubt,
    late,
    settled,
    submission,
)

# --- amendments ------------------------------------------------------------------------------


async def test_a_late_answer_confirms_without_a_lease(ledger: Ledger) -> None:
    entry, lease = await in_doubt(ledger)
    after = await ledger.amend(entry.id, late(1, 201))
    assert after is not None
    assert after.status is Status.CONFIRMED
    assert after.token > entry.token
    assert await ledger.find(entry.id) == after
    with pytest.raises(LeaseLost):
        await ledger.write(lease, entry, life.quiet(entry))


async def test_a_late_answer_reaches_a_dead_letter(ledger: Ledger) -> None:
    entry = await dead_letter(ledger)
    after = await ledger.amend(entry.id, late(1, 201))
    assert after is not None
    assert after.status is Status.CONFIRMED


async def test_a_late_success_disputes_a_settled_order_and_changes_no_answer(
    ledger: Ledger,
) -> None:
    entry, lease = await fresh(ledger)
    lost = await ended(ledger, entry, lease, LOST)

    def resolve(before: Entry, now: float) -> Entry:
        return life.resolve(before, Status.REJECTED, "by phone", now, "ann")

    rejected = await ledger.amend(lost.id, resolve)
    assert rejected is not None
    disputed = await ledger.amend(entry.id, late(1, 201))
    assert disputed is not None
    assert disputed.disputed
    assert disputed.status is Status.REJECTED
    assert disputed.answer == rejected.answer
    assert await ledger.find(entry.id) == disputed


async def test_an_amendment_that_leaves_doubt_makes_the_order_due(stores: Stores) -> None:
    first, second = await stores.replica("one"), await stores.replica("two")
    entry, lease = await in_doubt(first)
    after = await first.amend(entry.id, late(1, 500))
    assert after is not None
    assert after.status is Status.IN_DOUBT
    with pytest.raises(LeaseLost):
        await first.write(lease, entry, life.quiet(entry))
    (taken,) = await second.lease_due(10)
    assert taken.entry.id == entry.id


async def test_an_amendment_may_find_nothing_to_do(ledger: Ledger) -> None:
    entry = await settled(ledger)
    assert await ledger.amend("nobody", late(1, 201)) is None
    assert await ledger.amend(entry.id, late(1, 201)) is None
    assert await ledger.find(entry.id) == entry


async def test_an_exception_of_an_amendment_reaches_the_caller_and_writes_nothing(
    ledger: Ledger,
) -> None:
    entry, _ = await in_doubt(ledger)

    def change(before: Entry, now: float) -> Entry:
        raise LookupError("not me")

    with pytest.raises(LookupError, match="not me"):
        await ledger.amend(entry.id, change)
    assert await ledger.find(entry.id) == entry


async def test_an_amendment_must_raise_the_token(ledger: Ledger) -> None:
    entry, _ = await in_doubt(ledger)
    with pytest.raises(ValueError, match="token"):
        await ledger.amend(entry.id, lambda before, now: life.quiet(before))
    assert await ledger.find(entry.id) == entry


# --- time ------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
async def test_a_jump_of_the_wall_clock_changes_nothing(stores: Stores, jump_s: float) -> None:
    ledger, other = await stores.replica(), await stores.replica("other")
    entry, lease = await fresh(ledger)
    doubt, _ = await in_doubt(ledger, submission("later"), due_in_s=5)
    now = ledger.now()
    stores.clock.jump(jump_s)
    assert ledger.now() == now
    assert await other.lease_due(10) == []
    await ledger.renew_hold()
    assert ledger.hold is lease.hold
    stores.clock.advance(5)
    assert ledger.now() == now + 5
    (taken,) = await other.lease_due(10)
    assert taken.entry.id == doubt.id
    await ended(ledger, entry, lease, answered(201))
