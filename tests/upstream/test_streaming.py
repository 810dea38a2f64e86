"""Requests that are no orders: streamed, bounded, cut short aloud, never sent twice."""

import asyncio
import gzip
import hashlib
import random

import pytest

from gateway.orders.attempts import LostReason, NotSentReason
from gateway.upstream import ConnectFailed, StreamTimeouts, UpstreamBroke, UpstreamRequest
from tests.upstream.asking import (
    CREATED,
    EMPTY,
    GET,
    HOST,
    OK,
    SOON_S,
    connection_of,
    eventually,
    get,
    read,
)
from tests.upstream.conftest import Stage
from tests.upstream.faulty import Wire, always, answering, hang

READ_ONCE_BYTES = 262_144
"""What the event loop may hand over in one go, on top of the buffer's limit."""


async def test_answer_passes_untouched_and_its_connection_goes_back(stage: Stage) -> None:
    bomb = gzip.compress(bytes(20_000_000))
    head = b"Content-Encoding: gzip\r\nX-odd: \xe9 \x80\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\n"
    framing = b"Content-Length: %d\r\n\r\n" % len(bomb)
    upstream = await stage.upstream(always(b"HTTP/1.1 203 Odd Phrase\r\n" + head + framing + bomb))
    pool = stage.pool(upstream)
    for _ in range(2):
        answer = await get(pool)
        assert (answer.status, answer.phrase) == (203, b"Odd Phrase")
        assert answer.headers[:2] == ((b"Content-Encoding", b"gzip"), (b"X-odd", b"\xe9 \x80"))
        assert [name for name, _ in answer.headers[2:4]] == [b"set-cookie", b"Set-Cookie"]
        assert (answer.content_length, answer.chunked, answer.framed) == (len(bomb), False, True)
        assert await read(answer) == bomb
    assert len(upstream.wires) == 1
    assert upstream.requests[0].target == b"/catalog/%2F/..//a?"


async def test_chunked_answer_loses_its_chunks_and_trailers_only(stage: Stage) -> None:
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n"
    pool = stage.pool(await stage.upstream(always(chunked)))
    answer = await get(pool)
    assert (answer.chunked, answer.content_length) == (True, None)
    assert await read(answer) == b"hi!"
    assert pool.stats.idle == 1


async def test_answer_without_framing_ends_with_its_connection(stage: Stage) -> None:
    pool = stage.pool(await stage.upstream(answering(OK + b"\r\nhello")))
    answer = await get(pool)
    assert not answer.framed
    assert await read(answer) == b"hello"
    assert pool.stats.idle == 0


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 304 Same\r\nETag: x\r\n\r\n"]
)
async def test_answer_without_a_body_is_empty(stage: Stage, head: bytes) -> None:
    pool = stage.pool(await stage.upstream(always(head)))
    for _ in range(2):
        assert await read(await get(pool)) == b""
    assert pool.stats.places == 1


async def test_upstream_is_held_back_while_nobody_reads(stage: Stage) -> None:
    wanted, sent = 100_000_000, 0
    digest = hashlib.sha256()

    async def flood(wire: Wire) -> None:
        nonlocal sent
        await wire.request()
        await wire.send(OK + b"Content-Length: %d\r\n\r\n" % wanted)
        block = random.Random(3).randbytes(100_000)
        while sent < wanted:
            await wire.send(block)
            digest.update(block)
            sent += len(block)
        await wire.until_closed()

    pool = stage.pool(await stage.upstream(flood))
    answer = await get(pool)
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(0.05)
    assert sent < wanted / 2
    bound = pool.limits.buffer_bytes_max + READ_ONCE_BYTES
    received = hashlib.sha256()
    async for piece in answer:
        assert len(piece) <= bound
        assert len(answer._exchange._buffer) <= bound
        received.update(piece)
    assert sent == wanted
    assert received.digest() == digest.digest()
    assert pool.stats.idle == 1


