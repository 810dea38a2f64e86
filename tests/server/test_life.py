"""Connections: half-closed, abandoned, pipelined, drained."""

import asyncio
import gc

import pytest
from aiohttp import http, web

from gateway.server import ParserMissing, RawResponse, ServerLimits, StorefrontServer
from gateway.server import listener as listener_module
from tests.server.serving import PATIENCE_S, Storefront, get, post, serving


class Gate:
    """A handler that waits to be let through."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.finished = 0

    async def __call__(self, request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        self.entered.set()
        await self.open.wait()
        self.finished += 1
        return RawResponse(200, (), b"done")


async def test_a_half_closed_client_gets_its_answer() -> None:
    gate = Gate()
    async with serving(gate) as front, front.connect() as client:
        await client.send(post(b"order"))
        client.writer.write_eof()
        await gate.entered.wait()
        await asyncio.sleep(0.02)
        gate.open.set()
        answer = await client.answer()
        assert (answer.body, answer.field(b"connection")) == (b"done", b"close")
        assert await client.closed() == b""


async def test_a_half_closed_client_gets_every_pipelined_answer() -> None:
    async with serving() as front, front.connect() as client:
        await client.send(post(b"1") + post(b"2") + get(b"/3") + b"GET /partial HT")
        client.writer.write_eof()
        bodies = [(await client.answer()).body for _ in range(3)]
        assert bodies == [b"/orders|1", b"/orders|2", b"/3|"]
        assert await client.closed() == b""


async def test_a_half_closed_idle_client_is_let_go() -> None:
    async with serving() as front, front.connect() as client:
        client.writer.write_eof()
        assert await client.closed() == b""


async def test_a_client_that_leaves_does_not_cancel_its_handler() -> None:
    gate = Gate()
    async with serving(gate) as front:
        async with front.connect() as client:
            await client.send(post(b"order"))
            await gate.entered.wait()
            client.writer.transport.abort()
        await asyncio.sleep(0.02)
        assert front.server.requests == 1
        gate.open.set()
        async with asyncio.timeout(PATIENCE_S):
            await front.server.quiet()
        assert gate.finished == 1


async def test_many_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as front, front.connect() as client:
        sending = asyncio.create_task(client.send(b"".join(get(b"/%d" % n) for n in range(300))))
        for number in range(300):
            assert (await client.answer()).body == b"/%d|" % number
        await sending


async def test_pipelined_bodies_larger_than_the_buffers_stay_apart() -> None:
    bodies = [bytes((65 + number,)) * 300_000 for number in range(4)]
    async with serving() as front, front.connect() as client:
        sending = asyncio.create_task(client.send(b"".join(post(body) for body in bodies)))
        for body in bodies:
            assert (await client.answer()).body == b"/orders|" + body
        await sending


async def test_a_body_is_read_where_only_one_request_may_wait() -> None:
    async with serving(pipelined_max=1) as front, front.connect() as client:
        await client.send(post(b"order")[:-2])
        await asyncio.sleep(0.02)
        await client.send(b"er" + post(b"next"))
        assert [(await client.answer()).body for _ in range(2)] == [
            b"/orders|order",
            b"/orders|next",
        ]


async def test_what_follows_a_closing_request_is_not_read() -> None:
    async with serving() as front, front.connect() as client:
        await client.send(get(b"/last", b"Connection: close") + get(b"/never"))
        assert (await client.answer()).body == b"/last|"
        assert await client.closed() == b""
        assert len(front.seen) == 1


async def test_nothing_is_answered_after_an_answer_that_said_close() -> None:
    async def early(_request: web.BaseRequest, _front: Storefront) -> web.StreamResponse:
        return RawResponse(200, (), b"early")

    async with serving(early, linger_s=1.0) as front, front.connect() as client:
        front.server.quick = lambda _target, _head, _address: (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nquick"
        )
        await client.send(b"POST /orders HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        answer = await client.answer()
        assert (answer.body, answer.field(b"connection")) == (b"early", b"close")
        await client.send(b"cd" + get(b"/quick"))
        assert await client.closed() == b""


async def test_a_connection_is_closed_after_its_share_of_requests() -> None:
    async with serving(requests_per_connection_max=2) as front, front.connect() as client:
        await client.send(get() + get() + get())
        assert (await client.answer()).field(b"connection") is None
        assert (await client.answer()).field(b"connection") == b"close"
        assert await client.closed() == b""


async def test_draining_finishes_what_was_begun_and_takes_nothing_new() -> None:
    gate = Gate()
    async with serving(gate, drain_idle_s=0.01) as front, front.connect() as client:
        await client.send(post(b"order"))
        await gate.entered.wait()
        draining = asyncio.create_task(front.server.drain(PATIENCE_S))
        await asyncio.sleep(0.05)  # longer than idle connections are left open
        with pytest.raises(OSError, match=r"Connect|connect|refused"):
            await asyncio.open_connection(front.host, front.port)
        gate.open.set()
        answer = await client.answer()
        assert (answer.body, answer.field(b"connection")) == (b"done", b"close")
        async with asyncio.timeout(PATIENCE_S):
            await draining


async def test_draining_answers_a_request_on_an_idle_connection_before_it_closes() -> None:
    async with serving(drain_idle_s=0.3) as front, front.connect() as client:
        await client.send(get())
        assert (await client.answer()).field(b"connection") is None
        draining = asyncio.create_task(front.server.drain(PATIENCE_S))
        await asyncio.sleep(0.02)
        await client.send(get(b"/late"))
        answer = await client.answer()
        assert (answer.body, answer.field(b"connection")) == (b"/late|", b"close")
        await draining


async def test_draining_ends_in_time_even_if_a_handler_does_not() -> None:
    gate = Gate()
    async with serving(gate) as front, front.connect() as client:
        await client.send(post(b"order"))
        await gate.entered.wait()
        async with asyncio.timeout(PATIENCE_S):
            await front.server.drain(0.05)
        assert await client.closed() == b""
        assert gate.finished == 0


async def test_the_pure_python_parser_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pure(http.HttpRequestParser):
        pass

    async def never(request: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError

    monkeypatch.setattr(listener_module, "HttpRequestParser", Pure)
    with pytest.raises(ParserMissing, match="C extensions"):
        StorefrontServer(never, limits=ServerLimits())


async def test_an_answered_request_leaves_nothing_for_the_garbage_collector() -> None:
    """A cycle a request would have the collector walk through the whole heap again and again."""
    async with serving() as front, front.connect() as client:
        for _ in range(2):
            await client.send(post(b"order"))
            await client.answer()
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                await client.send(post(b"order"))
                await client.answer()
            assert gc.collect() < 50
        finally:
            gc.enable()
