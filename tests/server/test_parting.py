"""Closing after an answer while the client still sends: the answer is not reset away."""

import asyncio
import gc
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

import pytest
from aiohttp import web

from gateway.server import RawStream, Switched, client_end
from tests.server.serving import PATIENCE_S, Client, Storefront, get, post, serving
from tests.server.test_bodies import bounded

LINGER_S = 1.0
SENDING_S = 1.5
"""Longer than a silent client is waited for."""
UPLOAD = b"POST /orders HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n"
PIECE = b"x" * 5_000


async def sends_on(client: Client, first: bytes, *, for_s: float = SENDING_S) -> bytes:
    """All that the client gets, which it reads only when it has said all it had to say.

    Raises ConnectionError where the connection is reset under it.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + for_s
    await client.send(first)
    while loop.time() < ends:
        await asyncio.sleep(LINGER_S / 50)
        await client.send(PIECE)
    client.writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        return await client.reader.read()


CLOSING: dict[str, tuple[bytes, bytes]] = {
    "a body that is too large": (UPLOAD, b"413"),
    "a refused request": (get(b"/%zz"), b"400"),
    "a request that says close": (get(b"/", b"Connection: close"), b"200"),
    "HTTP/1.0": (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", b"200"),
    "the last of a connection": (get() + post(b"1") + get() * 50, b"200"),
}


async def test_a_client_that_sends_on_reads_its_answer_and_a_clean_end() -> None:
    async def one(case: str) -> None:
        first, status = CLOSING[case]
        async with front.connect() as client:
            told = await sends_on(client, first)
            assert told.rpartition(b"HTTP/1.1 ")[2].startswith(status), case
            assert b"Connection: close" in told, case

    serving_two = serving(bounded(), linger_s=LINGER_S, requests_per_connection_max=2)
    async with serving_two as front:
        async with asyncio.TaskGroup() as tasks:
            for case in CLOSING:
                tasks.create_task(one(case))
        await quiet(front)


async def test_a_connection_that_is_not_taken_is_told_why_though_it_asks() -> None:
    serving_one = serving(connections_per_address_max=1, linger_s=LINGER_S)
    async with serving_one as front, front.connect() as client:
        await client.send(get())
        assert (await client.answer()).status == 200
        async with front.connect() as other:
            told = await sends_on(other, get())
            assert told.startswith(b"HTTP/1.1 429 ")


async def test_a_silent_client_is_not_waited_for_for_ever() -> None:
    async with serving(linger_s=0.05) as front, front.connect() as client:
        await client.send(get(b"/", b"Connection: close"))
        assert (await client.answer()).status == 200
        assert await client.closed() == b""
        await quiet(front)


async def test_a_client_that_sends_for_ever_is_cut_off() -> None:
    async with serving(bounded(), linger_s=LINGER_S, write_s=LINGER_S / 5) as front:
        async with front.connect() as client:
            with pytest.raises(ConnectionError):
                await sends_on(client, UPLOAD, for_s=PATIENCE_S)
        await quiet(front)


async def test_what_a_tunnel_left_unread_may_be_read_for_as_long_as_any_end() -> None:
    """The deadline of what was written last does not outlive the parting: it has its own."""
    write_s, sent, parted = 2.0, 0, asyncio.Event()

    async def handle(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        nonlocal sent
        tunnel, end = Switched(((b"Upgrade", b"websocket"),)), client_end(request)
        await tunnel.prepare(request)
        assert end is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(0.8 * write_s):
                while True:
                    sent += len(PIECE)
                    await end.write(PIECE)
        parted.set()
        return tunnel

    serving_one = serving(handle, write_s=write_s, linger_s=PATIENCE_S)
    async with serving_one as front, front.connect() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(get(b"/", b"Connection: Upgrade", b"Upgrade: websocket"))
        await parted.wait()
        await asyncio.sleep(0.4 * write_s)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        head, _, rest = (await client.closed()).partition(b"\r\n\r\n")
        assert (head[:12], len(rest)) == (b"HTTP/1.1 101", sent)


async def quiet(front: Storefront) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await front.server.quiet()


async def test_few_that_are_not_taken_are_lingered_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.server.listener.TURNED_AWAY_MAX", 2)
    async with serving(connections_max=0, linger_s=PATIENCE_S) as front:
        connections = [await asyncio.open_connection(front.host, front.port) for _ in range(5)]
        for reader, _ in connections:
            assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
        assert front.server.turned_away == 2
        for _, writer in connections:
            writer.close()
        await eventually(lambda: front.server.turned_away == 0)


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if holds():
                return
            await asyncio.sleep(0.001)


async def test_a_client_that_resets_while_it_is_held_back_is_let_go_in_silence() -> None:
    """Nothing is read, so that only the end of its answer shows that it is gone."""
    gone = asyncio.Event()

    async def early(request: web.BaseRequest, _front: Storefront) -> web.StreamResponse:
        stream = RawStream(200, (), length=2)
        await stream.prepare(request)
        await stream.write(b"ok")
        await gone.wait()
        return stream

    troubles: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: troubles.append(told))
    async with serving(early) as front:
        async with front.connect() as client:
            client.writer.write(UPLOAD + bytes(1_000_000))
            assert (await client.answer()).body == b"ok"
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.writer.transport.abort()
            with suppress(ConnectionError):
                await client.writer.wait_closed()
        gone.set()
        await quiet(front)
    gc.collect()
    assert troubles == []
