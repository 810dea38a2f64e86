"""Rates: by client, by address, in one process and across two through a shared store."""

import asyncio
import re
from collections.abc import Iterator

import pytest

from gateway.api import rates as route_rates
from middleware import rates
from tests.faults.remote import FaultProxy
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import KEY
from tests.stores.servers import Server, valkey_binary


@pytest.fixture
def valkey() -> Iterator[Server]:
    with Server(valkey_binary()) as server:
        yield server


async def test_a_client_beyond_its_rate_is_refused_and_told_when(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop(rate_per_client="2/minute")
    first = await shop.order(f"{KEY}-1")
    assert first.headers["RateLimit-Policy"] == '"client";q=2;w=60'
    assert re.fullmatch(r'"client";r=1;t=\d+', first.headers["RateLimit"])
    assert (await shop.order(f"{KEY}-2")).status == 201
    refused = await shop.order(f"{KEY}-3")
    assert refused.status == 429
    assert refused.json["type"].endswith("/too-many-requests")
    assert (refused.json["limits"], refused.json["safe_new_key"]) == (["client"], False)
    assert refused.headers["Idempotency-Key"] == f"{KEY}-3"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit"].startswith('"client";r=0;t=')
    assert (await shop.order(f"{KEY}-4", who="Bearer berta")).status == 201
    assert len(backend.orders) == 3
    metrics = (await shop.ask("GET", shop.admin_url + "/metrics")).body.decode()
    assert 'ordergate_rates_exceeded_total{rate="client"} 1.0' in metrics


async def test_an_address_beyond_its_rate_is_refused_whoever_it_says_it_is(
    open_shop: OpenShop,
) -> None:
    plain = {'kind = "plain"': 'kind = "plain"\nrate_per_address = "3/minute"'}
    shop = await open_shop(edits=plain)
    told = [
        (await shop.ask("GET", shop.url + "/x", headers={"Authorization": f"Bearer {n}"})).status
        for n in range(5)
    ]
    assert told == [200, 200, 200, 429, 429]
    assert (await shop.order()).status == 201  # the order route has no such limit


async def test_routes_without_a_rate_carry_no_fields(open_shop: OpenShop) -> None:
    shop = await open_shop()
    assert "RateLimit" not in (await shop.order()).headers


async def test_a_limit_holds_across_two_gateways_through_the_store(
    backend: Backend, open_shop: OpenShop, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "STORE_S_MAX", 10.0)  # a busy machine must not let them pass
    monkeypatch.setattr(route_rates, "STORE_S_MAX", 10.0)
    section = f'[rates]\nurl = "{valkey.url}/0"\n'
    shops = [await open_shop(rate_per_client="10/minute", more=section) for _ in range(2)]
    told = await asyncio.gather(*(shops[n % 2].order(f"{KEY}-{n}") for n in range(24)))
    statuses = [each.status for each in told]
    assert statuses.count(201) == 10
    assert statuses.count(429) == 14
    assert len(backend.orders) == 10


async def test_a_store_may_be_named_as_a_redis(open_shop: OpenShop, valkey: Server) -> None:
    section = f'[rates]\nurl = "redis://127.0.0.1:{valkey.port}/0"\n'
    shop = await open_shop(rate_per_client="1/minute", more=section)
    assert (await shop.order(f"{KEY}-1")).status == 201
    assert (await shop.order(f"{KEY}-2")).status == 429


async def test_a_store_that_is_far_away_is_counted_in_once_its_connection_is_open(
    open_shop: OpenShop, valkey: Server
) -> None:
    async with FaultProxy(valkey.port, delay_s=0.03) as far:
        section = f'[rates]\nurl = "valkey://127.0.0.1:{far.port}/0"\n'
        shop = await open_shop(rate_per_client="1/minute", more=section)
        statuses = [(await shop.order(f"{KEY}-{each}")).status for each in range(10)]
        assert statuses[0] == 201
        assert 429 in statuses


async def test_while_the_store_is_away_each_gateway_counts_for_itself(
    open_shop: OpenShop, valkey: Server
) -> None:
    section = f'[rates]\nurl = "{valkey.url}"\n'
    shops = [await open_shop(rate_per_client="2/minute", more=section) for _ in range(2)]
    assert (await shops[0].order(f"{KEY}-1")).status == 201
    assert (await shops[1].order(f"{KEY}-2")).status == 201
    assert (await shops[0].order(f"{KEY}-3")).status == 429
    valkey.kill()
    for shop in shops:
        told = [(await shop.order(f"{KEY}-{id(shop)}-{n}")).status for n in range(4)]
        assert told == [201, 201, 429, 429]


async def test_a_crowd_that_the_store_is_too_slow_for_does_not_pass(
    open_shop: OpenShop, valkey: Server
) -> None:
    async with FaultProxy(valkey.port, delay_s=0.03) as far:
        section = f'[rates]\nurl = "valkey://127.0.0.1:{far.port}/0"\n'
        shop = await open_shop(rate_per_client="5/minute", more=section)
        told = await asyncio.gather(*(shop.order(f"{KEY}-{each}") for each in range(200)))
        allowed = [each.status for each in told].count(201)
        assert 5 <= allowed <= 2 * 5  # by the store, and by this gateway's own count
