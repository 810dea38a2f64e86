"""The traffic: seeded intents, customers who repeat themselves, and what the journal keeps."""

import asyncio
import json
import socket
from itertools import islice, pairwise

import pytest

from gateway.demo.backend import Backend
from gateway.demo.customer import Door
from gateway.demo.gateway_process import ATTACH_WINDOW_S
from gateway.demo.intents import Behaviour, Intent, arrivals
from gateway.demo.journal import Journal, Spread, spread
from gateway.demo.oracle import Held, judge
from gateway.demo.storefront import Storefront
from gateway.demo.wire import Address
from gateway.orders.promise import Capability
from gateway.orders.states import Status


def intents(seed: int, count: int) -> list[Intent]:
    return [arrival.intent for arrival in islice(arrivals(seed, 20.0), count)]


def test_the_same_seed_brings_the_same_customers() -> None:
    assert intents(7, 100) == intents(7, 100)
    assert intents(7, 100) != intents(8, 100)


def test_every_intent_has_a_reference_of_its_own_in_its_body() -> None:
    shopping = intents(7, 500)
    assert len({intent.reference for intent in shopping}) == 500
    assert all(json.loads(i.body)["reference"] == i.reference for i in shopping)


def test_one_customer_never_uses_a_key_twice_and_two_customers_use_the_same() -> None:
    keys = [(i.who, i.key) for i in intents(7, 500) if i.key is not None]
    assert len(set(keys)) == len(keys)
    assert len({key for _, key in keys}) < len(keys)


def test_every_behaviour_comes_with_and_without_a_key_and_some_is_sold_out() -> None:
    shopping = intents(7, 300)
    kinds = {(intent.behaviour, intent.key is None) for intent in shopping}
    assert len(kinds) == 2 * len(Behaviour)
    assert {intent.would_take for intent in shopping} == {True, False}


def test_intents_arrive_at_the_rate_that_was_asked_for() -> None:
    waited_s = sum(arrival.after_s for arrival in islice(arrivals(7, 20.0), 2000))
    assert 2000 / waited_s == pytest.approx(20.0, rel=0.1)


def test_a_spread_ranks_what_it_is_given() -> None:
    assert spread([]) == Spread()
    full = spread([n / 100 for n in range(101)])
    assert full == Spread(0.5, 0.95, 0.99, 1.0)
    assert all(low <= high for low, high in pairwise([full.p50_s, full.p95_s, full.p99_s]))


def held(backend: Backend) -> list[Held]:
    books = backend.books.orders
    return [Held(o.order_id, o.reference, o.who, o.body_digest) for o in books]


async def trade(address: Address, journal: Journal, count: int) -> Storefront:
    """Let about ``count`` customers in, as fast as they come, and see each to the end."""
    closing = asyncio.Event()
    shop = Storefront(7, 200.0, Door(address, guarded=False), journal)
    asyncio.get_running_loop().call_later(count / 200.0, closing.set)
    await shop.trade(closing, drain_s=20.0)
    return shop


async def test_a_calm_backend_that_deduplicates_disappoints_only_those_without_a_key() -> None:
    loop = asyncio.get_running_loop()
    backend, journal = Backend(frozenset({Capability.DEDUP})), Journal(loop.time)
    address = await backend.start()
    try:
        shop = await trade(address, journal, 100)
        await backend.quiet()
    finally:
        await backend.stop()
    verdict = judge(journal.case(held(backend)))
    guilty = {finding.reference for finding in verdict.findings}
    assert all(journal.intents[reference].key is None for reference in guilty)
    assert 0 < verdict.duplicates < verdict.intents
    assert verdict.confirmed + verdict.rejected == verdict.intents > 50
    assert journal.open_submissions == 0
    assert (shop.bugs, backend.observed.bugs) == ([], [])


@pytest.mark.parametrize(("later_s", "keyless_return"), [(0.0, True), (ATTACH_WINDOW_S, False)])
async def test_who_has_no_key_is_not_audited_where_a_repeat_may_be_a_new_order(
    later_s: float, keyless_return: bool
) -> None:
    loop, away_s = asyncio.get_running_loop(), 0.0
    journal = Journal(lambda: loop.time() + away_s)
    backend = Backend(frozenset({Capability.DEDUP}))
    address = await backend.start()
    try:
        shop = await trade(address, journal, 100)
        away_s = later_s
        returning_s = loop.time() + away_s
        await shop.audit()
    finally:
        await backend.stop()
    returned = {
        reference
        for reference, story in journal.events.items()
        if any(at_s >= returning_s and text == "submits" for at_s, text in story)
    }
    keyless = {reference for reference in returned if journal.intents[reference].key is None}
    assert bool(keyless) is keyless_return
    assert len(returned) == shop.audited > len(keyless)


async def test_who_gets_no_answer_before_the_drain_ends_is_pending() -> None:
    loop = asyncio.get_running_loop()
    journal, closing = Journal(loop.time), asyncio.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=200) as deaf:
        door = Door(Address(*deaf.getsockname()), guarded=True)
        loop.call_later(0.1, closing.set)
        await Storefront(7, 100.0, door, journal).trade(closing, drain_s=0.2)
    verdict = judge(journal.case([]))
    assert verdict.pending == verdict.intents > 0
    assert journal.by_status()[Status.CONFIRMED] == 0
