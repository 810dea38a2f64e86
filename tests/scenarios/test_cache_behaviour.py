"""The cache when many ask at once, when answers are large, and when someone means ill."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from middleware.admission import AdmissionPolicy, Priority, Shed
from tests.scenarios.exchanges import CachedShop, Says, Step, Told

FRESH = {"Cache-Control": "max-age=3600"}


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[CachedShop]:
    shop = CachedShop(tmp_path)
    await shop.start()
    yield shop
    await shop.stop()


class Gate:
    """An origin that holds its answers until the story lets them go."""

    def __init__(self, shop: CachedShop, says: Says, count: int) -> None:
        self.open = asyncio.Event()
        self.full = asyncio.Event()
        self.asked = 0
        self._says = says
        self._count = count
        shop.origin.answering = self.answer

    async def answer(self, method: str, target: str) -> Says:
        self.asked += 1
        if self.asked >= self._count:
            self.full.set()
        await self.open.wait()
        return self._says


async def crowd(shop: CachedShop, step: Step, count: int) -> list[asyncio.Task[Told]]:
    return [asyncio.create_task(shop.ask(step, "/thing")) for _ in range(count)]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - counters of the gateway's own, which tell nobody
            await asyncio.sleep(0.005)


async def admitted(shop: CachedShop, count: int) -> None:
    """Until so many requests are at work in the gateway."""
    await until(lambda: shop.gateway.admission.running >= count)


async def test_requests_at_once_are_one_to_the_upstream(shop: CachedShop) -> None:
    gate = Gate(shop, Says(FRESH), 1)
    asking = await crowd(shop, Step(), 8)
    await admitted(shop, 8)
    gate.open.set()
    told = await asyncio.gather(*asking)
    assert [each.body for each in told] == [b"body"] * 8
    assert gate.asked == 1
    assert sum("collapsed" in (each.get("cache-status") or "") for each in told) == 7


async def test_what_may_not_be_shared_is_shared_with_nobody_who_waited(shop: CachedShop) -> None:
    gate = Gate(shop, Says({"Cache-Control": "private, max-age=60"}), 1)
    asking = await crowd(shop, Step(), 5)
    await admitted(shop, 5)
    gate.open.set()
    await asyncio.gather(*asking)
    assert gate.asked == 5
    gate.open.clear()
    again = await crowd(shop, Step(), 5)  # remembered: nobody waits for another
    await until(lambda: gate.asked >= 10)
    gate.open.set()
    await asyncio.gather(*again)


async def test_clients_that_show_who_they_are_never_wait_for_each_other(shop: CachedShop) -> None:
    gate = Gate(shop, Says({"Cache-Control": "private"}), 4)
    asking = await crowd(shop, Step(asks={"Cookie": "sid=1"}), 4)
    async with asyncio.timeout(10):
        await gate.full.wait()
    gate.open.set()
    await asyncio.gather(*asking)


async def test_a_fetch_that_fails_releases_those_who_waited(shop: CachedShop) -> None:
    gate = Gate(shop, Says(raw=b"HTTP/1.1 nonsense\r\n\r\n"), 1)
    asking = await crowd(shop, Step(), 3)
    await admitted(shop, 3)
    gate.open.set()
    assert [each.status for each in await asyncio.gather(*asking)] == [502] * 3


async def test_a_stale_answer_is_refreshed_once_in_the_background(shop: CachedShop) -> None:
    control = {"Cache-Control": "max-age=10, stale-while-revalidate=60", "ETag": '"a"'}
    await shop.play([Step(Says(control, body=b"old"))], "/thing")
    shop.clock.ahead_s += 20
    gate = Gate(shop, Says(control | {"ETag": '"b"'}, body=b"new"), 1)
    told = await asyncio.gather(*await crowd(shop, Step(), 6))
    assert [each.body for each in told] == [b"old"] * 6
    assert int(told[0].get("age") or 0) >= 20
    async with asyncio.timeout(10):
        await gate.full.wait()
    assert gate.asked == 1
    gate.open.set()
    store = shop.gateway.cache.store
    await until(lambda: any(b'"b"' in entry.lines for entry in store.entries()))
    assert (await shop.ask(Step(), "/thing")).body == b"new"
    assert gate.asked == 1


async def test_a_refresh_in_the_background_leaves_the_last_places_to_who_waits(
    shop: CachedShop,
) -> None:
    control = {"Cache-Control": "max-age=10, stale-while-revalidate=60", "ETag": '"a"'}
    await shop.play([Step(Says(control, body=b"old"))], "/thing")
    shop.clock.ahead_s += 20
    gate = Gate(shop, Says(control | {"ETag": '"b"'}, body=b"new"), 1)
    gate.open.set()
    admission = shop.gateway.admission
    admission.apply(AdmissionPolicy(4, requests_min=4, queue_max=0))
    admission.running += 2  # others are at work
    assert (await shop.ask(Step(), "/thing")).body == b"old"
    await until(lambda: admission.shed[Priority.BACKGROUND, Shed.FULL] == 1)
    assert gate.asked == 0
    admission.running -= 2
    assert (await shop.ask(Step(), "/thing")).body == b"old"
    async with asyncio.timeout(10):
        await gate.full.wait()
    assert gate.asked == 1


async def test_the_window_of_a_stale_answer_ends(shop: CachedShop) -> None:
    control = {"Cache-Control": "max-age=10, stale-while-revalidate=60"}
    steps = [Step(Says(control)), Step(Says(FRESH, body=b"new"), wait_s=75, body=b"new")]
    await shop.play(steps, "/thing")


async def test_a_large_body_is_streamed_past_and_not_kept(shop: CachedShop) -> None:
    large = b"x" * (9 * 1024 * 1024)
    chunked = b"HTTP/1.1 200 X\r\nCache-Control: max-age=99\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(large), large)
    await shop.play(
        [
            Step(Says(FRESH, body=large), body=large),
            Step(Says(raw=chunked), status=200, body=large),
            Step(Says(FRESH, body=b"small"), body=b"small"),
        ],
        "/large",
    )


async def test_an_answer_is_invisible_until_it_is_whole(shop: CachedShop) -> None:
    reader, writer = await asyncio.open_connection(*shop.gateway.storefront_address)
    half = asyncio.Event()

    async def answer(method: str, target: str) -> Says:
        await half.wait()
        return Says(FRESH)

    shop.origin.answering = answer
    writer.write(b"GET /thing HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    await admitted(shop, 1)
    assert shop.gateway.cache.store.count == 0
    half.set()
    await reader.readuntil(b"body")
    assert shop.gateway.cache.store.count == 1
    writer.close()
    await writer.wait_closed()


async def test_a_slow_client_of_a_large_answer_holds_nobody_up(shop: CachedShop) -> None:
    """Its length is not known, so others wait for it until it turns out to be too large."""
    large = b"x" * (24 * 1024 * 1024)
    chunked = b"HTTP/1.1 200 X\r\nCache-Control: max-age=99\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(large), large)
    gate = Gate(shop, Says(raw=chunked), 1)
    _, slow = await asyncio.open_connection(*shop.gateway.storefront_address, limit=1024)
    slow.write(b"GET /thing HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    await admitted(shop, 1)
    (waiting,) = await crowd(shop, Step(), 1)
    await until(lambda: shop.gateway.cache.flights.waited == 1)
    gate.open.set()
    try:
        async with asyncio.timeout(8):
            assert (await waiting).body == large
    finally:
        slow.transport.abort()
    assert gate.asked == 2


async def test_a_client_that_leaves_does_not_stop_the_keeping(shop: CachedShop) -> None:
    gate = Gate(shop, Says(FRESH, body=b"y" * 3_000_000), 1)
    _, writer = await asyncio.open_connection(*shop.gateway.storefront_address)
    writer.write(b"GET /thing HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    await admitted(shop, 1)
    writer.transport.abort()
    gate.open.set()
    await until(lambda: shop.gateway.cache.store.count == 1)
    assert (await shop.ask(Step(), "/thing")).body == b"y" * 3_000_000
    assert gate.asked == 1


POISONS = {
    "an override of the method": Step(asks={"X-HTTP-Method-Override": "DELETE"}),
    "an override of the target": Step(asks={"X-Original-URL": "/admin"}),
    "a prefix for links": Step(asks={"X-Forwarded-Prefix": "//evil.example"}),
    "a host for links": Step(asks={"X-Forwarded-Host": "evil.example"}),
    "a huge field": Step(Says(FRESH, status=503), asks={"X-Huge": "h" * 9000}),
    "a field the upstream chokes on": Step(Says(FRESH, status=400), asks={"X-Bad": "%00\\"}),
    "an unwelcome client": Step(Says(FRESH, status=403), asks={"User-Agent": "sqlmap/1.0"}),
    "a body": Step(data=b"x=1"),
    "an unusual method": Step(method="PROPFIND"),
    "a session": Step(asks={"Cookie": "sid=1"}),
    "a bearer": Step(asks={"Authorization": "Bearer x"}),
    "a cookie set": Step(Says(FRESH | {"Set-Cookie": "sid=2"})),
}


@pytest.mark.parametrize("name", POISONS)
async def test_a_poisoned_answer_is_not_told_to_others(shop: CachedShop, name: str) -> None:
    poison = POISONS[name]
    says = poison.says if poison.says.fields else Says(FRESH, body=b"poison")
    await shop.ask(Step(says, method=poison.method, asks=poison.asks, data=poison.data), "/page")
    await shop.play([Step(Says(FRESH, body=b"good"), body=b"good")], "/page")
    await shop.play([Step(hit=True, body=b"good", status=200)], "/page")


async def test_an_error_that_one_address_is_told_is_not_told_to_another(shop: CachedShop) -> None:
    """Who is unwelcome is so by address more often than by anything that is said."""
    refused, served = Step(Says(FRESH, status=403)), Step(Says(FRESH, body=b"good"), body=b"good")
    shop.source = ("127.0.0.2", 0)
    await shop.play([refused, Step(hit=True, status=403)], "/page")
    shop.source = ("127.0.0.1", 0)
    await shop.play([served], "/page")


class FrontedShop(CachedShop):
    """Behind a proxy that is trusted: what it says of the URI goes upstream."""

    TEMPLATE = CachedShop.TEMPLATE.replace("[ledger]", 'trusted_proxies = ["127.0.0.1"]\n[ledger]')


URIS_SAID = [
    {"X-Forwarded-Host": "evil.example"},
    {"X-Forwarded-Proto": "https"},
    {"X-Forwarded-Port": "81"},
    {"Forwarded": "for=10.0.0.1;host=evil.example"},
]


@pytest.mark.parametrize("said", URIS_SAID)
async def test_an_answer_for_another_uri_by_a_proxys_word_is_not_told_to_others(
    tmp_path: Path, said: dict[str, str]
) -> None:
    shop = FrontedShop(tmp_path)
    await shop.start()
    try:
        other = Step(Says(FRESH, body=b"other"), asks=said, sent=said if "X-" in str(said) else {})
        plain = Step(Says(FRESH, body=b"plain"), body=b"plain")
        await shop.play([other, plain], "/page")
        await shop.play([Step(hit=True, asks=said, body=b"other", status=200)], "/page")
        await shop.play([Step(hit=True, body=b"plain", status=200)], "/page")
        await shop.play([plain, other], "/page2")
    finally:
        await shop.stop()


class NearbyShop(CachedShop):
    """The same, where others than the proxy can connect too."""

    TEMPLATE = CachedShop.TEMPLATE.replace("[ledger]", 'trusted_proxies = ["127.0.0.2"]\n[ledger]')


@pytest.mark.parametrize("said", URIS_SAID)
async def test_what_a_stranger_says_of_the_uri_selects_nothing_that_a_proxy_asks_for(
    tmp_path: Path, said: dict[str, str]
) -> None:
    """It is overwritten on the way: the answer is not one for what was said."""
    shop = NearbyShop(tmp_path)
    await shop.start()
    try:
        stranger = Step(Says(FRESH, body=b"plain"), asks=said, status=200, body=b"plain")
        proxy = Step(Says(FRESH, body=b"said"), asks=said, status=200, body=b"said")
        await shop.play([stranger], "/page")
        shop.source = ("127.0.0.2", 0)
        await shop.play([proxy, replace(proxy, hit=True)], "/page")
        shop.source = None
        await shop.play([replace(stranger, hit=True), Step(hit=True, body=b"plain")], "/page")
    finally:
        await shop.stop()


async def test_clients_behind_one_trusted_proxy_share_what_is_kept(tmp_path: Path) -> None:
    shop = FrontedShop(tmp_path)
    await shop.start()
    try:
        said = {"X-Forwarded-Host": "shop.example", "X-Forwarded-Proto": "https"}
        for number, hit in ((1, False), (2, True)):
            asks = said | {"X-Forwarded-For": f"10.0.0.{number}", "X-Real-IP": f"10.0.0.{number}"}
            await shop.play([Step(Says(FRESH), hit=hit, asks=asks, status=200)], "/page")
    finally:
        await shop.stop()


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Request-Id"])
async def test_what_is_selected_by_a_field_that_the_gateway_writes_is_nobody_elses(
    shop: CachedShop, name: str
) -> None:
    """The upstream was told of one client's address; the next client's field says nothing."""
    by_it = FRESH | {"Vary": name}
    for number in (1, 2):
        shop.source = (f"127.0.0.{number}", 0)
        own = b"for %d" % number
        await shop.play([Step(Says(by_it, body=own), body=own)], "/page")


@pytest.mark.parametrize(
    "path", ["/account/x.css", "/%61ccount", "/my-shop/cart;x=.css", "/Orders/7", "/basket"]
)
async def test_a_deceptive_path_shows_nobody_the_pages_of_another(
    shop: CachedShop, path: str
) -> None:
    """One customer's page, with careless headers, as a cookie or a bearer brings it."""
    for shown in ({"Cookie": "sid=anna"}, {"Authorization": "Bearer anna"}):
        await shop.ask(Step(Says(FRESH, body=b"anna's"), asks=shown), path)
        told = await shop.ask(Step(Says(FRESH, body=b"bert's"), asks={"Cookie": "sid=b"}), path)
        assert told.body == b"bert's"
        assert (await shop.ask(Step(Says(FRESH, body=b"anyone's")), path)).body == b"anyone's"


