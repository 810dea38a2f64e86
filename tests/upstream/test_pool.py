"""Places, idle connections, and what must never be left behind."""

import asyncio
import random
import socket
from contextlib import suppress

import pytest

from gateway.orders.attempts import Answered, LostReason, NotSent, NotSentReason
from gateway.upstream import ConnectFailed, Connection, HopLimits, Origin, Pool, Progress
from tests.upstream.asking import (
    BYTES_MAX,
    CREATED,
    ORDER,
    SOON_S,
    answered_body,
    attempt,
    begin,
    connection_of,
    eventually,
    lost_reason,
)
from tests.upstream.conftest import Stage
from tests.upstream.faulty import Wire, always, answering, hang


async def until_places(pool: Pool, places: int) -> None:
    await eventually(lambda: pool.stats.places == places)


async def test_small_requests_go_out_without_delay(stage: Stage) -> None:
    """Nagle's algorithm would hold a second small write back."""
    connection = await stage.pool(await stage.upstream(hang)).connect(SOON_S)
    assert connection._transport is not None
    sock = connection._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_unused_connection_goes_back(stage: Stage) -> None:
    pool = stage.pool(await stage.upstream(always(CREATED)))
    connection = await pool.connect(SOON_S)
    pool.put_back(connection)
    pool.put_back(connection)
    assert pool.stats.idle == 1
    assert pool.take_idle() is connection
    assert pool.take_idle() is None
    assert pool.stats.in_use == 1


async def test_connection_in_the_pool_or_in_an_exchange_cannot_be_used_again(stage: Stage) -> None:
    pool = stage.pool(await stage.upstream(hang))
    connection = await pool.connect(SOON_S)
    pool.put_back(connection)
    with pytest.raises(RuntimeError):
        connection.send(ORDER, answer_bytes_max=BYTES_MAX)
    assert pool.take_idle() is connection
    connection.send(ORDER, answer_bytes_max=BYTES_MAX)
    with pytest.raises(RuntimeError):
        connection.send(ORDER, answer_bytes_max=BYTES_MAX)
    with pytest.raises(RuntimeError):
        pool.put_back(connection)


async def test_connection_put_back_unused_grows_no_younger(stage: Stage) -> None:
    pool = stage.pool(await stage.upstream(always(CREATED)), idle_s=0.1, stale_s=10)
    await attempt(pool)
    for _ in range(1000):
        connection = pool.take_idle()
        if connection is None:
            break
        await asyncio.sleep(0.01)
        pool.put_back(connection)
    else:
        pytest.fail("a connection was handed out for ever")
    await until_places(pool, 0)


async def test_connection_closed_before_the_first_byte_is_not_sent(stage: Stage) -> None:
    upstream = await stage.upstream(lambda _wire: asyncio.sleep(0))
    pool = stage.pool(upstream)
    connection = await pool.connect(SOON_S)
    await eventually(lambda: not connection.is_open)
    exchange = connection.send(ORDER, answer_bytes_max=BYTES_MAX)
    assert exchange.ended
    assert exchange.progress is Progress.CONNECTED_NOTHING_WRITTEN
    assert exchange.written_bytes == 0
    assert await exchange.wait(0) == NotSent(NotSentReason.CLOSED_BEFORE_SENDING)
    assert upstream.requests == []


async def test_connection_that_became_stale_in_hand_is_not_sent_on(stage: Stage) -> None:
    upstream = await stage.upstream(always(CREATED))
    pool = stage.pool(upstream, idle_s=0.05, stale_s=0.05)
    await attempt(pool)
    connection = pool.take_idle()
    assert connection is not None
    await asyncio.sleep(0.06)
    exchange = connection.send(ORDER, answer_bytes_max=BYTES_MAX)
    assert await exchange.wait(0) == NotSent(NotSentReason.CLOSED_BEFORE_SENDING)
    assert len(upstream.requests) == 1


async def test_idle_connection_is_closed_when_old(stage: Stage) -> None:
    pool = stage.pool(await stage.upstream(always(CREATED)), idle_s=0.02)
    await attempt(pool)
    assert pool.stats.idle == 1
    await until_places(pool, 0)


@pytest.mark.parametrize("then", ["data", "FIN", "RST"])
async def test_idle_connection_that_hears_anything_is_closed_at_once(
    stage: Stage, then: str
) -> None:
    act = asyncio.Event()

    async def speak_unasked(wire: Wire) -> None:
        await act.wait()
        if then == "data":
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
            await wire.until_closed()
        elif then == "RST":
            wire.reset()

    upstream = await stage.upstream(answering(CREATED, then=speak_unasked))
    pool = stage.pool(upstream, idle_s=10, stale_s=10)
    await attempt(pool)
    act.set()
    await until_places(pool, 0)
    assert pool.take_idle() is None


