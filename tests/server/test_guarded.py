"""The operators' listener: what is left open on it is bounded, and whoever asks is served."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web

from gateway.server import guarded
from gateway.server.guarded import GuardedListener
from tests.edge.stage import PATIENCE_S, eventually

Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = GET.replace(b"/ ", b"/large ")
MIDDLING = GET.replace(b"/ ", b"/middling ")
SLOW = GET.replace(b"/ ", b"/slow ")


@pytest.fixture
async def listener(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GuardedListener]:
    async def told(request: web.Request) -> web.Response:
        return web.Response(text=f"told {len(await request.read())}")

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=bytes(6_000_000))

    async def middling(_: web.Request) -> web.Response:
        return web.Response(body=bytes(30_000))

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(60.0)
        return web.Response()

    monkeypatch.setattr(guarded, "CONNECTIONS_MAX", 3)
    application = web.Application()
    application.router.add_route("*", "/", told)
    application.router.add_get("/large", large)
    application.router.add_get("/middling", middling)
    application.router.add_get("/slow", slow)
    listener = GuardedListener(application, head_s=0.3)
    yield listener
    await listener.stop()


async def rest(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        return await reader.read()


async def test_requests_of_any_kind_are_served(listener: GuardedListener) -> None:
    host, port = await listener.start("127.0.0.1", 0)
    async with ClientSession(f"http://{host}:{port}") as session:
        for size in (0, 1, 500_000):
            async with session.post("/", data=bytes(size)) as answer:
                assert await answer.text() == f"told {size}"
    reader, writer = await asyncio.open_connection(host, port)
    for piece in (GET[:5], GET[5:-1], GET[-1:] + GET):
        writer.write(piece)
        await asyncio.sleep(0.01)
    for _ in range(2):
        assert b" 200 OK" in await reader.readuntil(b"told 0")
    writer.close()


@pytest.mark.parametrize("sent", [b"", GET[:-1], b"x" * 1000])
async def test_a_head_that_does_not_come_is_not_waited_for(
    listener: GuardedListener, sent: bytes
) -> None:
    reader, writer = await asyncio.open_connection(*await listener.start("127.0.0.1", 0))
    writer.write(sent)
    assert (await rest(reader)).startswith(b"HTTP/1.1 408 ")
    await eventually(lambda: not listener.waiting)
    writer.close()


async def test_a_head_that_never_ends_is_refused(listener: GuardedListener) -> None:
    reader, writer = await asyncio.open_connection(*await listener.start("127.0.0.1", 0))
    writer.write(GET[:-2] + b"X-A: " + bytes(100_000).replace(b"\0", b"x"))
    assert (await rest(reader)).startswith(b"HTTP/1.1 431 ")
    writer.close()


async def test_a_body_that_claims_to_be_compressed_is_taken_as_it_came(
    listener: GuardedListener, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection(*await listener.start("127.0.0.1", 0))
    writer.write(
        GET.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc")
    )
    assert b" 200 OK" in await reader.readuntil(b"told 3")
    writer.close()
    assert not caplog.records


SECRET = b"Authorization: Bearer secret"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (GET.replace(b"\r\n\r\n", b"\r\n" + SECRET + b"\0\r\n\r\n"), b"400"),
        (GET.replace(b"/ ", b"/secret\0 "), b"400"),
        (GET.replace(b"Host", b"Content-Length: secret\r\nHost"), b"400"),
        (b"secret\r\n\r\n", b"400"),
        (GET.replace(b"/ ", b"/secret" + b"x" * 10_000 + b" "), b"431"),
        (GET.replace(b"Host", SECRET * 500 + b"\r\nHost"), b"431"),
    ],
    ids=["value", "target", "length", "no request line", "long target", "long value"],
)
async def test_what_cannot_be_read_is_refused_and_neither_told_nor_logged(
    listener: GuardedListener, caplog: pytest.LogCaptureFixture, sent: bytes, status: bytes
) -> None:
    address = await listener.start("127.0.0.1", 0)
    for before in (b"", GET):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(before)
        if before:
            await reader.readuntil(b"told 0")
        writer.write(sent)
        answer = await rest(reader)
        assert answer.split(b" ")[1] == status
        assert b"application/problem+json" in answer
        assert b"secret" not in answer
        writer.close()
    assert not caplog.records


async def test_one_connection_too_many_is_told_so_and_those_there_are_served(
    listener: GuardedListener,
) -> None:
    address = await listener.start("127.0.0.1", 0)
    held: list[Opened] = []
    for sent in (GET, GET, b""):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(sent)
        if sent:
            await reader.readuntil(b"told 0")
        held.append((reader, writer))
    await eventually(lambda: listener.is_full)
    reader, writer = await asyncio.open_connection(*address)
    assert (await rest(reader)).startswith(b"HTTP/1.1 503 ")
    writer.close()
    for reader, writer in held:
        writer.write(GET)
        await reader.readuntil(b"told 0")
        writer.close()
    await eventually(lambda: not listener.is_full)


@pytest.mark.parametrize("asked", [MIDDLING * 500, LARGE], ids=["many answers", "a large one"])
async def test_who_takes_nothing_of_its_answers_is_reset(
    listener: GuardedListener, monkeypatch: pytest.MonkeyPatch, asked: bytes
) -> None:
    monkeypatch.setattr(guarded, "UNREAD_S", 0.3)
    monkeypatch.setattr(guarded, "LOOKED_AT_S", 0.1)
    address = await listener.start("127.0.0.1", 0)
    deaf = [_deaf(address, asked) for _ in range(3)]
    await eventually(lambda: listener.is_full)
    await eventually(lambda: not listener.is_full)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(GET)
    await reader.readuntil(b"told 0")
    writer.close()
    for each in deaf:
        each.close()


async def test_a_handler_whose_client_has_left_holds_no_place(listener: GuardedListener) -> None:
    address = await listener.start("127.0.0.1", 0)
    opened = [await asyncio.open_connection(*address) for _ in range(3)]
    for _, writer in opened:
        writer.write(SLOW)
    server = listener._runner.server
    assert server is not None
    await eventually(
        lambda: sum(each._current_request is not None for each in server.connections) == 3
    )
    assert listener.is_full
    for _, writer in opened:
        writer.close()
    await eventually(lambda: not listener.is_full)
    assert len(server.connections) == 3


@pytest.mark.parametrize("asked", [MIDDLING * 500, LARGE, SLOW], ids=["many", "large", "slow"])
async def test_stopping_waits_for_nobody_who_takes_nothing(
    listener: GuardedListener, asked: bytes
) -> None:
    deaf = _deaf(await listener.start("127.0.0.1", 0), asked)
    await eventually(lambda: listener._open and not listener.waiting)
    async with asyncio.timeout(PATIENCE_S):
        await listener.stop()
    deaf.close()


def _deaf(address: tuple[str, int], asked: bytes) -> socket.socket:
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    deaf.connect(address)
    deaf.sendall(asked)
    return deaf


async def test_stopping_waits_for_nobody_who_says_nothing(listener: GuardedListener) -> None:
    address = await listener.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*address)
    await eventually(lambda: listener.waiting)
    await listener.stop()
    assert await rest(reader) == b""
    with pytest.raises(ConnectionError):
        await asyncio.open_connection(*address)
    writer.close()
