"""The cache against RFC 9111, 9110, 5861, 9211, 9213 and 9875: exchanges over sockets."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.scenarios.cache_rows import TABLE
from tests.scenarios.exchanges import CachedShop


@pytest.fixture
async def cached_shop(tmp_path: Path) -> AsyncIterator[CachedShop]:
    shop = CachedShop(tmp_path)
    await shop.start()
    yield shop
    await shop.stop()


@pytest.mark.parametrize("name", TABLE)
async def test_exchange(cached_shop: CachedShop, name: str) -> None:
    await cached_shop.play(TABLE[name], "/thing")