async def test_input_that_only_the_kernel_knows_of_is_seen_before_reuse(stage: Stage) -> None:
    """The loop has had no turn since the poison arrived: only a look at the socket shows it."""
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pool = Pool(Origin("127.0.0.1", listener.getsockname()[1]))
        stage.pools.append(pool)
        connection = await pool.connect(SOON_S)
        peer, _ = listener.accept()
        with peer:
            peer.sendall(poison)
            exchange = connection.send(ORDER, answer_bytes_max=BYTES_MAX)
            assert await exchange.wait(0) == NotSent(NotSentReason.CLOSED_BEFORE_SENDING)


async def test_the_next_in_line_gets_a_returned_connection(stage: Stage) -> None:
    upstream = await stage.upstream(always(CREATED))
    pool = stage.pool(upstream, connections_max=1)
    first = await pool.connect(SOON_S)
    waiting = asyncio.create_task(pool.connect(SOON_S))
    await asyncio.sleep(0)
    assert pool.stats.waiting == 1
    assert answered_body(await first.send(ORDER, answer_bytes_max=BYTES_MAX).wait(SOON_S))
    assert await waiting is first
    assert len(upstream.wires) == 1


async def test_the_next_in_line_gets_the_place_of_a_closed_connection(stage: Stage) -> None:
    upstream = await stage.upstream(hang)
    pool = stage.pool(upstream, connections_max=1)
    exchange = await begin(pool)
    waiting = asyncio.create_task(pool.connect(SOON_S))
    await asyncio.sleep(0)
    exchange.stop_listening()
    assert (await waiting).is_open
    assert pool.stats.places == 1


async def test_the_next_in_line_gets_no_connection_that_grew_old(stage: Stage) -> None:
    pool = stage.pool(
        await stage.upstream(always(CREATED)), connections_max=1, idle_s=0.03, stale_s=0.03
    )
    await attempt(pool)
    old = pool.take_idle()
    assert old is not None
    waiting = asyncio.create_task(pool.connect(SOON_S))
    await asyncio.sleep(0.04)
    pool.put_back(old)
    assert (await waiting).exchanges == 0
    assert not old.is_open


async def test_new_connection_is_not_kept_waiting_by_idle_ones(stage: Stage) -> None:
    upstream = await stage.upstream(always(CREATED))
    pool = stage.pool(upstream, connections_max=2, idle_s=10, stale_s=10)
    exchanges = [await begin(pool) for _ in range(2)]
    for exchange in exchanges:
        await exchange.wait(SOON_S)
    assert pool.stats.idle == 2
    connections = [await pool.connect(SOON_S) for _ in range(2)]
    assert all(connection.exchanges == 0 for connection in connections)
    assert len(upstream.wires) == 4


async def test_queue_for_places_is_bounded(stage: Stage) -> None:
    pool = stage.pool(await stage.upstream(hang), connections_max=1, waiting_max=1)
    await begin(pool)
    waiting = asyncio.create_task(pool.connect(SOON_S))
    await asyncio.sleep(0)
    with pytest.raises(ConnectFailed) as failed:
        await pool.connect(SOON_S)
    assert failed.value.reason is NotSentReason.POOL_EXHAUSTED
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting


async def test_what_is_no_order_holds_no_more_than_its_part(stage: Stage) -> None:
    pool = stage.pool(await stage.upstream(always(CREATED)), connections_max=3, plain_max=2)
    first, second = await pool.connect(SOON_S, plain=True), await pool.connect(SOON_S, plain=True)
    with pytest.raises(ConnectFailed) as failed:
        await pool.connect(0.01, plain=True)
    assert failed.value.reason is NotSentReason.POOL_EXHAUSTED
    ordered = await pool.connect(SOON_S)
    pool.put_back(ordered)
    assert pool.take_idle(plain=True) is None
    assert pool.take_idle() is ordered
    waiting = asyncio.create_task(pool.connect(SOON_S, plain=True))
    await asyncio.sleep(0)
    pool.put_back(ordered)
    await asyncio.sleep(0)
    assert not waiting.done()  # an order's place is no place for it
    second.abort()
    assert await waiting is not ordered
    pool.put_back(first)
    assert pool.take_idle(plain=True) is first


async def test_orders_come_before_what_is_none(stage: Stage) -> None:
    pool = stage.pool(await stage.upstream(always(CREATED)), connections_max=1)
    only = await pool.connect(SOON_S)
    read = asyncio.create_task(pool.connect(SOON_S, plain=True))
    await asyncio.sleep(0)
    order = asyncio.create_task(pool.connect(SOON_S))
    await asyncio.sleep(0)
    pool.put_back(only)
    assert await order is only
    assert not read.done()
    read.cancel()
    with suppress(asyncio.CancelledError):
        await read
    assert pool.stats.waiting == 0
    pool.put_back(only)
    assert pool.take_idle(plain=True) is only


