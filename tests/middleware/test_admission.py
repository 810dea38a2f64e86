"""Turns at work: who waits, who goes first, who is refused, and how the limit follows."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web

from middleware.admission import Admission, AdmissionPolicy, Priority, Shed
from middleware.admission.rules import (
    SAMPLE_S,
)
from middleware.problems import Problem
from tests.middleware.test_admission_rules import ticks


class Asked(dict[object, object]):
    """A request of some priority whose handler ends when it is told to."""

    def __init__(self, admission: Admission, priority: Priority) -> None:
        super().__init__()
        self.priority = priority
        self.began = asyncio.Event()
        self.go = asyncio.Event()
        handle: Callable[..., Awaitable[web.StreamResponse]] = admission.middleware()
        self.task = asyncio.ensure_future(handle(self, self._handler))

    async def _handler(self, _: object) -> web.StreamResponse:
        self.began.set()
        await self.go.wait()
        return web.Response()

    async def refusal(self) -> str:
        with pytest.raises(Problem) as refused:
            await self.task
        assert refused.value.status == 503
        assert refused.value.repeat_is_safe
        return str(refused.value.members["reason"])


class Door:
    """An admission and those who ask for it."""

    def __init__(self, **policy: object) -> None:
        defaults: dict[str, object] = {"queue_s": 5.0}
        self.admission = Admission(
            AdmissionPolicy(**(defaults | policy)),  # type: ignore[arg-type]
            lambda asked: asked.priority,  # type: ignore[attr-defined]
        )
        self.everyone: list[Asked] = []

    async def ask(self, priority: Priority = Priority.READ) -> Asked:
        asked = Asked(self.admission, priority)
        self.everyone.append(asked)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return asked

    async def end(self, asked: Asked) -> None:
        asked.go.set()
        await asked.task

    async def close(self) -> None:
        for asked in self.everyone:
            asked.go.set()
        await asyncio.gather(*(asked.task for asked in self.everyone), return_exceptions=True)
        assert (self.admission.running, self.admission.waiting) == (0, 0)


async def test_orders_go_before_reads_and_reads_before_background_work() -> None:
    door = Door(requests_max=1)
    first = await door.ask()
    background = await door.ask(Priority.BACKGROUND)
    read = await door.ask(Priority.READ)
    order = await door.ask(Priority.ORDER)
    later = await door.ask(Priority.ORDER)
    assert door.admission.waiting == 4
    await door.end(first)
    for expected in (order, later, read, background):
        await asyncio.wait_for(expected.began.wait(), 1)
        assert sum(each.began.is_set() and not each.task.done() for each in door.everyone) == 1
        await door.end(expected)
    await door.close()


async def test_a_full_queue_gives_an_order_the_place_of_a_read() -> None:
    door = Door(requests_max=1, queue_max=2)
    await door.ask()
    await door.ask(Priority.READ)
    outranked = await door.ask(Priority.READ)
    await door.ask(Priority.ORDER)
    assert await outranked.refusal() == Shed.OUTRANKED
    assert await (await door.ask(Priority.READ)).refusal() == Shed.FULL
    assert door.admission.shed[Priority.READ, Shed.FULL] == 1
    await door.close()


async def test_a_wait_that_takes_too_long_is_refused() -> None:
    door = Door(requests_max=1, queue_s=0.02)
    first = await door.ask()
    waited = await door.ask()
    assert await waited.refusal() == Shed.WAITED
    await door.end(first)
    await door.close()


async def test_what_can_not_be_in_time_is_refused_at_once() -> None:
    door = Door(requests_max=1, queue_s=0.5)
    first = await door.ask()
    door.admission._full_per_s = 6.0
    await door.ask()
    assert await (await door.ask()).refusal() == Shed.LATE
    await door.ask(Priority.ORDER)  # reads don't stand in its way
    assert door.admission.waiting == 2
    await door.end(first)
    await door.close()


async def test_a_queue_that_stands_is_no_longer_waited_in() -> None:
    door = Door(requests_max=1, queue_s=0.4)
    first = await door.ask()
    door.admission._full_per_s = 15.0
    early = await door.ask()
    assert early in door.everyone
    assert door.admission.turn_off(Priority.READ) is None
    block(0.4)
    assert door.admission.turn_off(Priority.READ) is Shed.LATE
    await door.end(first)
    await door.close()


async def test_a_crowd_that_asks_again_at_once_is_served_and_not_refused() -> None:
    """Two hundred connections, each with its next request as soon as it is answered: the queue
    stands for ever, and refusing them would take more time than serving them."""
    door = Door(requests_max=64, requests_min=64, queue_s=0.5)
    for _ in range(66):
        await door.ask()
    door.admission._full_per_s = 3600.0
    block(0.5)
    assert {door.admission.turn_off(Priority.READ) for _ in range(134)} == {None}
    door.admission._full_per_s = 1000.0
    assert door.admission.turn_off(Priority.READ) is Shed.LATE
    await door.close()


async def test_a_jam_is_over_once_nobody_has_waited_for_a_while() -> None:
    door = Door(requests_max=1, queue_s=0.4)
    door.admission._full_per_s = 8.0
    first = await door.ask()
    waited = await door.ask()
    block(0.4)
    assert door.admission.turn_off(Priority.READ) is Shed.LATE
    door.admission.turned_off(Priority.READ, Shed.LATE, 1)
    await door.end(first)
    await asyncio.wait_for(waited.began.wait(), 5)
    assert door.admission.waiting == 0
    assert door.admission.turn_off(Priority.READ) is Shed.LATE  # the queue would stand again
    await asyncio.sleep(0.45)
    assert door.admission.turn_off(Priority.READ) is None
    await door.end(waited)
    await door.close()


async def test_a_queue_that_empties_again_and_again_is_no_jam() -> None:
    door = Door(requests_max=1, queue_s=0.4)
    door.admission._full_per_s = 15.0
    for _ in range(4):
        first = await door.ask()
        waited = await door.ask()
        block(0.2)
        await door.end(first)
        await asyncio.wait_for(waited.began.wait(), 5)
        await door.end(waited)
    await door.ask()
    assert door.admission.turn_off(Priority.READ) is None
    await door.close()


async def test_while_orders_find_no_place_some_are_kept_from_everybody_else() -> None:
    door = Door(requests_max=8, queue_max=0, requests_min=8)
    for _ in range(8):
        await door.ask()
    assert await (await door.ask(Priority.ORDER)).refusal() == Shed.FULL
    door.admission.tick(0.0)
    for each in door.everyone[:2]:
        await door.end(each)
    assert await (await door.ask(Priority.READ)).refusal() == Shed.FULL
    order = await door.ask(Priority.ORDER)
    assert order.began.is_set()
    for _ in range(12):
        door.admission.tick(0.0)  # a second in which no order is refused
    read = await door.ask(Priority.READ)
    assert read.began.is_set()
    await door.close()


async def test_background_work_never_takes_all_places_and_goes_last() -> None:
    door = Door(requests_max=4, requests_min=4, queue_max=0)
    async with door.admission.background(), door.admission.background():
        assert door.admission.running == 2
        with pytest.raises(Problem):
            async with door.admission.background():
                pass
        read = await door.ask(Priority.READ)
        assert read.began.is_set()
    assert door.admission.shed[Priority.BACKGROUND, Shed.FULL] == 1
    await door.close()


async def test_those_who_come_in_one_turn_find_no_more_places_than_there_are() -> None:
    door = Door(requests_max=1, queue_max=2)
    told = [door.admission.turn_off(Priority.READ) for _ in range(4)]
    assert told == [None, None, None, Shed.FULL]
    await asyncio.sleep(0)
    assert door.admission.turn_off(Priority.READ) is None
    await door.close()


async def test_a_crowd_is_not_turned_off_because_few_were_served_before_it_came() -> None:
    door = Door(requests_max=1)
    quiet = await door.ask()
    await door.end(quiet)
    door.admission.tick(0.0, 1.0)  # one a second
    await door.ask()
    told = {door.admission.turn_off(Priority.READ) for _ in range(100)}
    assert told == {None}
    await door.close()


async def test_who_is_turned_off_is_told_so_only_where_there_is_no_place() -> None:
    door = Door(requests_max=1, queue_max=1)
    assert door.admission.turn_off(Priority.READ) is None
    await door.ask()
    assert door.admission.turn_off(Priority.READ) is None  # there is the queue
    await door.ask()
    assert door.admission.turn_off(Priority.READ) is Shed.FULL
    assert door.admission.turn_off(Priority.ORDER) is None  # it takes the read's place
    await door.close()


async def test_a_client_that_leaves_the_queue_leaves_no_place_taken() -> None:
    door = Door(requests_max=1)
    first = await door.ask()
    leaver = await door.ask()
    stayer = await door.ask()
    leaver.task.cancel()
    await asyncio.wait([leaver.task])
    await door.end(first)
    await asyncio.wait_for(stayer.began.wait(), 1)
    await door.close()


async def test_a_client_that_leaves_as_its_turn_comes_passes_it_on() -> None:
    door = Door(requests_max=1)
    first = await door.ask()
    leaver = await door.ask()
    stayer = await door.ask()
    first.go.set()
    await asyncio.sleep(0)
    leaver.task.cancel()
    await asyncio.wait([leaver.task])
    leaver.go.set()
    await asyncio.wait_for(stayer.began.wait(), 1)
    await door.close()


async def test_who_stands_aside_gives_the_place_to_who_waits() -> None:
    door = Door(requests_max=1)
    first = await door.ask()
    second = await door.ask()
    with door.admission.aside():
        await asyncio.wait_for(second.began.wait(), 1)
    await door.end(first)
    await door.end(second)
    await door.close()


@pytest.mark.parametrize("wait", ["aside", "at_the_clients_pace", "body_comes"])
async def test_who_only_waited_was_not_at_work_for_so_long(wait: str) -> None:
    """Whenever the work ends: an adaptive limit learns from it how long work takes."""
    admission = Admission(AdmissionPolicy(1))
    took = []

    async def handler(request: Any) -> web.StreamResponse:
        async with AsyncExitStack() as stack:
            if wait == "body_comes":
                await stack.enter_async_context(admission.body_comes(request))
            else:
                stack.enter_context(getattr(admission, wait)())
            await asyncio.sleep(0.2)  # the passing of time itself is what is tested
        took.append(admission._took_s)
        return web.StreamResponse()

    request: Any = {}
    await admission.middleware()(request, handler)
    assert took == [0.0]
    assert 0.0 <= admission._took_s < 0.15
    assert admission.running == 0


async def test_bodies_of_reads_leave_room_for_those_of_orders() -> None:
    priority = [Priority.READ]
    policy = AdmissionPolicy(10, bodies_max=4)
    admission = Admission(policy, priority_of=lambda _: priority[0])
    request: Any = {}
    async with AsyncExitStack() as stack:
        for _ in range(3):
            admission.enter()
            await stack.enter_async_context(admission.body_comes(request))
        for kind, admitted in ((Priority.READ, False), (Priority.ORDER, True)):
            priority[0] = kind
            admission.enter()
            if admitted:
                await stack.enter_async_context(admission.body_comes(request))
                continue
            with pytest.raises(Problem):
                await stack.enter_async_context(admission.body_comes(request))
        assert admission.bodies == 4


async def test_a_late_loop_lets_fewer_in_and_more_again_afterwards() -> None:
    door = Door(requests_max=100, requests_min=4)
    ticks(door.admission.limit, 0.0, 5)
    door.admission.tick(0.5)
    assert door.admission.limit.value == 100  # late, but not for its requests
    early = [await door.ask() for _ in range(20)]
    for _ in range(50):
        door.admission.tick(0.5)
    assert door.admission.limit.value == 4
    for each in early[4:]:
        await door.end(each)
    held = [await door.ask() for _ in range(2)]
    assert (door.admission.running, door.admission.waiting) == (4, 2)
    assert door.admission.is_pressed()
    door.admission.tick(0.0)
    door.admission.tick(0.0)
    assert (door.admission.running, door.admission.waiting) == (6, 0)
    assert all(each.began.is_set() or each.task for each in held)
    await door.close()


def block(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass  # the loop stands still


async def first_tick(admission: Admission) -> None:
    """Wait for the first step of ``admission.run``, made to say when it comes."""
    ticked = asyncio.Event()
    step = admission.tick

    def tick(lag_s: float, over_s: float, delay_s: float) -> None:
        step(lag_s, over_s, delay_s)
        ticked.set()

    admission.tick = tick  # type: ignore[method-assign, assignment]
    await asyncio.wait_for(ticked.wait(), 10)


async def test_a_loop_that_is_late_again_and_again_is_late() -> None:
    admission = Admission(AdmissionPolicy(8))
    duty = asyncio.ensure_future(admission.run())

    async def work() -> None:
        while True:
            block(0.15)
            await asyncio.sleep(0)

    worker = asyncio.ensure_future(work())
    await first_tick(admission)
    assert admission.lag_s >= 0.1
    for task in (duty, worker):
        task.cancel()
    await asyncio.wait([duty, worker])


async def test_one_long_turn_of_the_loop_is_no_load() -> None:
    admission = Admission(AdmissionPolicy(8))
    duty = asyncio.ensure_future(admission.run())
    await asyncio.sleep(0)
    block(0.3)
    await first_tick(admission)
    assert admission.lag_s < 0.3 - SAMPLE_S
    duty.cancel()
    await asyncio.wait([duty])


async def test_a_read_that_more_orders_than_end_would_pass_does_not_begin_to_wait() -> None:
    door = Door(requests_max=1, queue_s=0.4)
    first = await door.ask()
    await door.ask(Priority.ORDER)
    block(0.4)
    door.admission.turned_off(Priority.ORDER, Shed.LATE, 60)
    door.admission.tick(0.0)
    door.admission._full_per_s = 40.0
    await door.end(first)
    assert door.admission.turn_off(Priority.READ) is Shed.LATE
    assert door.admission.turn_off(Priority.ORDER) is None
    await door.close()


async def test_who_waits_in_a_queue_that_stands_is_not_refused_before_its_time() -> None:
    """A slow backend's answers come in bursts: who was told to wait for a few may
    have to wait for two hundred, and is served."""
    door = Door(requests_max=1, queue_s=0.5)
    first = await door.ask()
    door.admission._full_per_s = 40.0
    early = await door.ask()
    block(0.5)
    door.admission.turned_off(Priority.READ, Shed.LATE, 1)
    await door.end(first)
    await asyncio.wait_for(early.began.wait(), 5)
    waits = await door.ask()
    await asyncio.sleep(0.2)
    await door.end(early)
    await asyncio.wait_for(waits.began.wait(), 5)
    await door.close()
