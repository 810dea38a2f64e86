"""Operators see the cache and purge it: by URL, path, pattern, group, or all of it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.api.test_openapi import check
from tests.scenarios.exchanges import CachedShop, Says, Step
from tests.scenarios.shop import Answer

KEPT = Says({"Cache-Control": "max-age=3600", "Cache-Groups": '"shelf"', "ETag": '"a"'})


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[CachedShop]:
    shop = CachedShop(tmp_path)
    await shop.start_replicas(2, admin=True)
    yield shop
    await shop.stop()


async def ask(shop: CachedShop, method: str, path: str, document: Any = None) -> Answer:
    gateway = shop.gateway
    host, port = gateway.admin_address
    token = gateway.settings.admin_token_file.read_text().strip()
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
        session.request(method, f"http://{host}:{port}{path}", json=document) as response,
    ):
        answer = Answer(response.status, dict(response.headers), await response.read())
    check(answer, method, path)
    return answer


async def kept(shop: CachedShop, path: str, replica: int) -> bool:
    seen = len(shop.origin.seen)
    await shop.ask(Step(KEPT), path, replica)
    return len(shop.origin.seen) == seen


@pytest.mark.parametrize(
    ("what", "ends", "leaves"),
    [
        ({"url": "http://shop.example/c/1?a=b"}, "/c/1?a=b", "/c/1"),
        ({"url": "http://SHOP.example/c/1"}, "/c/1", "/c/1?a=b"),
        ({"url": "/c/1"}, "/c/1?a=b", "/c/2"),
        ({"pattern": "/c/*"}, "/c/1", "/d/1"),
        ({"group": "shelf"}, "/c/1", None),
        ({"group": "shelf", "host": "shop.example"}, "/c/1", None),
        ({"group": "other"}, None, "/c/1"),
        ({"group": "shelf", "host": "other.example"}, None, "/c/1"),
        ({"all": True}, "/c/1", None),
    ],
)
async def test_a_purge_ends_what_it_names_in_every_process(
    shop: CachedShop, what: dict[str, Any], ends: str | None, leaves: str | None
) -> None:
    for path in filter(None, (ends, leaves)):
        for replica in (0, 1):
            await kept(shop, path, replica)
            assert await kept(shop, path, replica)
    done = await ask(shop, "POST", "/admin/cache/purge", what)
    assert done.status == 200
    await shop.replicas[1].cache.changes.check()
    for replica in (0, 1):
        assert ends is None or not await kept(shop, ends, replica)
        assert leaves is None or await kept(shop, leaves, replica)


async def test_a_soft_purge_has_the_upstream_asked_whether_it_holds(shop: CachedShop) -> None:
    await kept(shop, "/c/1", 0)
    for what in ({"url": "/c/1"}, {"pattern": "/c/**"}, {"group": "shelf"}, {"all": True}):
        await ask(shop, "POST", "/admin/cache/purge", what | {"soft": True})
        step = Step(Says({"ETag": '"a"'}, status=304), status=200, sent={"If-None-Match": '"a"'})
        await shop.play([step, Step(hit=True, status=200)], "/c/1")


@pytest.mark.parametrize(
    "what",
    [
        {},
        {"url": "/a", "pattern": "/a"},
        {"url": "shop.example/a"},
        {"url": "/a?b"},
        {"url": "http:///a"},
        {"pattern": "a*b"},
        {"all": False},
        {"group": ""},
        {"group": 7},
        {"group": "a\nb"},
        {"url": "/a", "soft": 1},
        {"uri": "/a"},
    ],
)
async def test_a_purge_of_nothing_in_particular_is_refused(
    shop: CachedShop, what: dict[str, Any]
) -> None:
    assert (await ask(shop, "POST", "/admin/cache/purge", what)).status == 400


async def test_operators_see_how_full_the_cache_is(shop: CachedShop) -> None:
    await kept(shop, "/c/1", 0)
    await kept(shop, "/c/1", 0)
    shown = (await ask(shop, "GET", "/admin/cache")).json
    assert (shown["entries"], shown["hits"], shown["forwarded"]) == (1, 1, 1)
    assert 0 < shown["bytes"] < shown["bytes_max"]
    host, port = shop.gateway.admin_address
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{host}:{port}/metrics") as response,
    ):
        metrics = (await response.text()).splitlines()
    assert 'ordergate_cache_requests_total{result="hit"} 1.0' in metrics
    assert "ordergate_cache_entries 1.0" in metrics
