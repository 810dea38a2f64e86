"""The gateway killed with -9, for real, at the moments that matter (FAULTS.md K1, K4 to K12,
K15)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import apsw
import pytest

from tests.faults.processes import GatewayProcess
from tests.faults.remote import until
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend, Taken

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


def unread_bytes(field: int, port: int) -> int:
    """What lies in the kernel for the gateway, by /proc/net/tcp: from its clients (``field`` 1, its
    own port), or from a server (2, the server's)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = [line for line in lines if line[field].endswith(f":{port:04X}")]
    return sum(int(line[4].partition(":")[2], 16) for line in established if line[3] == "01")


def tally(gateway: GatewayProcess, *columns: str) -> tuple[int, ...]:
    with apsw.Connection(str(gateway.ledger), flags=apsw.SQLITE_OPEN_READONLY) as ledger:
        (counts,) = ledger.execute(f"SELECT {', '.join(columns)} FROM tally")
    return tuple(map(int, counts))


async def settled(gateway: GatewayProcess) -> tuple[int, str]:
    status, told = await gateway.order(KEY)
    if status == 202:
        assert await gateway.until_settled(told["id"]) == "confirmed"
        status, told = await gateway.order(KEY)
    return status, str(told["id"])


async def test_a_body_that_is_half_read_at_a_kill_leaves_nothing(
    backend: Backend, gateway: GatewayProcess
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        b"POST /orders HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer anna\r\n"
        b'Idempotency-Key: %s\r\nContent-Length: 9\r\n\r\n{"sk' % KEY.encode()
    )
    await writer.drain()
    await until(lambda: not unread_bytes(1, gateway.port))
    await gateway.kill()
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    assert tally(gateway, "made") == (0,)
    await gateway.start()
    assert await settled(gateway) == (201, "o-1")
    assert len(backend.posts) == 1


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
    assert await settled(gateway) == (201, "o-1")
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


async def half_an_answer(backend: Backend, taken: Taken, writer: asyncio.StreamWriter) -> None:
    whole = acts.encoded(201, backend.commit(taken))
    writer.write(whole[:-10])
    await writer.drain()
    backend.gate("half").set()


async def test_an_answer_that_is_half_read_at_a_kill_is_asked_for(
    backend: Backend, gateway: GatewayProcess
) -> None:
    backend.script.append(half_an_answer)
    asked = asyncio.create_task(gateway.order(KEY))
    await backend.gate("half").wait()
    await until(lambda: not unread_bytes(2, backend.port))
    await gateway.kill()
    with pytest.raises(aiohttp.ClientError):
        await asked
    assert tally(gateway, "dispatched", "confirmed") == (1, 0)
    await gateway.start()
    assert await settled(gateway) == (201, "o-1")
    assert len(backend.posts) == len(backend.orders) == 1


async def test_a_lookup_that_is_answered_and_not_recorded_at_a_kill_is_made_again(
    backend: Backend, gateway: GatewayProcess
) -> None:
    def of_the_order() -> int:
        """Not those of a random key, which prove the lookup."""
        return sum(backend.posts[0].key in each.target for each in backend.asked)

    async def look_up(backend: Backend, taken: Taken, writer: asyncio.StreamWriter) -> None:
        if backend.posts[0].key in taken.target:
            await backend.gate("look").wait()
            await acts.look_up(backend, taken, writer)
            backend.gate("seen").set()
        else:
            await acts.look_up(backend, taken, writer)

    backend.script.append(acts.lose_reply)
    backend.lookup_script.extend([look_up] * 10)
    asked = asyncio.create_task(gateway.order(KEY))
    await backend.until(lambda: of_the_order() == 1)
    lock = apsw.Connection(str(gateway.ledger))
    lock.set_busy_timeout(5000)  # the gateway renews its lease
    lock.execute("BEGIN IMMEDIATE")  # what it has seen can't be written
    backend.gate("look").set()
    await backend.gate("seen").wait()
    await until(lambda: not unread_bytes(2, backend.port))
    await gateway.kill()
    with pytest.raises(aiohttp.ClientError):
        await asked
    lock.execute("ROLLBACK")
    lock.close()
    assert tally(gateway, "in_doubt", "confirmed") == (1, 0)
    await gateway.start()
    assert await settled(gateway) == (201, "o-1")
    assert of_the_order() == 2
    assert len(backend.posts) == len(backend.orders) == 1


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
