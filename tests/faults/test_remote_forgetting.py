"""A remote ledger that forgot what it had acknowledged (FAULTS: R9), on real servers: every gateway
notices, and nothing is believed to be absent any more."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from gateway.ledger import LeaseLost, Ledger, LedgerUnavailable
from gateway.orders import life
from gateway.orders.attempts import NotSent, NotSentReason
from gateway.orders.claiming import Fresh, InFlight
from gateway.orders.promise import Capability
from gateway.orders.reconciling import Circumstances, GiveUp, plan
from gateway.orders.states import Reason, Status
from gateway.settings.ledger import LedgerSettings
from gateway.stores.remote import trust_again
from gateway.stores.valkey_remembered import Remembered
from tests.stores.making import (
    PROMISE,
    WHO,
    answered,
    attached,
    ended,
    fresh,
    in_doubt,
    late,
    submission,
)
from tests.stores.servers import Server, running, valkey_binary

from .remote import (
    LEASE_S,
    Backup,
    Events,
    FaultProxy,
    durable,
    make,
    opened,
    until,
    until_well,
)

T = TypeVar("T")


async def noticed(ledger: Ledger) -> None:
    async with asyncio.timeout(20):
        while ledger.distrusted is None or ledger.trouble is not None:
            try:
                await ledger.renew_hold()
            except LedgerUnavailable:
                await asyncio.sleep(0.02)


async def insisted(call: Callable[[], Awaitable[T]]) -> T:
    """What it says once the ledger has heard of everything."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await call()
            except LedgerUnavailable:
                await asyncio.sleep(0.02)


async def test_a_flushed_store_is_noticed_by_the_next_claim_which_is_not_sent() -> None:
    events = Events()
    with running(durable()) as (server,):
        async with opened(server.url, event=events) as ledger:
            await fresh(ledger)
            server.run("FLUSHALL")
            with pytest.raises(LedgerUnavailable):
                await ledger.claim(submission())
            await noticed(ledger)
            assert "ordergate trust" in (ledger.distrusted or "")
            assert events.said == ["the ledger forgot"]


async def test_who_notices_says_so_at_once() -> None:
    """Not only with the next renewal: until then others take for true what is gone."""
    with running(durable()) as (server,):
        async with opened(server.url, lease_s=600.0) as ledger:
            await fresh(ledger)
            server.run("FLUSHALL")
            with pytest.raises(LedgerUnavailable):
                await ledger.claim(submission())
            async with opened(server.url, who="replica-2") as other:
                await until(lambda: ledger._trust.pending is None)
                with suppress(LedgerUnavailable):
                    await other.renew_hold()
                assert other.distrusted is not None


async def test_a_claim_that_is_taken_back_where_the_store_forgot_is_in_doubt() -> None:
    """It may have been taken back before, and claimed and sent by another since."""
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            request = submission()
            entry, _ = await fresh(ledger, request)
            ledger._trust.noticed("a sign", ledger.now())
            await noticed(ledger)
            assert await insisted(lambda: ledger.disclaim(request))
            kept = await insisted(lambda: ledger.find(entry.id))
            assert kept is not None
            assert kept.open_attempt is not None  # nothing is said of it
            (taken,) = await insisted(lambda: ledger.lease_due(10))
            assert taken.entry.status is Status.IN_DOUBT
            assert not taken.entry.absence_proved


async def test_where_the_store_forgot_a_key_is_claimed_in_doubt_and_not_sent() -> None:
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            await fresh(ledger)
            server.run("FLUSHALL")
            await noticed(ledger)
            entry, _ = await fresh(ledger)
            assert entry.status is Status.IN_DOUBT
            assert entry.open_attempt is None
            assert entry.events[-1].reason is Reason.LEDGER_FORGOT
            assert not entry.absence_proved
            assert isinstance((await ledger.claim(submission())).claimed, InFlight)


async def test_where_the_store_forgot_what_nobody_could_look_up_is_refused() -> None:
    none = replace(PROMISE, capabilities=frozenset(), lookup=None)
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            server.run("FLUSHALL")
            await noticed(ledger)
            for request in (submission(promise=none), attached()):
                with pytest.raises(LedgerUnavailable, match="forgot") as caught:
                    await ledger.claim(request)
                assert caught.value.written is False
                assert ledger.trouble is None  # others are taken
            assert (await ledger.counts()).made == 0


