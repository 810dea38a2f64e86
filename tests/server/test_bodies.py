"""Request bodies over real sockets: whole, bounded, in time, or refused."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from gateway.server import RawResponse, compose, raw_response, read_body, stream_body
from middleware.problems import problems
from middleware.request_id import request_id
from tests.server.serving import PATIENCE_S, Client, Storefront, get, note, post, serving

CHUNKED = b"POST /orders HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
EXPECTING = b"Expect: 100-continue"


def forget(request: web.BaseRequest, error: BaseException) -> None: ...


def bounded(body_bytes_max: int = 100, deadline_s: float = PATIENCE_S) -> Any:
    """A handler that reads a bounded body, inside the problems middleware."""

    outside = (request_id(), problems(raw_response, on_failure=forget))

    async def handle(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        async def read(request: web.BaseRequest) -> web.StreamResponse:
            body = await read_body(request, body_bytes_max=body_bytes_max, deadline_s=deadline_s)
            note(request, front, body)
            return RawResponse(200, (), body)

        return await compose(outside, read)(request)

    return handle


async def test_a_chunked_body_arrives_whole_and_the_next_request_is_found() -> None:
    chunks = b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with serving() as front, front.connect() as client:
        await client.send(CHUNKED + chunks + get(b"/next"))
        assert (await client.answer()).body == b"/orders|abcde"
        assert (await client.answer()).body == b"/next|"


async def test_a_chunked_body_in_single_bytes_arrives_whole() -> None:
    async with serving() as front, front.connect() as client:
        for byte in CHUNKED + b"3\r\nabc\r\n0\r\nT: v\r\n\r\n" + get(b"/next"):
            await client.send(bytes((byte,)))
            await asyncio.sleep(0)
        assert (await client.answer()).body == b"/orders|abc"
        assert (await client.answer()).body == b"/next|"


async def test_a_trailer_field_does_not_become_a_header_of_the_next_request() -> None:
    """aiohttp 3.14.5 puts the last trailer field into the next request's header."""
    trailer = b"1\r\nx\r\n0\r\nX-A: 1\r\nAuthorization: stolen\r\n\r\n"
    async with serving() as front, front.connect() as client:
        await client.send(CHUNKED + trailer)
        assert (await client.answer()).status == 200
        await client.send(get(b"/victim"))
        assert (await client.answer()).status == 200
        assert [seen.headers for seen in front.seen][1] == ((b"Host", b"a"),)


@pytest.mark.parametrize(
    "chunks",
    [
        b"x\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\nabc",
        b"3;" + b"e" * 300 + b"\r\nabc\r\n0\r\n\r\n",
        b"0\r\n" + b"T: " + b"v" * 9_000 + b"\r\n\r\n",
        b"0\r\n" + b"T: v\r\n" * 2_000 + b"\r\n",
        b"3\r\nab\x00\r\n0\r\n\r\r\n",
    ],
)
async def test_broken_chunks_end_in_400_and_the_connection(chunks: bytes) -> None:
    async with serving(bounded()) as front:
        async with front.connect() as client:
            await client.send(CHUNKED + chunks + get(b"/smuggled"))
            answer = await client.answer()
            assert (answer.status, answer.field(b"connection")) == (400, b"close")
            assert await client.closed() == b""
        assert front.seen == []
        await front.still_serves()


async def test_what_was_asked_before_broken_chunks_is_answered_and_so_are_they() -> None:
    async with serving(bounded()) as front:
        async with front.connect() as client:
            await client.send(get(b"/1") + get(b"/2") + CHUNKED + b"3\nabc")
            answers = [await client.answer() for _ in range(3)]
            assert [each.status for each in answers] == [200, 200, 400]
            assert [each.field(b"connection") for each in answers] == [None, None, b"close"]
            assert await client.closed() == b""
        await front.still_serves()


