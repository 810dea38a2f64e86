"""The loop on virtual time: order, time, lives, and the ends that are bugs."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator

import pytest

from .lives import Ended, ensure_alive, here
from .loop import Stuck
from .world import Crash, Crashed, World


def test_a_thousand_virtual_seconds_take_no_real_time() -> None:
    world = World(1)

    async def story() -> float:
        await asyncio.sleep(1000)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert world.run(story()) == 1000.0
    assert time.monotonic() - began < 1.0


def test_callbacks_run_in_the_order_they_were_given() -> None:
    world = World(1)
    seen: list[int] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        for number in range(5):
            loop.call_soon(seen.append, number)
        for number in range(5, 10):
            loop.call_later(1, seen.append, number)
        await asyncio.sleep(1)

    world.run(story())
    assert seen == list(range(10))


def test_asyncio_timeouts_groups_and_events_work_unchanged() -> None:
    world = World(1)

    async def story() -> list[str]:
        told: list[str] = []
        event = asyncio.Event()

        async def wait() -> None:
            await event.wait()
            task = asyncio.current_task()
            told.append(task.get_name() if task else "no task")

        async with asyncio.TaskGroup() as group:
            group.create_task(wait(), name="waiter")
            asyncio.get_running_loop().call_later(3, event.set)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.sleep(6)
        told.append(f"{asyncio.get_running_loop().time()}")
        return told

    assert world.run(story()) == ["waiter", "8.0"]


def test_a_deadlock_names_the_tasks_that_wait() -> None:
    world = World(1)
    host = world.host("gw-1")

    async def forever() -> None:
        await asyncio.Event().wait()

    async def story() -> None:
        await world.spawn(host, forever(), name="the waiter")

    with pytest.raises(Stuck, match=r"deadlock(?s:.*)gw-1 the waiter at .*locks\.py"):
        world.run(story())


def test_a_livelock_is_stopped() -> None:
    world = World(1, steps_max=1000)

    async def story() -> None:
        while True:  # noqa: ASYNC110 - the fault that is tested
            await asyncio.sleep(0)

    with pytest.raises(Stuck, match="livelock"):
        world.run(story())


def test_virtual_time_has_an_end() -> None:
    world = World(1, time_s_max=100)

    async def story() -> None:
        while True:  # noqa: ASYNC110 - the fault that is tested
            await asyncio.sleep(1)

    with pytest.raises(Stuck, match="virtual time"):
        world.run(story())


def test_cancelled_timers_do_not_move_time() -> None:
    world = World(1)

    async def story() -> float:
        loop = asyncio.get_running_loop()
        for _ in range(2000):
            loop.call_later(50, print).cancel()
        await asyncio.sleep(1)
        return loop.time()

    assert world.run(story()) == 1.0
    assert len(world.loop._timers) < 1000


def test_a_paused_host_does_nothing_until_it_is_resumed() -> None:
    world = World(1)
    host = world.host("gw-1")

    async def tick() -> None:
        for _ in range(4):
            world.record("tick")
            await asyncio.sleep(1)

    async def story() -> None:
        done = world.spawn(host, tick())
        await asyncio.sleep(1.5)
        world.pause(host)
        await asyncio.sleep(10)
        world.resume(host)
        await done

    world.run(story())
    ticks = [at for at, _, text in world.trace if text == "tick"]
    assert ticks == [0.0, 1.0, 11.5, 12.5]


def test_a_crash_runs_no_finally_block_while_the_world_lasts() -> None:
    world = World(1)
    host = world.host("gw-1")
    disk: list[str] = []

    def write(text: str) -> None:
        ensure_alive()
        disk.append(text)

    async def work() -> None:
        write("begun")
        try:
            await asyncio.sleep(10)
        finally:
            write("cleaned up")
            await asyncio.sleep(1)
            write("cleaned up more")

    async def story() -> None:
        done = world.spawn(host, work())
        await asyncio.sleep(1)
        world.crash(host)
        with pytest.raises(Crashed):
            await done
        await asyncio.sleep(100)
        assert disk == ["begun"]

    world.run(story())
    gc.collect()
    assert disk == ["begun"]


def test_code_of_a_dead_life_cannot_write() -> None:
    world = World(1)
    host = world.host("gw-1")

    async def work() -> None:
        world.crash(host)
        with pytest.raises(Ended):
            ensure_alive()

    async def story() -> None:
        with pytest.raises(Crashed):
            await world.spawn(host, work())

    world.run(story())


def test_a_host_can_crash_at_a_line_and_start_again() -> None:
    world = World(1)
    host = world.host("gw-1")
    handle_closed: list[int] = []

    async def first() -> None:
        host.at_crash(lambda: handle_closed.append(1))
        await world.crash_here(Crash.POWER)
        raise AssertionError("never reached")

    async def second() -> int:
        life = here()
        assert life is not None
        return life.number

    async def story() -> int:
        with pytest.raises(Crashed):
            await world.spawn(host, first())
        return await world.restart(host, second())

    assert world.run(story()) == 2
    assert handle_closed == [1]


def test_executor_work_keeps_its_order_and_can_be_cut_by_a_crash() -> None:
    world = World(3, disk_s=(0.01, 0.1))
    host = world.host("gw-1")
    written: list[int] = []

    async def write_all() -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for number in range(100):
                future = loop.run_in_executor(None, written.append, number)
                group.create_task(_wait(future))

    async def story() -> None:
        done = world.spawn(host, write_all())
        await asyncio.sleep(2)
        world.crash(host)
        with pytest.raises(Crashed):
            await done
        await asyncio.sleep(100)

    world.run(story())
    assert 0 < len(written) < 100
    assert written == list(range(len(written)))


async def _wait(future: asyncio.Future[None]) -> None:
    await future


def test_errors_of_executor_work_arrive() -> None:
    world = World(1)

    async def story() -> None:
        with pytest.raises(ZeroDivisionError):
            await asyncio.get_running_loop().run_in_executor(None, divmod, 1, 0)

    world.run(story())


def test_an_error_that_nobody_looks_at_fails_the_run() -> None:
    world = World(1)
    host = world.host("gw-1")

    async def work() -> None:
        raise LookupError("nobody looks")

    async def story() -> None:
        world.spawn(host, work())
        await asyncio.sleep(1)

    with pytest.raises(ExceptionGroup) as caught:
        world.run(story())
    assert caught.value.subgroup(LookupError)


def test_a_failure_shows_its_seed_and_its_last_events() -> None:
    world = World(41)

    async def story() -> None:
        world.record("the last straw")
        raise AssertionError

    with pytest.raises(AssertionError) as caught:
        world.run(story())
    assert "seed 41" in caught.value.__notes__[0]
    assert "the last straw" in caught.value.__notes__[0]


def test_a_world_ends_quietly_whatever_was_going_on() -> None:
    world = World(1)
    host = world.host("gw-1")

    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                await asyncio.sleep(1)
                yield 1
        finally:
            await asyncio.sleep(1)

    async def stubborn() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(asyncio.sleep(1e5))
            try:
                async for _ in numbers():
                    pass
            finally:
                await asyncio.shield(asyncio.create_task(asyncio.sleep(5)))

    async def story() -> None:
        world.spawn(host, stubborn())
        await asyncio.sleep(2.5)
        world.spawn(world.host("gw-2"), stubborn())
        await asyncio.sleep(0)
        world.spawn(world.host("gw-3"), stubborn())

    world.run(story())
    gc.collect()  # any complaint is an error here


def test_wall_clocks_jump_and_monotonic_clocks_do_not() -> None:
    world = World(1)
    one, other = world.host("gw-1").clock, world.host("gw-2").clock

    async def story() -> None:
        one.jump(-300)
        await asyncio.sleep(10)

    world.run(story())
    assert other.wall() - one.wall() == 300
    assert one.monotonic() == other.monotonic() == 10
