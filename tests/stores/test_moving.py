"""A shop moves to another ledger, broken off anywhere, and loses no order and no key."""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from gateway.ledger import LedgerRefused, LedgerUnavailable
from gateway.orders import life
from gateway.orders.claiming import Replay
from gateway.orders.entry import Entry
from gateway.orders.states import Status
from gateway.stores import moving
from gateway.stores.moving import Departure, Moved, move
from gateway.stores.sqlite import SqliteLedger
from gateway.stores.sqlite_moving import SqliteSource, SqliteTarget

from . import old_ledger
from .making import (
    HOST,
    LEASE_S,
    TurnableClock,
    attached,
    bare,
    fresh,
    in_doubt,
    late,
    settled,
    submission,
)

ORDERS = 25


class Killed(Exception):
    """The move ends here."""


class Fragile(SqliteTarget):
    """A target under which the process dies after so many steps; ``before`` the last or after."""

    def __init__(self, path: Path, clock: TurnableClock, steps: int) -> None:
        super().__init__(path, host=HOST, clock=clock)
        self._left = steps

    def _step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Killed

    async def begin(self, move_id: str) -> bool:
        self._step()
        begun = await super().begin(move_id)
        self._step()
        return begun

    async def put(self, entries: Sequence[Entry]) -> int:
        self._step()
        put = await super().put(entries)
        self._step()
        return put

    async def finish(self, departure: Departure) -> None:
        self._step()
        await super().finish(departure)


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock()


@pytest.fixture
def old(quick_folder: Path) -> Path:
    return quick_folder / "old.db"


@pytest.fixture
def new(quick_folder: Path) -> Path:
    return quick_folder / "new" / "new.db"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "BATCH", 4)


@pytest.fixture
async def shop(old: Path, clock: TurnableClock) -> list[Entry]:
    """Orders of every kind in a ledger whose gateway was stopped; some were forgotten before."""
    ledger = old_ledger.make(old, clock)
    await ledger.open()
    for number in range(5):
        await settled(ledger, submission(f"long-ago-{number}"))
    clock.advance(6_001)  # retention_s + tombstone_s
    await ledger.renew_hold()
    while await ledger.retire(3) != (0, 0):
        pass
    entries = await old_ledger.fill(ledger)
    for number in range(ORDERS):
        entries.append(await settled(ledger, submission(f"key-{number}")))
    entries.append(await disputed(ledger))
    await ledger.close()
    return entries


async def disputed(ledger: SqliteLedger) -> Entry:
    """A success that came after an operator had said that it was refused."""
    entry, _ = await in_doubt(ledger, submission("disputed"))
    await ledger.amend(
        entry.id, lambda before, now: life.resolve(before, Status.REJECTED, "?", now, "ann")
    )
    late_success = await ledger.amend(entry.id, late(1, 201))
    assert late_success is not None
    assert late_success.disputed
    return late_success


async def moved(source: SqliteSource, target: SqliteTarget) -> Moved:
    try:
        return await move(source, target, lambda *_: None)
    finally:
        await source.close()
        await target.close()


def ends(old: Path, new: Path, clock: TurnableClock) -> tuple[SqliteSource, SqliteTarget]:
    return SqliteSource(old, host=HOST, clock=clock), SqliteTarget(new, host=HOST, clock=clock)


async def gone_back(old: Path, clock: TurnableClock) -> SqliteLedger:
    """The source once more, after a move that did not end."""
    ledger = SqliteLedger(
        old, clock=clock, who="me", lease_s=LEASE_S, host=HOST, adopt=True,
        new_holder=lambda: secrets.token_hex(8),
    )  # fmt: skip
    await ledger.open()
    return ledger


