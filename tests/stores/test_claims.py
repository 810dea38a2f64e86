"""The contract of claiming a key, on every store."""

import asyncio
from dataclasses import replace

import pytest

from gateway.ledger import LeaseLost, Ledger
from gateway.orders import life
from gateway.orders.attempts import NotSent, NotSentReason
from gateway.orders.claiming import Fresh, InFlight, Mismatch, Replay, Unreadable
from gateway.orders.entry import AttemptResult
from gateway.orders.states import Reason, Status
from gateway.stores.valkey import ValkeyLedger

from .making import (
    LEASE_S,
    LOST,
    PROMISE,
    Stores,
    answered,
    attached,
    dead_letter,
    ended,
    failed,
    fresh,
    held,
    in_doubt,
    late,
    settled,
    submission,
)


async def test_a_free_key_is_claimed_and_dispatched_in_one_write(ledger: Ledger) -> None:
    request = submission()
    entry, lease = await fresh(ledger, request)
    assert entry == life.claim(request, entry.created_at)
    assert entry.status is Status.DISPATCHED
    assert lease.hold is ledger.hold
    assert await ledger.find(entry.id) == entry
    assert await ledger.find_by_key("scope", "key") == entry


async def test_without_a_connection_a_claim_is_received(ledger: Ledger) -> None:
    entry, _ = await fresh(ledger, submission(dispatch=False))
    assert entry.status is Status.RECEIVED
    assert entry.attempts == ()


async def test_a_repeat_while_pending_is_in_flight(ledger: Ledger) -> None:
    entry, _ = await fresh(ledger)
    claim = await ledger.claim(submission())
    assert claim.claimed == InFlight(entry)
    assert claim.lease is None


async def test_a_dead_letter_is_in_flight_too(ledger: Ledger) -> None:
    entry = await dead_letter(ledger)
    assert (await ledger.claim(submission())).claimed == InFlight(entry)


@pytest.mark.parametrize("status", [201, 422])
async def test_a_repeat_of_a_final_order_is_a_replay_with_its_answer(
    ledger: Ledger, status: int
) -> None:
    entry = await settled(ledger, status=status)
    claimed = (await ledger.claim(submission())).claimed
    assert claimed == Replay(entry)
    assert claimed.entry.answer is not None
    assert claimed.entry.answer.body == b'{"id": 42}'


async def test_another_submission_under_the_key_is_a_mismatch(ledger: Ledger) -> None:
    entry, _ = await fresh(ledger)
    other = submission(fingerprint="r1:bb", canonical="c1:bb")
    assert (await ledger.claim(other)).claimed == Mismatch(entry)


async def test_an_unknown_fingerprint_tag_is_never_fresh(ledger: Ledger) -> None:
    entry = await failed(ledger, submission(fingerprint="r9:aa", canonical=None))
    assert (await ledger.claim(submission())).claimed == Unreadable(entry)


async def test_a_failed_key_is_claimed_again_and_its_numbers_go_on(ledger: Ledger) -> None:
    first = await failed(ledger)
    request = submission()
    entry, lease = await fresh(ledger, request)
    assert entry.id == first.id
    assert entry.upstream_key == first.upstream_key
    assert entry.token > first.token
    assert [attempt.number for attempt in entry.attempts] == [1, 2]
    assert entry.answer is None
    assert entry.request == request.request
    assert await ledger.find(entry.id) == entry
    after = await ended(ledger, entry, lease, answered(201))
    assert await ledger.find(entry.id) == after


async def test_a_key_that_is_claimed_again_is_promised_what_its_route_promises_then(
    ledger: Ledger,
) -> None:
    """The upstream may do less than it did, or be another one."""
    first = await failed(ledger)
    less = replace(PROMISE, upstream="other", capabilities=frozenset(), lookup=None)
    for promise in (less, PROMISE):
        entry, lease = await fresh(ledger, submission(promise=promise))
        assert (entry.id, entry.promise) == (first.id, promise)
        assert await ledger.find(entry.id) == entry
        refused = await ended(ledger, entry, lease, answered(401))
        assert refused.status is Status.FAILED
        assert await ledger.find(entry.id) == refused


