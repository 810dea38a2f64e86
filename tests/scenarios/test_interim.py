"""Interim answers (1xx, RFC 9110 section 15.2): on to the client at once, and into no cache."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.scenarios.exchanges import CachedShop, Says
from tests.scenarios.test_cache_behaviour import until

SEEN_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n"
HINTS = SEEN_HINTS + b"Connection: x-hop\r\nX-Hop: 1\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
KEPT = b"HTTP/1.1 200 Fine\r\nCache-Control: max-age=%d%b\r\nContent-Length: 4\r\n\r\nbody"

ROUTES = """
[[routes]]
name = "placing"
match = "POST /orders"
kind = "order"
upstream = "origin"
capability = "none"
[[routes]]
name = "all"
match = "* /**"
kind = "KIND"
upstream = "origin"
"""


@pytest.fixture(params=["plain", "cached"])
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[CachedShop]:
    shop = CachedShop(tmp_path, ROUTES.replace("KIND", request.param))
    await shop.start()
    yield shop
    await shop.stop()


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[CachedShop]:
    shop = CachedShop(tmp_path)
    await shop.start()
    yield shop
    await shop.stop()


def kept(before: bytes, max_age_s: int = 3600, more: bytes = b"") -> Says:
    """These bytes, and then an answer that may be kept."""
    return Says(raw=before + KEPT % (max_age_s, more))


async def heads(shop: CachedShop, request: bytes, count: int) -> list[bytes]:
    """The first ``count`` heads of what comes back on one connection."""
    reader, writer = await asyncio.open_connection(*shop.gateway.storefront_address)
    writer.write(request)
    async with asyncio.timeout(10):
        found = [await reader.readuntil(b"\r\n\r\n") for _ in range(count)]
    writer.close()
    await writer.wait_closed()
    return found


GET = b"GET /thing HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_interim_answers_reach_the_client_before_the_answer(shop: CachedShop) -> None:
    shop.origin.next = kept(PROCESSING + HINTS)
    one, two, last = await heads(shop, GET, 3)
    assert one == PROCESSING
    assert two == SEEN_HINTS + b"\r\n"
    assert last.startswith(b"HTTP/1.1 200 Fine\r\n")
    assert b"Link" not in last


async def test_hints_come_while_the_upstream_still_thinks(shop: CachedShop) -> None:
    thought = asyncio.Event()
    shop.origin.next = Says(raw=HINTS, late=(thought, KEPT % (0, b"")))
    reader, writer = await asyncio.open_connection(*shop.gateway.storefront_address)
    writer.write(GET)
    async with asyncio.timeout(10):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 103 ")
        thought.set()
        assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()


async def test_a_client_of_http_1_0_is_told_nothing_that_it_does_not_know(
    shop: CachedShop,
) -> None:
    shop.origin.next = kept(HINTS)
    (first,) = await heads(shop, GET.replace(b"1.1", b"1.0"), 1)
    assert first.startswith(b"HTTP/1.1 200 Fine\r\n")


async def test_a_100_that_nobody_asked_for_stays_here(shop: CachedShop) -> None:
    shop.origin.next = kept(b"HTTP/1.1 100 Continue\r\n\r\n")
    (first,) = await heads(shop, GET, 1)
    assert first.startswith(b"HTTP/1.1 200 Fine\r\n")


async def test_an_interim_answer_is_not_what_is_kept(cache: CachedShop) -> None:
    cache.origin.next = kept(HINTS)
    await heads(cache, GET, 2)
    asked = len(cache.origin.seen)
    (again,) = await heads(cache, GET, 1)
    assert len(cache.origin.seen) == asked
    assert again.startswith(b"HTTP/1.1 200 Fine\r\n")
    assert b"Link" not in again


async def test_a_refresh_in_the_background_tells_nobody_of_its_hints(cache: CachedShop) -> None:
    """The client whose request it began with has its answer, and goes on with another."""
    cache.origin.next = kept(b"", 10, b", stale-while-revalidate=60")
    await heads(cache, GET, 1)
    cache.clock.ahead_s += 20
    held, asked = asyncio.Event(), asyncio.Event()

    async def answer(_method: str, _target: str) -> Says:
        asked.set()
        await held.wait()
        return kept(HINTS)

    cache.origin.answering = answer
    store = cache.gateway.cache.store
    reader, writer = await asyncio.open_connection(*cache.gateway.storefront_address)
    async with asyncio.timeout(10):
        writer.write(GET)
        assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 Fine\r\n")
        await asked.wait()
        held.set()
        await until(lambda: b"3600" in b"".join(each.lines for each in store.entries()))
        writer.write(GET)
        assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 Fine\r\n")
    writer.close()
    await writer.wait_closed()


async def test_one_hint_too_many_is_no_answer(shop: CachedShop) -> None:
    shop.origin.next = kept(HINTS * 17)
    assert (await heads(shop, GET, 17))[-1].startswith(b"HTTP/1.1 502 ")


async def test_an_order_is_answered_without_hints(shop: CachedShop) -> None:
    """Its answer is kept and told again; what came before it is not."""
    shop.origin.next = Says(raw=HINTS + b"HTTP/1.1 201 Made\r\nContent-Length: 2\r\n\r\n{}")
    order = (
        b"POST /orders HTTP/1.1\r\nHost: a\r\nIdempotency-Key: %b\r\nContent-Length: 2\r\n\r\n{}"
    )
    (first,) = await heads(shop, order % (b"k" * 24), 1)
    assert first.startswith(b"HTTP/1.1 201 Made\r\n")
