"""An older copy of a ledger file that is put in its place is noticed, and not trusted: what is not
in it is looked up before it is sent."""

import asyncio
import secrets
import shutil
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from gateway.ledger import LeaseLost, LedgerRefused, LedgerUnavailable
from gateway.orders import life
from gateway.orders.claiming import ClaimRequest, InFlight, Replay
from gateway.orders.entry import Entry
from gateway.orders.operating import ActionRefused, ask_lookup, ask_resend, resolve
from gateway.orders.promise import Capability, Promise
from gateway.orders.states import Reason, Status
from gateway.stores.doubting import Said
from gateway.stores.moving import move
from gateway.stores.sqlite import SqliteLedger
from gateway.stores.sqlite_backup import back_up
from gateway.stores.sqlite_host import HostFacts
from gateway.stores.sqlite_look import look_at
from gateway.stores.sqlite_moving import SqliteSource, SqliteTarget
from gateway.stores.sqlite_trust import recall, remembered_file, trust_again
from middleware.clock import SystemClock

from .making import (
    LEASE_S,
    PROMISE,
    WHO,
    answered,
    attached,
    dead_letter,
    ended,
    failed,
    fresh,
    in_doubt,
    late,
    settled,
    submission,
)

NONE = replace(PROMISE, capabilities=frozenset(), lookup=None)


@pytest.fixture
def path(quick_folder: Path) -> Path:
    return quick_folder / "ledger.db"


def make(path: Path, *, adopt: bool = False) -> SqliteLedger:
    return SqliteLedger(
        path,
        clock=SystemClock(),
        who="replica-1",
        lease_s=LEASE_S,
        new_holder=lambda: secrets.token_hex(8),
        adopt=adopt,
    )


async def opened(path: Path, *, adopt: bool = False) -> SqliteLedger:
    ledger = make(path, adopt=adopt)
    await ledger.open()
    return ledger


def copied(path: Path) -> Path:
    """A copy by hand of a file that nobody uses."""
    target = path.with_name("copy.db")
    shutil.copy(path, target)
    return target


def put_back(copy: Path, path: Path) -> None:
    path.unlink()
    copy.rename(path)


def taken_away(path: Path) -> Path:
    return path.rename(path.with_name("away.db"))


def remove(path: Path) -> None:
    path.unlink()


def keep(path: Path, kept: bytes | None) -> None:
    if kept is None:
        remembered_file(path).unlink()
    else:
        remembered_file(path).write_bytes(kept)


async def set_back(path: Path) -> SqliteLedger:
    """The ledger as it is now, opened after an order that it forgot."""
    copy = copied(path)
    ledger = await opened(path)
    await settled(ledger, submission("since"))
    await ledger.close()
    put_back(copy, path)
    return await opened(path)


async def with_an_old_copy(path: Path) -> Path:
    """An order that is in the copy, and one that was confirmed since."""
    ledger = await opened(path)
    await settled(ledger, submission("before"))
    await failed(ledger, submission("failed"))
    entry, lease = await fresh(ledger, submission("waits", dispatch=False))
    await ledger.release(lease, due_in_s=0)
    assert entry.status is Status.RECEIVED
    await ledger.close()
    copy = copied(path)
    ledger = await opened(path)
    await settled(ledger, submission("since"))
    await settled(ledger, submission("failed"))
    await ledger.close()
    return copy


def unsent(key: str) -> ClaimRequest:
    """An anonymous one that no connection was at hand for; a ledger that forgot takes it, too."""
    return submission(key, scope="anonymous", kind="anonymous", dispatch=False)


# --- what is noticed -------------------------------------------------------------------------


async def test_an_older_copy_in_the_place_of_the_ledger_is_noticed(path: Path) -> None:
    put_back(await with_an_old_copy(path), path)
    ledger = await opened(path)
    assert "is gone" in (ledger.distrusted or "")
    assert "ordergate trust" in (ledger.distrusted or "")
    assert ledger.trouble is None
    await ledger.close()


async def test_a_look_notices_it_before_a_gateway_does(path: Path) -> None:
    """The doctor's, between putting it back and the start."""
    copy = await with_an_old_copy(path)
    clock = SystemClock()
    assert look_at(path, HostFacts.read(), clock).forgot is None
    put_back(copy, path)
    assert "older copy" in (look_at(path, HostFacts.read(), clock).forgot or "")
    ledger = await opened(path)
    assert "older copy" in (look_at(path, HostFacts.read(), clock).forgot or "")
    assert trust_again(path)
    assert look_at(path, HostFacts.read(), clock).forgot is None
    await ledger.close()


