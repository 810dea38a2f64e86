"""Ledgers on a real file and a real clock, here and in processes of their own."""

import asyncio
import secrets
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.stores.sqlite import SqliteLedger
from gateway.stores.sqlite_rows import SqliteRows
from middleware.clock import Clock, SystemClock

from .making import LEASE_S

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 20.0


def make(
    path: Path,
    *,
    timeout_s: float = 5.0,
    clock: Clock | None = None,
    inline: bool = False,
    disk_failed: Callable[[str], None] | None = None,
) -> SqliteLedger:
    return SqliteLedger(
        path,
        clock=clock or SystemClock(),
        who="replica-1",
        lease_s=LEASE_S,
        new_holder=lambda: secrets.token_hex(8),
        store_timeout_s=timeout_s,
        inline=inline,
        disk_failed=disk_failed,
    )


def held_back(ledger: SqliteLedger, gate: threading.Event) -> asyncio.Task[None]:
    """A write that keeps the writer busy until ``gate`` opens."""

    def op(rows: SqliteRows) -> None:
        gate.wait(WAIT_S)

    return asyncio.create_task(ledger._write(op))


@asynccontextmanager
async def process(
    mode: str, path: Path, argument: str = ""
) -> AsyncIterator[asyncio.subprocess.Process]:
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.stores.writer_process",
        mode,
        str(path),
        argument,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WAIT_S):
            yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def line(running: asyncio.subprocess.Process) -> str:
    assert running.stdout is not None
    return (await running.stdout.readline()).decode().strip()