async def check_all_are_there(path: Path, clock: TurnableClock, entries: list[Entry]) -> None:
    ledger = old_ledger.make(path, clock)
    await ledger.open()
    for entry in entries:
        found = await ledger.find(entry.id)
        assert found is not None
        assert replace(found, token=0) == replace(entry, token=0)
        assert found.token >= entry.token
        assert await ledger.find_by_key(entry.scope, entry.key) == found
    counts = await ledger.counts()
    assert counts.conserved
    assert (counts.made, counts.removed) == (len(entries) + 5, 5)
    assert counts.disputed == 1
    page = await ledger.page(limit=500)
    assert [entry.id for entry in page.entries] == [entry.id for entry in entries]
    assert page.entries[0] == replace(bare(entries[0]), token=page.entries[0].token)
    await check_it_goes_on(ledger)
    await ledger.close()


async def check_it_goes_on(ledger: SqliteLedger) -> None:
    """Keys are taken, what waits is due at once, and answers are forgotten in their time."""
    assert isinstance((await ledger.claim(submission("confirmed"))).claimed, Replay)
    assert isinstance((await ledger.claim(attached("r1:attached"))).claimed, Replay)
    taken = {leased.entry.key: leased.entry.status for leased in await ledger.lease_due(50)}
    assert taken == {
        "received": Status.RECEIVED,
        "dispatched": Status.IN_DOUBT,
        "in-doubt": Status.IN_DOUBT,
    }


async def test_every_order_key_and_answer_arrives(
    shop: list[Entry], old: Path, new: Path, clock: TurnableClock
) -> None:
    done = await moved(*ends(old, new, clock))
    assert (done.entries, done.copied) == (len(shop), len(shop))
    await check_all_are_there(new, clock, shop)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 5, 9, 19, 20])
async def test_a_move_that_is_killed_anywhere_is_ended_by_the_same_command(
    shop: list[Entry], old: Path, new: Path, clock: TurnableClock, steps: int
) -> None:
    source, _ = ends(old, new, clock)
    with pytest.raises(Killed):
        await moved(source, Fragile(new, clock, steps))
    for path in (old, new):
        if path.exists() and path.stat().st_size:
            with pytest.raises(LedgerRefused, match="ledger copy"):
                await old_ledger.make(path, clock).open()
    done = await moved(*ends(old, new, clock))
    assert done.entries == len(shop)
    await check_all_are_there(new, clock, shop)


async def test_the_old_ledger_is_refused_afterwards(
    shop: list[Entry], old: Path, new: Path, clock: TurnableClock
) -> None:
    await moved(*ends(old, new, clock))
    with pytest.raises(LedgerRefused, match="moved elsewhere"):
        await old_ledger.make(old, clock).open()
    with pytest.raises(LedgerRefused, match="is a ledger already"):
        await moved(*ends(old, new, clock))
    await check_all_are_there(new, clock, shop)


async def test_a_ledger_that_was_moved_is_not_moved_to_a_second_place(
    shop: list[Entry], old: Path, new: Path, clock: TurnableClock
) -> None:
    second = new.with_name("second.db")
    with pytest.raises(Killed):  # all but its end
        await moved(ends(old, new, clock)[0], Fragile(second, clock, 19))
    await moved(*ends(old, new, clock))
    for path in (second, new.with_name("third.db")):
        with pytest.raises(LedgerRefused, match="moved already"):
            await moved(*ends(old, path, clock))
        with pytest.raises(LedgerRefused, match="half a copy"):
            await old_ledger.make(path, clock).open()
    await check_all_are_there(new, clock, shop)


async def test_a_ledger_that_a_gateway_holds_is_not_moved(
    shop: list[Entry], old: Path, new: Path, clock: TurnableClock
) -> None:
    gateway = old_ledger.make(old, clock)
    await gateway.open()
    with pytest.raises(LedgerRefused, match="a gateway takes orders"):
        await moved(*ends(old, new, clock))
    await settled(gateway, submission("while-it-runs"))
    gateway.crash()
    with pytest.raises(LedgerRefused, match="a gateway takes orders"):
        await moved(*ends(old, new, clock))
    clock.advance(LEASE_S + 1)
    done = await moved(*ends(old, new, clock))
    assert done.entries == len(shop) + 1


