"""Several workers on one port and one ledger, as real processes, killed for real."""

import asyncio
import json
import os
import signal
import socket

import aiohttp
import pytest

from gateway.supervisor.deaths import DEATHS_MAX
from gateway.supervisor.process import EXIT_REFUSED
from gateway.supervisor.supervising import EXIT_WORKERS_DIE
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.supervisor.conftest import MakeWorkers
from tests.supervisor.processes import Workers, gone

KEY = "key-0123456789-abcdefghij"


async def test_orders_go_to_every_worker_and_operators_see_one_gateway(
    backend: Backend, workers: Workers
) -> None:
    ids = {(await workers.insist(f"{KEY}-{number}"))[0] for number in range(24)}
    assert len(ids) == len(backend.orders) == 24
    took = {line["pid"] for line in workers.events("request")}
    assert took == set(await workers.all_ready())
    counted = await workers.metrics()
    assert counted["ordergate_requests_total"] == 24
    assert counted["ordergate_order_seconds_count"] == 24
    assert counted["ordergate_orders"] == counted["ordergate_orders_made"] == 24
    assert counted["ordergate_conservation_gap"] == 0
    assert counted["ordergate_workers"] == counted["ordergate_workers_serving"] == 2
    assert (await workers.admin_get("/livez"))[0] == 200


async def test_the_admin_api_is_one_workers_with_the_token_of_all(workers: Workers) -> None:
    _, told = await workers.order(KEY)
    assert (await workers.admin_get("/admin/orders"))[0] == 401
    token = workers.ledger.with_name("ledger.db.admin-token").read_text().strip()
    status, body = await workers.admin_get("/admin/orders", Authorization=f"Bearer {token}")
    assert status == 200
    (order,) = json.loads(body)["orders"]
    assert (order["status"], told["id"]) == ("confirmed", "o-1")


async def test_a_word_on_a_breaker_reaches_every_worker(workers: Workers) -> None:
    await workers.all_ready()
    token = workers.ledger.with_name("ledger.db.admin-token").read_text().strip()
    url = f"http://127.0.0.1:{workers.admin}/admin/upstreams/backend/breaker"
    word = {"override": "open", "operator": "eva", "reason": "deploy"}
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.put(url, json=word, headers=headers) as answer,
    ):
        assert answer.status == 200
    heard = await workers.until_event("breaker set by an operator", 2)
    assert len({each["pid"] for each in heard}) == 2
    for pid in await workers.all_ready():
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
    await workers.until_event("breaker set by an operator", 4)  # those that were started since


async def test_who_guesses_the_token_holds_nobody_else_up(workers: Workers) -> None:
    """Each operator's address has a back-off of its own, although workers see only us."""
    loop = asyncio.get_running_loop()
    url = f"http://127.0.0.1:{workers.admin}/admin/counts"

    async def guess(address: str) -> float:
        connector = aiohttp.TCPConnector(local_addr=(address, 0))
        async with aiohttp.ClientSession(connector=connector) as session:
            began = loop.time()
            async with session.get(url) as answer:
                assert answer.status == 401
            return loop.time() - began

    took_s = await asyncio.gather(*(guess("127.0.0.2") for _ in range(3)))
    assert max(took_s) >= 2.0
    assert await guess("127.0.0.3") < 1.0


async def test_a_repeat_gets_the_same_answer_from_whatever_worker(
    backend: Backend, workers: Workers
) -> None:
    answers = await asyncio.gather(*(workers.order(KEY) for _ in range(12)))
    assert all(answer == answers[0] for answer in answers)
    assert len(backend.posts) == 1


async def test_a_worker_killed_under_load_loses_and_doubles_no_order(
    backend: Backend, workers: Workers
) -> None:
    first, second = await workers.all_ready()
    shopping = [asyncio.create_task(workers.insist(f"{KEY}-{number}")) for number in range(40)]
    await backend.until(lambda: len(backend.posts) >= 8)
    os.kill(first, signal.SIGKILL)
    await backend.until(lambda: len(backend.posts) >= 24)
    os.kill(second, signal.SIGKILL)
    ids = {order for order, _ in await asyncio.gather(*shopping)}
    assert len(ids) == len(backend.orders) == 40
    assert {order["id"] for order in backend.orders} == ids
    assert not {first, second} & set(await workers.all_ready())
    assert workers.pid  # the supervisor is the same