async def test_one_claim_id_is_one_claim(ledger: Ledger) -> None:
    request = submission()
    entry, lease = await fresh(ledger, request)
    again, same = await fresh(ledger, request)
    assert again == entry
    assert same == lease
    assert (await ledger.counts()).made == 1


async def test_the_echo_of_a_claim_that_was_taken_over_gets_no_lease(stores: Stores) -> None:
    first, second = await stores.replica("one"), await stores.replica("two")
    request = submission(dispatch=False)
    await fresh(first, request)
    stores.clock.advance(LEASE_S)
    await second.renew_hold()
    (taken,) = await second.lease_due(10)
    claim = await first.claim(request)
    assert claim.claimed == InFlight(taken.entry)
    assert claim.lease is None


async def test_the_echo_of_a_claim_that_was_disclaimed_is_not_fresh(ledger: Ledger) -> None:
    request = submission()
    entry, _ = await fresh(ledger, request)
    assert await ledger.disclaim(request)
    claim = await ledger.claim(request)
    assert isinstance(claim.claimed, Replay)
    assert claim.claimed.entry.id == entry.id
    assert claim.claimed.entry.status is Status.FAILED


async def test_scopes_are_independent(ledger: Ledger) -> None:
    ours, _ = await fresh(ledger, submission(scope="a"))
    theirs, _ = await fresh(ledger, submission(scope="b", fingerprint="r1:bb"))
    assert ours.id != theirs.id
    assert await ledger.find_by_key("a", "key") == ours
    assert await ledger.find_by_key("b", "key") == theirs
    assert await ledger.find_by_key("c", "key") is None


async def test_two_hundred_simultaneous_claims_make_one_fresh(stores: Stores) -> None:
    replicas = [await stores.replica(f"replica-{number}") for number in range(2)]
    claims = await asyncio.gather(
        *(replicas[number % 2].claim(submission()) for number in range(200))
    )
    kinds = [type(claim.claimed) for claim in claims]
    assert kinds.count(Fresh) == 1
    assert kinds.count(InFlight) == 199
    assert len({claim.claimed.entry.id for claim in claims}) == 1
    assert sum(claim.lease is not None for claim in claims) == 1


# --- peek ------------------------------------------------------------------------------------


async def test_peek_says_what_claim_would_say_and_takes_nothing(ledger: Ledger) -> None:
    assert await ledger.peek(submission()) is None
    entry, lease = await fresh(ledger)
    assert await ledger.peek(submission()) == InFlight(entry)
    other = submission(fingerprint="r1:bb", canonical=None)
    assert await ledger.peek(other) == Mismatch(entry)
    after = await ended(ledger, entry, lease, answered(201))
    assert await ledger.peek(submission()) == Replay(after)
    assert (await ledger.counts()).made == 1


async def test_peek_of_a_failed_key_is_none(ledger: Ledger) -> None:
    await failed(ledger)
    assert await ledger.peek(submission()) is None


# --- attached keys ---------------------------------------------------------------------------


async def test_a_submission_without_a_key_attaches_to_its_pending_twin(ledger: Ledger) -> None:
    entry, _ = await fresh(ledger, attached())
    assert (await ledger.claim(attached())).claimed == InFlight(entry)
    assert await ledger.peek(attached()) == InFlight(entry)


async def test_attaching_needs_the_same_scope_and_fingerprint(ledger: Ledger) -> None:
    await fresh(ledger, attached())
    await fresh(ledger, attached(fingerprint="r1:bb"))
    await fresh(ledger, attached(scope="other"))
    await fresh(ledger, submission("given", fingerprint="r1:cc"))
    await fresh(ledger, attached(fingerprint="r1:cc"))
    assert (await ledger.counts()).made == 5


