"""Taking up what is due from a server that is far away, or that refuses some of it."""

import asyncio
from dataclasses import replace

from gateway.stores.valkey import ValkeyLedger
from tests.stores.making import PROMISE, in_doubt, settled, submission
from tests.stores.servers import Server, running

from .remote import FaultProxy, durable, opened

FAR_S = 0.04
"""One way: sixty orders taken one by one take longer than the ledger waits."""

MANY = 100

LONG_S = 60.0
"""Nobody loses what he took, however slow the machine is."""


async def many_due(server: Server) -> list[str]:
    """The keys of so many orders of different clients."""
    requests = [submission(f"key-{number}", scope=f"{number}") for number in range(MANY)]
    async with opened(server.url) as near:
        await asyncio.gather(*(in_doubt(near, each, due_in_s=0.0) for each in requests))
    return [each.key for each in requests]


async def test_what_is_due_is_taken_in_time_though_the_server_is_far_away() -> None:
    with running(durable()) as (server,):
        keys = await many_due(server)
        async with (
            FaultProxy(server.port, delay_s=FAR_S) as proxy,
            opened(f"valkey://127.0.0.1:{proxy.port}") as ledger,
        ):
            taken: list[str] = []
            while len(taken) < MANY:
                more = [leased.entry.key for leased in await ledger.lease_due(MANY)]
                assert more
                taken += more
                await ledger.renew_hold()
            assert sorted(taken) == sorted(keys)


async def test_three_that_take_at_once_from_far_away_get_each_order_once() -> None:
    with running(durable()) as (server,):
        keys = await many_due(server)
        async with (
            FaultProxy(server.port, delay_s=FAR_S) as proxy,
            opened(url := f"valkey://127.0.0.1:{proxy.port}", lease_s=LONG_S) as first,
            opened(url, lease_s=LONG_S) as second,
            opened(url, lease_s=LONG_S) as third,
        ):
            taken: list[str] = []
            while len(taken) < MANY:
                several = await asyncio.gather(
                    *(each.lease_due(MANY) for each in (first, second, third))
                )
                before = len(taken)
                taken += [leased.entry.key for some in several for leased in some]
                assert len(taken) > before
            assert sorted(taken) == sorted(keys)


async def test_what_was_taken_is_handed_out_though_the_server_refuses_another() -> None:
    """Nobody else may take what this process holds: were it forgotten here, it would wait for as
    long as the process lives."""
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            for key in ("mine", "refused", "mine too"):
                await in_doubt(ledger, submission(key, scope=key), due_in_s=0.0)
            allow(server, ledger, "mine", "mine too")
            taken = [leased.entry.key for leased in await ledger.lease_due(10)]
            assert taken == ["mine", "mine too"]
            server.run("ACL", "SETUSER", "default", "allkeys")
            assert [leased.entry.key for leased in await ledger.lease_due(10)] == ["refused"]


async def test_as_many_refused_as_are_taken_at_once_hold_up_no_other() -> None:
    with running(durable()) as (server,):
        async with opened(server.url) as ledger:
            for number in range(3):
                await in_doubt(ledger, submission(f"refused-{number}", scope="r"), due_in_s=0.0)
            await in_doubt(ledger, submission("mine", scope="mine"), due_in_s=0.0)
            allow(server, ledger, "mine")
            assert [leased.entry.key for leased in await ledger.lease_due(2)] == ["mine"]


def allow(server: Server, ledger: ValkeyLedger, *keys: str) -> None:
    """Of the orders only these, each of a scope of its name; all that is found by them."""
    rest = ("meta", "due", "held", "age", "dead", "answers", "ends", "is:*", "id:*")
    orders = [ledger._layout.place(key, key).order.decode() for key in keys]
    patterns = [f"~*:{name}" for name in rest] + [f"~{each}" for each in orders]
    server.run("ACL", "SETUSER", "default", "resetkeys", *patterns)


async def test_what_is_past_its_time_is_forgotten_in_time_though_the_server_is_far_away() -> None:
    over = replace(PROMISE, retention_s=0.0, tombstone_s=0.0)
    with running(durable()) as (server,):
        async with opened(server.url) as near:
            keys = [f"key-{number}" for number in range(MANY)]
            requests = [submission(key, scope=key, promise=over) for key in keys]
            await asyncio.gather(*(settled(near, each) for each in requests))
        async with (
            FaultProxy(server.port, delay_s=FAR_S) as proxy,
            opened(f"valkey://127.0.0.1:{proxy.port}") as ledger,
        ):
            assert await ledger.retire(MANY) == (MANY, MANY)
            assert ledger.trouble is None