async def test_the_port_serves_on_while_a_worker_is_away(workers: Workers) -> None:
    first, second = await workers.all_ready()
    os.kill(first, signal.SIGSTOP)  # neither serves nor ends: the supervisor must not need it
    try:
        status, told = await workers.readyz()
        assert (status, told["ready"]) == (200, True)
        reasons = {each["pid"]: each["reasons"] for each in told["workers"]}
        assert reasons == {first: ["does not answer"], second: []}
        assert (await workers.admin_get("/livez"))[0] == 200
        os.kill(second, signal.SIGSTOP)
        assert (await workers.readyz())[0] == 503
        assert (await workers.admin_get("/livez"))[0] == 503
    finally:
        os.kill(first, signal.SIGCONT)
        os.kill(second, signal.SIGCONT)
    assert (await workers.all_ready()) == [first, second]


async def test_metrics_go_on_through_a_killed_worker(workers: Workers) -> None:
    for number in range(16):
        await workers.insist(f"{KEY}-{number}")
    before = await workers.metrics()
    for pid in await workers.all_ready():
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
        during = await workers.metrics()
        assert during["ordergate_requests_total"] >= 16
    await workers.all_ready()
    after = await workers.metrics()
    for name in ("requests_total", "order_seconds_count", "order_seconds_sum", "moves_total"):
        assert after[f"ordergate_{name}"] == before[f"ordergate_{name}"]
    assert after["ordergate_orders"] == 16
    assert after["ordergate_worker_deaths_total"] == 2


async def test_a_worker_that_is_told_to_leave_loses_no_count(workers: Workers) -> None:
    for number in range(8):
        await workers.insist(f"{KEY}-{number}")
    for pid in await workers.all_ready():
        os.kill(pid, signal.SIGTERM)  # nothing was scraped yet: their last words count
        await gone(pid)
    await workers.all_ready()
    assert (await workers.metrics())["ordergate_requests_total"] == 8


async def test_workers_end_when_their_supervisor_is_killed(
    backend: Backend, workers: Workers
) -> None:
    pids = await workers.all_ready()
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(workers.order(KEY))
    await backend.until(lambda: len(backend.posts) == 1)
    await workers.kill()
    backend.gate("go").set()
    assert (await asked)[0] == 201  # they drain before they end
    for pid in pids:
        await gone(pid)
    await workers.start()  # and the port is free
    assert (await workers.order(KEY))[0] == 201
    assert len(backend.posts) == 1


async def test_a_second_supervisor_is_refused_the_port(
    make_workers: MakeWorkers, workers: Workers
) -> None:
    other = make_workers()
    other.rewrite(f'address = "127.0.0.1:{other.port}"', f'address = "127.0.0.1:{workers.port}"')
    await other.start()
    assert await other.ended() == EXIT_REFUSED
    assert "in use" in other.events("an address can not be used")[0]["reason"]


async def test_a_ledger_that_is_refused_ends_the_supervisor_at_once(
    make_workers: MakeWorkers,
) -> None:
    two = make_workers()
    two.ledger.parent.mkdir()
    two.ledger.write_bytes(b"not a database, but long enough to be read as the head of one" * 20)
    await two.start()
    assert await two.ended() == EXIT_REFUSED
    assert len(two.events("worker started")) == 1
    assert "damaged or no ledger" in two.events("the ledger can not be used")[0]["reason"]


async def test_a_worker_that_dies_whenever_it_starts_ends_the_supervisor(
    make_workers: MakeWorkers,
) -> None:
    two = make_workers()
    starting = asyncio.create_task(two.start())
    for number in range(DEATHS_MAX):
        started = await two.until_event("worker started", number + 1)
        os.kill(started[number]["pid"], signal.SIGKILL)
    await starting
    assert await two.ended() == EXIT_WORKERS_DIE
    (told,) = two.events("a worker dies whenever it is started: giving up")
    assert (told["status"], told["deaths"]) == (-signal.SIGKILL, DEATHS_MAX)