async def test_a_backup_that_is_adopted_is_not_trusted(path: Path) -> None:
    ledger = await opened(path)
    backup = path.with_name("backup.db")
    back_up(path, backup, at="yesterday")
    await settled(ledger, submission("since"))
    await ledger.close()
    put_back(backup, path)
    with pytest.raises(LedgerRefused, match="this is a backup"):
        await make(path).open()
    ledger = await opened(path, adopt=True)
    assert "it is a backup of yesterday" in (ledger.distrusted or "")
    await ledger.close()
    again = await opened(path)
    assert again.distrusted is not None
    await again.close()


async def test_a_ledger_that_vanished_is_noticed(path: Path) -> None:
    await (await opened(path)).close()
    remove(path)
    ledger = await opened(path)
    assert "another ledger was in its place" in (ledger.distrusted or "")
    await ledger.close()


async def test_a_ledger_that_is_taken_back_after_a_move_is_not_trusted(path: Path) -> None:
    await (await opened(path)).close()
    source, target = ends(path, path.with_name("moved.db"))
    await move(source, target, lambda *_: None)
    await source.close()
    await target.close()
    ledger = await opened(path, adopt=True)
    assert "moved elsewhere" in (ledger.distrusted or "")
    await ledger.close()


# --- what is not forgetting ------------------------------------------------------------------


async def test_the_same_file_again_is_trusted_also_after_a_kill(path: Path) -> None:
    for _ in range(3):
        ledger = await opened(path)
        await settled(ledger, submission(secrets.token_hex(8)))
        assert ledger.distrusted is None
        ledger.crash()
    second = await opened(path)
    beside = await opened(path)
    await settled(beside, submission("by the other"))
    await second.close()
    await beside.close()
    last = await opened(path)
    assert last.distrusted is None
    await last.close()


@pytest.mark.parametrize("kept", [None, b"", b"{}", b"[1, 2]", b'["epoch"]', b"\xff"])
async def test_what_is_remembered_badly_is_no_evidence(path: Path, kept: bytes | None) -> None:
    await (await opened(path)).close()
    keep(path, kept)
    ledger = await opened(path)
    assert ledger.distrusted is None
    await ledger.close()
    assert recall(path) is not None


async def test_a_copy_of_a_ledger_to_a_place_where_another_was_is_trusted(path: Path) -> None:
    elsewhere = path.with_name("elsewhere.db")
    await (await opened(elsewhere)).close()
    remove(elsewhere)
    await (await opened(path)).close()
    source, target = ends(path, elsewhere)
    await move(source, target, lambda *_: None)
    await source.close()
    await target.close()
    ledger = await opened(elsewhere)
    assert ledger.distrusted is None
    await ledger.close()


def ends(source: Path, target: Path) -> tuple[SqliteSource, SqliteTarget]:
    host, clock = HostFacts.read(), SystemClock()
    return SqliteSource(source, host=host, clock=clock), SqliteTarget(
        target, host=host, clock=clock
    )


# --- what is done then -----------------------------------------------------------------------


async def test_a_key_that_is_not_there_is_claimed_in_doubt(path: Path) -> None:
    put_back(await with_an_old_copy(path), path)
    ledger = await opened(path)
    for key in ("since", "failed"):
        entry, _ = await fresh(ledger, submission(key))
        assert entry.status is Status.IN_DOUBT
        assert entry.open_attempt is None
        assert not entry.absence_proved
        assert entry.events[-1].reason is Reason.LEDGER_FORGOT
    assert isinstance((await ledger.claim(submission("since"))).claimed, InFlight)
    assert isinstance((await ledger.claim(submission("before"))).claimed, Replay)
    assert (await ledger.counts()).conserved
    await ledger.close()


async def test_what_nobody_could_look_up_is_refused_and_others_are_taken(path: Path) -> None:
    put_back(await with_an_old_copy(path), path)
    ledger = await opened(path)
    for request in (submission(promise=NONE), attached()):
        with pytest.raises(LedgerUnavailable, match="forgot") as caught:
            await ledger.claim(request)
        assert caught.value.written is False
        assert ledger.trouble is None
    await fresh(ledger, submission("random", scope="anonymous", kind="anonymous"))
    await ledger.close()


async def test_an_order_from_before_may_have_been_sent_since(path: Path) -> None:
    put_back(await with_an_old_copy(path), path)
    ledger = await opened(path)
    (leased,) = await ledger.lease_due(10)
    assert leased.entry.key == "waits"
    assert leased.entry.status is Status.IN_DOUBT
    assert leased.entry.events[-1].reason is Reason.LEDGER_FORGOT
    new, lease = await fresh(ledger, unsent("new"))
    await ledger.release(lease, due_in_s=0)
    (later,) = await ledger.lease_due(10)
    assert (later.entry.id, later.entry.status) == (new.id, Status.RECEIVED)
    await ledger.close()


