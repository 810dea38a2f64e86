"""An order that this version can't read: refused to its client, shown to operators, in nobody's
way."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.orders.states import Status
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import KEY, Shop
from tests.stores.making import PROMISE, in_doubt, submission
from tests.stores.processes import make

ANOTHER = "another-key-0123456789"


async def spoil(ledger: Any, order: str) -> None:
    """As a newer version would write it."""
    statement = "UPDATE orders SET doc = json_insert(doc, '$[#]', 'news') WHERE id = ?"
    await ledger._write(lambda rows: rows._write(statement, (order,)))


async def a_spoilt_order(shop: Shop) -> str:
    """Confirmed, and then written by a newer version."""
    order = (await shop.order()).order
    await spoil(shop.gateway.ledger, order)
    return order


async def test_its_key_is_refused_and_nothing_is_sent(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop()
    await a_spoilt_order(shop)
    told = await shop.order()
    assert told.status == 503
    assert told.json["type"].endswith("order-unreadable")
    assert told.json["safe_new_key"] is False
    assert told.headers["Idempotency-Key"] == KEY
    assert "Retry-After" in told.headers
    assert len(backend.posts) == 1
    assert (await shop.order(ANOTHER)).status == 201


async def test_a_key_whose_submission_a_newer_version_compares_is_refused_and_nothing_is_sent(
    backend: Backend, open_shop: OpenShop
) -> None:
    """Its fingerprint is made in a way that this version does not know."""
    shop = await open_shop()
    order = (await shop.order()).order
    statement = "UPDATE orders SET fingerprint = 'r2:' || substr(fingerprint, 4) WHERE id = ?"
    ledger: Any = shop.gateway.ledger
    await ledger._write(lambda rows: rows._write(statement, (order,)))
    told = await shop.order()
    assert (told.status, told.json["type"].rpartition("/")[2]) == (503, "key-unreadable")
    assert told.json["safe_new_key"] is False
    assert told.headers["Idempotency-Key"] == KEY
    assert len(backend.posts) == 1
    assert (await shop.order(ANOTHER)).status == 201


async def test_its_status_is_not_told_as_none(backend: Backend, open_shop: OpenShop) -> None:
    shop = await open_shop()
    order = await a_spoilt_order(shop)
    told = await shop.ask("GET", f"{shop.url}/_gateway/orders/{order}")
    assert (told.status, told.json["type"].rpartition("/")[2]) == (503, "order-unreadable")


async def test_operators_are_shown_it(backend: Backend, open_shop: OpenShop) -> None:
    shop = await open_shop()
    order = await a_spoilt_order(shop)
    good = (await shop.order(ANOTHER)).order
    headers = shop.admin_headers
    listed = await shop.ask("GET", f"{shop.admin_url}/admin/orders", headers=headers)
    assert [each["id"] for each in listed.json["orders"]] == [good]
    (shown,) = listed.json["unreadable"]
    assert (shown["id"], shown["status"]) == (order, "confirmed")
    one = await shop.ask("GET", f"{shop.admin_url}/admin/orders/{order}", headers=headers)
    assert one.status == 503
    assert (one.json["type"].rpartition("/")[2], one.json["order"]) == ("order-unreadable", order)
    ready = await shop.ask("GET", f"{shop.admin_url}/readyz")
    assert ready.status == 200
    assert order in ready.json["warnings"][0]
    metrics = await shop.ask("GET", f"{shop.admin_url}/metrics")
    assert b"ordergate_orders_unreadable 1.0" in metrics.body


async def test_others_come_to_their_outcome(
    backend: Backend, open_shop: OpenShop, tmp_path: Path
) -> None:
    """Before, one of them kept every other order from being taken up."""
    left = make(tmp_path / "ledger.db")
    await left.open()
    promise = replace(PROMISE, settle_s=0.2)
    spoilt, _ = await in_doubt(left, submission("spoilt", promise=promise), due_in_s=0)
    good, _ = await in_doubt(left, submission("good", promise=promise), due_in_s=0)
    await spoil(left, spoilt.id)
    await left.close()
    shop = await open_shop()
    async with asyncio.timeout(20):
        assert (await shop.settled(good.id)).status is Status.CONFIRMED
    assert list(shop.gateway.ledger.unreadable) == [spoilt.id]
    assert len(backend.posts) == 1
