"""A bug of ours: the order's customer is told no less than of any other trouble."""

from typing import Any

import pytest

from gateway.orders import life
from gateway.placement import Placement
from gateway.telemetry import Telemetry
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import KEY


async def test_what_nobody_foresaw_calls_no_new_key_safe_and_repeats_the_key(
    open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    shop = await open_shop()
    begin = Placement.begin
    monkeypatch.setattr(Placement, "begin", broken)
    told = await shop.order()
    assert (told.status, told.headers["Content-Type"]) == (500, "application/problem+json")
    assert told.json["type"].endswith("internal-error")
    assert told.json["safe_new_key"] is False
    assert (told.json["order"], told.json["order_status"]) == (None, None)
    assert told.headers["Idempotency-Key"] == KEY
    assert "a bug" not in told.body.decode()
    monkeypatch.setattr(Placement, "begin", begin)
    assert (await shop.order()).status == 201


@pytest.mark.parametrize(
    ("owner", "call"), [(life, "end_attempt"), (Telemetry, "claimed"), (Telemetry, "moved")]
)
async def test_an_order_that_breaks_our_code_once_it_is_claimed_is_taken_up_and_ends(
    open_shop: OpenShop, backend: Backend, monkeypatch: pytest.MonkeyPatch, owner: Any, call: str
) -> None:
    """It would be held for as long as its gateway lives, and be nobody's."""
    usual, broke = getattr(owner, call), False

    def breaks_once(*told: Any, **named: Any) -> Any:
        nonlocal broke
        if broke:
            return usual(*told, **named)
        broke = True
        raise RuntimeError("a bug")

    shop = await open_shop()
    monkeypatch.setattr(owner, call, breaks_once)
    assert (await shop.order()).status == 500
    assert broke
    assert (await shop.order()).status == 201
    assert len(backend.orders) == 1
