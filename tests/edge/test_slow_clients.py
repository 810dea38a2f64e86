"""Clients that are slow on purpose: each kind is cut off in time, and nobody else notices.

``slowhttptest`` (Debian) plays its four attacks against a running gateway; rows L4 and L5.
"""

import asyncio
import shutil
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.server.connection import StorefrontConnection
from gateway.server.intake import Taken
from tests.edge.stage import OK, PATIENCE_S, Line, Stage, eventually, get, post, staged

SLOWHTTPTEST = shutil.which("slowhttptest")
IMPATIENT = """
header_s = 1
body_s = 1
write_s = 1
idle_s = 2
plain_body_idle_s = 1
"""
IN_ALL = "plain_total_s = 3\n"
"""slowhttptest drips a body every second: on a quiet machine that is no pause of a second, and only
the bound on the whole request ends it. For that attack alone: elsewhere it would hide another limit
that does not hold."""
LARGE = 5_000_000
SIEGE_S = 20.0
"""Many times the limits above: the machine may be busy."""


async def large_answers(line: Line) -> None:
    while (request := await line.request()) is not None:
        if request.target == b"/small":
            await line.send(OK)
            continue
        body = b"" if request.method == b"HEAD" else bytes(LARGE)
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + body)


MODES = {
    "headers": ("-H", "-i", "1"),
    "body": ("-B", "-i", "1", "-s", "8192", "-t", "POST"),
    "order body": ("-B", "-i", "1", "-s", "8192", "-t", "POST"),
    "read": ("-X", "-n", "1", "-w", "10", "-y", "20", "-z", "5", "-k", "3"),
    "range": ("-R", "-a", "10", "-b", "3000"),
}


@pytest.mark.skipif(SLOWHTTPTEST is None, reason="slowhttptest is not installed")
@pytest.mark.parametrize("mode", MODES)
async def test_slowhttptest_holds_no_connection_and_the_gateway_serves_on(
    tmp_path: Path, mode: str
) -> None:
    limits = IMPATIENT + (IN_ALL if mode == "body" else "")
    async with staged(tmp_path, large_answers, limits=limits) as stage:
        host, port = stage.address
        target = f"http://{host}:{port}/" + ("orders" if mode == "order body" else "")
        assert SLOWHTTPTEST is not None
        process = await asyncio.create_subprocess_exec(
            SLOWHTTPTEST, *MODES[mode], "-c", "100", "-r", "100", "-l", "60", "-p", "2",
            "-u", target,
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await _besieged(stage)
            (small,) = await stage.says(get(b"/small"))
            assert (small.status, small.body) == (200, b"ok")
            async with asyncio.timeout(SIEGE_S):
                await stage.gateway.storefront.quiet()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        (after,) = await stage.says(get(b"/small"))
        assert after.status == 200


async def _besieged(stage: Stage) -> None:
    """Until most of the attack's connections are there; the range attack's do not stay."""
    front, backend = stage.gateway.storefront, stage.backend
    await eventually(lambda: front.connections >= 10 or len(backend.requests) >= 10)


async def _status(stage: Stage, request: bytes = b"", drop: bytes = b"") -> int | None:
    """The answer to a request, after which ``drop`` is sent again and again until it is answered;
    None where the connection just ends."""

    async def drip() -> None:
        while drop:
            await client.send(drop)
            await asyncio.sleep(0.05)

    async with stage.connect() as client:
        await client.send(request)
        dripping = asyncio.create_task(drip())
        raw, _ = await client.rest()
        dripping.cancel()
    return int(raw.split(b" ", 2)[1]) if raw else None


async def test_a_header_a_body_and_an_order_that_do_not_come_are_408(tmp_path: Path) -> None:
    async with staged(tmp_path, limits=IMPATIENT) as stage:
        async with asyncio.TaskGroup() as tasks:
            slow = [
                tasks.create_task(_status(stage, request))
                for request in (
                    b"GET / HTTP/1.1\r\nHost: shop\r\nX: ",
                    post(b"hello", target=b"/up")[:-1],
                    post(b"hello")[:-1],
                    post(b"hello", b"Expect: 100-continue")[:-5],
                )
            ]
        assert [task.result() for task in slow] == [408, 408, 408, 100]
        assert [each.method for each in stage.backend.requests] == []
        await stage.still_serves()


async def test_an_order_that_drips_is_cut_off_though_it_moves(tmp_path: Path) -> None:
    async with staged(tmp_path, limits=IMPATIENT) as stage:
        body = b"x" * 10_000
        assert await _status(stage, post(body)[: -len(body)], b"x") == 408
        assert stage.backend.requests == []


async def test_a_client_that_never_reads_is_cut_off_and_its_upstream_freed(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path, large_answers, limits=IMPATIENT) as stage:
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(deaf, stage.address)
        await loop.sock_sendall(deaf, get(b"/"))
        await eventually(lambda: stage.backend.lines)
        async with asyncio.timeout(PATIENCE_S):
            await stage.gateway.storefront.quiet()
        deaf.close()
        pool = stage.gateway._pools["backend"]
        await eventually(lambda: not pool.stats.in_use)


async def test_a_connection_that_says_nothing_is_closed_after_the_idle_limit(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path, limits=IMPATIENT) as stage:
        assert await _status(stage) is None


async def test_pipelining_without_reading_is_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that asks and asks and takes no answers: neither requests nor answers pile up."""
    most = late = 0
    act = StorefrontConnection._act

    def noting(connection: StorefrontConnection, taken: Taken) -> None:
        nonlocal most, late
        act(connection, taken)
        most = max(most, connection._queued - connection._answered)
        late = max(late, len(connection._late))

    monkeypatch.setattr(StorefrontConnection, "_act", noting)
    async with staged(tmp_path, limits="write_s = 1") as stage, stage.connect() as client:
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                await client.send(get(b"/") * 100_000)
    assert 1 < most <= 32
    assert late <= 1


async def test_many_pipelined_requests_are_all_answered_in_their_order(tmp_path: Path) -> None:
    count = 500
    bodies = b"".join(
        get(b"/") if number % 3 else post(b"x" * number, target=b"/up") for number in range(count)
    )
    async with staged(tmp_path) as stage:
        methods = [b"GET" if number % 3 else b"POST" for number in range(count)]
        answers = await stage.says(bodies, *methods)
        assert [answer.status for answer in answers] == [200] * count
        sizes = [len(each.body) for each in stage.backend.requests]
        assert sizes == [0 if number % 3 else number for number in range(count)]
