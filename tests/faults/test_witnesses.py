"""What judges a siege from outside sees what is wrong with a ledger on a server."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.demo.books import Submitted
from gateway.orders.states import Status
from gateway.stores.valkey import ValkeyLedger
from gateway.stores.valkey_keys import NUMBER, Layout
from middleware.idempotency.rules import scope_digest
from tests.faults.remote import durable, opened
from tests.faults.witnesses import SCOPE, RemoteWitness
from tests.stores.making import answered, ended, fresh, submission
from tests.stores.servers import Server, running

WHO = "Bearer anna"
MINE = scope_digest(SCOPE, WHO.encode())
META = Layout("ordergate").bucket(MINE, "").meta.decode()
BUCKET = META.removesuffix("meta")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    with running(durable()) as (server,):
        yield server


@pytest.fixture
async def witness(server: Server) -> AsyncIterator[RemoteWitness]:
    witness = RemoteWitness([server.port])
    yield witness
    await witness.close()


async def one_of_each(ledger: ValkeyLedger) -> None:
    """One that is dispatched and one that is confirmed."""
    await fresh(ledger, submission("open", scope=MINE))
    await ended(ledger, *await fresh(ledger, submission("done", scope=MINE)), answered(201))


async def test_a_whole_ledger_has_no_flaw(server: Server, witness: RemoteWitness) -> None:
    async with opened(server.url) as ledger:
        await one_of_each(ledger)
        assert await witness.flaws() == []
        assert await witness.pending() == 1
        assert {each.key for each in await witness.entries()} == {"open", "done"}


CONFIRMED = f"{BUCKET}is:confirmed"


@pytest.mark.parametrize(
    "harm",
    [
        ("HINCRBY", META, "made", 1),
        ("HINCRBY", META, f"s{NUMBER[Status.CONFIRMED]}", 1),
        ("DEL", CONFIRMED),
        ("RENAME", CONFIRMED, f"{BUCKET}is:rejected"),
        ("DEL", f"{BUCKET}held"),
        ("DEL", f"{BUCKET}age"),
        ("RENAME", f"{BUCKET}age", f"{BUCKET}dead"),
        ("ZADD", f"{BUCKET}due", 0, "7:nobody"),
    ],
)
async def test_what_does_not_fit_together_is_a_flaw(
    server: Server, witness: RemoteWitness, harm: tuple[str | int, ...]
) -> None:
    async with opened(server.url) as ledger:
        await one_of_each(ledger)
        server.run(*harm)
        assert await witness.flaws() != []


async def test_only_what_has_an_attempt_on_record_was_dispatched(
    server: Server, witness: RemoteWitness
) -> None:
    async with opened(server.url) as ledger:
        sent = submission("sent", scope=MINE)
        kept = replace(submission("kept", scope=MINE, dispatch=False), upstream_key="kept")
        for each in (sent, kept):
            await fresh(ledger, each)
        keys = (sent.upstream_key, kept.upstream_key, "unknown")
        said = [await witness.has_dispatch_of(Submitted(WHO, key, b"")) for key in keys]
        assert said == [True, False, False]
