"""WebSockets through the gateway: bytes both ways, within limits; every other upgrade refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from gateway.settings import load
from tests.edge.stage import OK, PATIENCE_S, Client, Line, Stage, eventually, get, staged

ASK = (
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: WebSocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


async def echoing(line: Line) -> None:
    """Switches, then sends back every byte; raw, since the gateway has no say in what they are."""
    head = await line.reader.readuntil(b"\r\n\r\n")
    if b"upgrade: websocket" not in head.lower():
        await line.send(OK)
        return
    line.judge.take(head)
    await line.send(SWITCH)
    while data := await line.reader.read(65_536):
        await line.send(data)


@asynccontextmanager
async def tunnel(stage: Stage, *fields: bytes) -> AsyncIterator[Client]:
    async with stage.connect() as client:
        await client.send(get(b"/chat", *ASK, *fields))
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"), head
        yield client


async def test_bytes_pass_untouched_both_ways(tmp_path: Path) -> None:
    async with staged(tmp_path, echoing) as stage:
        async with stage.connect() as client:
            await client.send(get(b"/chat?a=%2F", *ASK, b"X-Forwarded-For: 6.6.6.6"))
            head = (await client.head()).lower()
            assert b"upgrade: websocket\r\n" in head
            assert b"connection: upgrade\r\n" in head
            assert b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head
            assert b"request-id: " in head
            assert b"content-length" not in head
            for frame in (
                b"\x81\x05hello",
                b"\0\xff\r\n\r\nGET / HTTP/1.1\r\n\r\n",
                b"x" * 200_000,
            ):
                sending = asyncio.create_task(client.send(frame))
                assert await client.reader.readexactly(len(frame)) == frame
                await sending
        (asked,) = stage.backend.lines[0].judge.requests
        assert asked.target == b"/chat?a=%2F"
        assert asked.values(b"upgrade") == [b"websocket"]
        assert asked.values(b"connection") == [b"Upgrade"]
        assert asked.values(b"sec-websocket-key") == [b"dGhlIHNhbXBsZSBub25jZQ=="]
        assert asked.values(b"x-forwarded-for") == [b"127.0.0.1"]
        assert len(asked.values(b"via")) == 1
        assert stage.backend.ill_formed == []
        await eventually(lambda: stage.gateway._pools["backend"].stats.places == 0)


async def test_what_was_sent_too_early_is_not_lost(tmp_path: Path) -> None:
    async with staged(tmp_path, echoing) as stage, stage.connect() as client:
        await client.send(get(b"/chat", *ASK) + b"early")
        await client.head()
        assert await client.reader.readexactly(5) == b"early"


async def test_real_clients_and_servers_talk_through_it(tmp_path: Path) -> None:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(str(message.data).upper())
        return socket

    application = web.Application()
    application.router.add_get("/chat", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with staged(tmp_path, url=f"http://127.0.0.1:{port}") as stage:
        host, front = stage.address
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://{host}:{front}/chat") as socket,
        ):
            for text in ("hello", "x" * 100_000):
                await socket.send_str(text)
                assert (await socket.receive_str()) == text.upper()
            await socket.close()
    await runner.cleanup()


async def test_an_upstream_that_does_not_agree_answers_as_ever(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        (answer,) = await stage.says(get(b"/chat", *ASK))
        assert (answer.status, answer.body) == (200, b"ok")
        assert answer.values(b"connection") == [b"close"]


@pytest.mark.parametrize(
    "switch",
    [
        b"HTTP/1.1 101 S\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.0 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: \0\r\n\r\n",
        b"HTTP/1.1 101 S\r\nX: " + b"a" * 40_000,
        b"nonsense\r\n\r\n",
        b"",
    ],
)
async def test_a_switch_that_is_none_is_502(tmp_path: Path, switch: bytes) -> None:
    async def wrong(line: Line) -> None:
        await line.reader.readuntil(b"\r\n\r\n")
        await line.send(switch)

    async with staged(tmp_path, wrong) as stage:
        (answer,) = await stage.says(get(b"/chat", *ASK))
        assert answer.status == 502
        await eventually(lambda: stage.gateway._pools["backend"].stats.places == 0)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get(b"/chat", *ASK).replace(b"GET", b"POST", 1), 501),
        (get(b"/chat", *ASK).replace(b"HTTP/1.1", b"HTTP/1.0", 1), 501),
        (get(b"/chat", *ASK, b"Content-Length: 5") + b"hello", 501),
        (get(b"/chat", *ASK, b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 501),
        (get(b"/chat", *ASK[1:]), 501),
        (get(b"/chat", *ASK, b"Upgrade: h2c"), 501),
        (get(b"/chat", *ASK, b"Expect: 100-continue"), 501),
        (get(b"/_gateway/orders/x", *ASK), 501),
    ],
)
async def test_an_upgrade_that_could_be_read_in_two_ways_is_refused(
    tmp_path: Path, request_bytes: bytes, status: int
) -> None:
    async with staged(tmp_path) as stage:
        (answer,) = await stage.says(request_bytes)
        assert answer.status == status
        assert stage.backend.requests == []


async def test_a_refused_upgrade_hides_no_request(tmp_path: Path) -> None:
    """What follows is the tunnel's, if there is one, and nobody's if there is none."""
    async with staged(tmp_path) as stage:
        (answer,) = await stage.says(get(b"/chat", *ASK) + get(b"/hidden"))
        assert answer.status == 200
        assert [each.target for each in stage.backend.requests] == [b"/chat"]


async def test_an_upgrade_behind_other_requests_is_refused(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        found = await stage.says(get(b"/1") + get(b"/2") + get(b"/chat", *ASK), *[b"GET"] * 3)
        assert [answer.status for answer in found] == [200, 200, 501]


async def test_a_tunnel_ends_with_either_end(tmp_path: Path) -> None:
    async def closes(line: Line) -> None:
        await line.reader.readuntil(b"\r\n\r\n")
        await line.send(SWITCH + b"bye")

    async with staged(tmp_path, closes) as stage, tunnel(stage) as client:
        assert (await client.rest())[0] == b"bye"
    async with staged(tmp_path, echoing) as stage:
        async with tunnel(stage) as client:
            client.writer.transport.abort()
        await eventually(lambda: stage.gateway._pools["backend"].stats.places == 0)
        async with asyncio.timeout(PATIENCE_S):
            await stage.gateway.storefront.quiet()


async def test_a_tunnel_in_which_nothing_moves_is_closed(tmp_path: Path) -> None:
    async with (
        staged(tmp_path, echoing, limits="tunnel_idle_s = 0.5") as stage,
        tunnel(stage) as client,
    ):
        assert await client.rest() == (b"", True)


async def test_there_are_only_so_many_tunnels(tmp_path: Path) -> None:
    async with staged(tmp_path, echoing, limits="tunnels_max = 1") as stage:
        async with tunnel(stage):
            (refused,) = await stage.says(get(b"/chat", *ASK))
            assert (refused.status, refused.values(b"retry-after")) == (503, [b"5"])
        await eventually(lambda: stage.gateway.storefront.requests == 0)
        async with tunnel(stage):
            pass


async def test_tunnels_from_before_a_reload_count(tmp_path: Path) -> None:
    """Else each reload lets as many in again, until no connection is left for orders."""
    async with staged(tmp_path, echoing, limits="tunnels_max = 1") as stage, tunnel(stage):
        stage.gateway.reload(load(tmp_path / "gateway.toml", {}))
        (refused,) = await stage.says(get(b"/chat", *ASK))
        assert refused.status == 503


async def test_a_tunnel_does_not_hold_up_a_drain(tmp_path: Path) -> None:
    async with staged(tmp_path, echoing) as stage, tunnel(stage) as client:
        loop = asyncio.get_running_loop()
        began = loop.time()
        stopping = asyncio.create_task(stage.gateway.stop(20.0))
        await client.rest()
        await stopping
        assert loop.time() - began < 10


async def test_each_side_is_held_back_by_the_other(tmp_path: Path) -> None:
    """More than all buffers hold, to an upstream that reads late."""
    size, go_on, read = 40_000_000, asyncio.Event(), 0

    async def reads_late(line: Line) -> None:
        nonlocal read
        await line.reader.readuntil(b"\r\n\r\n")
        await line.send(SWITCH)
        await go_on.wait()
        while read < size:
            read += len(await line.reader.read(1 << 20))
        await line.send(b"all")

    async with staged(tmp_path, reads_late) as stage, tunnel(stage) as client:
        given, block = 0, bytes(100_000)

        async def pour() -> None:
            nonlocal given
            while given < size:
                client.writer.write(block)
                await client.writer.drain()
                given += len(block)

        pouring = asyncio.create_task(pour())
        before = -1
        while given != before:
            before = given
            await asyncio.sleep(0.1)
        assert given < size / 2
        go_on.set()
        await pouring
        assert await client.reader.readexactly(3) == b"all"
