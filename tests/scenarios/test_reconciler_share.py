"""What an outage left keeps to its own share, whatever it has to be done to it."""

import asyncio

import pytest

from gateway import reconciler
from gateway.orders.entry import Entry
from gateway.orders.pacing import Load, Pace
from gateway.orders.states import Status
from gateway.reconciler import Case, Reconciler
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import KEY, Shop

ORDERS = 20
APART_S = 0.05


class Slowly(Pace):
    """So that a test can tell turns from what happens at once, however busy the machine is."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: set[Load] = set()

    def slot_in_s(self, now: float, load: Load) -> float:
        self.loads.add(load)
        at = self._next = max(now, self._next + APART_S)
        return at - now


def slowly(shop: Shop) -> Slowly:
    pace = shop.gateway.reconciler._notes_pace = Slowly()
    shop.gateway.reconciler._load = lambda: Load.PRESSED
    return pace


def took_turns(times: list[float]) -> bool:
    return times[-1] - times[0] >= (len(times) - 1) * APART_S * 0.9


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the reconciler wrote down that an order is quiet, or has failed."""
    found: list[float] = []
    write = Reconciler._write

    async def watched(self: Reconciler, case: Case, after: Entry) -> None:
        quiet = after.quiet and not case.entry.quiet
        if quiet or (after.status is Status.FAILED and case.entry.status is Status.RECEIVED):
            found.append(asyncio.get_running_loop().time())
        await write(self, case, after)

    monkeypatch.setattr(Reconciler, "_write", watched)
    return found


async def test_orders_that_come_to_be_quiet_in_the_same_second_are_noted_in_turns(
    backend: Backend, open_shop: OpenShop, noted: list[float]
) -> None:
    backend.script.extend([acts.lose_reply] * ORDERS)
    backend.lookups = False
    shop = await open_shop(answer_within_s=1, settle_s=3, attempt_timeout_s=2)
    pace = slowly(shop)
    told = await asyncio.gather(*(shop.taken(f"{KEY}-{number}") for number in range(ORDERS)))
    assert {each.status for each in told} == {202}
    async with asyncio.timeout(10):
        while len(noted) < ORDERS:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.05)
    assert took_turns(noted)
    assert pace.loads == {Load.BUSY}  # a few: promises say when they are written


async def test_orders_whose_time_is_over_in_the_same_second_are_given_up_in_turns(
    backend: Backend, open_shop: OpenShop, noted: list[float]
) -> None:
    shop = await open_shop(answer_within_s=1, place_within_s=3, attempt_timeout_s=0.9)
    pace = slowly(shop)
    await backend.stop()
    told = await asyncio.gather(*(shop.taken(f"{KEY}-{number}") for number in range(ORDERS)))
    assert {each.json["status"] for each in told} == {"received"}
    async with asyncio.timeout(10):
        while len(noted) < ORDERS:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.05)
    assert took_turns(noted)
    assert pace.loads == {Load.BUSY}  # a few: promises say when they are written


@pytest.mark.parametrize(("load", "most"), [(Load.IDLE, 200), (Load.BUSY, 60), (Load.PRESSED, 20)])
async def test_the_more_there_is_to_do_the_fewer_are_taken_up(
    open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch, load: Load, most: int
) -> None:
    shop = await open_shop()
    asked: list[int] = []

    async def lease_due(limit: int) -> list[object]:
        asked.append(limit)
        return []

    monkeypatch.setattr(shop.gateway.reconciler._ledger, "lease_due", lease_due)
    shop.gateway.reconciler._load = lambda: load
    await shop.gateway.reconciler.run_once()
    assert asked[-1] == most


async def test_what_is_more_than_a_process_may_hold_waits_in_the_ledger(
    backend: Backend, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "CASES_MAX", 3)
    port = backend.port
    await backend.stop()
    shop = await open_shop(answer_within_s=0.1)
    told = await asyncio.gather(*(shop.taken(f"{KEY}-{number}") for number in range(ORDERS)))
    assert {each.json["status"] for each in told} == {"received"}
    assert shop.gateway.reconciler.cases <= 3
    await backend.start(port)
    entries = await asyncio.gather(*(shop.settled(each.order) for each in told))
    assert {entry.status for entry in entries} == {Status.CONFIRMED}
    assert len(backend.orders) == ORDERS
