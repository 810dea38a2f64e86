"""Bad input gets a clear error that says what to do, and leaves no entry behind."""

import asyncio

import pytest

from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import KEY, Shop


async def _made(shop: Shop) -> int:
    return (await shop.gateway.ledger.counts()).made


BAD_KEYS = {
    "empty": "",
    "too long": "k" * 256,
    "two words": "a b",
    "unclosed": '"abc',
    "parameters": '"abc";p=1',
    "not ascii": "ключ",
}


@pytest.mark.parametrize("name", BAD_KEYS)
async def test_a_bad_key_is_400_and_leaves_no_entry(
    backend: Backend, open_shop: OpenShop, name: str
) -> None:
    shop = await open_shop()
    told = await shop.order(BAD_KEYS[name])
    assert told.status == 400
    assert told.headers["Content-Type"] == "application/problem+json"
    assert told.json["type"].endswith("idempotency-key-invalid")
    assert told.json["detail"]
    assert told.json["safe_new_key"] is False
    assert told.headers["Gateway-Source"] == "gateway"
    assert await _made(shop) == 0
    assert backend.requests == []


async def test_a_missing_key_is_400_where_one_is_required(open_shop: OpenShop) -> None:
    shop = await open_shop(key="require")
    told = await shop.order(None)
    assert told.status == 400
    assert "Idempotency-Key" in told.json["detail"]
    assert await _made(shop) == 0


async def test_a_body_that_is_too_large_is_413(backend: Backend, open_shop: OpenShop) -> None:
    shop = await open_shop(body_bytes_max=1000)
    told = await shop.order(body=b"x" * 1001)
    assert told.status == 413
    assert told.json["body_bytes_max"] == 1000
    assert await _made(shop) == 0
    assert (await shop.order(body=b"x" * 1000)).status == 201


async def test_a_compressed_order_is_415(open_shop: OpenShop) -> None:
    shop = await open_shop()
    told = await shop.order(body=b"\x1f\x8b", **{"Content-Encoding": "gzip"})
    assert told.status == 415
    assert await _made(shop) == 0


DISGUISES = [
    "/orders/",
    "//orders",
    "/./orders",
    "/x/../orders",
    "/%6frders",
    "/orders;v=1",
    "/ORDERS%2f",
]


SLASHES_PASS = {"[listen]": '[listen]\nencoded_slashes = "pass"'}


@pytest.mark.parametrize("path", DISGUISES)
async def test_no_order_slips_past_unrecorded(
    backend: Backend, open_shop: OpenShop, path: str
) -> None:
    shop = await open_shop(edits=SLASHES_PASS)
    host, port = shop.gateway.storefront_address
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    status = (await reader.readline()).split()[1]
    writer.close()
    await writer.wait_closed()
    assert status == b"400"
    assert backend.requests == []


async def test_a_body_that_breaks_off_leaves_no_entry(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop()
    host, port = shop.gateway.storefront_address
    _, writer = await asyncio.open_connection(host, port)
    writer.write(
        b"POST /orders HTTP/1.1\r\nHost: shop\r\nIdempotency-Key: k\r\n"
        b"Authorization: Bearer anna\r\nContent-Length: 50\r\n\r\n{"
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await shop.order("k")).status == 201
    assert await _made(shop) == 1
    assert len(backend.posts) == 1


async def test_other_requests_pass_untouched(backend: Backend, open_shop: OpenShop) -> None:
    shop = await open_shop(edits=SLASHES_PASS)
    host, port = shop.gateway.storefront_address
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        b"GET /catalog/%2F...%2f?q=a+b&c HTTP/1.1\r\nHost: shop\r\nX-Odd: caf\xe9\r\n"
        b"Connection: close, TE\r\nTE: trailers\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
    )
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert b"Gateway-Source: upstream" in answer
    taken = backend.requests[0]
    assert taken.target == "/catalog/%2F...%2f?q=a+b&c"
    assert taken.headers["x-odd"] == "caf\xe9"
    assert taken.headers["host"] == "shop"
    assert "te" not in taken.headers
    assert taken.headers["x-forwarded-for"] == "127.0.0.1"
    assert taken.headers["via"].endswith("ordergate")


async def test_a_request_that_no_backend_can_take_is_503(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop()
    await backend.stop()
    told = await shop.ask("GET", f"{shop.url}/catalog")
    assert told.status == 503
    assert told.json["type"].endswith("upstream-unreachable")


async def _read_to_the_end(reader: asyncio.StreamReader) -> None:
    while await reader.read(1000):
        pass


async def test_an_answer_that_breaks_off_never_passes_for_the_whole(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.lookup_script.append(acts.raw(b"HTTP/1.1 200 X\r\nContent-Length: 50\r\n\r\nhalf"))
    shop = await open_shop()
    host, port = shop.gateway.storefront_address
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /catalog HTTP/1.1\r\nHost: shop\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await _read_to_the_end(reader)
    writer.close()
    assert (await shop.order()).status == 201


async def test_every_refusal_on_an_order_route_says_what_is_known_of_the_order(
    open_shop: OpenShop,
) -> None:
    shop = await open_shop(body_bytes_max=10)
    for told in (
        await shop.order(body=b"x" * 11),
        await shop.order(body=b"x", **{"Content-Encoding": "gzip"}),
    ):
        assert told.headers["Idempotency-Key"] == KEY
        assert told.json["order"] is None
        assert told.json["safe_new_key"] is False
    disguised = await shop.order(path="//orders")
    assert (disguised.status, disguised.json["safe_new_key"]) == (400, False)
    underscore = await shop.order(X_Forwarded_For="1")
    assert (underscore.status, underscore.json["safe_new_key"]) == (400, False)
