"""What a remote ledger's server can suffer (FAULTS: R1 to R10), on real servers: whatever it is,
nothing may be sent that the ledger does not surely have, and nothing is claimed twice. (What is
asked of it: ``test_remote_demands``.)"""

import asyncio
import shutil
import signal
from dataclasses import replace
from typing import Any

import pytest

from gateway.ledger import LedgerUnavailable
from gateway.orders import life
from gateway.orders.claiming import Replay
from gateway.orders.promise import Capability
from gateway.orders.states import Reason, Status
from gateway.stores.valkey import ValkeyLedger
from tests.stores.making import PROMISE, answered, ended, fresh, in_doubt, submission
from tests.stores.servers import running

from .remote import (
    FaultProxy,
    durable,
    opened,
    refused,
    until,
    until_well,
)

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
