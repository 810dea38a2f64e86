"""Two gateways on one ledger behind the real HAProxy, restarted and killed under load
(FAULTS.md P1 to P3)."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import apsw
import pytest

from gateway.demo.backend import Backend
from gateway.demo.faults import Ordeal
from gateway.orders.promise import Capability
from tests.deploy.crowd import Crowd
from tests.deploy.replicas import DEPLOY, HaProxy, Replica, tool
from tests.faults.remote import until
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend as Recorder

WORK_S = 0.2
"""Long enough that a kill or a signal meets orders in flight."""


@dataclass
class Shop:
    backend: Backend
    a: Replica
    b: Replica
    balancer: HaProxy

    def pending(self) -> int:
        """By the ledger's own tally, which every write keeps."""
        with apsw.Connection(str(self.a.ledger), flags=apsw.SQLITE_OPEN_READONLY) as ledger:
            ((pending,),) = ledger.execute("SELECT received + dispatched + in_doubt FROM tally")
        return int(pending)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    tool("haproxy")
    backend = Backend(frozenset({Capability.LOOKUP}), lambda _ref, _nth: Ordeal(work_s=WORK_S))
    address = await backend.start()
    a, b = (Replica(tmp_path, name, address.port) for name in "ab")
    balancer = HaProxy(tmp_path, a, b)
    try:
        await a.start()
        await b.start()
        await balancer.start("a", "b")
        yield Shop(backend, a, b, balancer)
    finally:
        await balancer.stop()
        await a.stop()
        await b.stop()
        await backend.stop()


