"""Waking those who wait for an order that another gateway changes: by pub/sub, or by looking where
that fails (ARCHITECTURE)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.ledger import Lease, Watch
from gateway.orders import life
from gateway.orders.entry import Entry
from gateway.stores.valkey import ValkeyLedger
from gateway.stores.valkey_nodes import Access
from tests.stores.making import in_doubt
from tests.stores.servers import Server, running

from .remote import durable, opened, until

LONG_S = 60.0
"""Nobody looks meanwhile, and no lease ends."""

ROUNDS = 5
"""The first changes may be found by the looks that a watcher begins with."""

SOON_S = 10.0
"""For all of the rounds: looking seldom would take 25 s."""


@asynccontextmanager
async def watching(ledger: ValkeyLedger, entry: Entry) -> AsyncIterator[Watch]:
    watch = ledger.watchers.add(entry.id)
    ledger.watchers.note(entry)
    yield watch
    ledger.watchers.remove(entry.id, watch)


async def wakes(watch: Watch, ledger: ValkeyLedger, lease: Lease, entry: Entry) -> Entry:
    """Whoever watches hears of what ``ledger`` changes."""
    after = life.no_evidence(entry, "503", ledger.now(), "replica-2")
    await ledger.write(lease, entry, after)
    assert await watch.next() == after
    return after


def listeners(server: Server, ledger: ValkeyLedger, entry: Entry) -> int:
    channel = ledger._layout.channel(entry.id).decode()
    return int(server.run("PUBSUB", "NUMSUB", channel)[1])


@pytest.mark.parametrize("cut_off", [False, True], ids=["heard", "seen on listening again"])
async def test_what_another_gateway_changes_is_known_without_looking(cut_off: bool) -> None:
    """Also what was changed while nobody could hear it, once they listen again."""
    with running(durable()) as (server,):
        async with (
            opened(server.url, look_s=LONG_S) as ours,
            opened(server.url, lease_s=LONG_S) as theirs,
        ):
            entry, lease = await in_doubt(theirs)
            async with watching(ours, entry) as watch:
                await until(lambda: listeners(server, ours, entry) == 1)
                async with asyncio.timeout(SOON_S):
                    for _ in range(ROUNDS):
                        if cut_off:
                            server.run("CLIENT", "KILL", "TYPE", "pubsub")
                        entry = await wakes(watch, theirs, lease, entry)


async def test_who_may_not_listen_looks_often(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    access = Access(username="deaf", password_file=secret)
    with running(durable()) as (server,):
        server.run("ACL", "SETUSER", "deaf", "on", ">s3cret", "~*", "+@all", "resetchannels")
        url = server.url.replace("//", "//deaf@")
        async with (
            opened(url, access=access) as ours,
            opened(server.url, lease_s=LONG_S) as theirs,
        ):
            entry, lease = await in_doubt(theirs)
            async with watching(ours, entry) as watch:
                async with asyncio.timeout(SOON_S):
                    for _ in range(ROUNDS):
                        entry = await wakes(watch, theirs, lease, entry)
                assert listeners(server, ours, entry) == 0
