"""The gateway killed with -9, for real, at the moments that matter (FAULTS.md K1, K4, K5, K7 to
K10, K12, K15), judged by the demo's oracle (I1 to I5, I7)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import apsw
import pytest

from gateway.orders.entry import Entry
from gateway.orders.states import Status
from tests.faults.judging import (
    RememberingGateway,
    WatchedBackend,
    findings,
    of_file,
    order_of,
)
from tests.faults.sockets import all_read
from tests.faults.tracing import injected, need_strace
from tests.faults.witnesses import UNDER_WAY, FileWitness
from tests.scenarios import backend as acts
from tests.scenarios.backend import Act, Backend, Taken

KEY = "key-0123456789-abcdefghij"


@pytest.fixture
async def backend() -> AsyncIterator[WatchedBackend]:
    backend = WatchedBackend()
    await backend.start()
    yield backend
    await backend.stop()


@pytest.fixture
async def gateway(
    tmp_path: Path, backend: WatchedBackend, request: pytest.FixtureRequest
) -> AsyncIterator[RememberingGateway]:
    process = RememberingGateway(tmp_path, backend.port, getattr(request, "param", "lookup"))
    backend.open_witness = of_file(process.ledger)
    await process.start()
    yield process
    await process.stop()


def telling(gate: str, first: Act) -> Act:
    """Do ``first``, and open the gate."""

    async def act(backend: Backend, taken: Taken, writer: asyncio.StreamWriter) -> None:
        await first(backend, taken, writer)
        backend.gate(gate).set()

    return act


async def half(backend: Backend, taken: Taken, writer: asyncio.StreamWriter) -> None:
    """Make the order, and send the answer's head and half of its body."""
    said = acts.encoded(201, backend.commit(taken))
    body = said.index(b"\r\n\r\n") + 4
    writer.write(said[: (body + len(said)) // 2])
    await writer.drain()


async def entries(gateway: RememberingGateway) -> list[Entry]:
    """What its ledger has."""
    witness = FileWitness(gateway.ledger)
    try:
        return await witness.entries()
    finally:
        await witness.close()


async def test_an_order_whose_body_was_half_read_is_nothing_and_comes_for_the_first_time(
    backend: WatchedBackend, gateway: RememberingGateway
) -> None:
    body = order_of(KEY)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        b"POST /orders HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer anna\r\n"
        b"Idempotency-Key: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % (KEY.encode(), len(body))
        + body[: len(body) // 2]
    )
    await all_read(writer.get_extra_info("sockname")[1])
    await gateway.kill()
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    assert await entries(gateway) == []
    await gateway.start()
    status, told = await gateway.order(KEY)
    assert (status, told["id"]) == (201, "o-1")
    assert len(backend.posts) == 1
    assert await findings(gateway, backend) == []


async def test_a_connection_is_all_that_was_made_before_the_claim(
    backend: WatchedBackend, gateway: RememberingGateway
) -> None:
    """Killed at the first write of the claim's commit."""
    need_strace()
    async with injected(gateway.pid, "pwrite64:signal=KILL:when=1"):
        with pytest.raises(aiohttp.ClientError):
            await gateway.order(KEY)
        await gateway.ended()
    assert await entries(gateway) == []
    await gateway.start()
    status, told = await gateway.order(KEY)
    assert (status, told["id"]) == (201, "o-1")
    assert [post.connection for post in backend.posts] == [2]
    assert await findings(gateway, backend) == []


@pytest.mark.parametrize("gateway", ["lookup", "dedup"], indirect=True)
async def test_the_gateway_killed_between_sending_and_recording_makes_one_order(
    backend: WatchedBackend, gateway: RememberingGateway, request: pytest.FixtureRequest
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
    assert await findings(gateway, backend) == []


async def test_an_order_whose_answer_was_half_read_is_looked_up(
    backend: WatchedBackend, gateway: RememberingGateway
) -> None:
    backend.script.append(telling("half", half))
    asked = asyncio.create_task(gateway.order(KEY))
    await backend.gate("half").wait()
    await all_read(backend.port)
    await gateway.kill()
    with pytest.raises(aiohttp.ClientError):
        await asked
    assert [entry.status in UNDER_WAY for entry in await entries(gateway)] == [True]
    await gateway.start()
    status, told = await gateway.until_known(KEY)
    assert (status, told["id"]) == (201, "o-1")
    assert await gateway.order(KEY) == (status, told)
    assert [entry.doubt_since is not None for entry in await entries(gateway)] == [True]
    assert backend.asked
    assert len(backend.posts) == len(backend.orders) == 1
    assert await findings(gateway, backend) == []


async def test_what_a_lookup_found_before_a_kill_is_found_again(
    backend: WatchedBackend, gateway: RememberingGateway
) -> None:
    """Killed when it has all that it asked, and can't commit it: the ledger is locked. A lookup is
    three questions: with the first and the last the backend proves that it reads the key."""
    backend.script.append(acts.lose_reply)
    last = acts.after("go", telling("found", acts.look_up))
    backend.lookup_script.extend((acts.look_up, acts.look_up, last))
    asked = asyncio.create_task(gateway.order(KEY))
    await backend.until(lambda: len(backend.asked) == 3)
    other = apsw.Connection(str(gateway.ledger))
    other.set_busy_timeout(1000)
    other.execute("BEGIN IMMEDIATE")
    backend.gate("go").set()
    await backend.gate("found").wait()
    await all_read(backend.port)
    await gateway.kill()
    other.close()
    with pytest.raises(aiohttp.ClientError):
        await asked
    assert [entry.status for entry in await entries(gateway)] == [Status.IN_DOUBT]
    await gateway.start()
    status, told = await gateway.until_known(KEY)
    assert (status, told["id"]) == (201, "o-1")
    assert await gateway.order(KEY) == (status, told)
    (post,) = backend.posts
    assert sum(post.key in question.target for question in backend.asked) == 2
    assert len(backend.orders) == 1
    assert await findings(gateway, backend) == []


@pytest.mark.parametrize("gateway", ["none"], indirect=True)
async def test_without_capability_a_kill_leaves_a_dead_letter_and_never_a_second_attempt(
    backend: WatchedBackend, gateway: RememberingGateway
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
    assert await findings(gateway, backend) == []


async def test_the_answer_survives_a_kill_byte_for_byte(
    backend: WatchedBackend, gateway: RememberingGateway
) -> None:
    first = await gateway.order(KEY)
    await gateway.kill()
    await gateway.start()
    assert await gateway.order(KEY) == first
    assert len(backend.posts) == 1
    assert await findings(gateway, backend) == []


async def test_an_order_that_is_sent_again_after_a_kill_is_the_same_bytes(
    backend: WatchedBackend, gateway: RememberingGateway
) -> None:
    """Killed before the backend made anything: absence is proved, and the order is placed."""
    odd = b'{ "sku" : 7.0 , "reference" : "%s" }' % KEY.encode()
    backend.script.append(acts.after("never", acts.take))
    asked = asyncio.create_task(gateway.order(KEY, odd))
    await backend.until(lambda: len(backend.posts) == 1)
    await gateway.kill()
    await asyncio.gather(asked, return_exceptions=True)
    await gateway.start()
    await backend.until(lambda: len(backend.orders) == 1)
    first, second = backend.posts
    assert first.body == odd
    assert (first.body, first.headers, first.target) == (
        second.body,
        second.headers,
        second.target,
    )
    assert await findings(gateway, backend) == []


async def test_kills_in_a_row_lose_no_order(
    backend: WatchedBackend, gateway: RememberingGateway
) -> None:
    """A client that repeats its key until it knows, whatever dies meanwhile."""

    shopping = [asyncio.create_task(gateway.until_known(f"{KEY}-{number}")) for number in range(20)]
    for kills in range(5):
        enough = 4 * kills + 1

        def busy(enough: int = enough) -> bool:
            return len(backend.posts) >= enough

        await backend.until(busy)
        await gateway.kill()
        await gateway.start()
    ids = {told["id"] for _, told in await asyncio.gather(*shopping)}
    assert len(ids) == len(backend.orders) == 20
    assert await findings(gateway, backend) == []


async def test_sigterm_lets_an_order_in_flight_finish(
    backend: WatchedBackend, gateway: RememberingGateway
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
    await gateway.start()
    assert await findings(gateway, backend) == []
