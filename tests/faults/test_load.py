"""Rows B2, B13, P7 and P8 of the faults, with a gateway as a real process."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.processes import GatewayProcess
from tests.ports import free_port
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend, Taken, encoded

REST = """
[[routes]]
name = "rest"
match = "* /**"
kind = "plain"
upstream = "backend"
"""


@pytest.fixture
async def gateway(tmp_path: Path, backend: Backend) -> AsyncIterator[GatewayProcess]:
    """Not started yet: its configuration may be added to."""
    gateway = GatewayProcess(tmp_path, backend.port)
    gateway.config.write_text(gateway.config.read_text() + REST)
    yield gateway
    await gateway.stop()


def configure(gateway: GatewayProcess, old: str, new: str) -> None:
    text = gateway.config.read_text()
    assert old in text
    gateway.config.write_text(text.replace(old, new))


async def get(gateway: GatewayProcess, path: str, port: int = 0) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{port or gateway.port}{path}"
        async with session.get(url) as answer:
            return answer.status, await answer.text()


def keys() -> Any:
    return (f"key-{number}-0123456789-abcdef" for number in itertools.count())


async def test_b2_in_a_brown_out_reads_are_shed_before_orders(
    backend: Backend, gateway: GatewayProcess
) -> None:
    async def slowly(backend: Backend, taken: Taken, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)  # the fault itself
        if taken.method == "POST":
            await acts.take(backend, taken, writer)
        else:
            writer.write(encoded(200, {}))

    backend.script.extend([slowly] * 1000)
    backend.lookup_script.extend([slowly] * 1000)
    limits = "\n[limits]\nrequests_max = 4\nqueue_max = 12\nqueue_s = 2.0\n"
    gateway.config.write_text(gateway.config.read_text() + limits)
    await gateway.start()
    names = keys()
    reads = [asyncio.create_task(get(gateway, f"/catalog/{n}")) for n in range(40)]
    await backend.until(lambda: len(backend.asked) >= 4)
    orders = [asyncio.create_task(gateway.order(next(names))) for _ in range(10)]
    told_orders = [status for status, _ in await asyncio.gather(*orders)]
    told_reads = Counter(status for status, _ in await asyncio.gather(*reads))
    assert told_orders == [201] * 10
    assert told_reads[503] >= 20
    assert told_reads[200] >= 4
    assert len(backend.posts) == len(backend.orders) == 10  # nothing was sent twice


async def test_b13_what_can_not_be_connected_to_is_not_sent_and_another_server_takes_it(
    backend: Backend, gateway: GatewayProcess
) -> None:
    closed = free_port()
    configure(
        gateway,
        f'urls = ["http://127.0.0.1:{backend.port}"]',
        f'urls = ["http://127.0.0.1:{closed}", "http://no-such-host.invalid:80",'
        f' "http://127.0.0.1:{backend.port}"]',
    )
    await gateway.start()
    names = keys()
    told = [await gateway.order(next(names)) for _ in range(8)]
    assert [status for status, _ in told] == [201] * 8
    assert len(backend.orders) == 8
    _, metrics = await get(gateway, "/metrics", gateway.admin)
    assert 'ordergate_moves_total{reason="claimed",source="",target="dispatched"} 8.0' in metrics
    assert 'target="in_doubt"' not in metrics
    assert f'ordergate_server_out{{server="127.0.0.1:{closed}",upstream="backend"}}' in metrics


async def test_b13_with_no_server_orders_are_received_the_breaker_opens_and_all_are_placed(
    backend: Backend, gateway: GatewayProcess
) -> None:
    port = backend.port
    configure(
        gateway,
        'name = "backend"',
        'name = "backend"\nbreaker_calls_min = 5\nbreaker_open_s = 0.5',
    )
    configure(gateway, "answer_within_s = 4", "answer_within_s = 0.5")
    await gateway.start()
    await backend.stop()
    names = keys()
    reasons = []
    for _ in range(7):
        status, text = await get(gateway, "/catalog")
        assert status == 503
        reasons.append("breaker_open" if "breaker_open" in text else "connect_refused")
    assert reasons[0] == "connect_refused"
    assert reasons[-1] == "breaker_open"
    told = [await gateway.order(next(names)) for _ in range(5)]
    assert [(status, each["status"]) for status, each in told] == [(202, "received")] * 5
    assert not any(each["safe_new_key"] for _, each in told)
    await backend.start(port)
    for _, each in told:
        assert await gateway.until_settled(each["id"]) == "confirmed"
    assert len(backend.orders) == len(backend.posts) == 5


async def test_p7_an_upstream_that_is_away_takes_no_gateway_out_of_the_balancer(
    backend: Backend, gateway: GatewayProcess
) -> None:
    await gateway.start()
    await backend.stop()
    for _ in range(30):
        assert (await get(gateway, "/catalog"))[0] == 503
    assert (await gateway.readyz())[0] == 200
    assert (await get(gateway, "/livez", gateway.admin))[0] == 200


async def test_p8_what_waited_out_an_outage_is_worked_off_behind_live_traffic(
    backend: Backend, gateway: GatewayProcess
) -> None:
    """Two hundred orders wait; the process is killed and starts cold. Live orders are placed at
    once, and what waits follows at its bounded pace."""
    port, waiting = backend.port, 200
    configure(gateway, "answer_within_s = 4", "answer_within_s = 1")
    await gateway.start()
    await backend.stop()
    names = keys()
    for _ in range(waiting // 20):
        told = await asyncio.gather(*(gateway.order(next(names)) for _ in range(20)))
        assert {status for status, _ in told} == {202}
    await gateway.kill()
    await backend.start(port)
    await gateway.start()
    loop = asyncio.get_running_loop()
    began, live = loop.time(), 0
    while len(backend.orders) < waiting + live:
        status, _ = await gateway.order(next(names))
        assert status in (201, 202)
        live += 1
        assert loop.time() - began < 60
    took_s = loop.time() - began
    assert len(backend.orders) - live == waiting
    assert live >= 10  # live orders were placed all the while
    assert waiting / took_s <= 450
    assert len({each["key"] for each in backend.orders}) == len(backend.orders)
