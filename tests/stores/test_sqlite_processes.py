"""Several processes on one ledger file, and what a killed one leaves."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.orders.claiming import InFlight
from gateway.orders.states import Status
from gateway.stores.sqlite import SqliteLedger

from .making import fresh, settled, submission
from .processes import line, make, process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
async def ledger(path: Path) -> AsyncIterator[SqliteLedger]:
    opened = make(path)
    await opened.open()
    yield opened
    await opened.close()


async def test_kill_9_loses_no_acknowledged_write(path: Path) -> None:
    told: dict[str, str] = {}
    for _ in range(3):
        async with process("load", path) as running:
            for _ in range(400):
                word, key = (await line(running)).split()
                told[key] = word
            running.kill()
            while text := await line(running):
                word, _, key = text.partition(" ")
                if key.count("-") == 2 and word in ("claimed", "confirmed"):
                    told.setdefault(key, word)
    ledger = make(path)
    await ledger.open()
    for key, word in told.items():
        entry = await ledger.find_by_key("scope", key)
        assert entry is not None, key
        assert word == "claimed" or entry.status is Status.CONFIRMED
    assert (await ledger.counts()).conserved
    await ledger.close()


async def test_what_a_killed_process_left_is_taken_over(path: Path) -> None:
    ledger = make(path)
    await ledger.open()
    async with process("settle", path, "orphan") as running:
        entry_id = await line(running)
        running.kill()
        await running.wait()
        assert await ledger.lease_due(10) == []
        taken = await ledger.lease_due(10)
        while not taken:
            await asyncio.sleep(0.1)  # the dead process's hold has no event to wait for
            taken = await ledger.lease_due(10)
    assert [leased.entry.id for leased in taken] == [entry_id]
    assert taken[0].entry.status is Status.IN_DOUBT
    await ledger.close()


async def test_a_waiter_is_woken_by_another_process(ledger: SqliteLedger, path: Path) -> None:
    async with process("settle", path, "shared") as running:
        assert running.stdin is not None
        entry_id = await line(running)
        claim = await ledger.claim(submission("shared"))
        assert isinstance(claim.claimed, InFlight)
        watch = ledger.watchers.add(entry_id)
        assert claim.claimed.entry.pending
        running.stdin.write(b"go\n")
        while (seen := await watch.next()).pending:
            pass
        assert seen.status is Status.CONFIRMED
        assert await line(running) == "confirmed"
        running.stdin.write(b"done\n")
        await running.wait()
    ledger.watchers.remove(entry_id, watch)


async def test_two_processes_write_one_file(ledger: SqliteLedger, path: Path) -> None:
    told = 0
    async with process("load", path) as running:
        for number in range(100):
            await settled(ledger, submission(f"ours-{number}"))
            told += (await line(running)).startswith("claimed")
        running.kill()
    counts = await ledger.counts()
    assert counts.conserved
    assert counts.made >= 100 + told


@pytest.mark.parametrize("_round", range(20))
async def test_ledgers_that_start_together_make_one_file(path: Path, _round: int) -> None:
    ledgers = [make(path) for _ in range(8)]
    await asyncio.gather(*(ledger.open() for ledger in ledgers))
    await asyncio.gather(*(fresh(each, submission(f"key-{n}")) for n, each in enumerate(ledgers)))
    assert (await ledgers[0].counts()).made == len(ledgers)
    assert len({round(ledger.now()) for ledger in ledgers}) <= 2
    await asyncio.gather(*(ledger.close() for ledger in ledgers))
