"""SIGHUP to real processes: a changed configuration is taken, or refused with its reason."""

import asyncio
import json
import os
import signal

import aiohttp
import pytest

from tests.faults.processes import GatewayProcess
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.supervisor.conftest import MakeWorkers
from tests.supervisor.processes import Workers, gone

KEY = "key-0123456789-abcdefghij"
ROUTE = 'match = "POST /orders"'


async def test_reloads_under_load_drop_nothing(backend: Backend, workers: Workers) -> None:
    stop = asyncio.Event()
    statuses: list[int] = []

    async def shop(number: int) -> None:
        """One customer on one kept-alive connection; any error is one too many."""
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=connector) as session:
            for order in range(10_000):
                if stop.is_set():
                    return
                headers = {"Authorization": f"Bearer {number}", "Idempotency-Key": f"{KEY}-{order}"}
                url = f"http://127.0.0.1:{workers.port}/orders"
                async with session.post(url, data=b'{"sku":7}', headers=headers) as answer:
                    await answer.read()
                    statuses.append(answer.status)

    shopping = [asyncio.create_task(shop(number)) for number in range(4)]
    for reloads in range(1, 4):
        seen = len(backend.orders)
        await backend.until(lambda seen=seen: len(backend.orders) >= seen + 10)  # type: ignore[misc]
        workers.rewrite(ROUTE, f"{ROUTE}\nattach_window_s = 5" if reloads == 1 else ROUTE)
        workers.hang_up()
        await workers.until_event("worker reloaded", 2 * reloads)
    stop.set()
    await asyncio.gather(*shopping)
    assert set(statuses) == {201}
    assert len(backend.orders) == len(statuses) >= 30


async def test_a_bad_file_is_refused_with_the_reason_and_the_old_one_stays(
    workers: Workers,
) -> None:
    workers.rewrite('capability = "lookup"', 'capability = "luck"')
    workers.hang_up()
    (refused,) = await workers.until_event("reload refused: the old configuration stays")
    assert '"luck" is no capability' in refused["reasons"][0]
    assert (await workers.order(KEY))[0] == 201
    assert workers.events("worker reloaded") == []


async def test_a_reload_warns_of_what_is_dangerous(workers: Workers) -> None:
    workers.rewrite(ROUTE, f'{ROUTE}\nupstream_key = "client"')
    workers.hang_up()
    await workers.until_event("worker reloaded", 2)
    warned = [each["reason"] for each in workers.events("configuration warning")]
    assert [each for each in warned if "count keys per customer" in each]


async def test_what_needs_a_restart_is_refused_as_such(workers: Workers) -> None:
    workers.rewrite("workers = 2", "workers = 3")
    workers.rewrite("lease_s = 1", "lease_s = 2")
    workers.hang_up()
    (refused,) = await workers.until_event("reload refused: the old configuration stays")
    assert refused["reasons"] == [
        "listen.workers can't change while running: restart",
        "ledger.lease_s can't change while running: restart",
    ]
    assert (await workers.order(KEY))[0] == 201


async def test_a_worker_that_is_started_again_takes_the_configuration_of_the_reload(
    workers: Workers,
) -> None:
    workers.rewrite(ROUTE, 'match = "POST /purchases"')
    workers.rewrite("[ledger]", '[log]\nlevels = { requests = "error" }\n\n[ledger]')
    workers.hang_up()
    await workers.until_event("worker reloaded", 2)
    for pid in await workers.all_ready():
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
    await workers.all_ready()
    for number in range(8):
        assert (await workers.order(f"{KEY}-{number}"))[0] == 404  # no route takes it
    assert workers.events("request") == []


async def test_an_order_in_doubt_finds_its_vanished_upstream_also_in_a_new_worker(
    backend: Backend, make_workers: MakeWorkers
) -> None:
    two = make_workers()
    await two.start()
    pids = await two.all_ready()
    backend.script.append(acts.lose_reply)
    backend.lookup_script.append(acts.after("never", acts.look_up))
    status, told = await two.order(KEY)
    assert status == 202
    two.rewrite('name = "backend"', 'name = "elsewhere"')
    two.rewrite('upstream = "backend"', 'upstream = "elsewhere"')
    two.rewrite(f"127.0.0.1:{backend.port}", "127.0.0.1:9")
    two.hang_up()
    await two.until_event("worker reloaded", 2)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
    await two.all_ready()
    assert await two.until_settled(told["id"]) == "confirmed"
    assert len(backend.orders) == 1


async def test_a_single_process_reloads_too(
    backend: Backend, tmp_path: os.PathLike[str], make_workers: MakeWorkers
) -> None:
    alone = make_workers(1)
    assert isinstance(alone, GatewayProcess)
    await alone.start()
    alone.rewrite(ROUTE, 'match = "POST /purchases"')
    alone.hang_up()
    await alone.until_event("reloaded")
    assert (await alone.order(KEY))[0] == 404
    alone.rewrite("lease_s = 1", "lease_s = 2")
    alone.hang_up()
    await alone.until_event("reload refused: the old configuration stays")
    assert (await alone.readyz())[0] == 200
    assert alone.events("worker started") == []
    assert await alone.terminate() == 0


@pytest.mark.parametrize("count", [1, 2])
async def test_a_reload_while_it_still_starts_is_heeded_once_it_serves(
    make_workers: MakeWorkers, count: int
) -> None:
    early = make_workers(count)
    before = early.config.read_bytes()
    early.config.unlink()
    os.mkfifo(early.config)
    starting = asyncio.create_task(early.start())
    pipe = await asyncio.to_thread(early.config.open, "wb")  # opens once it is being read
    while not early.is_running:  # noqa: ASYNC110 - it runs; that was not told yet
        await asyncio.sleep(0)
    early.config.unlink()
    early.config.write_bytes(before)
    early.rewrite(ROUTE, 'match = "POST /purchases"')
    early.hang_up()
    with pipe:
        pipe.write(before)
    await starting
    await early.until_event("reloaded")
    assert (await early.order(KEY))[0] == 404
    assert await early.terminate() == 0


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_to_the_whole_group_drain_and_do_not_hurry(
    backend: Backend, workers: Workers, signal_number: signal.Signals
) -> None:
    """As service managers and terminals do it: every process gets the signal."""
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(workers.order(KEY))
    await backend.until(lambda: len(backend.posts) == 1)
    pids = await workers.all_ready()
    for pid in (*pids, workers.pid):
        os.kill(pid, signal_number)
    await workers.until_event("draining", 3)
    backend.gate("go").set()
    assert (await asked)[0] == 201
    assert await workers.ended() == 0


async def test_a_reload_while_a_worker_is_on_its_way_reaches_it_too(workers: Workers) -> None:
    other = 'match = "POST /purchases"'
    for number in range(6):
        old, new, expected = (ROUTE, other, 404) if number % 2 == 0 else (other, ROUTE, 201)
        pid = (await workers.all_ready())[number % 2]
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
        workers.rewrite(old, new)
        workers.hang_up()
        await workers.until_event("reloaded", number + 1)
        await workers.all_ready()
        for nth in range(8):  # the kernel picks the worker
            assert (await workers.order(f"{KEY}-{number}-{nth}"))[0] == expected


async def test_the_configuration_in_force_names_the_listener_that_operators_reach(
    workers: Workers,
) -> None:
    token = (workers.ledger.parent / "ledger.db.admin-token").read_text().strip()
    status, text = await workers.admin_get("/admin/config", Authorization=f"Bearer {token}")
    assert status == 200
    assert json.loads(text)["listen"]["admin"] == f"127.0.0.1:{workers.admin}"
