"""Killed while it opens, migrates or checkpoints its ledger (FAULTS.md K14), then started again.

./run test tests/faults/test_kills_at_start.py --every-call -s
"""

import asyncio
import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from gateway.orders.states import Status
from tests.faults.tracing import need_strace
from tests.stores import old_ledger
from tests.stores.processes import ROOT, make

SOME = {"pwrite64": (1, 2, 9, 23), "fdatasync": (1, 2, 4)}
"""Of a few dozen calls; ``--every-call`` takes all. Each thread's own are counted, and which thread
copies the log at the end is a matter of time: none of those."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A ledger of the first version, as its gateway left it; its log is not copied yet."""
    path = tmp_path / "old.db"
    old_ledger.load(1, path)
    db = apsw.Connection(str(path))
    db.pragma("journal_mode", "wal")
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    db.execute("DELETE FROM origin")  # nobody's yet: it was made on no host of ours
    db.close()
    return path


def opened_and_killed(path: Path, calls: str, when: int) -> bool:
    """Open and close it in a process that dies at that call; whether it got so far."""
    done = subprocess.run(
        [
            *("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}"),
            *("-e", f"inject={calls}:signal=KILL:when={when}"),
            *(sys.executable, "-m", "tests.stores.writer_process", "open", str(path), ""),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, -9, 137), done.stderr
    return done.returncode != 0


@pytest.mark.timeout(0)
@pytest.mark.parametrize("calls", SOME)
async def test_a_kill_at_any_call_of_the_opening_skips_no_order(
    old: Path, tmp_path: Path, calls: str, request: pytest.FixtureRequest
) -> None:
    need_strace()
    every = request.config.getoption("--every-call")
    kills = 0
    for when in itertools.count(1) if every else SOME[calls]:
        path = tmp_path / f"{calls}-{when}.db"
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{old}{suffix}", f"{path}{suffix}")
        if not await asyncio.to_thread(opened_and_killed, path, calls, when):
            break
        kills += 1
        await check(path)
    print(f"{calls}: killed at {kills} calls of the opening", flush=True)
    assert kills >= len(SOME[calls])


async def check(path: Path) -> None:
    ledger = make(path)
    await ledger.open()
    assert (await ledger.counts()).conserved
    for status, key in old_ledger.KEYS.items():
        entry = await ledger.find_by_key("scope", key)
        assert entry is not None
        assert entry.status is status
    taken = {leased.entry.key for leased in await ledger.lease_due(10)}
    assert {old_ledger.KEYS[Status.RECEIVED], old_ledger.KEYS[Status.DISPATCHED]} <= taken
    await ledger.close()