def test_haproxy_accepts_the_configuration() -> None:
    checked = subprocess.run(
        [tool("haproxy"), "-c", "-dW", "-f", str(DEPLOY / "haproxy.cfg")],
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert checked.returncode == 0, checked.stderr


def test_nothing_in_it_repeats_a_request() -> None:
    """Each word once and as it must be: keys would hide a repeat from the tests below."""
    lines = [line.strip() for line in (DEPLOY / "haproxy.cfg").read_text().splitlines()]
    said = [line for line in lines if line.startswith("retr") or "option redispatch" in line]
    assert said == ["retries 0", "retry-on none", "no option redispatch"]


async def test_the_clients_address_reaches_the_backend_whatever_the_client_says(
    tmp_path: Path,
) -> None:
    tool("haproxy")
    backend = Recorder()
    await backend.start()
    up, down = (Replica(tmp_path, name, backend.port) for name in "ab")
    balancer = HaProxy(tmp_path, up, down)
    forged = dict.fromkeys(("X-Client-Address", "X-Forwarded-For", "Forwarded"), "203.0.113.9")
    try:
        await up.start()
        await balancer.start("a")
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{balancer.port}/orders"
            await session.post(url, json={}, headers=forged | {"Authorization": "Bearer anna"})
    finally:
        await balancer.stop()
        await up.stop()
        await backend.stop()
    (post,) = backend.posts
    assert post.headers["x-client-address"] == "127.0.0.1"
    assert "203.0.113.9" not in str(post.headers)


async def test_where_no_gateway_is_ready_reads_pass_and_orders_hear_why(shop: Shop) -> None:
    """FAULTS.md P7: the ledger that all share is away, and takes no gateway with it."""
    url = f"http://127.0.0.1:{shop.balancer.port}/orders"
    headers = {"Authorization": "Bearer anna", "Idempotency-Key": "key-of-anna"}
    body = {"reference": "anna-1"}
    lock = apsw.Connection(str(shop.a.ledger))
    lock.set_busy_timeout(5000)  # the gateways write too
    lock.execute("BEGIN IMMEDIATE")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        for name in "ab":
            await shop.balancer.until(name, "DOWN")
        async with session.get(f"{url}?idempotency_key=none") as read:
            assert read.status == 200
            assert read.headers["Gateway-Source"] == "upstream"
        async with session.post(url, json=body, headers=headers) as order:
            told = await order.json(content_type="application/problem+json")
            assert order.status == 503
            assert told["type"].endswith("ledger-unavailable")
            assert told["safe_new_key"] is False
        assert shop.backend.books.orders == []
        lock.execute("ROLLBACK")
        lock.close()
        for name in "ab":
            await shop.balancer.until(name, "UP")
        async with session.post(url, json=body, headers=headers) as order:
            assert order.status == 201
    assert len(shop.backend.books.orders) == 1


async def test_a_client_that_has_left_is_no_new_try_for_a_gateway_that_stood_still(
    tmp_path: Path,
) -> None:
    """It asked the only one that HAProxy knows, and then another, which told it of a failure."""
    tool("haproxy")
    backend = Recorder()
    backend.script.append(acts.answer(401, {"error": "who are you"}))
    await backend.start()
    still, down, other = (Replica(tmp_path, name, backend.port) for name in "abc")
    balancer = HaProxy(tmp_path, still, down)
    key = "left-0123456789-abcdefghij"
    try:
        await still.start()
        await other.start()
        await balancer.start("a")
        os.kill(still.pid, signal.SIGSTOP)
        client = socket.create_connection(("127.0.0.1", balancer.port))
        client.sendall(
            b"POST /orders HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer anna\r\n"
            b"Idempotency-Key: %s\r\nContent-Length: 2\r\n\r\n{}" % key.encode()
        )
        await until(lambda: unread_bytes(still.port))
        client.close()
        await until(lambda: not unread_bytes(still.port))
        assert (await other.order(key, b"{}"))[0] == 401
        os.kill(still.pid, signal.SIGCONT)
        await taken(f"http://127.0.0.1:{balancer.port}/orders")
    finally:
        await balancer.stop()
        await still.stop()
        await other.stop()
        await backend.stop()
    assert (len(backend.posts), len(backend.orders)) == (2, 1)


async def taken(url: str) -> None:
    """Order, and again where no gateway is ready yet."""
    headers = {"Authorization": "Bearer anna", "Idempotency-Key": "stays-0123456789-abcdefg"}
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        while True:
            async with session.post(url, json={}, headers=headers) as answer:
                if answer.status == 201:
                    return
                assert answer.status == 503
            await asyncio.sleep(0.1)


def unread_bytes(port: int) -> int:
    """What lies in the kernel for whoever listens there, by /proc/net/tcp."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = [line for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "01"]
    return sum(int(line[4].partition(":")[2], 16) for line in established)


async def test_a_rolling_restart_under_load_fails_no_request_and_no_order(shop: Shop) -> None:
    crowd = Crowd(shop.balancer.port, insistent=False)
    crowd.open()
    try:
        await crowd.ordered(50)
        for replica in (shop.a, shop.b):
            assert await replica.terminate() == 0
            await crowd.ordered(30)
            await replica.start()
            await shop.balancer.until(replica.name, "UP")
            await crowd.ordered(50)
        await crowd.close()
    finally:
        await crowd.send_away()
    assert crowd.failures == []
    await crowd.come_back()
    verdict = crowd.judge(shop.backend)
    assert verdict.clean, verdict.findings
    assert verdict.confirmed == verdict.intents == len(shop.backend.books.orders)
    assert crowd.failures == []
    assert shop.pending() == 0
    served = shop.balancer.served()
    assert set(served) == {"a", "b"}
    assert min(served.values()) > 100


async def test_a_gateway_killed_under_load_loses_and_doubles_no_order(shop: Shop) -> None:
    crowd = Crowd(shop.balancer.port, insistent=True)
    crowd.open()
    try:
        await crowd.ordered(50)
        await shop.a.kill_in_an_order()
        await crowd.ordered(50)
        await shop.a.start()
        await shop.balancer.until("a", "UP")
        await crowd.ordered(50)
        await crowd.close()
    finally:
        await crowd.send_away()
    met = len(crowd.failures)
    assert any(failure.startswith("POST") for failure in crowd.failures), "the kill met no order"
    assert shop.backend.observed.lookups > 0
    await crowd.come_back()
    verdict = crowd.judge(shop.backend, kills=1)
    assert verdict.clean, verdict.findings
    assert verdict.confirmed == verdict.intents == len(shop.backend.books.orders)
    assert len(crowd.failures) == met, crowd.failures[met:]
    assert shop.pending() == 0
