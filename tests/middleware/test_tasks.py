"""Tasks are named, heard when they fail, and ended when their owner ends."""

import asyncio

import pytest

from middleware.tasks import Tasks, TasksClosed


class Heard(list[tuple[str, BaseException]]):
    def __call__(self, name: str, error: BaseException) -> None:
        self.append((name, error))


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_task_has_its_name_and_its_result() -> None:
    async def answer() -> int:
        return 42

    tasks = Tasks(Heard())
    task = tasks.start(answer(), name="answer")
    assert (tasks.names, len(tasks)) == (["answer"], 1)
    assert await task == 42
    assert len(tasks) == 0


async def test_a_task_that_fails_is_heard() -> None:
    async def fail() -> None:
        raise LookupError("lost")

    heard = Heard()
    tasks = Tasks(heard)
    tasks.start(fail(), name="failing")
    assert await tasks.finish(1.0)
    [(name, error)] = heard
    assert (name, str(error)) == ("failing", "lost")


async def test_closing_cancels_and_waits_and_refuses_what_comes_later() -> None:
    cleaned_up = False

    async def careful() -> None:
        nonlocal cleaned_up
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            cleaned_up = True

    heard = Heard()
    tasks = Tasks(heard)
    tasks.start(careful(), name="careful")
    await asyncio.sleep(0)
    assert await tasks.close(1.0) == []
    assert cleaned_up
    assert heard == []
    with pytest.raises(TasksClosed, match="late"):
        tasks.start(forever(), name="late")


async def test_a_task_that_will_not_end_is_named() -> None:
    leave = asyncio.Event()

    async def stubborn() -> None:
        while not leave.is_set():
            try:
                await leave.wait()
            except asyncio.CancelledError:
                continue

    tasks = Tasks(Heard())
    task = tasks.start(stubborn(), name="stubborn")
    await asyncio.sleep(0)
    assert await tasks.close(0.01) == ["stubborn"]
    leave.set()
    await task


async def test_finishing_waits_for_tasks_that_tasks_start_and_gives_up_in_time() -> None:
    order: list[str] = []
    tasks = Tasks(Heard())

    async def second() -> None:
        order.append("second")

    async def first() -> None:
        tasks.start(second(), name="second")
        order.append("first")

    tasks.start(first(), name="first")
    assert await tasks.finish(1.0)
    assert order == ["first", "second"]
    tasks.start(forever(), name="forever")
    assert not await tasks.finish(0.01)
    assert await tasks.close(1.0) == []


async def test_a_task_may_close_its_owner() -> None:
    tasks = Tasks(Heard())
    tasks.start(forever(), name="forever")

    async def closer() -> list[str]:
        return await tasks.close(1.0)

    assert await tasks.start(closer(), name="closer") == []