async def test_a_confirmed_order_attaches_for_its_window(stores: Stores) -> None:
    ledger = await stores.replica()
    entry = await settled(ledger, attached())
    stores.clock.advance(PROMISE.attach_window_s - 1)
    await ledger.renew_hold()
    assert (await ledger.claim(attached())).claimed == Replay(entry)
    stores.clock.advance(1)
    second, _ = await fresh(ledger, attached())
    assert second.id != entry.id
    assert (await ledger.claim(attached())).claimed == InFlight(second)


@pytest.mark.parametrize("status", [422, 403])
async def test_a_refused_order_releases_its_attached_twin_at_once(
    ledger: Ledger, status: int
) -> None:
    entry = await settled(ledger, attached(), status)
    second, _ = await fresh(ledger, attached())
    assert second.id != entry.id


@pytest.mark.parametrize("status", [422, 403])
async def test_the_newest_twin_is_the_one_claimed_last_whatever_clocks_say(
    stores: Stores, status: int
) -> None:
    """Each gateway dates what it claims by its own idea of a remote ledger's time."""
    first, second = await stores.replica("one"), await stores.replica("two")
    await settled(first, attached(), status)
    if isinstance(second, ValkeyLedger):
        usual = second._acts._now
        second._acts._now = lambda: usual() - 0.5
    else:
        stores.clock.jump(-0.5)
    made = await settled(second, attached())
    assert (await first.claim(attached())).claimed == Replay(made)


async def test_two_simultaneous_attached_claims_make_one_entry(stores: Stores) -> None:
    first, second = await stores.replica("one"), await stores.replica("two")
    claims = await asyncio.gather(
        *(ledger.claim(attached()) for ledger in [first, second] for _ in range(10))
    )
    assert len({claim.claimed.entry.id for claim in claims}) == 1
    assert (await first.counts()).made == 1


async def test_an_attached_key_can_be_given_later(ledger: Ledger) -> None:
    entry = await settled(ledger, attached())
    assert (await ledger.claim(submission(entry.key))).claimed == Replay(entry)


@pytest.mark.parametrize("confirm", [False, True])
async def test_a_failed_attached_key_leads_to_the_same_order_that_was_made_since(
    stores: Stores, confirm: bool
) -> None:
    """A customer's two pages: one was told a key and repeats with it, the other has none."""
    ledger = await stores.replica()
    first = await settled(ledger, attached(), 401)
    second, lease = await fresh(ledger, attached())
    if confirm:
        second = await ended(ledger, second, lease, answered(201))
    expected = Replay(second) if confirm else InFlight(second)
    assert await ledger.peek(submission(first.key)) == expected
    assert (await ledger.claim(submission(first.key))).claimed == expected
    assert await ledger.find(first.id) == first
    other = submission(first.key, fingerprint="r1:bb", canonical="c1:bb")
    assert (await ledger.claim(other)).claimed == Mismatch(first)
    if confirm:
        stores.clock.advance(PROMISE.attach_window_s)
        await ledger.renew_hold()
        assert (await fresh(ledger, submission(first.key)))[0].id == first.id


async def test_a_failed_attached_key_is_claimed_again_where_the_later_order_failed_too(
    stores: Stores,
) -> None:
    ledger = await stores.replica()
    first = await settled(ledger, attached(), 401)
    second = await settled(ledger, attached(), 401)
    stores.clock.advance(1)
    again, _ = await fresh(ledger, submission(first.key))
    assert again.id == first.id
    assert (await ledger.claim(submission(second.key))).claimed == InFlight(again)
    assert (await ledger.claim(attached())).claimed == InFlight(again)


async def test_a_failed_attached_key_and_the_same_order_without_one_make_one_at_once(
    stores: Stores,
) -> None:
    one, two = await stores.replica("one"), await stores.replica("two")
    first = await settled(one, attached(), 401)
    stores.clock.advance(1)
    claims = await asyncio.gather(
        *(
            ledger.claim(request)
            for ledger in [one, two] * 5
            for request in (submission(first.key), attached())
        )
    )
    assert len({claim.claimed.entry.id for claim in claims}) == 1
    assert sum(claim.lease is not None for claim in claims) == 1