SCOPED = """
[[routes]]
name = "place"
match = "POST /orders"
kind = "order"
upstream = "origin"
capability = "lookup"
lookup = "GET /lookup?key={key}"
scope = ["cookie:customer"]
[[routes]]
name = "rest"
match = "GET /**"
kind = "cached"
upstream = "origin"
session_cookies = ["sid"]
"""


async def test_a_cookie_that_tells_orders_clients_apart_is_a_session_cookie(
    tmp_path: Path,
) -> None:
    shop = CachedShop(tmp_path, SCOPED)
    await shop.start()
    try:
        for customer in ("anna", "bert"):
            step = Step(Says(FRESH), asks={"Cookie": f"a=b; customer={customer}"})
            await shop.play([step], "/page")
        anybody = Step(Says(FRESH), asks={"Cookie": "a=b"})
        await shop.play([anybody, Step(hit=True, asks={"Cookie": "a=c"}, status=200)], "/page")
    finally:
        await shop.stop()


async def test_memory_is_bounded_and_a_scan_does_not_push_out_what_is_read(
    tmp_path: Path,
) -> None:
    routes = CachedShop.ROUTES + "\n[cache]\nmemory_bytes_max = 1048576\n"
    shop = CachedShop(tmp_path, routes)
    await shop.start()
    store = shop.gateway.cache.store
    says = Says(FRESH, body=b"x" * 10_000)
    for _ in range(3):
        for number in range(5):
            await shop.ask(Step(says), f"/hot/{number}")
    for number in range(300):
        await shop.ask(Step(says), f"/scan/{number}")
        assert store.bytes_used <= 1048576
    seen = len(shop.origin.seen)
    for number in range(5):
        await shop.ask(Step(says), f"/hot/{number}")
    assert len(shop.origin.seen) == seen
    assert store.evicted > 100
    await shop.stop()


async def test_answers_from_the_cache_count_against_a_rate_too(tmp_path: Path) -> None:
    routes = CachedShop.ROUTES.rstrip() + '\nrate_per_address = "3/minute"\n'
    shop = CachedShop(tmp_path, routes)
    await shop.start()
    statuses = [(await shop.ask(Step(Says(FRESH)), "/thing")).status for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    assert len(shop.origin.seen) == 1
    await shop.stop()


async def test_an_answer_from_the_cache_is_logged_as_any_other(
    shop: CachedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[dict[str, object]] = []
    monkeypatch.setattr(shop.gateway.storefront.quick, "_log", lambda _, **line: lines.append(line))
    await shop.play([Step(Says(FRESH)), Step(hit=True, status=200)], "/thing?secret=1")
    assert [(line["path"], line["status"], line["client"]) for line in lines] == [
        ("/thing", 200, "127.0.0.1")
    ]
