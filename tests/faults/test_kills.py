"""The gateway killed with -9, for real, at the moments that matter (FAULTS.md K4 to K10, K15)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.faults.processes import GatewayProcess
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend

KEY = "key-0123456789-abcdefghij"


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    backend = Backend()
    await backend.start()
    yield backend
    await backend.stop()


@pytest.fixture
async def gateway(
    tmp_path: Path, backend: Backend, request: pytest.FixtureRequest
) -> AsyncIterator[GatewayProcess]:
    process = GatewayProcess(tmp_path, backend.port, getattr(request, "param", "lookup"))
    await process.start()
    yield process
    await process.stop()


@pytest.mark.parametrize("gateway", ["lookup", "dedup"], indirect=True)
async def test_the_gateway_killed_between_sending_and_recording_makes_one_order(
    backend: Backend, gateway: GatewayProcess, request: pytest.FixtureRequest
) -> None:
    backend.dedup = "dedup" in request.node.name
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(gateway.order(KEY))
    await backend.until(lambda: len(backend.posts) == 1)
    await gateway.kill()
    with pytest.raises(aiohttp.ClientError):
        await asked
    backend.gate("go").set()
    await backend.until(lambda: len(backend.orders) == 1)
    await gateway.start()
    status, told = await gateway.order(KEY)
    if status == 202:
        assert await gateway.until_settled(told["id"]) == "confirmed"
        status, told = await gateway.order(KEY)
    assert (status, told["id"]) == (201, "o-1")
    assert len(backend.orders) == 1


@pytest.mark.parametrize("gateway", ["none"], indirect=True)
async def test_without_capability_a_kill_leaves_a_dead_letter_and_never_a_second_attempt(
    backend: Backend, gateway: GatewayProcess
) -> None:
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(gateway.order(KEY))
    await backend.until(lambda: len(backend.posts) == 1)
    await gateway.kill()
    await asyncio.gather(asked, return_exceptions=True)
    await gateway.start()
    _, told = await gateway.order(KEY)
    assert await gateway.until_settled(told["id"]) == "dead_letter"
    assert (await gateway.order(KEY))[0] == 202
    assert len(backend.posts) == 1


async def test_the_answer_survives_a_kill_byte_for_byte(
    backend: Backend, gateway: GatewayProcess
) -> None:
    first = await gateway.order(KEY)
    await gateway.kill()
    await gateway.start()
    assert await gateway.order(KEY) == first
    assert len(backend.posts) == 1


async def test_an_order_that_is_sent_again_after_a_kill_is_the_same_bytes(
    backend: Backend, gateway: GatewayProcess
) -> None:
    """Killed before the backend made anything: absence is proved, and the order is placed."""
    backend.script.append(acts.after("never", acts.take))
    asked = asyncio.create_task(gateway.order(KEY, b'{ "sku" : 7.0 }'))
    await backend.until(lambda: len(backend.posts) == 1)
    await gateway.kill()
    await asyncio.gather(asked, return_exceptions=True)
    await gateway.start()
    await backend.until(lambda: len(backend.orders) == 1)
    first, second = backend.posts
    assert (first.body, first.headers, first.target) == (
        second.body,
        second.headers,
        second.target,
    )


async def test_kills_in_a_row_lose_no_order(backend: Backend, gateway: GatewayProcess) -> None:
    """A client that repeats its key until it knows, whatever dies meanwhile."""

    async def insist(key: str) -> str:
        async with asyncio.timeout(60):
            while True:
                try:
                    status, told = await gateway.order(key)
                except (aiohttp.ClientError, ConnectionError):
                    await asyncio.sleep(0.05)
                    continue
                if status == 201:
                    return str(told["id"])
                await asyncio.sleep(0.05)

    shopping = [asyncio.create_task(insist(f"{KEY}-{number}")) for number in range(20)]
    for kills in range(5):
        enough = 4 * kills + 1

        def busy(enough: int = enough) -> bool:
            return len(backend.posts) >= enough

        await backend.until(busy)
        await gateway.kill()
        await gateway.start()
    ids = await asyncio.gather(*shopping)
    assert len(set(ids)) == len(backend.orders) == 20


async def test_sigterm_lets_an_order_in_flight_finish(
    backend: Backend, gateway: GatewayProcess
) -> None:
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(gateway.order(KEY))
    await backend.until(lambda: len(backend.posts) == 1)
    ending = asyncio.create_task(gateway.terminate())
    async with asyncio.timeout(5):
        while (await gateway.readyz())[0] != 503:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    backend.gate("go").set()
    status, told = await asked
    assert (status, told["id"]) == (201, "o-1")
    assert await ending == 0