@pytest.mark.parametrize(
    ("before", "expected", "status"),
    [
        (b"", LostReason.CLOSED, None),
        (b"HTTP/1.1 2", LostReason.TRUNCATED, None),
        (b"nonsense\r\n", LostReason.MALFORMED, None),
        (b"HTTP/1.1 101 Hm\r\n\r\n", LostReason.UPGRADED, 101),
    ],
)
async def test_upstream_that_breaks_before_its_head_is_told(
    stage: Stage, before: bytes, expected: LostReason, status: int | None
) -> None:
    upstream = await stage.upstream(answering(before))
    with pytest.raises(UpstreamBroke) as broke:
        await get(stage.pool(upstream))
    assert (broke.value.reason, broke.value.status) == (expected, status)
    assert not broke.value.repeat_is_safe
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"Content-Length: 5\r\n\r\nhel", LostReason.TRUNCATED),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", LostReason.TRUNCATED),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", LostReason.MALFORMED),
    ],
    ids=["short body", "missing chunk", "bad chunk"],
)
async def test_body_that_is_cut_short_is_handed_out_and_then_told(
    stage: Stage, body: bytes, expected: LostReason
) -> None:
    begun = asyncio.Event()

    async def cut(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK + body)
        await begun.wait()
        if expected is LostReason.MALFORMED:
            await wire.send(b"zz\r\n")

    pool = stage.pool(await stage.upstream(cut))
    answer = await get(pool)
    got = await anext(answer)
    begun.set()
    with pytest.raises(UpstreamBroke) as broke:
        await anext(answer)
    assert (got, broke.value.reason, broke.value.status) == (b"hel", expected, 200)
    assert pool.stats.idle == 0


@pytest.mark.parametrize("before", [b"", OK, OK + b"Content-Length: 5\r\n\r\nhel"])
async def test_silent_upstream_is_given_up(stage: Stage, before: bytes) -> None:
    pool = stage.pool(await stage.upstream(answering(before, then=hang)))
    connection = await pool.connect(SOON_S)
    timeouts = StreamTimeouts(head_s=0.05, quiet_s=0.05)

    async def get_all() -> None:
        await read(await connection.stream(GET, timeouts=timeouts))

    with pytest.raises(UpstreamBroke) as broke:
        await get_all()
    assert broke.value.reason is LostReason.TIMEOUT
    assert not connection.is_open


async def test_answer_that_is_dropped_closes_its_connection(stage: Stage) -> None:
    begun = OK + b"Content-Length: 9\r\n\r\nhi"
    pool = stage.pool(await stage.upstream(answering(begun, then=hang)))
    connection = await pool.connect(SOON_S)
    answer = await connection.stream(GET)
    await answer.aclose()
    await answer.aclose()
    assert not connection.is_open
    assert pool.stats.idle == 0


async def test_connection_is_free_again_before_its_answer_is_read(stage: Stage) -> None:
    pool = stage.pool(await stage.upstream(always(CREATED)), connections_max=1)
    first = await get(pool)
    second = await get(pool)
    assert await read(second) == await read(first) == b'{"id":1}'


async def test_stream_on_a_dead_connection_is_not_sent(stage: Stage) -> None:
    upstream = await stage.upstream(lambda _wire: asyncio.sleep(0))
    connection = await stage.pool(upstream).connect(SOON_S)
    await eventually(lambda: not connection.is_open)
    with pytest.raises(ConnectFailed) as failed:
        await connection.stream(GET)
    assert failed.value.reason is NotSentReason.CLOSED_BEFORE_SENDING


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE"])
async def test_stream_on_a_reused_connection_that_dies_is_never_sent_twice(
    stage: Stage, method: bytes
) -> None:
    async def dies_on_second(wire: Wire) -> None:
        await wire.request()
        await wire.send(CREATED)
        await wire.request()

    upstream = await stage.upstream(dies_on_second)
    pool = stage.pool(upstream)
    request = UpstreamRequest(method, b"/", (HOST,))
    await read(await get(pool, request))
    with pytest.raises(UpstreamBroke):
        await get(pool, request)
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("earlier_s", [(30.0,), (0.2,), (0.2, 30.0)])
async def test_each_wait_on_a_connection_has_its_own_time(
    stage: Stage, earlier_s: tuple[float, ...]
) -> None:
    """One timer serves them all, whether this wait ends before the last one's time or after it."""
    pool = stage.pool(await stage.upstream(answering(*[EMPTY] * len(earlier_s), then=hang)))
    for head_s in earlier_s:
        connection = await connection_of(pool)
        await read(await connection.stream(GET, timeouts=StreamTimeouts(head_s=head_s)))
    connection = await connection_of(pool)
    assert connection.exchanges == len(earlier_s)
    time = asyncio.get_running_loop().time
    began = time()
    with pytest.raises(UpstreamBroke) as broke:
        await connection.stream(GET, timeouts=StreamTimeouts(head_s=0.4))
    assert broke.value.reason is LostReason.TIMEOUT
    assert time() - began >= 0.39