async def test_what_was_submitted_before_the_store_forgot_is_refused() -> None:
    """Its client may have been answered since, and that be forgotten."""
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            asked_at = ledger.now()
            server.run("FLUSHALL")
            await noticed(ledger)
            with pytest.raises(LedgerUnavailable, match="from before"):
                await ledger.claim(replace(submission(), waited_at=asked_at))
            assert await ledger.find_by_key("scope", "key") is None
            await ledger.claim(replace(submission(), waited_at=ledger.now()))


async def test_every_gateway_hears_that_the_store_forgot_and_that_it_is_trusted_again() -> None:
    with running(durable()) as (server,):
        async with opened(server.url) as ours, opened(server.url, who="replica-2") as theirs:
            server.run("FLUSHALL")
            await noticed(ours)
            await noticed(theirs)
            assert await trust_again(LedgerSettings(url=server.url)) is not None
            assert await trust_again(LedgerSettings(url=server.url)) is None
            for ledger in (ours, theirs):
                await ledger.renew_hold()
                assert ledger.distrusted is None
                assert isinstance((await ledger.claim(submission(ledger._who))).claimed, Fresh)


async def test_a_gateway_starts_on_a_store_of_which_it_is_said_that_it_forgot(
    tmp_path: Path,
) -> None:
    """Also one that ended before it could leave a word of it on its host."""
    with running(durable()) as (server,):
        async with opened(server.url) as ours:
            server.run("FLUSHALL")
            await noticed(ours)
            for file in (None, tmp_path / "ledger.remembered"):
                async with opened(server.url, who="replica-2", file=file) as theirs:
                    assert theirs.distrusted is not None
                    assert theirs.trouble is None
                    entry, _ = await fresh(theirs, submission(f"{file}"))
                    assert entry.status is Status.IN_DOUBT


async def test_an_old_backup_is_noticed_also_by_a_gateway_that_was_stopped(tmp_path: Path) -> None:
    file = tmp_path / "ledger.remembered"
    with running(durable()) as (server,):
        async with opened(server.url, file=file) as ledger:
            old, lease = await fresh(ledger, submission("old", dispatch=False))
            shutil.copytree(server.folder, tmp_path / "backup")
            await ended(ledger, *await fresh(ledger, submission("lost")), answered(201))
            await ledger.renew_hold()
        server.kill()
        shutil.rmtree(server.folder)
        shutil.copytree(tmp_path / "backup", server.folder)
        server.start()
        async with opened(server.url, file=file) as ledger:
            assert ledger.distrusted is not None
            assert await ledger.find_by_key("scope", "lost") is None
            assert (await fresh(ledger, submission("lost")))[0].status is Status.IN_DOUBT
            async with asyncio.timeout(LEASE_S * 4):
                while not (taken := await ledger.lease_due(10)):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            (leased,) = taken
            assert leased.entry.id == old.id == lease.entry_id
            assert leased.entry.status is Status.IN_DOUBT  # it may have been sent since the backup
            assert leased.entry.events[-1].reason is Reason.LEDGER_FORGOT


@pytest.mark.parametrize("status", [401, 422])
async def test_a_refusal_of_one_attempt_settles_no_order_that_may_have_been_sent_since(
    tmp_path: Path, status: int
) -> None:
    """It answers late, and nobody has taken the order up since: the worker that sent it again is
    forgotten with the attempt."""
    file = tmp_path / "ledger.remembered"
    with running(durable()) as (server,):
        async with opened(server.url, file=file) as ledger:
            entry, _ = await fresh(ledger, submission("sent"))
            shutil.copytree(server.folder, tmp_path / "backup")
            await ended(ledger, *await fresh(ledger, submission("since")), answered(201))
            await ledger.renew_hold()
        server.kill()
        shutil.rmtree(server.folder)
        shutil.copytree(tmp_path / "backup", server.folder)
        server.start()
        async with opened(server.url, file=file) as ledger:
            assert ledger.distrusted is not None
            after = await ledger.amend(entry.id, late(1, status), evidence=True)
            assert after is not None
            assert (after.status, after.perhaps_told) == (Status.IN_DOUBT, True)
            assert not after.absence_proved
            made = await ledger.amend(entry.id, late(2, 201), evidence=True)
            assert made is not None
            assert made.status is Status.CONFIRMED


