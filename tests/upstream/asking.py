"""Requests that the tests send, and the answers that they expect."""

import asyncio
from collections.abc import AsyncIterator, Callable

from gateway.orders.attempts import Answered, AttemptEnd, Lost, LostReason
from gateway.upstream import (
    Connection,
    Exchange,
    Pool,
    StreamedAnswer,
    StreamTimeouts,
    UpstreamRequest,
)

HOST = (b"Host", b"backend")
ORDER = UpstreamRequest(b"POST", b"/orders", (HOST, (b"Idempotency-Key", b'"k"')), b'{"n":1}')
OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"
GET = UpstreamRequest(b"GET", b"/catalog/%2F/..//a?", (HOST,))
PUT = UpstreamRequest(b"PUT", b"/files/1", (HOST,))
CREATED = b'HTTP/1.1 201 Created\r\nContent-Length: 8\r\n\r\n{"id":1}'
BYTES_MAX = 1_048_576
SOON_S = 5.0
"""Far longer than anything takes here: reached only by a test that fails."""


async def connection_of(pool: Pool) -> Connection:
    return pool.take_idle() or await pool.connect(SOON_S)


async def begin(
    pool: Pool, request: UpstreamRequest = ORDER, bytes_max: int = BYTES_MAX
) -> Exchange:
    return (await connection_of(pool)).send(request, answer_bytes_max=bytes_max)


async def attempt(pool: Pool, request: UpstreamRequest = ORDER) -> AttemptEnd:
    """One attempt, waited for to its end."""
    exchange = await begin(pool, request)
    end = await exchange.wait(SOON_S)
    assert end is not None
    return end


def answered_body(end: AttemptEnd | None) -> bytes:
    assert isinstance(end, Answered), end
    return end.answer.body


def lost_reason(end: AttemptEnd | None) -> LostReason:
    assert isinstance(end, Lost), end
    return end.reason


async def eventually(holds: Callable[[], object]) -> None:
    """Wait for what the other end, or the event loop, is about to bring about."""
    async with asyncio.timeout(SOON_S):
        while True:
            if holds():
                return
            await asyncio.sleep(0.001)


async def get(pool: Pool, request: UpstreamRequest = GET) -> StreamedAnswer:
    return await (await connection_of(pool)).stream(request)


async def read(answer: StreamedAnswer) -> bytes:
    return b"".join([piece async for piece in answer])


async def put(
    pool: Pool,
    body: AsyncIterator[bytes],
    content_length: int | None = None,
    timeouts: StreamTimeouts | None = None,
) -> StreamedAnswer:
    connection = await connection_of(pool)
    return await connection.stream(PUT, body=body, content_length=content_length, timeouts=timeouts)
