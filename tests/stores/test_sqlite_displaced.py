"""A ledger whose files are taken away, or others put in their place, while it is open."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.ledger import LedgerRefused, LedgerUnavailable
from gateway.stores.sqlite import SqliteLedger

from .making import fresh, submission
from .processes import make

Displace = Callable[[Path], None]


def removed(file: Path) -> None:
    file.unlink()


def renamed(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))


def copied(file: Path) -> None:
    """The same bytes in another file."""
    copy = file.with_name("copy")
    shutil.copyfile(file, copy)
    copy.rename(file)


def put_back(file: Path) -> None:
    file.with_name("elsewhere").rename(file)


def made_empty(file: Path) -> None:
    file.touch()


def is_there(file: Path) -> bool:
    return file.exists()


def of(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


async def _refuses(ledger: SqliteLedger, key: str) -> None:
    with pytest.raises(LedgerUnavailable, match="was moved, removed or replaced") as refused:
        await ledger.claim(submission(key))
    assert refused.value.written is False
    assert "was moved, removed or replaced" in (ledger.trouble or "")


@pytest.mark.parametrize("displace", [removed, renamed, copied])
@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
async def test_nothing_is_written_beside_a_log_and_the_next_process_knows_all(
    path: Path, suffix: str, displace: Displace
) -> None:
    told: list[str] = []
    ledger = make(path, disk_failed=told.append)
    await ledger.open()
    entry, _ = await fresh(ledger, submission("key-1"))
    displace(of(path, suffix))
    with pytest.raises(LedgerUnavailable, match="was moved, removed or replaced"):
        await ledger.find(entry.id)
    await _refuses(ledger, "key-2")
    assert len(told) == 1  # another process is to go on
    await ledger.close()
    again = make(path)
    await again.open()
    found = await again.find(entry.id)
    assert found is not None
    assert found.key == "key-1"
    assert again.distrusted is None
    assert await again.find_by_key("scope", "key-2") is None
    await again.close()


@pytest.mark.parametrize("displace", [removed, renamed, copied])
async def test_nothing_is_written_into_a_file_that_is_not_there_any_more(
    path: Path, displace: Displace
) -> None:
    told: list[str] = []
    ledger = make(path, disk_failed=told.append)
    await ledger.open()
    entry, _ = await fresh(ledger, submission("key-1"))
    displace(path)
    assert await ledger.find(entry.id) == entry  # what was recorded is as true as before
    await _refuses(ledger, "key-2")
    assert told == []  # a person has to put it back first
    await ledger.close()


async def test_a_link_that_leads_elsewhere_is_another_ledger(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    link = tmp_path / "current"
    link.symlink_to("a")
    ledger = make(link / "ledger.db")
    await ledger.open()
    await fresh(ledger, submission("key-1"))
    shutil.copyfile(tmp_path / "a" / "ledger.db", tmp_path / "b" / "ledger.db")
    link.unlink()
    link.symlink_to("b")
    await _refuses(ledger, "key-2")
    await ledger.close()


async def test_a_file_that_is_displaced_while_a_batch_runs_is_noticed_before_its_end(
    path: Path,
) -> None:
    ledger = make(path)
    await ledger.open()
    with pytest.raises(LedgerUnavailable, match="was moved, removed or replaced"):
        await ledger._write(lambda _: of(path, "-wal").unlink())
    await ledger.close()


async def test_a_log_without_its_ledger_is_not_taken_for_a_new_one(path: Path) -> None:
    """SQLite would throw the log away."""
    ledger = make(path)
    await ledger.open()
    entry, _ = await fresh(ledger, submission("key-1"))
    ledger.crash()
    log = of(path, "-wal").read_bytes()
    assert log
    renamed(path)
    for _ in range(2):
        with pytest.raises(LedgerRefused, match=r"ledger\.db-wal is there.*put ledger\.db back"):
            await make(path).open()
        assert not is_there(path)
        assert of(path, "-wal").read_bytes() == log
    made_empty(path)
    with pytest.raises(LedgerRefused, match=r"ledger\.db-wal is there"):
        await make(path).open()
    put_back(path)
    again = make(path)
    await again.open()
    assert await again.find(entry.id) is not None
    await again.close()


async def test_what_is_not_displaced_costs_little(path: Path) -> None:
    """Six looks a batch: nothing beside its sync."""
    ledger = make(path)
    await ledger.open()
    assert ledger._parts is not None
    file, rounds = ledger._parts.file, 1000

    def looked() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(rounds):
            assert file.displaced() is None
        return (loop.time() - began) / rounds

    assert min(looked() for _ in range(5)) < 100e-6
    await ledger.close()