async def test_a_gateway_that_wakes_up_after_the_move_can_write_nothing(
    shop: list[Entry], old: Path, new: Path, clock: TurnableClock
) -> None:
    """It was stopped (SIGSTOP) for longer than its lease, with an order in hand."""
    asleep = old_ledger.make(old, clock)
    await asleep.open()
    (leased, *_) = await asleep.lease_due(1)
    clock.advance(LEASE_S + 1)
    await moved(*ends(old, new, clock))
    with pytest.raises(LedgerUnavailable, match="moved"):
        await asleep.claim(submission("after-the-move"))
    with pytest.raises(Exception, match="no longer"):
        await asleep.write(leased.lease, leased.entry, leased.entry)
    await asleep.close()
    with pytest.raises(LedgerRefused, match="moved elsewhere"):
        await old_ledger.make(old, clock).open()


@pytest.mark.parametrize("steps", [5, 20])  # half way, and at the end
async def test_what_needs_no_lease_is_not_written_into_a_ledger_that_left(
    shop: list[Entry], old: Path, new: Path, clock: TurnableClock, steps: int
) -> None:
    """A late answer that a gateway hears which slept, or what an operator tells it."""
    asleep = old_ledger.make(old, clock)
    await asleep.open()
    claim = submission("under way")
    entry, _ = await fresh(asleep, claim)
    clock.advance(LEASE_S + 1)
    with pytest.raises(Killed):
        await moved(ends(old, new, clock)[0], Fragile(new, clock, steps))
    with pytest.raises(LedgerUnavailable, match="moved elsewhere") as caught:
        await asleep.amend(entry.id, late(1, 403))
    assert caught.value.written is False
    with pytest.raises(LedgerUnavailable, match="moved elsewhere"):
        await asleep.disclaim(claim)
    await asleep.close()
    await moved(*ends(old, new, clock))
    there = old_ledger.make(new, clock)
    await there.open()
    assert (found := await there.find(entry.id)) is not None
    assert found.status is Status.DISPATCHED
    await there.close()


async def test_nothing_is_moved_into_a_ledger_that_is_there(
    shop: list[Entry], old: Path, new: Path, clock: TurnableClock
) -> None:
    there = old_ledger.make(new, clock)
    await there.open()
    await settled(there, submission("theirs"))
    await there.close()
    with pytest.raises(LedgerRefused, match="is a ledger already"):
        await moved(*ends(old, new, clock))
    going_back = await gone_back(old, clock)
    assert (await going_back.counts()).made == len(shop) + 5
    await going_back.close()


async def test_a_move_that_was_called_off_does_not_end_in_the_half_copy(
    shop: list[Entry], old: Path, new: Path, clock: TurnableClock
) -> None:
    source, _ = ends(old, new, clock)
    with pytest.raises(Killed):
        await moved(source, Fragile(new, clock, 5))
    back = await gone_back(old, clock)
    later = await settled(back, submission("later"))
    doubtful, _ = await in_doubt(back, submission("later in doubt"))
    assert await back.amend(doubtful.id, late(1, 201)) is not None
    await back.close()
    with pytest.raises(LedgerRefused, match="part of another copy"):
        await moved(*ends(old, new, clock))
    done = await moved(*ends(old, new.with_name("newer.db"), clock))
    assert done.entries == len(shop) + 2
    assert later.status is Status.CONFIRMED


async def test_a_clock_that_was_set_late_forgets_no_key_at_a_move(
    shop: list[Entry], old: Path, new: Path, clock: TurnableClock
) -> None:
    clock.jump(1e9)
    await moved(*ends(old, new, clock))
    ledger = old_ledger.make(new, clock)
    await ledger.open()
    assert await ledger.retire(50) == (0, 0)
    assert [entry for entry in shop if await ledger.find(entry.id) is None] == []
    await ledger.close()


