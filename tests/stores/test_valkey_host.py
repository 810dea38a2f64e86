"""What a host remembers of a remote ledger: its processes share it, and a kill takes none of it."""

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from gateway.stores import valkey_host
from gateway.stores.valkey_host import HostMemory
from gateway.stores.valkey_keys import BUCKETS
from gateway.stores.valkey_remembered import Remembered
from tests.faults.remote import Events

Process = Callable[[], Awaitable[tuple[HostMemory, Remembered]]]
"""Makes what one process has on this host."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.remembered"


@pytest.fixture
async def process(file: Path) -> AsyncIterator[Process]:
    made = []

    async def one() -> tuple[HostMemory, Remembered]:
        known = Remembered()
        memory = HostMemory(file, known, Events())
        await memory.load()
        made.append(memory)
        return memory, known

    yield one
    for memory in made:
        memory.close()


def knows(known: Remembered, epoch: str, seq: int) -> None:
    for bucket in range(BUCKETS):
        known.epochs[bucket], known.seqs[bucket] = epoch, seq


async def saved(process: Process) -> tuple[HostMemory, Remembered]:
    """One that knows the ledger, and has said so."""
    memory, known = await process()
    knows(known, "epoch", 10)
    known.histories["master"] = "id"
    await memory.save()
    return memory, known


def own_files(file: Path) -> list[Path]:
    return sorted(file.parent.glob(file.name + valkey_host.OWN))


async def test_what_was_kept_or_saved_is_known_at_the_next_start(process: Process) -> None:
    memory, known = await saved(process)
    known.seqs[3] = 11
    memory.keep()
    memory.close()
    _, heir = await process()
    assert heir.seqs == [10, 10, 10, 11, *[10] * (BUCKETS - 4)]
    assert heir.epochs == ["epoch"] * BUCKETS
    assert heir.histories == {"master": "id"}


async def test_the_highest_that_any_process_knows_counts(process: Process) -> None:
    """Whoever wrote last, and whether it still runs."""
    first, first_known = await saved(process)
    second, second_known = await process()
    first_known.seqs[0], second_known.seqs[1] = 20, 21
    first.keep()
    second.keep()
    await second.save()
    await first.save()
    second.close()
    _, third = await process()
    assert third.seqs[:3] == [20, 21, 10]


async def test_who_starts_takes_over_from_all_that_are_gone(process: Process, file: Path) -> None:
    await saved(process)
    lives = own_files(file)
    gone = [await process() for _ in range(3)]
    gone[0][1].seqs[0] = 12
    for memory, _ in gone:
        memory.keep()
        memory.close()
    _, known = await process()
    assert known.seqs[0] == 12
    assert len(own_files(file)) == 2
    assert set(lives) < set(own_files(file))


async def test_who_runs_takes_over_from_one_that_is_gone(process: Process, file: Path) -> None:
    """What it left would be a false alarm once the ledger starts over."""
    memory, known = await saved(process)
    gone, gone_known = await process()
    gone_known.seqs[0] = 1000
    gone.keep()
    await memory.look()
    assert known.seqs[0] == 10  # it still runs, and may not know yet that the ledger forgot
    assert len(own_files(file)) == 2
    gone.close()
    await memory.look()
    assert known.seqs[0] == 1000
    assert len(own_files(file)) == 1
    knows(known, "another", 2)
    memory.keep()
    await memory.save()
    _, heir = await process()
    assert (heir.epochs, heir.seqs) == (["another"] * BUCKETS, [2] * BUCKETS)


async def test_those_who_start_at_once_do_not_clear_each_other_away(
    process: Process, file: Path
) -> None:
    memory, known = await saved(process)
    known.seqs[0] = 30
    memory.keep()
    memory.close()
    started = await asyncio.gather(*(process() for _ in range(20)))
    assert all(known.seqs[0] == 30 for _, known in started)
    for number, (each, known) in enumerate(started):
        known.seqs[1] = 100 + number
        each.keep()
    assert (await process())[1].seqs[:2] == [30, 119]
    assert len(own_files(file)) == 21


async def test_a_file_that_was_deleted_or_never_there_is_made_at_the_next_look(
    process: Process, file: Path
) -> None:
    memory, known = await saved(process)
    await asyncio.to_thread(own_files(file)[0].unlink)
    known.seqs[0] = 11
    await memory.look()
    memory.close()
    assert (await process())[1].seqs[:2] == [11, 10]


async def test_what_can_not_be_cleared_away_stops_nobody(process: Process, file: Path) -> None:
    """A name that leads nowhere, and one that can't be read as a file."""
    memory, known = await saved(process)
    known.seqs[0] = 11
    memory.keep()
    memory.close()
    folder = file.with_name(file.name + ".0badcafe")
    await asyncio.to_thread(folder.mkdir)
    assert (await process())[1].seqs[0] == 11
    nowhere = file.with_name(file.name + ".deadbeef")
    await asyncio.to_thread(nowhere.symlink_to, "nowhere")
    await process()
    assert len(own_files(file)) == 4


