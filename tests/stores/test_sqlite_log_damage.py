"""A log that was damaged, cut off or lost after a kill (FAULTS.md Q3): what is whole in it is kept,
and what is gone is noticed where something beside the file knows of it."""

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.ledger import LedgerRefused
from gateway.orders.states import Reason, Status
from gateway.stores import sqlite_log
from gateway.stores.sqlite import SqliteLedger
from gateway.stores.sqlite_host import HostFacts
from gateway.stores.sqlite_look import look_at
from middleware.clock import SystemClock

from .making import LEASE_S, TurnableClock, fresh, reading, settled, submission
from .processes import line, make, process

HEADER = 32
FRAME = 24 + 4096
"""sqlite.org/fileformat2.html#walformat: a header, and each page with a header of its own."""

Event = tuple[str, str]
Damage = Callable[[Path], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def frames(log: Path) -> int:
    return (log.stat().st_size - HEADER) // FRAME


def contents(path: Path) -> tuple[bytes, bytes]:
    return path.read_bytes(), log_of(path).read_bytes()


def overwrite(log: Path, start: int, junk: bytes) -> None:
    with log.open("r+b") as file:
        file.seek(start)
        file.write(junk)


def cut(log: Path, size: int) -> None:
    with log.open("r+b") as file:
        file.truncate(size)


async def killed(path: Path, steps: int = 200) -> list[Event]:
    """A process that takes orders, killed with -9: what it said that it had written, in order."""
    said: list[str] = []
    async with process("load", path) as running:
        while len(said) < steps:
            said.append(await line(running))
        running.kill()
        while last := await line(running):
            said.append(last)
    events = [text.split() for text in said]
    return [(each[0], each[1]) for each in events if each[-1].count("-") == 2]


async def holds(ledger: SqliteLedger, event: Event) -> bool:
    word, key = event
    entry = await ledger.find_by_key("scope", key)
    return entry is not None and (word == "claimed" or entry.status is Status.CONFIRMED)


# --- its end ---------------------------------------------------------------------------------


def cut_in_a_frame(log: Path) -> None:
    cut(log, HEADER + frames(log) // 2 * FRAME + 1000)


def junk_to_the_end(log: Path) -> None:
    start = HEADER + frames(log) // 2 * FRAME + 1000
    overwrite(log, start, secrets.token_bytes(log.stat().st_size - start))


def a_byte_is_another(log: Path) -> None:
    at = HEADER + frames(log) // 2 * FRAME + 1000
    overwrite(log, at, bytes([log.read_bytes()[at] ^ 1]))


@pytest.mark.parametrize("damage", [cut_in_a_frame, junk_to_the_end, a_byte_is_another])
async def test_a_log_that_is_damaged_keeps_all_that_was_told_before_it(
    path: Path, damage: Damage
) -> None:
    told = await killed(path)
    damage(log_of(path))
    ledger = make(path)
    await ledger.open()
    kept = [await holds(ledger, event) for event in told]
    assert kept == sorted(kept, reverse=True)
    assert kept[len(kept) // 4]
    assert not kept[-1]
    assert (await ledger.counts()).conserved
    await fresh(ledger)
    await ledger.close()


def half_a_frame_more(log: Path) -> None:
    """A commit whose process was killed in a write."""
    overwrite(log, log.stat().st_size, log.read_bytes()[HEADER : HEADER + FRAME // 2])


def junk_behind(log: Path) -> None:
    overwrite(log, log.stat().st_size, secrets.token_bytes(3 * FRAME))


def an_earlier_frame_again(log: Path) -> None:
    overwrite(log, log.stat().st_size, log.read_bytes()[HEADER : HEADER + FRAME])


@pytest.mark.parametrize("damage", [half_a_frame_more, junk_behind, an_earlier_frame_again])
async def test_what_stands_behind_the_last_commit_costs_nothing(path: Path, damage: Damage) -> None:
    told = await killed(path)
    damage(log_of(path))
    ledger = make(path)
    await ledger.open()
    assert ledger.distrusted is None
    assert all([await holds(ledger, event) for event in told])
    await ledger.close()


def from_there(log: Path, start: int) -> None:
    cut(log, start)


def in_the_middle(log: Path, start: int) -> None:
    overwrite(log, start, secrets.token_bytes(100))


@pytest.mark.parametrize(
    ("damage", "seconds", "told"),
    [
        (from_there, 2.0, "older copy of itself: what 2 s brought"),
        (from_there, 0.5, ""),
        (in_the_middle, 2.0, "damaged at byte {whole}: what 2 s brought"),
        (in_the_middle, 0.5, "damaged at byte {whole}: orders"),
    ],
)
async def test_of_what_the_log_lost_all_is_noticed_but_an_end_of_less_than_a_second(
    quick_folder: Path, damage: Callable[[Path, int], None], seconds: float, told: str
) -> None:
    """Beside the file stands how far it was, no more often; the log shows what is missing within
    it: docs/operations.md."""
    path, clock = quick_folder / "ledger.db", TurnableClock()
    ledger = make(path, clock=clock)
    await ledger.open()
    before = await settled(ledger, submission("before"))
    whole = log_of(path).stat().st_size
    clock.advance(seconds)
    await settled(ledger, submission("since"))
    ledger.crash()
    damage(log_of(path), whole + FRAME // 2)
    told = told.format(whole=whole)
    assert told in (look_at(path, HostFacts.read(), clock).forgot or "")
    ledger = make(path, clock=clock)
    await ledger.open()
    assert await ledger.find(before.id) == before
    assert (ledger.distrusted is not None) is bool(told)
    assert told in (ledger.distrusted or "")
    entry, _ = await fresh(ledger, submission("since"))
    assert entry.status is (Status.IN_DOUBT if told else Status.DISPATCHED)
    await ledger.close()
    again = make(path, clock=clock)
    await again.open()
    assert again.distrusted == ledger.distrusted
    await again.close()


# --- all of it -------------------------------------------------------------------------------


def removed(log: Path) -> None:
    log.unlink()


def emptied(log: Path) -> None:
    cut(log, 0)


def its_head_is_junk(log: Path) -> None:
    overwrite(log, 0, secrets.token_bytes(HEADER))


@pytest.mark.parametrize("damage", [removed, emptied, its_head_is_junk])
async def test_a_log_that_is_lost_is_noticed_and_nothing_is_sent_that_may_have_been(
    path: Path, damage: Damage
) -> None:
    told = await killed(path)
    damage(log_of(path))
    assert "is gone" in (look_at(path, HostFacts.read(), SystemClock()).forgot or "")
    ledger = make(path)
    await ledger.open()
    assert "is gone" in (ledger.distrusted or "")
    for key in {key for _, key in told}:
        entry, _ = await fresh(ledger, submission(key))
        assert entry.status is Status.IN_DOUBT
        assert entry.events[-1].reason is Reason.LEDGER_FORGOT
    assert (await ledger.counts()).conserved
    await ledger.close()


@pytest.mark.parametrize("with_its_log", [True, False])
async def test_a_log_that_stayed_on_another_host_is_missed(
    path: Path, tmp_path: Path, with_its_log: bool
) -> None:
    """By what is remembered beside the file, where that was copied as well."""
    told = await killed(path)
    here = tmp_path / "another" / "ledger.db"
    here.parent.mkdir()
    for suffix in ("", ".remembered", *(["-wal"] if with_its_log else [])):
        shutil.copy(f"{path}{suffix}", f"{here}{suffix}")
    ledger = SqliteLedger(
        here,
        clock=SystemClock(),
        who="replica-1",
        lease_s=LEASE_S,
        new_holder=lambda: secrets.token_hex(8),
        adopt=True,
        host=replace(HostFacts.read(), machine_id="another", boot_id="another"),
    )
    await ledger.open()
    told_so = "older copy of itself: all that was in it is gone" in (ledger.distrusted or "")
    assert told_so is not with_its_log
    assert await holds(ledger, told[-1]) is with_its_log
    await ledger.close()


# --- what was copied out of it ---------------------------------------------------------------


async def grown(ledger: SqliteLedger, orders: int) -> None:
    await asyncio.gather(
        *(settled(ledger, submission(secrets.token_hex(8))) for _ in range(orders))
    )


async def test_a_log_that_ends_before_what_was_copied_out_of_it_is_refused_and_kept(
    quick_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some pages are then older than others."""
    monkeypatch.setattr(sqlite_log, "CHECKPOINT_PAGES", 50)
    path = quick_folder / "ledger.db"
    ledger = make(path)
    await ledger.open()
    await grown(ledger, 500)
    await ledger.close()
    await ledger.open()
    with contextlib.ExitStack() as later:
        with reading(path):
            await grown(ledger, 20)
            later.enter_context(reading(path))
            copied = frames(log_of(path))
        await grown(ledger, 20)
        await grown(ledger, 20)
        ledger.crash()
    cut(log_of(path), HEADER + copied // 2 * FRAME + 1000)
    before = contents(path)
    for _ in range(2):
        with pytest.raises(LedgerRefused, match="damaged"):
            await make(path).open()
        assert contents(path) == before
