"""What a supervisor does about a worker that says nothing."""

import asyncio
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from gateway.api.health import HealthApi
from gateway.supervisor.asking import Asking
from gateway.supervisor.channel import Channel
from gateway.supervisor.workers import Worker
from gateway.telemetry import Telemetry
from middleware.clock import SystemClock
from tests.faults.remote import FaultProxy, durable, opened
from tests.stores.servers import running

HUNG_S = 0.2


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    """A process that does nothing, as far as its supervisor can see."""
    ours, theirs = socket.socketpair()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=-1)
    channel = await Channel.on(ours)
    worker = Worker(1, 1, process, channel)
    yield worker
    worker.kill()
    await process.wait()
    assert process.stdin is not None
    process.stdin.close()
    await channel.close()
    theirs.close()


@pytest.fixture
async def asking(worker: Worker) -> AsyncIterator[Asking]:
    asking = Asking(lambda: [worker], hung_s=HUNG_S)
    yield asking
    await asking.close()


async def test_a_worker_that_hangs_is_killed(worker: Worker, asking: Asking) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        worker.admin = silent.getsockname()[:2]
        asking.end_hung()  # counts from the first look
        await asking.scrape()
        asking.end_hung()
    assert await worker._process.wait() == -signal.SIGKILL


async def test_a_worker_that_can_not_be_asked_is_left_alone(worker: Worker, asking: Asking) -> None:
    """The supervisor is out of descriptors: that is no fault of the worker's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        worker.admin = silent.getsockname()[:2]
        asking.end_hung()
        await asyncio.sleep(2 * HUNG_S)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            await asking.scrape()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        asking.end_hung()
    assert worker._process.returncode is None
    os.kill(worker.pid, 0)


async def test_a_worker_that_answers_is_left_alone(worker: Worker, asking: Asking) -> None:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="")

    application = web.Application()
    application.router.add_get("/metrics", page)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    worker.admin = runner.addresses[0][:2]
    asking.end_hung()
    await asyncio.sleep(2 * HUNG_S)
    await asking.scrape()
    asking.end_hung()
    await runner.cleanup()
    assert worker._process.returncode is None


async def test_a_worker_whose_ledger_is_silent_is_left_alone(
    worker: Worker, asking: Asking
) -> None:
    """It can't say how many orders there are; all but orders goes on."""
    with running(durable()) as (server,):
        async with (
            FaultProxy(server.port) as proxy,
            opened(f"valkey://127.0.0.1:{proxy.port}") as ledger,
        ):
            health = HealthApi(
                ledger=ledger, telemetry=Telemetry(), clock=SystemClock(), draining=lambda: False
            )
            application = web.Application()
            application.add_routes(health.routes())
            runner = web.AppRunner(application)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            worker.admin = runner.addresses[0][:2]
            proxy.silent = True
            asking.end_hung()
            await asking.scrape()
            asking.end_hung()
            proxy.silent = False
            await runner.cleanup()
    assert worker._process.returncode is None


async def test_a_worker_that_is_starting_is_not_hung(worker: Worker, asking: Asking) -> None:
    asking.end_hung()
    await asyncio.sleep(2 * HUNG_S)
    asking.end_hung()
    assert worker._process.returncode is None
    (state,) = await asking.states()
    assert (state.answers, state.ready, state.reasons) == (False, False, ("starting",))
