"""Hearing what was changed from a server that is far away, while many ask."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway.settings.ledger_urls import parse_remote
from gateway.stores.valkey_changes import ValkeyChangeLog
from gateway.stores.valkey_nodes import Access
from middleware.caching.changes import Changes, ChangesUnknown
from middleware.caching.invalidation import Mark, Touches
from middleware.tasks import Tasks
from tests.stores.servers import running, sentinel_of, valkey_binary

from .remote import FaultProxy, durable

FAR_S = 0.02
"""One way: seventy questions one after the other take longer than anybody waits for one."""

MANY = 200


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    tasks = Tasks(lambda _name, _error: None)
    yield tasks
    await tasks.close(1.0)


def far(proxy: FaultProxy) -> ValkeyChangeLog:
    return ValkeyChangeLog(parse_remote(f"valkey://127.0.0.1:{proxy.port}"), access=Access())


async def one_by_one(changes: Changes) -> list[BaseException | None]:
    """Many ask, each in a turn of the event loop of its own."""
    asking = []
    for _ in range(MANY):
        asking.append(asyncio.ensure_future(changes.check()))
        await asyncio.sleep(0)
    return await asyncio.gather(*asking, return_exceptions=True)


def hearing(log: ValkeyChangeLog, heard: list[Mark], tasks: Tasks) -> Changes:
    return Changes(
        log,
        apply=lambda mark, _position: heard.append(mark),
        forget=heard.clear,
        takes=lambda _method, _target: True,
        tasks=tasks,
    )


async def test_many_who_ask_while_a_question_is_under_way_are_told_in_time(tasks: Tasks) -> None:
    with running(durable()) as (server,):
        async with FaultProxy(server.port, delay_s=FAR_S) as proxy:
            log = far(proxy)
            heard: list[Mark] = []
            changes = hearing(log, heard, tasks)
            await changes.check()
            assert await one_by_one(changes) == [None] * MANY
            assert changes.trouble is None
            await log.close()


async def test_who_asks_while_a_question_is_under_way_hears_what_was_changed_before_asking(
    tasks: Tasks,
) -> None:
    """The question under way may have been answered before the change."""
    with running(durable()) as (server,):
        async with FaultProxy(server.port, delay_s=FAR_S) as proxy:
            log, other = far(proxy), far(proxy)
            heard: list[Mark] = []
            changes = hearing(log, heard, tasks)
            await changes.check()
            marks = [Mark(Touches.PATH, b"/orders/%d" % number) for number in range(10)]
            for number, mark in enumerate(marks):
                early = asyncio.ensure_future(one_by_one(changes))
                await other.append([mark])
                await changes.check()
                assert heard == marks[: number + 1]
                await early
            await log.close()
            await other.close()


async def test_changes_are_heard_in_the_end_though_the_sentinels_asked_first_are_silent(
    tasks: Tasks,
) -> None:
    """Each costs a second, and nobody waits for longer than two of them."""
    with running(durable()) as (master,):
        watcher = sentinel_of(valkey_binary(), master.port, 1, down_after_ms=60_000)
        with running(watcher):
            async with FaultProxy(watcher.port) as first, FaultProxy(watcher.port) as second:
                first.silent = second.silent = True
                ports = (first.port, second.port, watcher.port)
                names = ",".join(f"127.0.0.1:{port}" for port in ports)
                url = parse_remote(f"valkey+sentinel://{names}/shop")
                log = ValkeyChangeLog(url, access=Access())
                changes = Changes(
                    log,
                    apply=lambda _mark, _position: None,
                    forget=lambda: None,
                    takes=lambda _method, _target: True,
                    tasks=tasks,
                )
                async with asyncio.timeout(20):
                    while changes.position < 0:
                        with contextlib.suppress(ChangesUnknown):
                            await changes.check()
                await log.close()
