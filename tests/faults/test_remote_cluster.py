"""A cluster whose slots move while orders come, and a clock that jumps (FAULTS: R5, R6, R8), on
real servers."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from gateway.ledger import LedgerRefused, LedgerUnavailable
from gateway.orders.claiming import Replay
from gateway.stores.valkey import ValkeyLedger
from gateway.stores.valkey_calls import MOVE_S
from gateway.stores.valkey_keys import Layout
from gateway.stores.valkey_servers import Parts
from tests.stores.making import answered, ended, fresh, in_doubt, submission
from tests.stores.servers import (
    CLUSTER_OPTIONS,
    Group,
    Server,
    cluster,
    follows,
    running,
    sentinel,
    valkey_binary,
    with_replicas,
)

from .remote import DURABLE, LEASE_S, durable, make, opened, until, until_well

LIBFAKETIME = next(
    (
        path
        for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
        if shutil.which("faketime")
    ),
    None,
)


# --- R6: slots that move ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def nodes() -> Iterator[Group]:
    group = cluster(valkey_binary(), 3, *DURABLE)
    yield group
    group.close()


def owner(group: Group, slot: int) -> tuple[Server, Server]:
    """Who has the slot, and somebody else."""
    port = _owner(group.servers[0], slot)
    mine = next(each for each in group.servers if each.port == port)
    return mine, next(each for each in group.servers if each is not mine)


def _owner(asked: Server, slot: int) -> int:
    (port,) = (port for start, end, port in asked.slots() if start <= slot <= end)
    return port


def begin_move(source: Server, target: Server, slot: int) -> None:
    target.run("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.run("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)


def move_keys(source: Server, target: Server, slot: int, count: int) -> int:
    keys = source.run("CLUSTER", "GETKEYSINSLOT", slot, count)
    for key in keys:
        source.run("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
    return len(keys)


def end_move(group: Group, target: Server, slot: int) -> None:
    for node in (target, *group.servers):
        node.run("CLUSTER", "SETSLOT", slot, "NODE", target.id)


async def test_while_a_slot_moves_its_orders_are_refused_and_all_others_go_on(nodes: Group) -> None:
    async with opened(nodes.url) as ledger:
        bucket = ledger._layout.bucket("scope", "key")
        slot = key_slot(bucket.meta)
        source, target = owner(nodes, slot)
        entry, lease = await fresh(ledger)
        settled = await ended(ledger, entry, lease, answered(201))
        begin_move(source, target, slot)
        move_keys(source, target, slot, 3)
        hold = ledger.hold
        await ledger.renew_hold()
        assert ledger.hold is hold
        with pytest.raises(LedgerUnavailable, match="rehashing") as caught:
            await ledger.claim(submission("moving"))
        assert caught.value.written is False
        other, lease = await in_doubt(ledger, submission(scope="other"), due_in_s=0)
        (taken,) = await ledger.lease_due(10)
        assert taken.entry.id == other.id
        waiting = asyncio.create_task(ledger.claim(submission("moving")))
        while move_keys(source, target, slot, 100):
            pass
        end_move(nodes, target, slot)
        await waiting
        assert (await ledger.claim(submission())).claimed == Replay(settled)
        counts = await ledger.counts()
        assert counts.conserved
        assert counts.made == 3
        assert ledger.distrusted is None


async def test_what_is_due_in_a_slot_that_moves_holds_up_no_other(nodes: Group) -> None:
    async with opened(nodes.url + "?prefix=due") as ledger:
        moving, _ = await in_doubt(ledger, due_in_s=0)
        await fresh(ledger, submission("held"))
        other, _ = await in_doubt(ledger, submission(scope="other"), due_in_s=0)
        slot = key_slot(Layout("due").bucket("scope", "key").meta)
        source, target = owner(nodes, slot)
        begin_move(source, target, slot)
        began = asyncio.get_running_loop().time()
        (taken,) = await ledger.lease_due(10)
        assert asyncio.get_running_loop().time() - began < MOVE_S
        assert taken.entry.id == other.id
        while move_keys(source, target, slot, 100):
            pass
        end_move(nodes, target, slot)
        await ledger.renew_hold()
        (taken,) = await ledger.lease_due(10)
        assert taken.entry.id == moving.id


async def test_a_gateway_with_an_old_map_of_the_cluster_is_put_right(nodes: Group) -> None:
    async with opened(nodes.url + "?prefix=other") as ledger:
        entry, lease = await fresh(ledger)
        slot = key_slot(Layout("other").bucket("scope", "key").meta)
        source, target = owner(nodes, slot)
        begin_move(source, target, slot)
        while move_keys(source, target, slot, 100):
            pass
        end_move(nodes, target, slot)
        await ended(ledger, entry, lease, answered(201))
        await ledger.renew_hold()


async def test_a_cluster_that_lost_a_master_takes_no_orders(nodes: Group) -> None:
    """The others say CLUSTERDOWN, of what is in their own slots, too."""
    async with opened(nodes.url + "?prefix=lost", lease_s=30.0) as ledger:
        slot = key_slot(Layout("lost").bucket("scope", "key").meta)
        source, other = owner(nodes, slot)
        source.kill()
        with pytest.raises(LedgerUnavailable) as caught:
            await ledger.claim(submission())
        assert caught.value.written in (False, None)
        await until(lambda: b"cluster_state:fail" in other.run("CLUSTER", "INFO"))
        layout = Layout("lost")
        alive = next(
            scope
            for scope in map(str, range(100))
            if _owner(other, key_slot(layout.bucket(scope, "key").meta)) == other.port
        )
        with pytest.raises(LedgerUnavailable, match="The cluster is down") as caught:
            await ledger.claim(submission(scope=alive))
        assert caught.value.written is False
        source.start()
        async with asyncio.timeout(20):
            while True:
                try:
                    await ledger.renew_hold()
                    await fresh(ledger)
                    break
                except LedgerUnavailable:
                    await asyncio.sleep(0.1)


# --- R3: failovers in a cluster --------------------------------------------------------------


async def test_a_master_that_is_replaced_and_comes_back_forgot_nothing() -> None:
    group = cluster(valkey_binary(), 3)
    try:
        with_replicas(group, valkey_binary())
        async with opened(group.url, durability="replicated", replicas=1) as ledger:
            slot = key_slot(ledger._layout.bucket("scope", "key").meta)
            first, _ = owner(group, slot)
            entry, lease = await fresh(ledger)
            settled = await ended(ledger, entry, lease, answered(201))
            second = await replaced(ledger, group, first, slot)
            assert await replaced(ledger, group, second, slot) is first
            assert (await ledger.claim(submission())).claimed == Replay(settled)
            assert ledger.distrusted is None
    finally:
        group.close()


async def test_nodes_that_left_the_cluster_are_asked_nothing_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each would cost a second, at every renewal, for as long as the gateway runs."""
    group = cluster(valkey_binary(), 3)
    try:
        with_replicas(group, valkey_binary())
        masters, replicas = group.servers[:3], group.servers[3:]
        url = f"valkey+cluster://127.0.0.1:{replicas[0].port}"
        async with opened(url, durability="replicated", replicas=1) as ledger:
            servers: Any = ledger._servers
            asked, ask = [], Parts.ask

            async def noted(parts: Parts, address: tuple[str, int], *command: str) -> Any:
                asked.append(address[1])
                return await ask(parts, address, *command)

            monkeypatch.setattr(Parts, "ask", noted)
            for replica in replicas:
                replica.run("CLUSTER", "FAILOVER")
            now = {each.port for each in replicas}
            await until(lambda: all(_masters(each) == now for each in group.servers))
            await servers.refresh(None)
            asked.clear()
            await servers.refresh(None)
            assert set(asked) <= now
            assert {port for _, port in servers._nodes} == now
            said = [each.lane.acknowledgement.commands[0][0] for each in servers.nodes]
            assert said == ["WAIT"] * 3
            await until(lambda: all(map(follows, masters)))
            ledger.hold.lapsed = True
            await until_well(ledger)
            await fresh(ledger)
    finally:
        group.close()


