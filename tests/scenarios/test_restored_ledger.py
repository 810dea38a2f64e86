"""An older copy of the ledger is put back: a repeat of what it forgot makes no second order."""

import asyncio
import shutil
from pathlib import Path

import pytest

from gateway.orders.states import Reason, Status
from gateway.stores.sqlite_trust import trust_again
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop

OTHER = "another-key-0123456789"


async def test_a_repeat_of_what_a_restored_ledger_forgot_makes_no_second_order(
    backend: Backend, open_shop: OpenShop, tmp_path: Path
) -> None:
    ledger, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    shop = await open_shop()
    kept = await shop.order(OTHER)
    await shop.stop()
    shutil.copy(ledger, copy)
    shop = await open_shop()
    forgotten = await shop.order()
    assert (kept.status, forgotten.status) == (201, 201)
    await shop.stop()
    shutil.copy(copy, ledger)

    shop = await open_shop(answer_within_s=1)
    again = await shop.order()
    order = again.json["id"] if again.status == 202 else again.order
    async with asyncio.timeout(20):
        entry = await shop.settled(order)
    assert entry.status is Status.CONFIRMED
    assert Reason.LEDGER_FORGOT in {event.reason for event in entry.events}
    assert len(backend.posts) == len(backend.orders) == 2
    assert (await shop.order(OTHER)).body == kept.body
    ready = await shop.ask("GET", f"{shop.admin_url}/readyz")
    assert "older copy" in ready.json["warnings"][0]
    metrics = await shop.ask("GET", f"{shop.admin_url}/metrics")
    assert b"ordergate_ledger_distrusted 1.0" in metrics.body

    assert trust_again(ledger) is not None
    await shop.gateway.ledger.renew_hold()
    assert (await shop.order("a-new-key-0123456789012")).status == 201


@pytest.mark.parametrize("upstream_key", ["digest", "client"])
@pytest.mark.parametrize("who", ["Bearer anna", None])
async def test_a_forgotten_order_is_found_under_the_key_that_its_client_was_given(
    backend: Backend, open_shop: OpenShop, tmp_path: Path, who: str | None, upstream_key: str
) -> None:
    """It came without one, was told the gateway's, and is repeated with that."""
    ledger, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    shop = await open_shop(upstream_key=upstream_key)
    await shop.order(OTHER)
    await shop.stop()
    shutil.copy(ledger, copy)
    shop = await open_shop(upstream_key=upstream_key)
    forgotten = await shop.order(key=None, who=who)
    assert forgotten.status == 201
    await shop.stop()
    shutil.copy(copy, ledger)

    shop = await open_shop(upstream_key=upstream_key)
    again = await shop.order(forgotten.headers["Idempotency-Key"], who=who)
    assert (again.status, again.json) == (201, forgotten.json)
    assert len(backend.posts) == len(backend.orders) == 2