@pytest.mark.parametrize("heard", [True, False])
async def test_a_lease_from_before_settles_nothing_though_its_token_stands_again(
    heard: bool,
) -> None:
    """Its worker hung, another took the order over and sent it again, and the server forgot that:
    the first is refused in time, as it sees it, and the second made the order."""
    able = frozenset({Capability.DEDUP, Capability.LOOKUP})
    promise = replace(PROMISE, capabilities=able, dedup_for_s=86_400.0)
    with running(durable()) as (server,):
        async with opened(server.url) as ours, opened(server.url, who="replica-2") as theirs:
            entry, lease = await fresh(ours, submission("sent", promise=promise))
            await ours._kept.everywhere("end", ours.hold.holder)
            backup = Backup(server)
            async with asyncio.timeout(LEASE_S + 10):
                while not (taken := await theirs.lease_due(10)):  # noqa: ASYNC110 - a hold lapses
                    await asyncio.sleep(0.05)
            (leased,) = taken
            resent = life.resend(leased.entry, theirs.now(), "replica-2")
            await theirs.write(leased.lease, leased.entry, resent)
            backup.put_back()
            await noticed(theirs)
            if heard:
                await noticed(ours)
            after = life.end_attempt(entry, answered(422), ours.now(), WHO)
            if not heard:
                assert ours.distrusted is None
                with pytest.raises(LedgerUnavailable) as unheard:
                    await ours.write(lease, entry, after)
                assert unheard.value.written is False
            with pytest.raises(LeaseLost):
                await insisted(lambda: ours.write(lease, entry, after))
            await insisted(lambda: ours.amend(entry.id, late(1, 422), evidence=True))
            made = await insisted(lambda: theirs.amend(entry.id, late(2, 201), evidence=True))
            assert made is not None
            assert (made.status, made.disputed) == (Status.CONFIRMED, False)


async def test_an_old_backup_is_noticed_by_a_gateway_that_was_killed_with_its_order_under_way(
    tmp_path: Path,
) -> None:
    """Nobody else knows of it: what is claimed is remembered before it is sent."""
    file = tmp_path / "ledger.remembered"
    with running(durable()) as (server,):
        killed = make(server.url, file=file)
        await killed.open()
        backup = Backup(server)
        await fresh(killed, submission("lost"))
        killed.crash()
        backup.put_back()
        async with opened(server.url, file=file) as ledger:
            assert ledger.distrusted is not None
            assert (await fresh(ledger, submission("lost")))[0].status is Status.IN_DOUBT


async def test_an_old_backup_is_noticed_by_who_shares_a_host_with_a_process_that_was_killed(
    tmp_path: Path,
) -> None:
    """Before it writes as much itself: then nobody could notice any more."""
    file = tmp_path / "ledger.remembered"
    with running(durable()) as (server,):
        killed = make(server.url, file=file)
        await killed.open()
        async with opened(server.url, who="replica-2", file=file) as sibling:
            await sibling.renew_hold()
            backup = Backup(server)
            await fresh(killed, submission("lost"))
            killed.crash()
            backup.put_back()
            await noticed(sibling)
            assert (await fresh(sibling, submission("lost")))[0].status is Status.IN_DOUBT


async def test_who_shares_a_host_with_one_that_has_not_noticed_yet_raises_no_second_alarm(
    tmp_path: Path,
) -> None:
    events, file = Events(), tmp_path / "ledger.remembered"
    with running(durable()) as (server,):
        async with (
            opened(server.url, file=file, event=events) as ledger,
            opened(server.url, who="replica-2", file=file),
        ):
            server.run("FLUSHALL")
            await noticed(ledger)
            await ledger.renew_hold()
            await ledger.renew_hold()
            assert events.said == ["the ledger forgot"]


async def test_a_store_that_forgot_again_is_distrusted_since_then() -> None:
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            server.run("FLUSHALL")
            await noticed(ledger)
            first = ledger._trust.since(0)
            assert first is not None
            ledger._trust.noticed("once more", ledger.now())
            await ledger.renew_hold()
            again = ledger._trust.since(0)
            assert again is not None
            assert again > first


async def test_a_lease_that_is_gone_before_its_time_shows_that_the_store_forgot() -> None:
    """Though others have written since, so that the sequence is further than it was."""
    with running(durable()) as (server,):
        async with opened(server.url) as ours, opened(server.url, who="replica-2") as theirs:
            await fresh(ours)
            bucket = ours._layout.bucket("scope", "key")
            for field in (f"u:{ours.hold.holder}", f"n:{ours.hold.holder}"):
                server.run("HDEL", bucket.meta.decode(), field)
            await fresh(theirs, submission("another"))
            with pytest.raises(LedgerUnavailable, match="forgot"):
                await ours.find_by_key("scope", "key")
            await noticed(ours)