async def test_a_node_that_was_taken_out_of_the_cluster_is_not_believed() -> None:
    """It runs on, and knows of no slots any more: every order would be refused from then on."""
    group = cluster(valkey_binary(), 3)
    try:
        with_replicas(group, valkey_binary())
        old, others = group.servers[0], group.servers[1:]
        url = f"valkey+cluster://127.0.0.1:{old.port}"
        async with opened(url, durability="memory") as ledger:
            servers: Any = ledger._servers
            new = next(each for each in group.servers[3:] if each.run("ROLE")[2] == old.port)
            new.run("CLUSTER", "FAILOVER")
            await until(lambda: all(old.port not in _masters(each) for each in group.servers))
            await servers.refresh(None)
            for each in others:
                each.run("CLUSTER", "FORGET", old.id)
            old.run("CLUSTER", "RESET")
            assert old.slots() == []
            await servers.refresh(None)
            await fresh(ledger)
    finally:
        group.close()


def _masters(asked: Server) -> set[int]:
    return {port for _, _, port in asked.slots()}


async def replaced(ledger: ValkeyLedger, group: Group, old: Server, slot: int) -> Server:
    """Its replica, as master, once the ledger has written there."""
    replica = next(each for each in group.servers if each.run("ROLE")[2] == old.port)
    replica.run("CLUSTER", "FAILOVER")
    await until(lambda: all(_owner(each, slot) == replica.port for each in group.servers))
    await until(lambda: old.run("INFO", "replication")["role"] == "slave" and follows(old))
    async with asyncio.timeout(20):
        while True:
            try:
                await ledger.renew_hold()
                break
            except LedgerUnavailable:
                await asyncio.sleep(0.1)
    return replica


