"""What a gateway takes a promoted replica for (FAULTS: R3), on real servers behind one address: one
that every order was copied to, or a store that forgot."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger import LedgerUnavailable
from gateway.orders.claiming import Replay
from gateway.stores.valkey import ValkeyLedger
from tests.faults.links import Link
from tests.faults.remote import opened, until
from tests.stores.making import answered, ended, fresh, submission
from tests.stores.servers import Server, follows, running, valkey_binary

MORE: Any = {"durability": "replicated", "replicas": 1}


class Pair:
    """Two servers, of which one is master, at the address of a link; and a spare one."""

    def __init__(self, servers: tuple[Server, ...], link: Link, wire: Link) -> None:
        self.master, self.replica, self._third = servers
        self._link, self._wire = link, wire
        self.url = f"valkey://127.0.0.1:{link.port}"

    async def begin(self) -> None:
        self.replica.run("REPLICAOF", "127.0.0.1", self._wire.port)
        await until(lambda: follows(self.replica))

    async def cut(self) -> None:
        """What the master sends from here on never arrives."""
        await self._wire.cut("127.0.0.1")

    async def part(self) -> None:
        """The replica is promoted, and has a replica of its own; the master does not know it."""
        await self._wire.close()
        self.replica.run("REPLICAOF", "NO", "ONE")
        self._third.run("REPLICAOF", "127.0.0.1", self.replica.port)
        await until(lambda: follows(self._third))
        await self.lead_to(self.replica)

    async def lead_to(self, server: Server) -> None:
        """All connections end; new ones come there."""
        self._link.target = server.port
        await self._link.drop()

    async def fail_over(self) -> None:
        """The master dies; it comes back as the replica of the other."""
        self.master.kill()
        await self._wire.close()
        self.replica.run("REPLICAOF", "NO", "ONE")
        self.master, self.replica = self.replica, self.master
        self._link.target = self.master.port
        await self.replica.start_again("--replicaof", "127.0.0.1", str(self.master.port))
        await until(lambda: follows(self.replica))


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    options = ("--repl-diskless-sync-delay", "0")
    with running(*(Server(valkey_binary(), *options) for _ in range(3))) as servers:
        link, wire = [await Link(servers[0].port).start() for _ in range(2)]
        pair = Pair(servers, link, wire)
        await pair.begin()
        yield pair
        await link.close()
        await wire.close()


async def works(ledger: ValkeyLedger) -> None:
    """It has written to whoever is master now."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await ledger.renew_hold()
            except LedgerUnavailable:
                await asyncio.sleep(0.1)


async def test_a_gateway_that_missed_a_failover_finds_that_nothing_is_forgotten(
    pair: Pair, tmp_path: Path
) -> None:
    file = tmp_path / "ledger.remembered"
    async with opened(pair.url, file=file, **MORE) as away:
        settled = await ended(away, *await fresh(away), answered(201))
        await away.renew_hold()
    async with opened(pair.url, who="replica-2", **MORE) as there:
        for _ in range(2):
            await pair.fail_over()
            await works(there)
        assert there.distrusted is None
    async with opened(pair.url, file=file, **MORE) as back:
        assert back.distrusted is None
        assert (await back.claim(submission())).claimed == Replay(settled)


async def test_what_was_read_and_never_acknowledged_is_not_missed_after_a_failover(
    pair: Pair,
) -> None:
    async with opened(pair.url, **MORE) as writes, opened(pair.url, who="2", **MORE) as reads:
        entry, _ = await fresh(writes)
        await works(reads)
        await pair.cut()
        claims = (writes.claim(submission(f"never acknowledged {n}")) for n in range(9))
        refused = await asyncio.gather(*claims, return_exceptions=True)
        assert all(isinstance(each, LedgerUnavailable) for each in refused)
        assert await reads.amend(entry.id, lambda _entry, _now: None) is None
        await pair.fail_over()
        for ledger in (reads, writes):
            await works(ledger)
            assert ledger.distrusted is None
            assert await ledger.find(entry.id) is not None


async def test_a_master_that_was_replaced_and_does_not_know_it_is_no_store_that_forgot(
    pair: Pair,
) -> None:
    async with opened(pair.url, **MORE) as ledger:
        await fresh(ledger)
        await pair.part()
        await works(ledger)
        await pair.lead_to(pair.master)
        with pytest.raises(LedgerUnavailable):
            await ledger.renew_hold()
        assert ledger.distrusted is None
        await pair.lead_to(pair.replica)
        await works(ledger)
        assert ledger.distrusted is None


async def test_a_master_that_comes_back_empty_before_it_is_replaced_is_noticed(pair: Pair) -> None:
    async with opened(pair.url, **MORE) as ledger:
        await fresh(ledger)
        pair.master.kill()
        await pair.master.start_again()
        await until(lambda: follows(pair.replica))
        async with asyncio.timeout(20):
            while ledger.distrusted is None:
                try:
                    await ledger.renew_hold()
                except LedgerUnavailable:
                    await asyncio.sleep(0.1)