async def test_an_order_between_two_losses_may_have_been_sent_since_too(path: Path) -> None:
    put_back(await with_an_old_copy(path), path)
    ledger = await opened(path)
    first = look_at(path, HostFacts.read(), SystemClock()).forgot
    (leased,) = await ledger.lease_due(10)
    new, lease = await fresh(ledger, unsent("new"))
    await ledger.release(lease, due_in_s=0)
    await ledger.close()
    copy = copied(path)
    ledger = await opened(path)
    await fresh(ledger, unsent("since"))
    await ledger.close()
    put_back(copy, path)
    second = look_at(path, HostFacts.read(), SystemClock()).forgot
    ledger = await opened(path)
    assert second is not None
    assert second in (ledger.distrusted or "")
    assert second != first
    (again,) = [each for each in await ledger.lease_due(10) if each.entry.id != leased.entry.id]
    assert (again.entry.id, again.entry.status) == (new.id, Status.IN_DOUBT)
    assert again.entry.events[-1].reason is Reason.LEDGER_FORGOT
    await ledger.close()


async def test_a_ledger_that_was_away_twice_is_doubted_since_the_second_time(path: Path) -> None:
    """The one in its place may have sent what is open here; of both times it says the same."""
    ledger = await opened(path)
    await ledger.close()
    await while_another_is_in_its_place(path)
    ledger = await opened(path)
    assert "another ledger was in its place" in (ledger.distrusted or "")
    new, lease = await fresh(ledger, unsent("new"))
    await ledger.release(lease, due_in_s=0)
    await ledger.close()
    await while_another_is_in_its_place(path)
    ledger = await opened(path)
    (leased,) = await ledger.lease_due(10)
    assert (leased.entry.id, leased.entry.status) == (new.id, Status.IN_DOUBT)
    await ledger.close()


async def while_another_is_in_its_place(path: Path) -> None:
    away = taken_away(path)
    another = await opened(path)
    await fresh(another, unsent("there"))
    await another.close()
    put_back(away, path)


async def test_one_loss_that_several_processes_meet_is_one(path: Path) -> None:
    """Each finds the same beside the file; what the first took since is not from before."""
    copy = await with_an_old_copy(path)
    known = remembered_file(path).read_bytes()
    put_back(copy, path)
    ledger = await opened(path)
    await ledger.lease_due(10)
    new, lease = await fresh(ledger, unsent("new"))
    await ledger.release(lease, due_in_s=0)
    keep(path, known)
    another = await opened(path)
    (taken,) = await another.lease_due(10)
    assert (taken.entry.id, taken.entry.status) == (new.id, Status.RECEIVED)
    await another.close()
    await ledger.close()


@pytest.mark.parametrize("status", [401, 422])
async def test_a_refusal_of_one_attempt_settles_no_order_that_may_have_been_sent_since(
    path: Path, status: int
) -> None:
    """It answers late, and nobody has taken the order up since: the worker that sent it again is
    forgotten with the attempt."""
    ledger = await opened(path)
    entry, _ = await fresh(ledger, submission("sent"))
    await ledger.close()
    ledger = await set_back(path)
    after = await ledger.amend(entry.id, late(1, status), evidence=True)
    assert after is not None
    assert after.status is Status.IN_DOUBT
    assert after.perhaps_told
    assert not after.absence_proved
    again = await ledger.amend(entry.id, late(1, 201), evidence=True)
    assert again is None  # an attempt answers once
    made = await ledger.amend(entry.id, late(2, 201), evidence=True)
    assert made is not None
    assert made.status is Status.CONFIRMED
    await ledger.close()


@pytest.mark.parametrize("status", [401, 422])
async def test_a_dead_letter_that_may_have_been_sent_again_since_is_settled_by_no_refusal(
    path: Path, status: int
) -> None:
    ledger = await opened(path)
    entry = await dead_letter(ledger, submission("dead"))
    await ledger.close()
    ledger = await set_back(path)
    await ledger.amend(entry.id, late(1, status), evidence=True)
    kept = await ledger.find(entry.id)
    assert kept is not None
    assert (kept.status, kept.absence_proved) == (Status.DEAD_LETTER, False)
    made = await ledger.amend(entry.id, late(2, 201), evidence=True)
    assert made is not None
    assert made.status is Status.CONFIRMED
    await ledger.close()


async def quiet_order(ledger: SqliteLedger, *, buried: bool, promise: Promise = PROMISE) -> Entry:
    """In doubt, or a dead letter, when nothing that it shows can take effect any more."""
    entry, lease = await in_doubt(ledger, submission("quiet", promise=promise))
    after = life.quiet(entry)
    await ledger.write(lease, entry, after)
    if buried:
        entry, after = after, life.bury(after, Reason.DOUBT_DEADLINE, ledger.now(), WHO)
        await ledger.write(lease, entry, after)
    return after