async def test_fsync_is_refused_where_a_failover_is_automatic() -> None:
    group = sentinel(valkey_binary(), 1, 1, *DURABLE)
    try:
        for url in (group.url, group.servers[0].url):  # the server alone may not stay the master
            with pytest.raises(LedgerRefused, match="replicated"):
                await make(url).open()
    finally:
        group.close()


async def test_a_replica_that_is_away_may_be_promoted_all_the_same() -> None:
    """A cluster tells of no such replica to who asks for its slots."""
    group = cluster(valkey_binary(), 3, *DURABLE)
    try:
        with_replicas(group, valkey_binary(), *DURABLE)
        master, away = group.servers[0], group.servers[3].id
        with pytest.raises(LedgerRefused, match="replicated"):
            await make(group.url).open()
        for each in group.servers[3:]:
            each.kill()
        await until(lambda: master.run("CLUSTER", "NODES").count(b"slave,fail ") == 3)
        with pytest.raises(LedgerRefused, match="replicated"):
            await make(group.url).open()
        spare = Server(valkey_binary(), *CLUSTER_OPTIONS, *DURABLE)
        group.servers.append(spare)
        spare.start()
        spare.run("CLUSTER", "MEET", "127.0.0.1", master.port)
        await until(lambda: master.id.encode() in spare.run("CLUSTER", "NODES"))
        spare.run("CLUSTER", "REPLICATE", master.id)
        await until(lambda: follows(spare))
        with pytest.raises(LedgerRefused, match="set replicas = 2"):
            await make(group.url, durability="replicated", replicas=1).open()
        for each in (*group.servers[:3], spare):
            each.run("CLUSTER", "FORGET", away)
        with pytest.raises(LedgerUnavailable, match="there are 0"):  # at the other masters
            await make(group.url, durability="replicated", replicas=1).open()
    finally:
        group.close()


async def test_a_cluster_that_names_no_hosts_is_at_the_one_that_was_asked() -> None:
    options = ("--cluster-preferred-endpoint-type", "unknown-endpoint")
    group = cluster(valkey_binary(), 1, *DURABLE, *options)
    try:
        async with opened(group.url) as ledger:
            await fresh(ledger)
    finally:
        group.close()


# --- R8: the server's clock ------------------------------------------------------------------


@pytest.mark.skipif(LIBFAKETIME is None, reason="libfaketime is not installed")
@pytest.mark.parametrize("jump_s", [86_400, -86_400])
async def test_a_jump_of_the_servers_clock_ends_no_lease_and_keeps_none(
    tmp_path: Path, jump_s: int
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    server = durable().env(
        LD_PRELOAD=str(LIBFAKETIME),
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    with running(server):
        async with opened(server.url, who="one") as ours, opened(server.url, who="two") as theirs:
            entry, lease = await fresh(ours)
            orphan, _ = await in_doubt(theirs, submission("orphan"))
            before, began = ours.now(), asyncio.get_running_loop().time()
            clock.write_text(f"{jump_s:+d}")
            assert await theirs.lease_due(10) == []
            assert await ours.retire(10) == (0, 0)
            await ours.renew_hold()
            assert ours.hold is lease.hold
            elapsed = asyncio.get_running_loop().time() - began
            assert abs(ours.now() - before - elapsed) < 10
            await ended(ours, entry, lease, answered(201))
            theirs.crash()
            async with asyncio.timeout(LEASE_S * 6):
                while not (taken := await ours.lease_due(10)):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert [each.entry.id for each in taken] == [orphan.id]
