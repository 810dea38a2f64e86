"""Request bodies that are streamed: held back, well framed, stopped when they must be."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from gateway.orders.attempts import LostReason
from gateway.upstream import BodyMismatch, StreamTimeouts, UpstreamBroke, UpstreamRequest
from tests.upstream.asking import EMPTY, HOST, OK, SOON_S, eventually, get, put, read
from tests.upstream.conftest import Stage
from tests.upstream.faulty import Wire, always, hang


async def pieces(*items: bytes) -> AsyncIterator[bytes]:
    for item in items:
        yield item


@pytest.mark.parametrize("content_length", [11, None])
async def test_body_is_sent_with_its_length_or_in_chunks(
    stage: Stage, content_length: int | None
) -> None:
    upstream = await stage.upstream(always(EMPTY))
    pool = stage.pool(upstream)
    for _ in range(2):
        await read(await put(pool, pieces(b"hello", b"", b" ", b"world"), content_length))
    assert [seen.body for seen in upstream.requests] == [b"hello world"] * 2
    names = {name for name, _ in upstream.requests[0].headers}
    assert (b"content-length" in names, b"transfer-encoding" in names) == (
        content_length is not None,
        content_length is None,
    )
    assert len(upstream.wires) == 1


async def test_client_is_held_back_while_the_upstream_does_not_read(stage: Stage) -> None:
    wanted, given = 60_000_000, 0
    go_on = asyncio.Event()
    block = random.Random(4).randbytes(50_000)

    async def body() -> AsyncIterator[bytes]:
        nonlocal given
        while given < wanted:
            given += len(block)
            yield block

    async def reads_late(wire: Wire) -> None:
        await wire.head()
        await go_on.wait()
        left, digest = wanted, hashlib.sha256()
        while left:
            data = await wire.reader.read(1 << 20)
            digest.update(data)
            left -= len(data)
        await wire.send(OK + b"Content-Length: 64\r\n\r\n" + digest.hexdigest().encode())
        await wire.until_closed()

    pool = stage.pool(await stage.upstream(reads_late))
    answering = asyncio.create_task(put(pool, body(), wanted))
    before = -1
    while given != before:
        before = given
        await asyncio.sleep(0.05)
    assert given < wanted / 2
    go_on.set()
    expected = hashlib.sha256(block * (wanted // len(block))).hexdigest()
    assert await read(await answering) == expected.encode()
    assert pool.stats.idle == 1


async def test_upstream_that_answers_while_it_reads_is_served(stage: Stage) -> None:
    """More in both directions at once than all buffers hold: neither may wait for the other."""
    size, block = 40_000_000, bytes(100_000)

    async def echo(wire: Wire) -> None:
        await wire.head()
        await wire.send(OK + b"Content-Length: %d\r\n\r\n" % size)
        left = size
        while left:
            data = await wire.reader.read(65_536)
            left -= len(data)
            await wire.send(data)
        await wire.until_closed()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(size // len(block)):
            yield block

    pool = stage.pool(await stage.upstream(echo))
    answer = await put(pool, body(), size)
    assert sum([len(piece) async for piece in answer]) == size
    assert pool.stats.idle == 1


async def test_early_answer_stops_the_upload_and_ends_the_connection(stage: Stage) -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(10_000)
                await asyncio.sleep(0)
        finally:
            closed.set()

    async def refuse(wire: Wire) -> None:
        await wire.head()
        await wire.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await wire.until_closed()

    pool = stage.pool(await stage.upstream(refuse))
    body = endless()
    answer = await put(pool, body)
    assert answer.status == 413
    assert await read(answer) == b"no"
    assert len(pool._uploads) == 0
    assert pool.stats.idle == 0
    await body.aclose()  # type: ignore[attr-defined]
    assert closed.is_set()


@pytest.mark.parametrize("given", [b"hell", b"hello!"], ids=["short", "long"])
async def test_body_of_another_length_than_announced_breaks_the_request(
    stage: Stage, given: bytes
) -> None:
    upstream = await stage.upstream(always(EMPTY))
    pool = stage.pool(upstream)
    with pytest.raises(BodyMismatch):
        await put(pool, pieces(given), 5)
    assert pool.stats.idle == 0
    assert upstream.requests == []


async def test_client_that_fails_breaks_the_request(stage: Stage) -> None:
    class ClientGone(Exception):
        pass

    async def failing() -> AsyncIterator[bytes]:
        yield b"hel"
        raise ClientGone

    upstream = await stage.upstream(hang)
    pool = stage.pool(upstream)
    for length in (5, None):
        with pytest.raises(ClientGone):
            await put(pool, failing(), length)
    assert pool.stats.idle == 0


@pytest.mark.parametrize("head_bytes", [0, 20_000_000], ids=["a small head", "a huge head"])
async def test_upstream_that_takes_no_more_of_the_body_is_given_up(
    stage: Stage, head_bytes: int
) -> None:
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        while given < 100_000_000:
            given += 1_000_000
            yield bytes(1_000_000)

    async def deaf(wire: Wire) -> None:
        await asyncio.Event().wait()

    connection = await stage.pool(await stage.upstream(deaf)).connect(SOON_S)
    request = UpstreamRequest(b"PUT", b"/", (HOST, (b"A", b"a" * head_bytes)))
    body = endless()
    with pytest.raises(UpstreamBroke) as broke:
        await connection.stream(request, body=body, timeouts=StreamTimeouts(quiet_s=0.1))
    assert broke.value.reason is LostReason.TIMEOUT
    assert given < 50_000_000
    await body.aclose()  # type: ignore[attr-defined]


async def test_slow_client_is_no_fault_of_the_upstream(stage: Stage) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(5):
            await asyncio.sleep(0.03)
            yield b"x"

    upstream = await stage.upstream(always(EMPTY))
    timeouts = StreamTimeouts(head_s=0.08, quiet_s=0.08)
    await read(await put(stage.pool(upstream), slow(), 5, timeouts))
    assert upstream.requests[0].body == b"xxxxx"


async def test_storm_of_cancelled_streams_leaves_a_working_pool(stage: Stage) -> None:
    chance = random.Random(13)
    answer_bytes = OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"3\r\nabc\r\n" * 3 + b"0\r\n\r\n"
    pool = stage.pool(await stage.upstream(always(answer_bytes)), connections_max=3)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield b"piece"

    async def use() -> None:
        answer = await put(pool, body())
        try:
            assert await read(answer) == b"abc" * 3
        finally:
            await answer.aclose()

    async def bother() -> None:
        task = asyncio.create_task(use())
        for _ in range(chance.randrange(20)):
            await asyncio.sleep(0)
        if chance.random() < 0.6:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    await asyncio.gather(*(bother() for _ in range(300)))
    assert (pool.stats.in_use, pool.stats.connecting, pool.stats.waiting) == (0, 0, 0)
    assert len(pool._uploads) == 0
    assert await read(await get(pool)) == b"abc" * 3
    assert pool.stats.places <= 3


async def test_closing_the_pool_ends_streams(stage: Stage) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(SOON_S)

    pool = stage.pool(await stage.upstream(hang))
    streaming = asyncio.create_task(put(pool, slow()))
    await eventually(lambda: len(pool._uploads))
    await pool.close()
    with pytest.raises(UpstreamBroke) as broke:
        await streaming
    assert broke.value.reason is LostReason.STOPPING