async def test_one_attached_claim_id_is_one_claim(ledger: Ledger) -> None:
    request = attached()
    entry, lease = await fresh(ledger, request)
    assert await fresh(ledger, request) == (entry, lease)


# --- disclaim --------------------------------------------------------------------------------


async def test_an_unacknowledged_claim_ends_in_failed(ledger: Ledger) -> None:
    request = submission()
    entry, lease = await fresh(ledger, request)
    assert await ledger.disclaim(request)
    now = await ledger.find(entry.id)
    assert now is not None
    assert now.status is Status.FAILED
    assert now.events[-1].reason is Reason.CLAIM_UNACKNOWLEDGED
    assert now.attempts[-1].result is AttemptResult.NOT_SENT
    assert now.request is None
    with pytest.raises(LeaseLost):
        await ended(ledger, entry, lease, answered(201))
    again, _ = await fresh(ledger, submission())
    assert again.id == entry.id


async def test_disclaiming_what_was_never_claimed_changes_nothing(ledger: Ledger) -> None:
    entry, _ = await fresh(ledger)
    assert await ledger.disclaim(submission())
    assert await ledger.disclaim(submission("other"))
    assert await ledger.find(entry.id) == entry


async def test_disclaiming_settles_a_second_claim_of_the_key_too(ledger: Ledger) -> None:
    await failed(ledger)
    request = submission()
    entry, _ = await fresh(ledger, request)
    assert await ledger.disclaim(request)
    now = await ledger.find(entry.id)
    assert now is not None
    assert now.status is Status.FAILED
    assert len(now.attempts) == 2


async def test_a_disclaimed_order_without_a_connection_is_given_back(ledger: Ledger) -> None:
    request = submission(dispatch=False)
    entry, lease = await fresh(ledger, request)
    assert await ledger.disclaim(request)
    (taken,) = await ledger.lease_due(10)
    assert taken.entry.id == entry.id
    with pytest.raises(LeaseLost):
        await ledger.write(lease, entry, life.dispatch(entry, ledger.now(), "me"))
    dispatched = life.dispatch(taken.entry, ledger.now(), "me")
    await ledger.write(taken.lease, taken.entry, dispatched)
    assert await ledger.disclaim(request)
    assert await ledger.find(entry.id) == dispatched


async def test_a_claim_in_doubt_is_not_disclaimed(ledger: Ledger) -> None:
    request = submission()
    entry, _ = await in_doubt(ledger, request)
    assert await ledger.disclaim(request)
    assert await ledger.find(entry.id) == entry


async def test_an_attempt_that_began_after_the_claim_is_not_disclaimed(ledger: Ledger) -> None:
    request = submission()
    entry, lease = await fresh(ledger, request)
    refused = NotSent(NotSentReason.CONNECT_REFUSED)
    received = await ended(ledger, entry, lease, refused)
    second = life.dispatch(received, ledger.now(), "me")
    await ledger.write(lease, received, second)
    assert await ledger.disclaim(request)
    assert await ledger.find(entry.id) == second


async def test_a_disputed_failure_is_replayed_and_not_claimed_again(ledger: Ledger) -> None:
    entry, lease = await fresh(ledger)
    lost = await ended(ledger, entry, lease, LOST)
    absent = life.absent(life.quiet(lost), ledger.now(), "me")
    over = life.fail(absent, Reason.ABSENCE_PROVED, ledger.now(), "me")
    await ledger.write(lease, lost, over)
    disputed = await ledger.amend(entry.id, late(1, 201))
    assert disputed is not None
    assert disputed.disputed
    assert isinstance((await ledger.claim(submission())).claimed, Replay)
    assert (await ledger.counts()).disputed == 1


async def test_a_claim_is_the_same_whatever_the_store(stores: Stores) -> None:
    ledger = await stores.replica()
    request = replace(submission(), claim_id="c", order_id="o")
    entry, lease = held(await ledger.claim(request))
    assert (lease.entry_id, lease.token, entry.created_at) == ("o", 1, ledger.now())
