"""Clients that are slow, many at a time, with the limits as they come: orders go on beside them."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.edge.stage import (
    CREATED,
    OK,
    PATIENCE_S,
    Line,
    Stage,
    eventually,
    get,
    post,
    staged,
)

LARGE = 5_000_000
FEW_PLACES = "connections_max = 4"
"""Three of them for what is no order."""


def upload(length: int) -> bytes:
    return b"POST /up HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n\r\nx" % length


@asynccontextmanager
async def crowd(stage: Stage, count: int, request: bytes) -> AsyncIterator[None]:
    """So many clients, each in the middle of ``request``, which they never end."""
    async with AsyncExitStack() as clients:
        for _ in range(count):
            client = await clients.enter_async_context(stage.connect())
            await client.send(request)
        yield


async def orders_and_reads_go_on(stage: Stage) -> None:
    async with asyncio.timeout(PATIENCE_S):
        (order,) = await stage.says(post(b"hello"), b"POST")
        (read,) = await stage.says(get(b"/x"))
    assert (order.status, read.status) == (201, 200)


@pytest.mark.parametrize(
    "begun", [post(b"hello")[:-1], upload(1_000)], ids=["orders", "small uploads"]
)
async def test_bodies_that_do_not_come_take_nobodys_place(tmp_path: Path, begun: bytes) -> None:
    limits = "requests_max = 8\nrequests_min = 8"
    async with staged(tmp_path, limits=limits, upstream=FEW_PLACES) as stage:
        async with crowd(stage, 20, begun):
            await eventually(lambda: stage.gateway.admission.bodies == 20)
            await orders_and_reads_go_on(stage)
        assert [each.method for each in stage.backend.requests] == [b"POST", b"GET"]
        await eventually(lambda: not stage.gateway.admission.running)


async def test_large_uploads_that_do_not_come_leave_orders_their_connections(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path, upstream=FEW_PLACES) as stage:
        async with crowd(stage, 6, upload(100_000)):
            await eventually(lambda: len(stage.backend.lines) == 3)
            async with asyncio.timeout(PATIENCE_S):
                (order,) = await stage.says(post(b"hello"), b"POST")
            assert order.status == 201
        (read,) = await stage.says(get(b"/x"))
        assert read.status == 200


async def test_of_large_uploads_so_many_at_once_and_reads_go_on_too(tmp_path: Path) -> None:
    limits = "uploads_max = 2"
    async with (
        staged(tmp_path, limits=limits, upstream=FEW_PLACES) as stage,
        crowd(stage, 2, upload(100_000)),
    ):
        await eventually(lambda: len(stage.backend.lines) == 2)
        (refused,) = await stage.says(upload(100_000), b"POST")
        assert (refused.status, refused.values(b"retry-after")) == (503, [b"5"])
        await orders_and_reads_go_on(stage)


async def test_clients_that_read_nothing_leave_orders_their_connections(tmp_path: Path) -> None:
    async def large_answers(line: Line) -> None:
        while (request := await line.request()) is not None:
            if request.method == b"POST":
                await line.send(CREATED)
            else:
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
                await line.send(head % LARGE + bytes(LARGE))

    async with staged(tmp_path, large_answers, upstream=FEW_PLACES) as stage:
        loop, deaf = asyncio.get_running_loop(), [socket.socket() for _ in range(6)]
        for each in deaf:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            each.setblocking(False)
            await loop.sock_connect(each, stage.address)
            await loop.sock_sendall(each, get(b"/"))
        await eventually(lambda: len(stage.backend.lines) == 3)
        async with asyncio.timeout(PATIENCE_S):
            (order,) = await stage.says(post(b"hello"), b"POST")
        assert order.status == 201
        for each in deaf:
            each.close()


async def test_a_body_that_comes_late_takes_its_turn_again(tmp_path: Path) -> None:
    """The place that it had is another's meanwhile: it waits like who comes now, and is placed."""

    async def slowly(line: Line) -> None:
        while (request := await line.request()) is not None:
            if request.target == b"/held":
                await held.wait()
            await line.send(CREATED if request.target == b"/orders" else OK)

    held = asyncio.Event()
    limits = "requests_max = 1\nrequests_min = 1\nqueue_s = 5"
    async with (
        staged(tmp_path, slowly, limits=limits) as stage,
        stage.connect() as late,
        stage.connect() as other,
    ):
        order = post(b"hello", b"Connection: close")
        await late.send(order[:-1])
        await eventually(lambda: not stage.gateway.admission.running)
        await other.send(get(b"/held", b"Connection: close"))
        await eventually(lambda: stage.backend.requests)
        await late.send(order[-1:])
        await eventually(lambda: stage.gateway.admission.waiting == 1)
        held.set()
        (read,) = await other.answers(b"GET")
        (placed,) = await late.answers(b"POST")
        assert (read.status, placed.status) == (200, 201)
        await eventually(lambda: not stage.gateway.admission.running)