async def test_a_worker_that_dies_whenever_it_starts_ends_no_other_that_serves(
    workers: Workers,
) -> None:
    well, ill = await workers.all_ready()
    os.kill(ill, signal.SIGKILL)
    for number in range(DEATHS_MAX):
        started = await workers.until_event("worker started", 3 + number)
        os.kill(started[-1]["pid"], signal.SIGKILL)
    (told,) = await workers.until_event("a worker dies whenever it is started")
    assert told["deaths"] == DEATHS_MAX
    assert (await workers.insist(KEY))[0] == "o-1"
    assert well in await workers.all_ready()
    for pid in await workers.all_ready():  # nobody serves now, and yet all is well soon
        os.kill(pid, signal.SIGKILL)
    assert (await workers.insist(f"{KEY}-2"))[0] == "o-2"
    assert await workers.terminate() == 0


async def test_workers_never_work_on_two_logs_of_one_ledger(
    backend: Backend, workers: Workers
) -> None:
    """Somebody removes the log's index, which holds the locks; a new worker makes another."""
    pids = await workers.all_ready()
    await workers.insist(KEY)
    workers.ledger.with_name("ledger.db-shm").unlink()
    os.kill(pids[0], signal.SIGKILL)
    for number in range(30):
        first, _ = await workers.insist(f"{KEY}-{number}")
        for _ in range(3):
            assert (await workers.insist(f"{KEY}-{number}"))[0] == first
    assert len(backend.orders) == 31
    assert await workers.insist(KEY) == ("o-1", 0)
    assert set(await workers.all_ready()).isdisjoint(pids)


async def test_sigterm_drains_not_ready_first_and_orders_in_flight_finish(
    backend: Backend, make_workers: MakeWorkers
) -> None:
    two = make_workers(drain_delay_s=1.0)
    await two.start()
    await two.all_ready()
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(two.order(KEY))
    await backend.until(lambda: len(backend.posts) == 1)
    ending = asyncio.create_task(two.terminate())
    async with asyncio.timeout(5):
        while (await two.readyz())[0] != 503:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await two.readyz())[1]["reasons"] == ["draining"]
    assert (await two.order(KEY + "-later"))[0] == 201  # within drain_delay_s
    await two.until_event("draining", 3)
    backend.gate("go").set()
    assert (await asked)[0] == 201
    assert await ending == 0
    with pytest.raises(aiohttp.ClientError):
        await two.order(KEY)


async def test_a_drain_says_connection_close(make_workers: MakeWorkers) -> None:
    two = make_workers(drain_delay_s=1.0)
    await two.start()
    await two.all_ready()
    with socket.create_connection(("127.0.0.1", two.port)) as client:
        client.settimeout(5)
        ending = asyncio.create_task(two.terminate())
        answer = b""
        while b"connection: close" not in answer.lower():
            client.sendall(b"GET /_gateway/orders/none HTTP/1.1\r\nHost: shop\r\n\r\n")
            answer = await asyncio.to_thread(client.recv, 4096)
            assert answer.startswith(b"HTTP/1.1 404 ")
            await asyncio.sleep(0.05)
        assert await ending == 0


async def test_a_second_signal_hurries_the_drain_and_the_order_stays_resolvable(
    backend: Backend, workers: Workers
) -> None:
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(workers.order(KEY))
    await backend.until(lambda: len(backend.posts) == 1)
    ending = asyncio.create_task(workers.terminate())
    await workers.until_event("draining", 3)
    os.kill(workers.pid, signal.SIGTERM)
    async with asyncio.timeout(4):  # drain_s is 5
        assert await ending == 0
    await asyncio.gather(asked, return_exceptions=True)
    backend.gate("go").set()
    await workers.start()
    await backend.until(lambda: len(backend.orders) == 1)
    assert (await workers.insist(KEY))[0] == "o-1"
    assert len(backend.orders) == 1
