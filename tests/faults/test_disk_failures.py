"""A disk that fails under a running gateway (FAULTS.md Q1, Q2): a failed sync is never repeated by
the process that saw it, and nothing acknowledged is lost."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import apsw
import pytest

from gateway.supervisor.process import EXIT_AGAIN
from tests.faults.processes import GatewayProcess
from tests.faults.tracing import injected, need_strace
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.supervisor.processes import Workers

KEY = "key-0123456789-abcdefghij"
FAILING_SYNC = "fdatasync:error=EIO:when=1+"


@pytest.fixture
async def gateway(tmp_path: Path, backend: Backend) -> AsyncIterator[GatewayProcess]:
    process = GatewayProcess(tmp_path, backend.port)
    yield process
    await process.stop()


def is_whole(ledger: Path) -> bool:
    db = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        db.close()


async def test_a_sync_that_fails_before_the_send_refuses_the_order_and_ends_the_process(
    backend: Backend, gateway: GatewayProcess
) -> None:
    need_strace()
    await gateway.start()
    first = await gateway.order(KEY)
    async with injected(gateway.pid, FAILING_SYNC):
        try:
            status, told = await gateway.order("another-" + KEY)
        except aiohttp.ClientError:
            pass  # a renewal of its hold met the disk first
        else:
            assert status == 503
            assert told["safe_new_key"] is False
        assert await gateway.ended() == EXIT_AGAIN
    assert len(backend.posts) == 1
    assert "disk failed" in gateway.log.read_text()
    await gateway.start()
    assert await gateway.order(KEY) == first
    status, told = await gateway.order("another-" + KEY)
    if status == 202:  # the claim is in the file after all: it is settled as such
        assert await gateway.until_settled(told["id"]) == "confirmed"
    assert len(backend.orders) == 2
    assert is_whole(gateway.ledger)


async def test_a_sync_that_fails_after_the_send_loses_no_order(
    backend: Backend, gateway: GatewayProcess
) -> None:
    need_strace()
    await gateway.start()
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(gateway.order(KEY))
    await backend.until(lambda: len(backend.posts) == 1)
    async with injected(gateway.pid, FAILING_SYNC):
        backend.gate("go").set()
        assert await gateway.ended() == EXIT_AGAIN
    heard = await asyncio.gather(asked, return_exceptions=True)
    assert all(isinstance(each, BaseException) or each[0] != 201 for each in heard)
    await gateway.start()
    status, told = await gateway.order(KEY)
    if status == 202:
        assert await gateway.until_settled(told["id"]) == "confirmed"
        status, told = await gateway.order(KEY)
    assert (status, told["id"]) == (201, "o-1")
    assert len(backend.posts) == 1
    assert is_whole(gateway.ledger)


async def test_a_worker_whose_disk_failed_is_followed_by_another(
    backend: Backend, tmp_path: Path
) -> None:
    need_strace()
    workers = Workers(tmp_path, backend.port, workers=2)
    try:
        await workers.start()
        pids = await workers.all_ready()
        async with injected(pids[0], FAILING_SYNC):
            (ended,) = await workers.until_event("worker ended")
        assert ended["status"] == EXIT_AGAIN
        await workers.until_event("worker serves", 3)
        assert (await workers.order(KEY))[0] == 201
    finally:
        await workers.stop()


async def test_a_quota_that_is_used_up_refuses_orders_until_there_is_room_again(
    backend: Backend, gateway: GatewayProcess
) -> None:
    """ZFS, btrfs and user quotas say EDQUOT where a full disk says ENOSPC."""
    need_strace()
    await gateway.start()
    async with injected(gateway.pid, "pwrite64:error=EDQUOT:when=1+"):
        status, told = await gateway.order(KEY)
        assert status == 503
        assert told["safe_new_key"] is False
    async with asyncio.timeout(20):
        while (status := (await gateway.order(KEY))[0]) != 201:
            assert status in (202, 503)
            await asyncio.sleep(0.1)
    assert len(backend.posts) == 1
    assert await gateway.terminate() == 0
    assert "disk failed" not in gateway.log.read_text()
    assert is_whole(gateway.ledger)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB for the ledger's folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"a small disk can't be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_up(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return filler


async def test_a_disk_that_fills_up_after_the_send_loses_no_outcome(
    small_disk: Path, backend: Backend, gateway: GatewayProcess
) -> None:
    """The backend's answer is larger than what is left: it stays in doubt until there is room."""
    await gateway.start()
    for number in range(3):
        assert (await gateway.order(f"{KEY}-{number}"))[0] == 201
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(gateway.order(KEY, b'{"note":"' + b"x" * 200_000 + b'"}'))
    await backend.until(lambda: len(backend.posts) == 4)
    filler = fill_up(small_disk)
    backend.gate("go").set()
    status, _ = await asked
    assert status in (201, 202, 503)  # 201 where the log had room left
    assert (await gateway.order("another-" + KEY, b'"' + b"y" * 400_000 + b'"'))[0] == 503
    assert len(backend.posts) == 4
    filler.unlink()
    async with asyncio.timeout(20):
        while (
            status := (await gateway.order(KEY, b'{"note":"' + b"x" * 200_000 + b'"}'))[0]
        ) != 201:
            assert status in (202, 503)
            await asyncio.sleep(0.1)
    assert len(backend.orders) == len(backend.posts) == 4
    assert await gateway.terminate() == 0
    assert is_whole(gateway.ledger)


@pytest.mark.parametrize("end", ["killed", "stopped"])
async def test_a_disk_that_is_full_at_start_up_is_worth_another_start(
    end: str, small_disk: Path, gateway: GatewayProcess
) -> None:
    """Nobody has to come and look once there is room again: orders wait in the ledger."""
    await gateway.start()
    assert (await gateway.order(KEY))[0] == 201
    await (gateway.kill() if end == "killed" else gateway.terminate())
    filler = fill_up(small_disk)
    await gateway.start()
    assert await gateway.ended() == EXIT_AGAIN
    assert "is full" in gateway.log.read_text()
    filler.unlink()
    await gateway.start()
    assert (await gateway.order(KEY))[0] == 201
