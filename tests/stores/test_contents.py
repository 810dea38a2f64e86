"""The contract of what is kept, counted, paged, watched and forgotten, on every store."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ledger import Ledger, Watch
from gateway.orders import life
from gateway.orders.attempts import Answer, Answered
from gateway.orders.claiming import Replay
from gateway.orders.entry import Entry, KeptRequest
from gateway.orders.promise import Capability, LookupPlan, OutcomeTable, Promise
from gateway.orders.states import SETTLED, Status

from .making import (
    LEASE_S,
    LOST,
    PROMISE,
    Stores,
    answered,
    bare,
    dead_letter,
    ended,
    failed,
    fresh,
    in_doubt,
    late,
    settled,
    submission,
)

WAIT_S = 5.0

# --- byte for byte ---------------------------------------------------------------------------

HEADERS = st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=80)), max_size=6).map(tuple)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    method=st.binary(max_size=10),
    target=st.binary(max_size=200),
    headers=HEADERS,
    body=st.binary(max_size=3000),
    phrase=st.binary(max_size=30),
    answer_body=st.binary(max_size=3000),
)
async def test_requests_and_answers_come_back_byte_for_byte(
    ledger: Ledger,
    method: bytes,
    target: bytes,
    headers: tuple[tuple[bytes, bytes], ...],
    body: bytes,
    phrase: bytes,
    answer_body: bytes,
) -> None:
    request = submission(request=KeptRequest(method, target, headers, body))
    request = replace(request, key=request.order_id)
    entry, lease = await fresh(ledger, request)
    kept = await ledger.find(entry.id)
    assert kept is not None
    assert kept.request == request.request
    answer = Answer(422, phrase, headers, answer_body)
    after = await ended(ledger, entry, lease, Answered(answer))
    kept = await ledger.find(entry.id)
    assert kept == after
    assert kept.answer == after.answer


async def test_every_part_of_an_entry_comes_back(ledger: Ledger) -> None:
    promise = Promise(
        route="r",
        upstream="u",
        capabilities=frozenset(Capability),
        lookup=LookupPlan("GET", "/o?k={key}", "/key", "/secret"),
        outcomes=OutcomeTable(("200", "2xx"), ("4xx",), ("401",), ("429",), ("5xx",), "/id"),
        dedup_for_s=86_400.0,
        settle_s=0.1 + 0.2,
        invalidates=("/orders", "/a/*/b"),
    )
    entry, lease = await fresh(ledger, submission(promise=promise))
    entry = await ended(ledger, entry, lease, LOST)
    steps: list[Callable[[Entry], Entry]] = [
        life.quiet,
        lambda each: life.resend(each, ledger.now(), "me"),
        lambda each: life.end_attempt(each, answered(503), ledger.now(), "me"),
        lambda each: life.no_evidence(each, "d\u00e9tail \N{SNOWMAN}", ledger.now(), "me"),
    ]
    for step in steps:
        after = step(entry)
        await ledger.write(lease, entry, after)
        entry = after
        assert await ledger.find(entry.id) == entry
    assert entry.doubt_since is not None
    assert entry.first_dispatched_at is not None


async def test_an_answer_that_is_too_large_leaves_a_tombstone(ledger: Ledger) -> None:
    promise = replace(PROMISE, answer_bytes_max=10)
    entry, lease = await fresh(ledger, submission(promise=promise))
    after = await ended(ledger, entry, lease, answered(201, b'{"id": "01234567890"}'))
    assert after.answer is not None
    assert after.answer.body is None
    assert await ledger.find(entry.id) == after


async def test_an_empty_body_is_not_a_missing_one(ledger: Ledger) -> None:
    after = await settled(ledger, status=422)
    entry, lease = await fresh(ledger, submission("other"))
    after = await ended(ledger, entry, lease, answered(422, b""))
    kept = await ledger.find(after.id)
    assert kept is not None
    assert kept.answer is not None
    assert kept.answer.body == b""


async def test_what_was_never_kept_is_not_found(ledger: Ledger) -> None:
    assert await ledger.find("nobody") is None
    assert await ledger.find_by_key("scope", "nobody") is None


# --- pages -----------------------------------------------------------------------------------


async def test_pages_are_by_age_and_stable(ledger: Ledger) -> None:
    entries = [(await fresh(ledger, submission(f"key-{number}")))[0] for number in range(7)]
    first = await ledger.page(limit=3)
    await fresh(ledger, submission("newer"))
    second = await ledger.page(limit=3, after=first.next)
    third = await ledger.page(limit=3, after=second.next)
    shown = [*first.entries, *second.entries, *third.entries]
    assert shown[:7] == [bare(entry) for entry in entries]
    assert [entry.key for entry in shown[7:]] == ["newer"]
    assert third.next is None


async def test_a_page_ends_where_the_entries_end(ledger: Ledger) -> None:
    assert (await ledger.page()).entries == ()
    for number in range(3):
        await fresh(ledger, submission(f"key-{number}"))
    assert (await ledger.page(limit=3)).next is None
    assert (await ledger.page(limit=2)).next is not None


async def test_pages_show_the_statuses_asked_for(ledger: Ledger) -> None:
    made: dict[Status, list[str]] = {status: [] for status in Status}
    for number in range(3):
        made[Status.CONFIRMED].append((await settled(ledger, submission(f"a{number}"))).id)
        made[Status.REJECTED].append((await settled(ledger, submission(f"b{number}"), 422)).id)
        made[Status.DEAD_LETTER].append((await dead_letter(ledger, submission(f"c{number}"))).id)
        made[Status.IN_DOUBT].append((await in_doubt(ledger, submission(f"d{number}")))[0].id)
        made[Status.FAILED].append((await failed(ledger, submission(f"e{number}"))).id)
    for status, ids in made.items():
        page = await ledger.page((status,), limit=2)
        rest = await ledger.page((status,), limit=2, after=page.next) if page.next else None
        shown = [*page.entries, *(rest.entries if rest else ())]
        assert [entry.id for entry in shown] == ids
        assert all(entry.status is status for entry in shown)
    both = await ledger.page((Status.IN_DOUBT, Status.CONFIRMED), limit=4)
    assert [entry.key for entry in both.entries] == ["a0", "d0", "a1", "d1"]


@pytest.mark.parametrize("after", ["", "x", "-1", "1" * 40, "²"])
async def test_a_cursor_that_is_not_ours_starts_over(ledger: Ledger, after: str) -> None:
    entry, _ = await fresh(ledger)
    assert (await ledger.page(after=after)).entries == (bare(entry),)


# --- counts ----------------------------------------------------------------------------------


async def test_counts_are_conserved_through_every_operation(stores: Stores) -> None:
    ledger = await stores.replica()

    async def check(**by_status: int) -> None:
        counts = await ledger.counts()
        assert counts.conserved
        nonzero = {status.value: count for status, count in counts.by_status.items() if count}
        assert nonzero == by_status

    await check()
    await fresh(ledger, submission("received", dispatch=False))
    await check(received=1)
    await settled(ledger, submission("confirmed"))
    await failed(ledger, submission("failed"))
    await check(received=1, confirmed=1, failed=1)
    await fresh(ledger, submission("failed"))
    await check(received=1, confirmed=1, dispatched=1)
    await dead_letter(ledger, submission("buried"))
    doubt, _ = await in_doubt(ledger, submission("doubt"), due_in_s=0)
    await check(received=1, confirmed=1, dispatched=1, dead_letter=1, in_doubt=1)
    await ledger.amend(doubt.id, late(1, 422))
    request = submission("disclaimed")
    await fresh(ledger, request)
    await ledger.disclaim(request)
    await check(received=1, confirmed=1, dispatched=1, dead_letter=1, rejected=1, failed=1)
    stores.clock.advance(LEASE_S)
    assert len(await ledger.lease_due(10)) == 2
    await check(received=1, confirmed=1, in_doubt=1, dead_letter=1, rejected=1, failed=1)
    stores.clock.advance(1e6)
    await ledger.retire(10)
    await check(received=1, in_doubt=1, dead_letter=1)
    counts = await ledger.counts()
    assert (counts.made, counts.removed) == (6, 3)


async def test_counts_tell_the_oldest_since_it_was_claimed(stores: Stores) -> None:
    ledger = await stores.replica()
    assert (await ledger.counts()).oldest_pending_at is None
    await failed(ledger, submission("again"))
    stores.clock.advance(1)
    buried = await dead_letter(ledger, submission("buried"))
    stores.clock.advance(1)
    oldest, _ = await in_doubt(ledger, submission("oldest"))
    stores.clock.advance(1)
    newer, _ = await fresh(ledger, submission("again"))
    counts = await ledger.counts()
    assert counts.oldest_pending_at == oldest.claimed_at
    assert counts.oldest_dead_letter_at == buried.claimed_at
    confirmed = await ledger.amend(oldest.id, late(1, 201))
    assert confirmed is not None
    assert (await ledger.counts()).oldest_pending_at == newer.claimed_at > newer.created_at


# --- retention -------------------------------------------------------------------------------


async def test_an_answer_is_forgotten_first_and_the_key_goes_on_answering(stores: Stores) -> None:
    ledger = await stores.replica()
    entry = await settled(ledger)
    assert entry.answer is not None
    stores.clock.advance(PROMISE.retention_s - 1)
    assert await ledger.retire(10) == (0, 0)
    stores.clock.advance(1)
    assert await ledger.retire(10) == (1, 0)
    assert await ledger.retire(10) == (0, 0)
    bodiless = replace(entry, answer=replace(entry.answer, body=None))
    assert await ledger.find(entry.id) == bodiless
    assert (await ledger.claim(submission())).claimed == Replay(bodiless)
    stores.clock.advance(PROMISE.tombstone_s - 1)
    assert await ledger.retire(10) == (0, 0)
    stores.clock.advance(1)
    assert await ledger.retire(10) == (0, 1)
    assert await ledger.find(entry.id) is None
    assert await ledger.find_by_key("scope", "key") is None
    second, _ = await fresh(ledger)
    assert second.id != entry.id


async def test_an_order_that_was_forgotten_is_not_there_though_its_key_is_used_again(
    stores: Stores,
) -> None:
    ledger = await stores.replica()
    entry = await settled(ledger)
    stores.clock.advance(PROMISE.retention_s + PROMISE.tombstone_s)
    assert await ledger.retire(10) == (1, 1)
    second, _ = await fresh(ledger)
    assert await ledger.find(entry.id) is None
    assert await ledger.amend(entry.id, late(1, 422)) is None
    assert ledger.trouble is None
    assert await ledger.find(second.id) == second


async def test_what_is_pending_or_waits_for_a_person_is_never_forgotten(stores: Stores) -> None:
    ledger = await stores.replica()
    await in_doubt(ledger, submission("a"))
    await dead_letter(ledger, submission("b"))
    stores.clock.advance(1e9)
    assert await ledger.retire(10) == (0, 0)
    assert (await ledger.counts()).removed == 0


async def test_a_key_that_is_claimed_again_is_not_forgotten(stores: Stores) -> None:
    ledger = await stores.replica()
    await failed(ledger)
    entry, _ = await fresh(ledger)
    stores.clock.advance(1e9)
    assert await ledger.retire(10) == (0, 0)
    assert await ledger.find(entry.id) == entry


async def test_forgetting_works_in_portions_the_oldest_first(stores: Stores) -> None:
    ledger = await stores.replica()
    for number in range(5):
        await settled(ledger, submission(f"key-{number}"))
        stores.clock.advance(1)
    stores.clock.advance(PROMISE.retention_s)
    assert [await ledger.retire(2) for _ in range(4)] == [(2, 0), (2, 0), (1, 0), (0, 0)]
    stores.clock.advance(PROMISE.tombstone_s)
    assert await ledger.retire(2) == (0, 2)
    assert [entry.key for entry in (await ledger.page()).entries] == ["key-2", "key-3", "key-4"]
    assert (await ledger.counts()).conserved


async def test_an_order_without_an_answer_is_forgotten_too(stores: Stores) -> None:
    ledger = await stores.replica()
    request = submission()
    entry, _ = await fresh(ledger, request)
    await ledger.disclaim(request)
    stores.clock.advance(PROMISE.retention_s + PROMISE.tombstone_s)
    assert await ledger.retire(10) == (0, 1)
    assert await ledger.find(entry.id) is None


# --- watching --------------------------------------------------------------------------------


async def settled_version(watch: Watch) -> Entry:
    async with asyncio.timeout(WAIT_S):
        while True:
            entry = await watch.next()
            if entry.status in SETTLED:
                return entry


async def test_a_watcher_is_woken_by_every_kind_of_write(ledger: Ledger) -> None:
    entry, lease = await fresh(ledger)
    watch = ledger.watchers.add(entry.id)
    lost = await ended(ledger, entry, lease, LOST)
    async with asyncio.timeout(WAIT_S):
        assert await watch.next() == lost
        amended = await ledger.amend(entry.id, late(1, 201))
        assert await watch.next() == amended
    ledger.watchers.remove(entry.id, watch)


async def test_a_watcher_is_woken_by_another_replica(stores: Stores) -> None:
    ours, theirs = await stores.replica("ours"), await stores.replica("theirs")
    entry, lease = await fresh(theirs)
    watch = ours.watchers.add(entry.id)
    waiting = asyncio.create_task(settled_version(watch))
    after = await ended(theirs, entry, lease, answered(201))
    assert await waiting == after
    ours.watchers.remove(entry.id, watch)


async def test_a_watch_that_began_before_the_reading_misses_nothing(stores: Stores) -> None:
    ours, theirs = await stores.replica("ours"), await stores.replica("theirs")
    for number in range(10):
        entry, lease = await fresh(theirs, submission(f"key-{number}"))
        watch = ours.watchers.add(entry.id)
        read, _ = await asyncio.gather(
            ours.find(entry.id), ended(theirs, entry, lease, answered(201))
        )
        assert read is not None
        if not read.settled:
            read = await settled_version(watch)
        assert read.status is Status.CONFIRMED
        ours.watchers.remove(entry.id, watch)


async def test_a_cancelled_caller_stops_nothing(ledger: Ledger) -> None:
    request = submission()
    caller = asyncio.create_task(ledger.claim(request))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    await ledger.renew_hold()
    assert await ledger.find_by_key(request.scope, request.key) is not None