async def forgetful(
    path: Path, *, buried: bool, promise: Promise = PROMISE
) -> tuple[SqliteLedger, Entry]:
    """A ledger that forgot, and an order in it from before."""
    ledger = await opened(path)
    entry = await quiet_order(ledger, buried=buried, promise=promise)
    await ledger.close()
    return await set_back(path), entry


@pytest.mark.parametrize("buried", [True, False], ids=["dead letter", "in doubt"])
async def test_a_person_who_asks_takes_no_suspicion_away(path: Path, buried: bool) -> None:
    """There may be an attempt that the order does not show, whoever touched it since."""
    ledger, entry = await forgetful(path, buried=buried)
    await ledger.amend(entry.id, lambda e, now: ask_lookup(e, None, now, "eva", "nonce"))
    asked = await ledger.find(entry.id)
    assert asked is not None
    assert (asked.status, asked.quiet, asked.perhaps_told) == (entry.status, False, True)
    await ledger.amend(entry.id, late(1, 422), evidence=True)
    (leased,) = await ledger.lease_due(10)
    assert leased.entry.status is entry.status
    assert len(leased.entry.attempts) == 2, "suspected once"
    early = life.absent(leased.entry, ledger.now(), WHO)
    assert (early.status, early.absence_proved) == (entry.status, False)
    await ledger.close()


async def test_a_refusal_of_what_a_person_had_sent_again_settles_nothing(path: Path) -> None:
    able = frozenset({Capability.DEDUP, Capability.LOOKUP})
    promise = replace(PROMISE, capabilities=able, dedup_for_s=86_400.0)
    ledger, entry = await forgetful(path, buried=True, promise=promise)
    await ledger.amend(entry.id, lambda e, now: ask_resend(e, None, now, "eva", "nonce"))
    (leased,) = await ledger.lease_due(10)
    sent = life.resend(leased.entry, ledger.now(), WHO)
    await ledger.write(leased.lease, leased.entry, sent)
    after = life.end_attempt(sent, answered(422), ledger.now(), WHO)
    assert after.status is Status.IN_DOUBT
    await ledger.close()


async def test_a_person_may_say_that_there_is_none_once_it_is_quiet(path: Path) -> None:
    """Counted from when it was noticed, however often it is asked; and what a forgotten attempt
    made all the same contradicts that."""
    promise = replace(PROMISE, settle_s=0.5)
    ledger, entry = await forgetful(path, buried=True, promise=promise)

    def failed(entry: Entry, now: float) -> Entry:
        return resolve(entry, Status.FAILED, "not there", now, "eva", "nonce")

    with pytest.raises(ActionRefused) as refused:
        await ledger.amend(entry.id, failed)
    assert refused.value.wait_s is not None
    await asyncio.sleep(refused.value.wait_s)
    after = await ledger.amend(entry.id, failed)
    assert after is not None
    assert after.status is Status.FAILED
    made = await ledger.amend(entry.id, late(2, 201), evidence=True)
    assert made is not None
    assert made.disputed
    await ledger.close()


async def test_a_lease_from_before_settles_nothing_but_that_there_is_an_order(path: Path) -> None:
    """Another may have been given since, and the order been sent again under it."""
    ledger = await opened(path)
    entries = [await fresh(ledger, submission(key)) for key in ("refused", "made", "lost")]
    ledger._forgot = Said(ledger.now(), "another gateway found it", "other")
    for (entry, lease), status in zip(entries, (422, 201, 503), strict=True):
        after = life.end_attempt(entry, answered(status), ledger.now(), WHO)
        if status == 201:
            await ledger.write(lease, entry, after)
        else:
            with pytest.raises(LeaseLost):
                await ledger.write(lease, entry, after)
    await ledger.close()


async def test_a_copy_of_it_would_be_trusted_and_is_refused(path: Path) -> None:
    put_back(await with_an_old_copy(path), path)
    source, target = ends(path, path.with_name("target.db"))
    with pytest.raises(LedgerRefused, match="forgot"):
        await move(source, target, lambda *_: None)
    await source.close()
    await target.close()


async def test_an_operator_trusts_it_again_while_gateways_run(path: Path) -> None:
    put_back(await with_an_old_copy(path), path)
    ledger = await opened(path)
    assert "is gone" in (trust_again(path) or "")
    assert trust_again(path) is None
    await ledger.renew_hold()
    assert ledger.distrusted is None
    entry, lease = await fresh(ledger, submission("now"))
    assert entry.status is Status.DISPATCHED
    await ended(ledger, entry, lease, answered(201))
    await ledger.close()
    again = await opened(path)
    assert again.distrusted is None
    await again.close()


def test_what_is_no_ledger_is_not_trusted_again(path: Path) -> None:
    with pytest.raises(LedgerRefused, match="can't be trusted"):
        trust_again(path)
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE diary (day)")
    db.close()
    with pytest.raises(LedgerRefused, match="can't be trusted"):
        trust_again(path)
