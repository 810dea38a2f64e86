"""Two gateways over one ledger: what one leaves, the other brings to its end."""

import asyncio
import itertools
from typing import Any

from gateway.ledger import Claim, LedgerUnavailable
from gateway.orders.claiming import ClaimRequest
from gateway.orders.entry import Entry
from gateway.orders.states import Reason, Status
from gateway.stores.memory import MemoryLedger, MemoryState
from middleware.clock import SystemClock
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop

_numbers = itertools.count(1)


def shared(state: MemoryState, who: str) -> MemoryLedger:
    return MemoryLedger(
        state,
        clock=SystemClock(),
        who=who,
        lease_s=1.0,
        new_holder=lambda: f"{who}-{next(_numbers)}",
    )


async def test_a_duplicate_at_another_replica_waits_for_the_same_answer(
    backend: Backend, open_shop: OpenShop
) -> None:
    state = MemoryState(SystemClock())
    here = await open_shop(ledger=shared(state, "a"), attempt_timeout_s=5, settle_s=6)
    there = await open_shop(ledger=shared(state, "b"), attempt_timeout_s=5, settle_s=6)
    backend.script.append(acts.after("go", acts.take))
    first = asyncio.create_task(here.order())
    await backend.until(lambda: len(backend.posts) == 1)
    second = asyncio.create_task(there.order())
    backend.gate("go").set()
    one, two = await first, await second
    assert one.body == two.body
    assert two.headers["Idempotent-Replayed"] == "true"
    assert len(backend.posts) == 1


async def test_what_a_dead_replica_dispatched_is_lost_never_not_sent(
    backend: Backend, open_shop: OpenShop
) -> None:
    state = MemoryState(SystemClock())
    dying = shared(state, "a")
    here = await open_shop(ledger=dying, attempt_timeout_s=9, settle_s=10, answer_within_s=1)
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(here.order())
    await backend.until(lambda: len(backend.posts) == 1)
    dying.crash()
    there = await open_shop(ledger=shared(state, "b"), settle_s=0.5)
    order = (await asked).json["id"]
    backend.gate("go").set()
    entry = await there.settled(order)
    assert entry.status is Status.CONFIRMED
    taken = entry.events[1]
    assert (taken.source, taken.target) == (Status.DISPATCHED, Status.IN_DOUBT)
    assert taken.reason is Reason.LEASE_EXPIRED
    assert entry.token > 1
    counted = there.gateway.telemetry.registry.get_sample_value
    assert counted("ordergate_doubts_total") == 1
    assert counted("ordergate_attempts_total", {"result": "lost"}) == 1
    told = await there.order()
    assert told.json["id"] == "o-1"
    assert len(backend.posts) == 1


async def test_no_byte_is_sent_under_a_lapsed_lease(backend: Backend, open_shop: OpenShop) -> None:
    """A process that was paused past its lease finds out before its first byte."""
    shop = await open_shop(ledger=shared(MemoryState(SystemClock()), "a"), answer_within_s=8)
    ledger: Any = shop.gateway.ledger
    claim = ledger.claim

    async def claim_then_pause(request: ClaimRequest) -> Claim:
        claimed: Claim = await claim(request)
        ledger.hold.trusted_until = float("-inf")
        ledger.claim = claim
        return claimed

    ledger.claim = claim_then_pause
    told = await shop.order()
    assert told.status == 201
    entry = await shop.entry(told.order)
    assert entry.attempts[0].reason == "lease_lost"
    assert len(backend.posts) == 1


async def test_an_order_that_the_store_shows_as_it_was_before_is_not_taken_for_unsent(
    backend: Backend, open_shop: OpenShop
) -> None:
    """The store forgot how its attempt ended, so that it looks as if it had only been recorded."""
    state = MemoryState(SystemClock())
    ledger: Any = shared(state, "a")
    shop = await open_shop(ledger=ledger, answer_within_s=1)
    backend.script.append(acts.drop)
    write, dispatched, forgot = ledger.write, list[Entry](), asyncio.Event()

    async def forgetful(lease: Any, before: Entry, after: Entry, **more: Any) -> None:
        if before.status is Status.DISPATCHED:
            dispatched.append(before)
        if after.quiet and not forgot.is_set():
            forgot.set()
            state._rows[before.id].entry = dispatched[0]
            raise LedgerUnavailable("the store forgot")
        await write(lease, before, after, **more)

    ledger.write = forgetful
    told = await shop.order()
    async with asyncio.timeout(20):
        entry = await shop.settled(told.order if told.status == 201 else told.json["id"])
    assert forgot.is_set()
    assert entry.status is Status.CONFIRMED
    assert Reason.NOT_SENT not in {event.reason for event in entry.events}