async def test_a_try_that_failed_before_the_store_forgot_is_not_told(tmp_path: Path) -> None:
    """It may have been followed by one that is gone: the client submits again."""
    file = tmp_path / "ledger.remembered"
    with running(durable()) as (server,):
        async with opened(server.url, file=file) as ledger:
            unsent = NotSent(NotSentReason.CLAIM_UNACKNOWLEDGED)
            failed = await ended(ledger, *await fresh(ledger), unsent)
            assert failed.status is Status.FAILED
            shutil.copytree(server.folder / "appendonlydir", tmp_path / "backup")
            await ended(ledger, *await fresh(ledger), answered(201))
            await ledger.renew_hold()
        server.kill()
        shutil.rmtree(server.folder / "appendonlydir")
        shutil.copytree(tmp_path / "backup", server.folder / "appendonlydir")
        server.start()
        async with opened(server.url, file=file) as ledger:
            assert ledger.distrusted is not None
            assert await ledger.find(failed.id) is None
            assert await ledger.find_by_key("scope", "key") is None
            again, _ = await fresh(ledger)
            assert (again.id, again.status) == (failed.id, Status.IN_DOUBT)
            assert await ledger.find(failed.id) == again


async def test_a_restart_that_loses_nothing_is_no_forgetting() -> None:
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            entry, lease = await fresh(ledger)
            server.kill()
            server.start()
            await until_well(ledger)
            assert ledger.distrusted is None
            await ended(ledger, entry, lease, NotSent(NotSentReason.CONNECT_REFUSED))


async def test_a_restart_of_what_promised_nothing_is_not_trusted() -> None:
    with running(Server(valkey_binary())) as (server,):
        async with opened(server.url, durability="memory") as ledger:
            await fresh(ledger)
            server.kill()
            server.start()
            await noticed(ledger)


async def test_a_write_that_nobody_hears_of_does_not_make_up_for_one_that_is_gone() -> None:
    with running(durable()) as (server,):
        async with (
            FaultProxy(server.port) as proxy,
            opened(f"valkey://127.0.0.1:{proxy.port}") as ledger,
        ):
            entry, lease = await in_doubt(ledger)
            backup = Backup(server)
            doubted = life.no_evidence(entry, "503", ledger.now(), "replica-1")
            await ledger.write(lease, entry, doubted)
            backup.put_back()
            proxy.lose = 2
            with pytest.raises(LedgerUnavailable):
                await ledger.write(lease, entry, doubted)
            with pytest.raises(LedgerUnavailable, match="are gone"):
                await ledger.find(entry.id)
            assert server.run("HGET", ledger._layout.place_of(entry).order.decode(), "v") == b"2"
            await noticed(ledger)


@pytest.mark.parametrize("later", [0, 1])
async def test_another_write_in_the_place_of_the_last_one_shows_that_the_store_forgot(
    later: int,
) -> None:
    """Whose answer is lost, and so many after it, so that the count is as it was or higher."""
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            entry, lease = await in_doubt(ledger)
            backup = Backup(server)
            known = ledger._trust.remembered.known(ledger._layout.place_of(entry).bucket.number)
            doubted = life.no_evidence(entry, "503", ledger.now(), "replica-1")
            await ledger.write(lease, entry, doubted)
            backup.put_back()
            again = life.no_evidence(doubted, "503", ledger.now(), "replica-1")
            with pytest.MonkeyPatch.context() as patch:  # on their way before that was acknowledged
                patch.setattr(Remembered, "known", lambda *_: known)
                patch.setattr(Remembered, "note", lambda *_, **__: None)
                await ledger.write(lease, entry, doubted)
                for _ in range(later):
                    await ledger.write(lease, doubted, again)
            with pytest.raises(LedgerUnavailable, match="are gone"):
                await ledger.find(entry.id)


async def test_what_a_client_was_perhaps_told_had_failed_is_not_sent_again(tmp_path: Path) -> None:
    """It failed, its client was told so, and the ledger forgot that."""
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            entry, lease = await in_doubt(ledger)
            backup = Backup(server)
            proved = life.absent(life.quiet(entry), ledger.now(), "replica-1")
            await ledger.write(lease, entry, proved)
            told = life.fail(proved, Reason.ABSENCE_PROVED, ledger.now(), "replica-1")
            await ledger.write(lease, proved, told)
            backup.put_back()
            await noticed(ledger)
            async with asyncio.timeout(LEASE_S * 4):
                while not (taken := await ledger.lease_due(10)):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            again = taken[0].entry
            assert again.perhaps_told
            absent = life.absent(life.quiet(again), ledger.now(), "replica-1")
            assert plan(absent, Circumstances(ledger.now(), 0.0, listening=False)) == GiveUp(
                Reason.ABSENCE_PROVED
            )
