"""An upstream of several servers with one set of books: who is asked, and what a dead one costs."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.orders.states import Status
from gateway.upstream.breaking import BreakerState
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import KEY, Shop


@pytest.fixture
async def others(backend: Backend) -> AsyncIterator[list[Backend]]:
    """Two more servers, over the same books."""
    found = [Backend(orders=backend.orders) for _ in range(2)]
    for each in found:
        await each.start()
    yield found
    for each in found:
        await each.stop()


def urls(*backends: Backend, **more: object) -> dict[str, str]:
    """What stands in the configuration instead of the one address."""
    listed = ", ".join(f'"http://127.0.0.1:{each.port}"' for each in backends)
    lines = [f"urls = [{listed}]", *(f"{name} = {value}" for name, value in more.items())]
    return {f'urls = ["http://127.0.0.1:{backends[0].port}"]': "\n".join(lines)}


async def get(shop: Shop, path: str = "/catalog", **headers: str) -> int:
    return (await shop.ask("GET", shop.url + path, headers=headers)).status


async def test_requests_go_to_every_server(
    backend: Backend, others: list[Backend], open_shop: OpenShop
) -> None:
    shop = await open_shop(edits=urls(backend, *others))
    await asyncio.gather(*(get(shop) for _ in range(30)))
    for number in range(9):
        assert (await shop.order(f"{KEY}-{number}")).status == 201
    assert all(each.requests for each in (backend, *others))
    assert len(backend.orders) == 9


async def test_a_dead_server_costs_no_order_and_no_read(
    backend: Backend, others: list[Backend], open_shop: OpenShop
) -> None:
    shop = await open_shop(edits=urls(backend, *others, eject_after=2))
    await others[0].stop()
    for number in range(12):
        told = await shop.order(f"{KEY}-{number}")
        assert told.status == 201
        assert Status.RECEIVED not in {
            each.target for each in (await shop.entry(told.order)).events
        }
        assert await get(shop) == 200
    assert len(backend.orders) == 12


async def test_an_order_in_doubt_is_looked_up_at_whichever_server_answers(
    backend: Backend, others: list[Backend], open_shop: OpenShop
) -> None:
    for each in (backend, *others):
        each.script.append(acts.lose_reply)
    shop = await open_shop(edits=urls(backend, *others))
    told = await shop.order()
    sent_to = next(each for each in (backend, *others) if each.posts)
    await sent_to.stop()
    entry = await shop.settled(told.order)
    assert entry.status is Status.CONFIRMED
    assert len(backend.orders) == 1


async def test_an_order_in_doubt_is_sent_again_to_whichever_server_answers(
    backend: Backend, others: list[Backend], open_shop: OpenShop
) -> None:
    every = [backend, *others]
    for each in every:
        each.dedup = True
        each.script.append(acts.lose_reply)
    shop = await open_shop(capability="dedup", edits=urls(*every))
    told = await shop.order()
    sent_to = next(each for each in every if each.posts)
    await sent_to.stop()
    for each in every:
        each.script.clear()
    assert (await shop.settled(told.order)).status is Status.CONFIRMED
    assert len(backend.orders) == 1


async def test_a_server_that_fails_is_put_aside_and_comes_back(
    backend: Backend, others: list[Backend], open_shop: OpenShop
) -> None:
    bad = others[0]
    bad.lookup_script.extend([acts.answer(500)] * 3)
    shop = await open_shop(
        edits=urls(backend, *others, eject_after=3, eject_s=0.3, slow_start_s=0.05)
    )
    failed = 0
    while failed < 3:
        failed += await get(shop) == 500
    standing = shop.gateway.upstreams["backend"].servers[1].standing
    assert standing.ejections == 1
    seen = len(bad.requests)
    assert [await get(shop) for _ in range(10)] == [200] * 10
    assert len(bad.requests) == seen
    async with asyncio.timeout(5):
        while len(bad.requests) == seen:
            assert await get(shop) == 200


async def test_a_health_check_puts_a_server_aside_before_a_request_meets_it(
    backend: Backend, others: list[Backend], open_shop: OpenShop
) -> None:
    bad = others[0]
    bad.lookup_script.extend([acts.answer(503)] * 50)
    shop = await open_shop(
        edits=urls(backend, *others, health_check='"GET /healthz"', health_every_s=0.1)
    )
    standing = shop.gateway.upstreams["backend"].servers[1].standing
    await bad.until(lambda: standing.checked_down)
    assert [await get(shop) for _ in range(10)] == [200] * 10
    assert {each.target for each in bad.requests} == {"/healthz"}
    bad.lookup_script.clear()
    await bad.until(lambda: not standing.checked_down)


async def test_a_sticky_header_keeps_a_client_at_one_server(
    backend: Backend, others: list[Backend], open_shop: OpenShop
) -> None:
    """Who goes where follows from the servers' addresses, which are new each time: one of three
    gets none of so many customers once in a hundred million runs."""
    every = [backend, *others]
    shop = await open_shop(edits=urls(*every, sticky_header='"X-Customer"'))
    customers = 48
    for number in range(customers):
        for _ in range(3):
            headers = {"X-Customer": f"c{number}"}
            await shop.ask("GET", f"{shop.url}/of/{number}", headers=headers)
    served = [{each.target for each in one.requests} for one in every]
    assert sum(len(targets) for targets in served) == customers
    assert all(served)


async def test_a_breaker_that_is_open_receives_orders_and_sends_none(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop(
        answer_within_s=0.5,
        edits=urls(backend, breaker_calls_min=5, breaker_open_s=0.4, breaker_probes=1),
    )
    backend.lookup_script.extend([acts.answer(500)] * 5)
    assert [await get(shop) for _ in range(5)] == [500] * 5
    breaker = shop.gateway.upstreams["backend"].breaker
    assert breaker.state is BreakerState.OPEN
    refused = await shop.ask("GET", f"{shop.url}/catalog")
    assert (refused.status, refused.json["reason"]) == (503, "breaker_open")
    told = await shop.order()
    assert (told.status, told.json["status"]) == (202, "received")
    assert told.json["safe_new_key"] is False
    assert backend.posts == []
    entry = await shop.settled(told.order)
    assert entry.status is Status.CONFIRMED
    assert str(breaker.state) == "closed"
    assert len(backend.orders) == 1


async def test_one_order_that_the_backend_chokes_on_closes_the_shop_for_nobody(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop(
        capability="dedup",
        answer_within_s=0.5,
        edits=urls(backend, breaker_calls_min=3, breaker_failures=0.3),
    )
    backend.script.extend([acts.answer(500)] * 4)
    poison = await shop.order()
    assert poison.status == 202
    await backend.until(lambda: len(backend.posts) >= 4)
    assert shop.gateway.upstreams["backend"].breaker.opened == 0
    assert (await shop.order(f"{KEY}-other")).status == 201


async def test_one_order_that_can_not_be_looked_up_closes_the_shop_for_nobody(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop(
        answer_within_s=0.5, edits=urls(backend, breaker_calls_min=3, breaker_failures=0.3)
    )
    backend.script.append(acts.lose_reply)
    # The first lookup is for a random key, and proves that lookups can be believed.
    backend.lookup_script.extend([acts.look_up, *([acts.answer(500)] * 4)])
    poison = await shop.order()
    assert poison.status == 202
    await backend.until(lambda: len(backend.asked) >= 5)
    assert shop.gateway.upstreams["backend"].breaker.opened == 0
    assert (await shop.order(f"{KEY}-other")).status == 201
    assert (await shop.settled(poison.order)).status is Status.CONFIRMED
