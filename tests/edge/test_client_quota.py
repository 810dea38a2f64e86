"""A client's share of new orders (``limits.orders_per_client_max``): what costs a place of it, for
orders that go straight and for those that the handler places."""

import asyncio
import contextlib
import threading
from pathlib import Path

import pytest

from gateway.sending import Sender
from gateway.stores.sqlite import SqliteLedger
from tests.edge.stage import CREATED, PATIENCE_S, eventually, staged
from tests.edge.straight import (
    HANDED,
    SETTLED,
    STRAIGHT,
    Fates,
    Held,
    at_work,
    counted,
    one,
    order,
    place,
    status_of,
)
from tests.edge.straight import ORDER_WENT_ON as WENT_ON


async def test_what_is_no_new_order_costs_no_place_of_the_clients_quota(
    tmp_path: Path, ways: Fates
) -> None:
    limits = "orders_per_client_max = 2"
    async with staged(tmp_path, limits=limits) as stage, stage.connect() as client:
        told = []
        for number in (1, 1, 1, 2, 2, 3, 1):
            await client.send(order(number))
            told.append(status_of((await one(client))[0]))
    assert told == [201, 201, 201, 201, 201, 429, 201]
    assert ways == {STRAIGHT: 2, WENT_ON: 2, HANDED: 3}


@pytest.mark.parametrize("straight", [True, False])
async def test_an_order_that_is_made_unheard_costs_its_place_of_the_quota(
    tmp_path: Path, straight: bool
) -> None:
    """Its claim took longer than its client was to wait: told 503, and placed all the same."""
    disk = threading.Event()
    options, limits = "answer_within_s = 0.2", "orders_per_client_max = 1"
    async with staged(tmp_path, order=options, limits=limits) as stage:
        if not straight:
            stage.gateway.storefront.go_straight = None
        assert isinstance(stage.gateway.ledger, SqliteLedger)
        stage.gateway.ledger._open_parts().writes.submit(lambda _: disk.wait(PATIENCE_S))
        told = await place(stage, order(1), ways=1)
        told += await place(stage, order(2), ways=1)
        disk.set()
        await eventually(lambda: counted(stage)[SETTLED] == 1)
        told += await place(stage, order(3), ways=1)
        await eventually(lambda: at_work(stage) == (0, 0))
        assert [status_of(each) for each in told] == [503, 429, 429]
        assert len(stage.backend.requests) == 1


async def test_an_order_that_is_made_costs_its_place_though_placing_it_broke_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = asyncio.Event()

    async def broken(*_: object) -> None:
        await go.wait()
        raise RuntimeError("a bug")

    monkeypatch.setattr(Sender, "attempt", broken)
    options, limits = "answer_within_s = 0.2", "orders_per_client_max = 1"
    async with staged(tmp_path, order=options, limits=limits) as stage:
        told = await place(stage, order(1), ways=1)
        go.set()
        await eventually(lambda: not any("place" in name for name in stage.gateway._orders.names))
        told += await place(stage, order(2), ways=1)
        assert [status_of(each) for each in told] == [202, 429]


async def test_another_try_of_an_order_that_failed_is_no_new_order(tmp_path: Path) -> None:
    held = Held(b"HTTP/1.1 401 Who\r\nContent-Length: 0\r\n\r\n")
    held.go.set()
    limits = "orders_per_client_max = 2"
    async with staged(tmp_path, held, limits=limits) as stage, stage.connect() as client:
        told = []
        for number in (1, 1, 1, 2, 3):
            await client.send(order(number))
            told.append(status_of((await one(client))[0]))
        assert told == [401, 401, 401, 401, 429]
        assert len(stage.backend.requests) == 4


@pytest.mark.parametrize("straight", [True, False])
async def test_repeats_that_wait_hold_no_place_of_the_quota(tmp_path: Path, straight: bool) -> None:
    held, limits = Held(CREATED), "orders_per_client_max = 2"
    async with staged(tmp_path, held, limits=limits) as stage, contextlib.AsyncExitStack() as all_:
        if not straight:
            stage.gateway.storefront.go_straight = None
        clients = [await all_.enter_async_context(stage.connect()) for _ in range(4)]
        for client in clients[:3]:
            await client.send(order(1))
            await held.asked.wait()
        await eventually(lambda: at_work(stage) == (3, 1))  # who only waits does not work
        await clients[3].send(order(2))
        await eventually(lambda: len(stage.backend.requests) == 2)
        held.go.set()
        assert [status_of((await one(each))[0]) for each in clients] == [201] * 4
