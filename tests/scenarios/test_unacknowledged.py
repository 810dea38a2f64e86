"""A write that was made but not acknowledged, at each step: no order is stuck, none sent twice."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger import LedgerUnavailable
from gateway.orders.entry import Entry
from gateway.orders.states import Status
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import Shop

Which = Callable[[Entry, Entry], bool]


def lose_one_acknowledgement(shop: Shop, which: Which) -> asyncio.Event:
    """The first write that ``which`` says is made, and reported as unknown."""
    ledger: Any = shop.gateway.ledger
    write, lost = ledger.write, asyncio.Event()

    async def lossy(lease: Any, before: Entry, after: Entry, **more: Any) -> None:
        await write(lease, before, after, **more)
        if which(before, after) and not lost.is_set():
            lost.set()
            raise LedgerUnavailable("the acknowledgement was lost", written=None)

    ledger.write = lossy
    return lost


STEPS: dict[str, Which] = {
    "the doubt": lambda before, after: (
        before.status is Status.DISPATCHED and after.status is Status.IN_DOUBT
    ),
    "quiet": lambda before, after: after.quiet and not before.quiet,
    "absence": lambda before, after: (
        before.doubtful and after.absence_proved and not before.absence_proved
    ),
    "the re-send": lambda before, after: (
        len(after.attempts) == 2 and after.open_attempt is not None
    ),
    "the outcome": lambda before, after: after.status is Status.CONFIRMED,
}


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_whose_write_was_not_acknowledged_is_neither_stuck_nor_doubled(
    backend: Backend, open_shop: OpenShop, step: str
) -> None:
    shop = await open_shop(answer_within_s=1)
    backend.script.append(acts.drop)
    lost = lose_one_acknowledgement(shop, STEPS[step])
    told = await shop.order()
    order = told.order if told.status == 201 else told.json["id"]
    async with asyncio.timeout(10):
        assert (await shop.settled(order)).status is Status.CONFIRMED
    assert lost.is_set()
    assert len(backend.orders) == 1


async def test_a_dispatch_from_received_that_was_not_acknowledged_is_not_stuck(
    backend: Backend, open_shop: OpenShop
) -> None:
    port = backend.port
    await backend.stop()
    shop = await open_shop(answer_within_s=1)
    lost = lose_one_acknowledgement(
        shop, lambda before, after: (before.status, after.status) == DISPATCH
    )
    told = await shop.order()
    assert told.status == 202
    await backend.start(port)
    async with asyncio.timeout(10):
        entry = await shop.settled(told.json["id"])
    assert lost.is_set()
    assert entry.status is Status.CONFIRMED
    assert Status.IN_DOUBT not in {event.target for event in entry.events}


DISPATCH = (Status.RECEIVED, Status.DISPATCHED)


async def test_a_lookup_with_a_lost_secret_file_takes_no_connection(
    backend: Backend, open_shop: OpenShop, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("X-Token: a\n")
    secret.chmod(0o600)
    shop = await open_shop(answer_within_s=0.5, doubt_within_s=1, lookup_headers=str(secret))
    secret.unlink()
    backend.script.append(acts.drop)
    told = await shop.order()
    entry = await shop.settled(told.json["id"])
    assert entry.status is Status.DEAD_LETTER
    assert shop.gateway.sender.pool("backend").stats.in_use == 0


async def test_an_order_that_broke_our_own_code_is_given_back(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop(answer_within_s=1)
    backend.script.append(acts.lose_reply)
    ledger: Any = shop.gateway.ledger
    lookups: Any = shop.gateway.reconciler._lookups
    look_up, release, asked = lookups.look_up, ledger.release, []
    given_back = asyncio.Event()

    async def broken(_: Entry) -> None:
        raise RuntimeError("a bug of ours")

    async def away_at_first(lease: Any, *, due_in_s: float) -> None:
        asked.append(due_in_s)
        if len(asked) == 1:
            raise LedgerUnavailable("away", written=False)
        await release(lease, due_in_s=0.0)
        given_back.set()

    lookups.look_up, ledger.release = broken, away_at_first
    told = await shop.order()
    await given_back.wait()
    lookups.look_up = look_up
    async with asyncio.timeout(10):
        assert (await shop.settled(told.json["id"])).status is Status.CONFIRMED
    assert asked[:2] == [60.0, 60.0]
