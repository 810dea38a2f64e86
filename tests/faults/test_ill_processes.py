"""Processes that are ill, for real (FAULTS: K16, P8): one that crashes, one whose event loop stands
still, and one that starts with ten thousand orders to bring to their end."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.orders.pacing import Load
from gateway.orders.states import PENDING
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop, open_shop
from tests.stores.making import PROMISE, in_doubt, submission
from tests.stores.processes import make

from .blockable import BLOCKED, GO_ON
from .processes import GatewayProcess
from .remote import until

__all__ = ["open_shop"]

KEY = "key-0123456789-abcdefghij"
WAITING = 10_000


class Blockable(GatewayProcess):
    module = "tests.faults.blockable"

    async def block(self) -> None:
        os.kill(self.pid, signal.SIGUSR1)
        await until((self.folder / BLOCKED).exists)

    def go_on(self) -> None:
        (self.folder / GO_ON).touch()

    async def lives(self) -> int:
        limit = aiohttp.ClientTimeout(total=1)
        url = f"http://127.0.0.1:{self.admin}/livez"
        async with aiohttp.ClientSession() as session, session.get(url, timeout=limit) as answer:
            return answer.status


@pytest.fixture
async def pair(tmp_path: Path, backend: Backend) -> AsyncIterator[tuple[Blockable, GatewayProcess]]:
    """Two gateways on one file; the first one is going to be ill."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    ill = Blockable(tmp_path / "ill", backend.port, ledger=url)
    heir = GatewayProcess(tmp_path / "heir", backend.port, ledger=url)
    for each in (ill, heir):
        await each.start()
    yield ill, heir
    for each in (ill, heir):
        await each.stop()


async def settled(gateway: GatewayProcess) -> tuple[int, Any]:
    async with asyncio.timeout(60):
        while True:
            status, told = await gateway.order(KEY)
            if status not in (202, 503):
                return status, told
            await asyncio.sleep(0.1)


async def test_a_gateway_that_crashes_leaves_its_order_to_another(
    backend: Backend, pair: tuple[Blockable, GatewayProcess]
) -> None:
    """As out of memory, and a fault in a library's C code: a signal, at any moment."""
    ill, heir = pair
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(ill.order(KEY))
    await backend.until(lambda: len(backend.posts) == 1)
    os.kill(ill.pid, signal.SIGSEGV)
    assert await ill.ended() == -signal.SIGSEGV
    with pytest.raises(aiohttp.ClientError):
        await asked
    backend.gate("go").set()
    status, told = await settled(heir)
    assert (status, told["id"]) == (201, "o-1")
    assert len(backend.orders) == len(backend.posts) == 1


async def test_a_gateway_whose_loop_stands_still_loses_its_lease_and_sends_nothing_twice(
    backend: Backend, pair: tuple[Blockable, GatewayProcess]
) -> None:
    ill, heir = pair
    assert await ill.lives() == 200
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(ill.order(KEY))
    await backend.until(lambda: len(backend.posts) == 1)
    await ill.block()
    with pytest.raises(TimeoutError):  # its probe fails: whoever watches it starts it again
        await ill.lives()
    backend.gate("go").set()
    status, told = await settled(heir)  # while the other still stands
    assert (status, told["id"]) == (201, "o-1")
    ill.go_on()
    status, told = await asked
    assert status in (201, 202)
    assert told["id"] == "o-1" or status == 202
    async with asyncio.timeout(60):
        while (await ill.readyz())[0] != 200:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)
    assert (await settled(ill))[1]["id"] == "o-1"
    assert len(backend.orders) == len(backend.posts) == 1


async def test_what_was_given_up_on_in_a_process_that_stood_still_places_no_failed_order(
    backend: Backend, pair: tuple[Blockable, GatewayProcess]
) -> None:
    """Its client has asked elsewhere since, and was told that the order failed."""
    ill, heir = pair
    backend.script.append(acts.answer(401, {"error": "who are you"}))
    os.kill(ill.pid, signal.SIGSTOP)
    left = socket.create_connection(("127.0.0.1", ill.port))
    body = b'{"sku":7}'
    left.sendall(
        b"POST /orders HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer anna\r\nIdempotency-Key: %s\r\nContent-Length: %d\r\n\r\n%s"
        % (KEY.encode(), len(body), body)
    )
    left.shutdown(socket.SHUT_WR)
    assert (await heir.order(KEY))[0] == 401
    os.kill(ill.pid, signal.SIGCONT)
    reader, writer = await asyncio.open_connection(sock=left)
    async with asyncio.timeout(30):
        told = await reader.read()
    writer.close()
    assert told.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 503 "))  # 503: its lease ran out
    assert (len(backend.posts), len(backend.orders)) == (1, 0)
    assert (await settled(heir))[0] == 201


async def test_ten_thousand_waiting_orders_do_not_keep_new_ones_waiting(
    backend: Backend, open_shop: OpenShop, tmp_path: Path
) -> None:
    left = make(tmp_path / "ledger.db")
    await left.open()
    promise = replace(PROMISE, settle_s=600.0)  # a "no" proves nothing yet: all are asked again
    for start in range(0, WAITING, 500):
        keys = [f"key-{number}" for number in range(start, start + 500)]
        await asyncio.gather(
            *(in_doubt(left, submission(key, promise=promise), due_in_s=0) for key in keys)
        )
    await left.close()
    shop = await open_shop(answer_within_s=60, attempt_timeout_s=50, settle_s=55)
    loop = asyncio.get_running_loop()
    began, asked = loop.time(), len(backend.asked)
    for number in range(30):
        told = await shop.order(f"live-{number}-0123456789-abcdef")
        assert told.status == 201
    took_s = loop.time() - began
    assert len(backend.asked) - asked <= Load.IDLE.per_s * (took_s + 1)
    counts = await shop.gateway.ledger.counts()
    assert sum(counts.by_status[status] for status in PENDING) == WAITING
    await backend.until(lambda: len(backend.asked) > asked + 20)
    assert len(backend.orders) == 30