async def test_ten_thousand_tiny_chunks_are_one_body() -> None:
    async with serving() as front:
        answer = await front.says(CHUNKED + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n")
        assert answer.body == b"/orders|" + b"x" * 10_000


async def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    async with serving(bounded()) as front:
        async with front.connect() as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n")
            answer = await client.answer()
            assert (answer.status, answer.problem["body_bytes_max"]) == (413, 100)
            assert answer.field(b"connection") == b"close"
        assert front.seen == []


async def test_an_undeclared_length_over_the_limit_is_refused_when_it_shows() -> None:
    async with serving(bounded()) as front:
        answer = await front.says(CHUNKED + b"40\r\n" + b"a" * 64 + b"\r\n40\r\n" + b"a" * 64)
        assert answer.status == 413
        await front.still_serves()


async def test_a_slow_body_is_answered_408() -> None:
    async with serving(bounded(deadline_s=0.1)) as front:
        async with front.connect() as client:
            await client.send(post(b"12345")[:-1])
            assert (await client.answer()).status == 408
        assert front.seen == []
        await front.still_serves()


async def test_a_client_that_leaves_in_mid_body_leaves_nothing_behind() -> None:
    ended = asyncio.Event()

    async def handle(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        try:
            return await bounded()(request, front)  # type: ignore[no-any-return]
        finally:
            ended.set()

    async with serving(handle) as front:
        async with front.connect() as client:
            await client.send(post(b"12345")[:-1])
            await asyncio.sleep(0.02)
            client.writer.transport.abort()
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()
        assert front.seen == []


async def test_a_client_that_closes_its_half_in_mid_body_is_told() -> None:
    async with serving(bounded()) as front:
        async with front.connect() as client:
            await client.send(post(b"12345")[:-1])
            client.writer.write_eof()
            answer = await client.answer()
            assert answer.problem["type"].endswith("body-incomplete")
            assert await client.closed() == b""
        assert front.seen == []


async def test_continue_is_sent_when_the_body_is_read_and_not_before() -> None:
    read = asyncio.Event()

    async def handle(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        await read.wait()
        return await bounded()(request, front)  # type: ignore[no-any-return]

    async with serving(handle) as front, front.connect() as client:
        await client.send(post(b"hello", EXPECTING)[:-5])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.reader.read(1)
        read.set()
        assert (await client.answer()).status == 100
        await client.send(b"hello")
        assert (await client.answer()).body == b"hello"
        await client.send(get())
        assert (await client.answer()).status == 200


async def test_a_refused_expectation_gets_its_answer_and_no_continue() -> None:
    async with serving(bounded(2)) as front, front.connect() as client:
        await client.send(post(b"hello", EXPECTING)[:-5])
        answer = await client.answer()
        assert (answer.status, answer.field(b"connection")) == (413, b"close")


async def test_no_continue_for_a_body_that_is_there() -> None:
    async with serving(bounded()) as front:
        assert (await front.says(post(b"hello", EXPECTING))).status == 200


@pytest.mark.parametrize("put_off", [False, True])
async def test_a_body_that_nobody_reads_stops_the_sender(put_off: bool) -> None:
    go_on = asyncio.Event()
    size = 32 * 1024 * 1024

    async def handle(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        await go_on.wait()
        total = 0
        async for chunk in stream_body(request, body_bytes_max=size, idle_s=PATIENCE_S):
            total += len(chunk)
        return RawResponse(200, (), b"%d" % total)

    async with serving(handle) as front, front.connect() as client:
        front.server.sluice.shut = lambda: put_off
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        piece = b"x" * 1_048_576
        sent = await push_until_stuck(client, piece, size // len(piece))
        assert sent < size // len(piece)  # held up by the server, not by its memory
        go_on.set()
        for _ in range(size // len(piece) - sent):
            await client.send(piece)
        assert (await client.answer()).body == b"%d" % size


async def push_until_stuck(client: Client, piece: bytes, times: int) -> int:
    """How many pieces went out before the connection took no more."""
    for sent in range(times):
        client.writer.write(piece)
        try:
            async with asyncio.timeout(0.2):
                await client.writer.drain()
        except TimeoutError:
            return sent + 1
    return times


async def test_an_unread_body_closes_the_connection_after_the_answer() -> None:
    async def handle(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        return RawResponse(200, (), b"early")

    async with serving(handle) as front, front.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
        answer = await client.answer()
        assert (answer.body, answer.field(b"connection")) == (b"early", b"close")
        await client.send(b"GET /smug")
        assert await client.closed() == b""
