"""Cancelled at any moment, the hop leaves nothing behind and the next request is served."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from gateway.orders.attempts import LostReason
from gateway.upstream import ConnectFailed, Pool, UpstreamBroke
from tests.upstream.asking import (
    OK,
    SOON_S,
    answered_body,
    attempt,
    begin,
    eventually,
    get,
    put,
    read,
)
from tests.upstream.conftest import Stage
from tests.upstream.faulty import Wire

STEPS_MAX = 400
"""Turns of the loop; every exchange here is over long before."""


async def in_pieces(wire: Wire) -> None:
    """Answers in pieces, so that there is a moment between any two of them."""
    while (request := await wire.request()) is not None:
        body = request.body or b"hello"
        for piece in (b"HTTP/1.1 100 Continue\r\n\r\n", OK, b"Content-Length: %d\r\n" % len(body)):
            await wire.send(piece)
            await asyncio.sleep(0)
        await wire.send(b"\r\n" + body[:2])
        await asyncio.sleep(0)
        await wire.send(body[2:])


async def a_read(pool: Pool) -> None:
    assert await read(await get(pool)) == b"hello"


async def an_upload(pool: Pool) -> None:
    async def body() -> AsyncIterator[bytes]:
        for piece in (b"a", b"b", b"c"):
            yield piece
            await asyncio.sleep(0)

    assert await read(await put(pool, body(), 3)) == b"abc"


async def an_order(pool: Pool) -> None:
    assert answered_body(await attempt(pool))


@pytest.mark.parametrize("act", [a_read, an_upload, an_order])
@pytest.mark.parametrize("warm", [False, True], ids=["connecting", "connected"])
async def test_cancelled_at_every_step_nothing_is_left_behind(
    stage: Stage, act: Callable[[Pool], Awaitable[None]], warm: bool
) -> None:
    upstream = await stage.upstream(in_pieces)
    finished = cancelled = 0
    for steps in range(STEPS_MAX):
        pool = stage.pool(upstream, connections_max=1)
        if warm:
            await a_read(pool)
        task = asyncio.ensure_future(act(pool))
        for _ in range(steps):
            if task.done():
                break
            await asyncio.sleep(0)
        if task.done():
            finished += 1
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
            cancelled -= 1
        cancelled += 1
        await a_read_after(pool)
        await pool.close()
        stage.pools.remove(pool)
        if finished > 2:
            break
    assert cancelled > 2
    assert finished > 2


async def a_read_after(pool: Pool) -> None:
    """The only place is free again, and whoever comes next gets an answer of its own. An order's
    exchange listens on by design: its owner ends it."""
    for member in list(pool._members):
        if not member.is_free:
            member.stop(LostReason.STOPPING)
    async with asyncio.timeout(SOON_S):
        await a_read(pool)
    assert pool.stats.waiting == 0
    assert len(pool._uploads) == 0


async def test_waiting_for_an_order_can_be_cancelled_without_disturbing_it(stage: Stage) -> None:
    pool = stage.pool(await stage.upstream(in_pieces))
    exchange = await begin(pool)
    waiting = asyncio.ensure_future(exchange.wait(SOON_S))
    await asyncio.sleep(0)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    assert answered_body(await exchange.wait(SOON_S))


async def test_a_pool_that_closes_ends_whatever_waits(stage: Stage) -> None:
    async def never(wire: Wire) -> None:
        await wire.until_closed()

    pool = stage.pool(await stage.upstream(never), connections_max=1)
    reading = asyncio.ensure_future(get(pool))
    waiting = asyncio.ensure_future(pool.connect(SOON_S))
    await eventually(lambda: pool.stats.waiting == 1 and pool.stats.in_use == 1)
    await pool.close()
    with pytest.raises((UpstreamBroke, ConnectFailed)):  # sent, or just about to be
        await reading
    with pytest.raises(ConnectFailed):
        await waiting
