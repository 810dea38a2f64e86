"""CORS by route: what a storefront's page in a browser may do, and what other pages may not."""

from pathlib import Path

import pytest

from gateway.api.cors import DEFAULT_FIELDS, EXPOSED, CorsPolicy, joined
from gateway.settings import SettingsInvalid, load
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import Answer, Shop

SHOP, OTHER = "https://shop.example", "https://evil.example"


async def preflight(
    shop: Shop, path: str = "/orders", origin: str = SHOP, method: str = "POST"
) -> Answer:
    fields = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type,idempotency-key,x-csrf",
    }
    return await shop.ask("OPTIONS", shop.url + path, headers=fields)


async def test_a_preflight_of_the_order_route_is_answered_here(open_shop: OpenShop) -> None:
    shop = await open_shop(cors_origins=[SHOP])
    told = await preflight(shop)
    assert (told.status, told.body) == (204, b"")
    assert told.headers["Access-Control-Allow-Origin"] == SHOP
    assert told.headers["Access-Control-Allow-Methods"] == "POST"
    assert told.headers["Access-Control-Allow-Headers"] == "content-type,idempotency-key,x-csrf"
    assert "Access-Control-Allow-Credentials" not in told.headers
    assert "Origin" in told.headers["Vary"]


async def test_a_preflight_of_the_status_url_is_answered_here(open_shop: OpenShop) -> None:
    shop = await open_shop(cors_origins=[SHOP])
    told = await preflight(shop, "/_gateway/orders/some-id", method="GET")
    assert told.status == 204
    assert told.headers["Access-Control-Allow-Methods"] == "GET, HEAD"


async def test_a_page_that_is_not_named_is_allowed_nothing(open_shop: OpenShop) -> None:
    shop = await open_shop(cors_origins=[SHOP])
    told = await preflight(shop, origin=OTHER)
    assert told.status == 204
    answer = await shop.order(Origin=OTHER)
    assert answer.status == 201
    for each in (told, answer):
        assert not [name for name in each.headers if name.startswith("Access-Control")]
        assert "Origin" in each.headers["Vary"]


async def test_answers_and_problems_expose_the_key_fields(open_shop: OpenShop) -> None:
    shop = await open_shop(cors_origins=[SHOP], cors_credentials=True)
    made = await shop.order(Origin=SHOP)
    refused = await shop.order("", Origin=SHOP)
    status = await shop.ask(
        "GET", f"{shop.url}/_gateway/orders/{made.order}", headers={"Origin": SHOP}
    )
    missing = await shop.ask("GET", f"{shop.url}/_gateway/orders/no", headers={"Origin": SHOP})
    assert [each.status for each in (made, refused, status, missing)] == [201, 400, 200, 404]
    for each in (made, refused, status, missing):
        assert each.headers["Access-Control-Allow-Origin"] == SHOP
        assert each.headers["Access-Control-Allow-Credentials"] == "true"
        assert each.headers["Access-Control-Expose-Headers"] == EXPOSED
    assert "Idempotency-Key" in EXPOSED


async def test_a_page_may_read_how_much_of_its_rate_is_left(open_shop: OpenShop) -> None:
    shop = await open_shop(cors_origins=[SHOP], rate_per_client="1/minute")
    for status in (201, 429):
        told = await shop.order(f"0123456789-0123456789-{status}", Origin=SHOP)
        assert told.status == status
        exposed = told.headers["Access-Control-Expose-Headers"].split(", ")
        for name in ("RateLimit", "RateLimit-Policy"):
            assert name in told.headers
            assert name in exposed


async def test_what_is_passed_through_speaks_for_itself(open_shop: OpenShop) -> None:
    shop = await open_shop(cors_origins=[SHOP])
    passed = await shop.ask("GET", shop.url + "/catalog", headers={"Origin": SHOP})
    assert "Access-Control-Allow-Origin" not in passed.headers
    await preflight(shop, "/catalog", method="GET")  # reaches the backend, not us
    page = await shop.ask(
        "GET", f"{shop.url}/_gateway/problems/not-found", headers={"Origin": SHOP}
    )
    assert "Access-Control-Allow-Origin" not in page.headers


async def test_without_the_setting_nothing_is_added(open_shop: OpenShop) -> None:
    shop = await open_shop()
    answer = await shop.order(Origin=SHOP)
    assert "Vary" not in answer.headers
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_every_origin_means_every_origin_without_credentials() -> None:
    policy = CorsPolicy(frozenset({"*"}), ("POST",))
    fields = policy.preflight(OTHER, "")
    assert fields["Access-Control-Allow-Origin"] == "*"
    assert fields["Access-Control-Allow-Headers"] == DEFAULT_FIELDS
    assert "Access-Control-Allow-Credentials" not in fields


@pytest.mark.parametrize("wanted", ["a\r\nB: c", "x" * 2000, "a b", ","])
def test_field_names_that_are_none_are_not_repeated(wanted: str) -> None:
    policy = CorsPolicy(frozenset({SHOP}), ("POST",))
    assert policy.preflight(SHOP, wanted)["Access-Control-Allow-Headers"] == DEFAULT_FIELDS


def test_the_status_url_allows_what_its_routes_allow_and_never_all_with_credentials() -> None:
    one = CorsPolicy(frozenset({SHOP}), ("POST",), credentials=True)
    every = CorsPolicy(frozenset({"*"}), ("POST",))
    assert joined({}, ("GET",)) is None
    assert joined({"a": one}, ("GET",)) == CorsPolicy(frozenset({SHOP}), ("GET",), True)
    both = joined({"a": one, "b": every}, ("GET",))
    assert both == CorsPolicy(frozenset({SHOP}), ("GET",), True)


# --- the settings ---------------------------------------------------------------------------

ROUTE = """
[[upstreams]]
name = "backend"
urls = ["http://127.0.0.1:9"]

[[routes]]
name = "place-order"
match = "POST /orders"
kind = "{kind}"
upstream = "backend"
{settings}
"""

ORDER = 'capability = "none"\nscope = ["cookie:session"]\n'


def problems_of(folder: Path, settings: str, kind: str = "order") -> str:
    file = folder / "gateway.toml"
    order = ORDER if kind == "order" else ""
    file.write_text(ROUTE.format(kind=kind, settings=order + settings))
    with pytest.raises(SettingsInvalid) as invalid:
        load(file, {})
    return str(invalid.value)


@pytest.mark.parametrize(
    "origin",
    [
        "shop.example",
        "https://shop.example/",
        "https://Shop.example",
        "https://*.shop.example",
        "null",
        "ftp://shop.example",
    ],
)
def test_what_no_browser_sends_as_origin_is_refused(tmp_path: Path, origin: str) -> None:
    text = problems_of(tmp_path, f'cors_origins = ["{origin}"]')
    assert f'"{origin}" is no origin' in text


def test_all_origins_with_credentials_are_refused(tmp_path: Path) -> None:
    text = problems_of(tmp_path, 'cors_origins = ["*"]\ncors_credentials = true')
    assert "would let every page order in its visitor's name" in text


def test_credentials_of_nobody_are_refused(tmp_path: Path) -> None:
    text = problems_of(tmp_path, "cors_credentials = true")
    assert "there are no cors_origins to have them" in text


def test_a_plain_route_says_itself_what_it_allows(tmp_path: Path) -> None:
    text = problems_of(tmp_path, f'cors_origins = ["{SHOP}"]', kind="plain")
    assert "a plain route has no cors_origins" in text