async def test_what_was_read_is_known_also_where_nothing_can_be_written(
    process: Process, file: Path
) -> None:
    memory, known = await saved(process)
    known.seqs[0] = 11
    memory.keep()
    memory.close()
    events = Events()
    with nothing_can_be_written():
        memory, known = HostMemory(file, heir := Remembered(), events), heir
        await memory.load()
        memory.keep()
    assert known.seqs[:2] == [11, 10]
    assert events.said == ["what is known of the ledger can't be kept"]
    known.seqs[0] = 12
    await memory.look()  # it can be written again
    memory.close()
    assert (await process())[1].seqs[0] == 12


async def test_a_write_that_fails_is_said_once_and_stops_nobody(file: Path) -> None:
    events, known = Events(), Remembered()
    memory = HostMemory(file, known, events)
    await memory.load()
    with nothing_can_be_written():
        for known.seqs[0] in range(3):
            memory.keep()
    assert events.said == ["what is known of the ledger can't be kept"]
    memory.keep()
    with nothing_can_be_written():
        memory.keep()
    assert len(events.said) == 2
    memory.close()
    memory.keep()


@contextlib.contextmanager
def nothing_can_be_written() -> Iterator[None]:
    """By this process, to any file: as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_where_there_is_no_file_nothing_is_said(tmp_path: Path) -> None:
    events = Events()
    memory = HostMemory(None, Remembered(epochs=["epoch"] * BUCKETS), events)
    await memory.load()
    await memory.look()
    await memory.save()
    memory.keep()
    memory.close()
    assert not events.said
    (tmp_path / "file").touch()
    memory = HostMemory(tmp_path / "file" / "ledger.remembered", Remembered(), events)
    await memory.load()
    assert events.said == ["what is known of the ledger can't be kept"]


async def test_the_folder_is_made(tmp_path: Path) -> None:
    """The ledger is opened before anything else writes there."""
    file = tmp_path / "new" / "ledger.remembered"
    memory = HostMemory(file, Remembered(), Events())
    await memory.load()
    memory.close()
    assert len(own_files(file)) == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'{"buckets":[],"histories":{}}',
        b'{"buckets":[[1,2]],"histories":{}}',
        b'{"buckets":[%s],"histories":{}}' % b",".join([b'["epoch",-1]'] * BUCKETS),
        b'{"buckets":[%s],"histories":{}}' % b",".join([b'["epoch",1.5]'] * BUCKETS),
    ],
)
async def test_what_is_no_memory_is_none(process: Process, file: Path, raw: bytes) -> None:
    """Nor are the sequences of a ledger that nobody knows any more."""
    memory, _ = await saved(process)
    memory.close()
    await asyncio.to_thread(file.write_bytes, raw)
    _, known = await process()
    assert known == Remembered()