async def test_an_order_that_can_not_be_read_ends_the_move_and_the_shop_goes_back(
    shop: list[Entry], old: Path, new: Path, clock: TurnableClock
) -> None:
    db = apsw.Connection(str(old))
    db.execute("UPDATE orders SET doc = '?' WHERE id = ?", (shop[7].id,))
    db.close()
    with pytest.raises(LedgerRefused, match=f"order {shop[7].id} can't be read .* `adopt = true`"):
        await moved(*ends(old, new, clock))
    back = await gone_back(old, clock)
    assert isinstance((await back.claim(submission("confirmed"))).claimed, Replay)
    await back.close()


async def test_an_older_ledger_is_moved_too(old: Path, new: Path, clock: TurnableClock) -> None:
    old_ledger.load(1, old)
    clock.advance(LEASE_S + 1)  # of the process that left it
    done = await moved(*ends(old, new, clock))
    assert done.entries == len(old_ledger.KEYS) + 1
    ledger = old_ledger.make(new, clock)
    await ledger.open()
    await check_it_goes_on(ledger)
    await ledger.close()


async def test_a_loss_on_the_way_is_noticed(
    shop: list[Entry], old: Path, new: Path, clock: TurnableClock
) -> None:
    class Forgetful(SqliteTarget):
        async def put(self, entries: Sequence[Entry]) -> int:
            return await super().put(entries[1:])

    source, _ = ends(old, new, clock)
    with pytest.raises(LedgerRefused, match="not what left"):
        await moved(source, Forgetful(new, host=HOST, clock=clock))
    with pytest.raises(LedgerRefused, match="half a copy"):
        await old_ledger.make(new, clock).open()


UNLIKE: dict[str, Callable[[Entry], Entry]] = {
    "another body": lambda entry: replace(
        entry, answer=entry.answer and replace(entry.answer, body=b'{"id": 43}')
    ),
    "another moment": lambda entry: replace(entry, updated_at=entry.updated_at + 0.001),
    "a lost move": lambda entry: replace(entry, events=entry.events[:-1]),
    "another fingerprint": lambda entry: replace(entry, fingerprint="r1:bb"),
}


@pytest.mark.parametrize("unlike", UNLIKE)
async def test_what_arrives_as_another_is_noticed_though_the_counts_agree(
    shop: list[Entry], old: Path, new: Path, clock: TurnableClock, unlike: str
) -> None:
    class Careless(SqliteTarget):
        async def put(self, entries: Sequence[Entry]) -> int:
            changed = [
                UNLIKE[unlike](each) if each.status is Status.CONFIRMED else each
                for each in entries
            ]
            return await super().put(changed)

    source, _ = ends(old, new, clock)
    with pytest.raises(LedgerRefused, match=r"order \S+ differs"):
        await moved(source, Careless(new, host=HOST, clock=clock))
    with pytest.raises(LedgerRefused, match="half a copy"):
        await old_ledger.make(new, clock).open()


async def test_an_empty_ledger_that_was_moved_is_not_moved_to_a_second_place(
    old: Path, new: Path, clock: TurnableClock
) -> None:
    empty = old_ledger.make(old, clock)
    await empty.open()
    await empty.close()
    await moved(*ends(old, new, clock))
    with pytest.raises(LedgerRefused, match="moved already"):
        await moved(*ends(old, new.with_name("second.db"), clock))


async def test_a_target_that_can_not_be_leaves_the_source_in_use(
    old: Path, new: Path, clock: TurnableClock
) -> None:
    source = old_ledger.make(old, clock)
    await source.open()
    await source.close()
    nowhere = Path("/proc/nowhere/ledger.db")
    with pytest.raises(LedgerRefused, match="can't be made"):
        await moved(*ends(old, nowhere, clock))
    await source.open()
    assert source.trouble is None
    await source.close()


async def test_ends_that_are_no_ledgers_are_refused(
    old: Path, new: Path, clock: TurnableClock
) -> None:
    with pytest.raises(LedgerRefused, match="no ledger at"):
        await moved(*ends(old, new, clock))
    assert not new.exists()  # noqa: ASYNC240
    await asyncio.sleep(0)
    assert list(itertools.islice(old.parent.iterdir(), 1)) == []
