"""Each safeguard of the cache switched off: the stories about orders must notice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway import telling
from middleware.caching.cache import Cache
from middleware.caching.changes import Changes
from tests.scenarios import test_cache_behaviour as behaviour
from tests.scenarios import test_cache_orders as orders
from tests.scenarios import test_cache_shared as shared
from tests.scenarios.exchanges import CachedShop
from tests.stores.servers import Server, valkey_binary

Off = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[CachedShop]:
    shop = CachedShop(tmp_path, orders.ROUTES)
    await shop.start_replicas(2)
    yield shop
    await shop.stop()


async def heard(self: Cache) -> bool:
    return True


def no_generations(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Changes, "outdated", lambda *_: False)


def no_look_at_the_log(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cache, "_heard", heard)
    patch.setattr(Changes, "nothing_new", lambda _: True)
    patch.setattr("middleware.caching.cache.LISTEN_EVERY_S", 3600.0)


def nobody_is_told_of_outcomes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(telling, "_shows", lambda *_: False)


def credentials_are_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("middleware.caching.storing.credentials_shown", lambda *_: frozenset())
    patch.setattr("middleware.caching.cache.credentials_shown", lambda *_: frozenset())


def errors_are_everybodys(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("middleware.caching.storing.REQUESTS_FAULT", frozenset())


async def test_without_generations_a_fill_outlives_a_change(
    shop: CachedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_generations(monkeypatch)
    with pytest.raises(AssertionError):
        await orders.test_a_read_in_flight_while_an_order_changes_is_never_served_afterwards(
            shop, 0
        )


async def test_without_generations_what_was_shared_before_a_change_is_recalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_generations(monkeypatch)
    with Server(valkey_binary()) as server:
        shop = shared.shop_on(tmp_path, server)
        await shop.start_replicas(2)
        try:
            await orders.settled(shop)
            with pytest.raises(AssertionError):
                await shared.test_what_an_order_changed_is_not_recalled(
                    shop, "/orders/7/cancel", "/orders/7"
                )
        finally:
            await shop.stop()


async def test_without_a_look_at_the_log_another_replica_shows_what_was(
    shop: CachedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for replica in (0, 1):
        await shop.replicas[replica].cache.changes.check()
    no_look_at_the_log(monkeypatch)
    with pytest.raises(AssertionError):
        await orders.test_what_an_order_changes_is_fresh_on_every_replica(
            shop, "/orders/7/cancel", "/orders/7", 1
        )


async def test_without_word_of_outcomes_a_settled_order_is_shown_as_it_was(
    shop: CachedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody_is_told_of_outcomes(monkeypatch)
    with pytest.raises(AssertionError):
        await asyncio.wait_for(
            orders.test_what_an_order_changes_is_fresh_on_every_replica(
                shop, "/orders", "/mine/7", 1
            ),
            20,
        )


@pytest.mark.parametrize(
    ("off", "poison"),
    [(credentials_are_nothing, "a session"), (errors_are_everybodys, "an unwelcome client")],
)
async def test_without_its_rule_a_poison_is_told_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: Off, poison: str
) -> None:
    off(monkeypatch)
    shop = CachedShop(tmp_path)
    await shop.start()
    try:
        with pytest.raises(AssertionError):
            await behaviour.test_a_poisoned_answer_is_not_told_to_others(shop, poison)
    finally:
        await shop.stop()