async def test_closing_ends_everything(stage: Stage) -> None:
    pool = stage.pool(await stage.upstream(hang), connections_max=2)
    exchange = await begin(pool)
    unused = await pool.connect(SOON_S)
    waiting = asyncio.create_task(pool.connect(SOON_S))
    await asyncio.sleep(0)
    await pool.close()
    assert lost_reason(await exchange.wait(0)) is LostReason.STOPPING
    assert not unused.is_open
    for connecting in (waiting, asyncio.create_task(pool.connect(SOON_S))):
        with pytest.raises(ConnectFailed) as failed:
            await connecting
        assert failed.value.reason is NotSentReason.STOPPING
    assert pool.stats.places == 0


async def test_connect_under_way_while_closing_leaves_nothing(unanswered: Origin) -> None:
    pool = Pool(unanswered)
    connecting = asyncio.create_task(pool.connect(0.1))
    await asyncio.sleep(0.01)
    await pool.close()
    with pytest.raises(ConnectFailed):
        await connecting
    assert pool.stats.places == 0


async def test_connection_made_while_closing_is_closed_too(stage: Stage) -> None:
    upstream = await stage.upstream(hang)
    for turns in range(8):
        pool = stage.pool(upstream)
        connecting = asyncio.create_task(pool.connect(SOON_S))
        for _ in range(turns):
            await asyncio.sleep(0)
        closing = asyncio.create_task(pool.close())
        result = (await asyncio.gather(connecting, closing, return_exceptions=True))[0]
        if isinstance(result, Connection):  # it was there before closing began
            assert not result.is_open
        else:
            assert isinstance(result, ConnectFailed)
            assert result.reason is NotSentReason.STOPPING
        await until_places(pool, 0)


async def test_cancelled_connects_leave_no_place_taken(stage: Stage, unanswered: Origin) -> None:
    """Cancelled after any number of loop turns: waiting, connecting, just connected."""
    upstream = await stage.upstream(always(CREATED))
    for pool in (stage.pool(upstream, connections_max=2), Pool(unanswered)):
        for turns in range(12):
            tasks = [asyncio.create_task(pool.connect(SOON_S)) for _ in range(4)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Connection):
                    pool.put_back(result)
            assert pool.stats.waiting == 0
            assert pool.stats.in_use == 0
            assert pool.stats.connecting == 0
        await pool.close()
        assert pool.stats.places == 0


async def test_storm_of_cancelled_users_leaves_a_working_pool(stage: Stage) -> None:
    chance = random.Random(7)
    upstream = await stage.upstream(always(CREATED))
    pool = stage.pool(upstream, connections_max=3)

    async def use() -> None:
        connection = await connection_of(pool)
        exchange = connection.send(ORDER, answer_bytes_max=BYTES_MAX)
        try:
            await exchange.wait(SOON_S)
        finally:
            exchange.stop_listening()

    async def bother() -> None:
        task = asyncio.create_task(use())
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        if chance.random() < 0.6:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    await asyncio.gather(*(bother() for _ in range(300)))
    assert (pool.stats.in_use, pool.stats.connecting, pool.stats.waiting) == (0, 0, 0)
    assert answered_body(await attempt(pool)) == b'{"id":1}'
    assert pool.stats.places <= 3


async def test_upstream_that_closes_idle_connections_causes_no_doubt(stage: Stage) -> None:
    """Several hundred orders, an upstream that drops idle connections after 60 ms or any time
    later, a pool that trusts them for 20 ms: whatever comes is an answer, or provably not sent."""
    chance = random.Random(11)

    async def impatient(wire: Wire) -> None:
        while True:
            try:
                async with asyncio.timeout(0.06 + chance.random() * 0.03):
                    if await wire.request() is None:
                        return
            except TimeoutError:
                return
            await wire.send(CREATED)

    upstream = await stage.upstream(impatient)
    pool = stage.pool(upstream, idle_s=0.02, stale_s=0.03)
    ends = []

    async def customer() -> None:
        for _ in range(40):
            await asyncio.sleep(chance.choice([0, 0.005, 0.019, 0.03, 0.06, 0.075]))
            ends.append(await attempt(pool))

    await asyncio.gather(*(customer() for _ in range(8)))
    assert len(ends) == 320
    answered = [end for end in ends if isinstance(end, Answered)]
    assert [end for end in ends if not isinstance(end, (Answered, NotSent))] == []
    assert len(answered) == len(upstream.requests)
    assert len(answered) > 300
    assert 8 < len(upstream.wires) < 320


def test_limits_that_could_never_work_are_refused() -> None:
    for wrong in ({"connections_max": 0}, {"idle_s": 3.0, "stale_s": 2.0}):
        with pytest.raises(ValueError):
            HopLimits(**wrong)
