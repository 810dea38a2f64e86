"""A bug of ours: the order's customer is told no less than of any other trouble."""

import pytest

from gateway.placement import Placement
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
