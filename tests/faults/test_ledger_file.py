"""A ledger that can't be used: refused at start-up, or refused order by order, and said so."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import apsw
import pytest

from gateway.supervisor import EXIT_AGAIN
from tests.faults.processes import GatewayProcess
from tests.scenarios.backend import Backend

KEY = "key-0123456789-abcdefghij"


@pytest.fixture
async def gateway(tmp_path: Path, backend: Backend) -> AsyncIterator[GatewayProcess]:
    process = GatewayProcess(tmp_path, backend.port)
    yield process
    await process.stop()


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


async def test_a_full_disk_refuses_orders_before_anything_is_sent(
    small_disk: Path, backend: Backend, gateway: GatewayProcess
) -> None:
    await gateway.start()
    assert (await gateway.order(KEY))[0] == 201
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    body = b'{"note":"' + b"x" * 200_000 + b'"}'
    sent = len(backend.posts)
    status, told = await gateway.order("another-" + KEY, body)
    assert status == 503
    assert told["type"].endswith("ledger-unavailable")
    assert told["safe_new_key"] is False
    assert len(backend.posts) == sent
    ready, said = await gateway.readyz()
    assert ready == 503
    assert "full" in " ".join(said["reasons"])
    assert "full" in gateway.log.read_text()
    filler.unlink()
    assert (await gateway.order("another-" + KEY, body))[0] == 201
    assert (await gateway.readyz())[0] == 200
    assert (await gateway.order(KEY))[0] == 201
    assert len(backend.orders) == 2


async def test_a_locked_ledger_refuses_orders_before_anything_is_sent(
    backend: Backend, gateway: GatewayProcess
) -> None:
    await gateway.start()
    assert (await gateway.order(KEY))[0] == 201
    other = apsw.Connection(str(gateway.ledger))
    other.execute("BEGIN IMMEDIATE")
    try:
        status, told = await gateway.order("another-" + KEY)
        assert status == 503
        assert told["safe_new_key"] is False
        assert len(backend.posts) == 1
        assert (await gateway.readyz())[0] == 503
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert (await gateway.order("another-" + KEY))[0] == 201
    assert len(backend.orders) == 2


async def test_a_damaged_ledger_is_refused_at_start_up_and_kept(gateway: GatewayProcess) -> None:
    await gateway.start()
    for number in range(30):
        await gateway.order(f"{KEY}-{number}")
    assert await gateway.terminate() == 0
    damaged = bytearray(gateway.ledger.read_bytes())
    damaged[4096:12288] = os.urandom(8192)
    gateway.ledger.write_bytes(damaged)
    await gateway.start()
    assert await gateway.ended() == 3
    assert "damaged" in gateway.log.read_text()
    assert gateway.ledger.read_bytes() == bytes(damaged)


async def test_an_order_whose_log_is_gone_after_a_kill_is_asked_for_and_not_sent_again(
    backend: Backend, gateway: GatewayProcess
) -> None:
    await gateway.start()
    first = await gateway.order(KEY)
    assert first[0] == 201
    await gateway.kill()
    gateway.ledger.with_name("ledger.db-wal").unlink()
    await gateway.start()
    ready, said = await gateway.readyz()
    assert (ready, "older copy" in said["warnings"][0]) == (200, True)
    status, told = await gateway.order(KEY)
    if status == 202:
        assert await gateway.until_settled(told["id"]) == "confirmed"
        status, told = await gateway.order(KEY)
    assert (status, told) == first
    assert len(backend.posts) == len(backend.orders) == 1


async def test_a_file_that_is_no_ledger_is_refused_and_kept(gateway: GatewayProcess) -> None:
    gateway.ledger.parent.mkdir()
    gateway.ledger.write_bytes(b"dear diary " * 1000)
    await gateway.start()
    assert await gateway.ended() == 3
    assert gateway.ledger.read_bytes() == b"dear diary " * 1000


async def test_another_hosts_ledger_is_refused_until_it_is_adopted(
    gateway: GatewayProcess, backend: Backend
) -> None:
    await gateway.start()
    assert (await gateway.order(KEY))[0] == 201
    assert await gateway.terminate() == 0
    with apsw.Connection(str(gateway.ledger)) as ledger:
        names = [row[0] for row in ledger.execute("SELECT name FROM sqlite_schema").fetchall()]
        assert "origin" in names
        ledger.execute("UPDATE origin SET machine_id = 'another', boot_id = 'another'")
    await gateway.start()
    assert await gateway.ended() == 3
    assert "adopt" in gateway.log.read_text()
    text = gateway.config.read_text().replace("lease_s = 1", "lease_s = 1\nadopt = true")
    gateway.config.write_text(text)
    await gateway.start()
    assert (await gateway.order(KEY))[0] == 201
    assert len(backend.posts) == 1


async def test_a_ledger_that_is_locked_at_start_up_is_worth_another_start(
    gateway: GatewayProcess,
) -> None:
    """By a gateway that was stopped in a write, say: nobody has to come and look."""
    await gateway.start()
    assert await gateway.terminate() == 0
    other = apsw.Connection(str(gateway.ledger))
    other.execute("BEGIN IMMEDIATE")
    try:
        await gateway.start()
        assert await gateway.ended() == EXIT_AGAIN
    finally:
        other.execute("ROLLBACK")
        other.close()
    await gateway.start()
    assert (await gateway.order(KEY))[0] == 201
