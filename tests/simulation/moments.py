"""What a row of the safeguards needs beside its switch: other upstreams, and moments at which the
safeguard matters."""

import asyncio
from contextvars import Context
from dataclasses import replace

import pytest

from gateway.demo.backend import Backend
from gateway.demo.books import Books, Decision, Submitted
from gateway.demo.faults import Fault, Ordeal
from gateway.demo.intents import Behaviour

from .chaos import STORM_S
from .gateways import LEASE_S, SETTLE_S
from .histories import Prepare, Stage
from .store import Side
from .upstream import Manner, Trial, Upstream
from .world import Host

Patch = pytest.MonkeyPatch

# --- upstreams that a safeguard protects from --------------------------------------------------


def the_usual(_: Patch) -> None:
    """The demo's."""


def ignores_the_lookup_key(patch: Patch) -> None:
    """It shows its latest order, whichever was asked for, and as it is: where one lookup lags and
    another does not, nothing tells the key that was ignored."""
    patch.setattr(Books, "with_key", lambda books, _: tuple(books.orders[-1:]))
    patch.setattr(Upstream, "draw_glimpse", lambda _upstream, _key: None)


def refuses_while_it_works(patch: Patch) -> None:
    """It deduplicates, but says 422 to the repeat of a key that it is working on."""
    decide = Backend._decide_once

    async def decided(backend: Backend, submitted: Submitted, work_s: float) -> Decision:
        if (submitted.who, submitted.key) in backend._processing:
            return Decision(422, b'{"error":"being worked on"}')
        return await decide(backend, submitted, work_s)

    patch.setattr(Backend, "_decide_once", decided)


# --- what a row may need to happen --------------------------------------------------------------


def nothing_more(_: Stage) -> None:
    """The storm is enough."""


def frozen(call: str, for_s: float) -> Prepare:
    """A replica stands still for so long when one of its calls has been answered."""

    def prepare(stage: Stage) -> None:
        store, calls = stage.store, iter(range(stage.plan.seed % 5, -1, -1))
        assert store is not None

        async def hit(host: Host, called: str, side: Side) -> None:
            if (called, side) == (call, Side.AFTER) and next(calls, None) == 0:
                stage.world.pause(host)
                stage.world.loop.call_later(for_s, stage.world.resume, host, context=Context())
                await asyncio.sleep(0)

        store.hit = hit

    return prepare


TAKEN_OVER_S = LEASE_S + SETTLE_S + 3.0
"""In which another replica takes an order over, sees it absent, and sends it."""


def frozen_while_claiming(stage: Stage) -> None:
    """Replicas stand still when the store has just taken a claim of theirs."""
    store, clients = stage.store, stage.clients
    clients._arrivals = [
        replace(each, intent=replace(each.intent, key=f"k{n}", behaviour=Behaviour.IMPATIENT))
        for n, each in enumerate(clients._arrivals)
    ]
    assert store is not None

    def claimed(host: Host) -> None:
        if stage.world.loop.time() < STORM_S and stage.world.random.random() < 0.2:
            stage.world.pause(host)
            stage.world.loop.call_later(4.0, stage.world.resume, host, context=Context())

    store.claimed = claimed


STANDS_STILL_S = 0.7
"""Longer than a call waits for its answer, too short for a hold to lapse meanwhile."""


def the_store_stands_still(stage: Stage) -> None:
    """Just after a claim, so that the next calls are made after their callers have given up."""
    store, world = stage.store, stage.world
    assert store is not None

    def claimed(_: Host) -> None:
        busy = store.primary.backlog is not None or world.loop.time() > STORM_S
        if not busy and world.random.random() < 0.5:
            store.freeze()
            world.loop.call_later(STANDS_STILL_S, store.thaw, context=Context())

    store.claimed = claimed


def unheard(lost: str) -> Prepare:
    """Of the answers to these calls every third gets lost, while the calls take effect."""

    def prepare(stage: Stage) -> None:
        store, chance = stage.store, stage.world.chance("unheard")
        assert store is not None

        def gets_lost(_: Host, call: str) -> bool:
            early = stage.world.loop.time() < 2 * STORM_S
            return early and call == lost and chance.random() < 0.3

        store.unheard = gets_lost

    return prepare


def few_submissions_survive(stage: Stage) -> None:
    """So that it is asked for orders before it holds any."""
    stage.upstream._mix = {Fault.RESET_BEFORE: 3, Fault.NONE: 1}


def most_submissions_come_late(stage: Stage) -> None:
    """So that what is sent again, too, takes effect after its attempt has ended."""
    stage.upstream._mix = {Fault.RESET_BEFORE: 2, Fault.LATE: 2, Fault.NONE: 1}


def who_are_you(stage: Stage) -> None:
    """The first submission of many orders is not admitted; their customers are impatient, and have
    keys of their own."""
    upstream, clients, chance = stage.upstream, stage.clients, stage.world.chance("who are you")
    usual = upstream.draw
    clients._arrivals = [
        replace(each, intent=replace(each.intent, key=f"k{n}", behaviour=Behaviour.IMPATIENT))
        for n, each in enumerate(clients._arrivals)
    ]

    def draw(reference: str, nth: int) -> Ordeal:
        usually = usual(reference, nth)
        if nth > 1 or chance.random() < 0.5:
            return usually
        return Trial(Fault.NONE, manner=Manner.NOT_ADMITTED)

    upstream.draw = draw  # type: ignore[method-assign]


def standing_still_with_two_requests(stage: Stage) -> None:
    """The upstream has the first request of many orders and one that was sent again, and the store
    forgets the second; then it refuses the first and takes the other."""
    who_are_you(stage)
    store, world, chance = stage.store, stage.world, stage.world.chance("stands still")
    assert store is not None

    async def storm() -> None:
        for _ in range(2):
            await asyncio.sleep(chance.uniform(0.1, 1.0))
            world.pause(stage.upstream.host)
            await asyncio.sleep(chance.uniform(1.2, 3.0))
            await store.forget(chance.uniform(0.1, 1.0))
            await asyncio.sleep(chance.uniform(0.0, 0.5))
            world.resume(stage.upstream.host)

    world.spawn(store.host, storm(), name="stands still")


def unrecorded_first_and_slow_then(stage: Stage) -> None:
    """Many first claims are not acknowledged, so that they fail; what is claimed again takes so
    long that its customer watches the page."""
    unheard("claim")(stage)
    stage.upstream._mix = {Fault.LATE: 1, Fault.HANG_AFTER: 1}
