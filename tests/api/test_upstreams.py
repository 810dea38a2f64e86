"""Operators see upstreams and overrule their breakers."""

from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import Answer, Shop

WORD = {"operator": "eva", "reason": "deploy"}


async def put(shop: Shop, override: object, name: str = "backend", **more: object) -> Answer:
    url = f"{shop.admin_url}/admin/upstreams/{name}/breaker"
    word = {"override": override} | WORD | more
    return await shop.ask("PUT", url, json=word, headers=shop.admin_headers)


async def test_operators_see_what_the_breaker_sees(backend: Backend, open_shop: OpenShop) -> None:
    shop = await open_shop()
    backend.lookup_script.append(acts.answer(500))
    for _ in range(3):
        await shop.ask("GET", shop.url + "/catalog")
    url = f"{shop.admin_url}/admin/upstreams"
    (told,) = (await shop.ask("GET", url, headers=shop.admin_headers)).json["upstreams"]
    assert (told["name"], told["breaker"]["state"]) == ("backend", "closed")
    assert (told["breaker"]["calls"], told["breaker"]["failed"]) == (3, 1)
    (server,) = told["servers"]
    assert (server["name"], server["out"]) == (f"127.0.0.1:{backend.port}", False)


async def test_an_operator_holds_the_breaker_open_and_lets_go(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop()
    told = (await put(shop, "open")).json["breaker"]
    assert (told["override"], told["state"]) == ("open", "open")
    assert (await shop.ask("GET", shop.url + "/catalog")).status == 503
    assert backend.requests == []
    metrics = (await shop.ask("GET", shop.admin_url + "/metrics")).body.decode()
    assert 'ordergate_breaker_open{upstream="backend"} 1.0' in metrics
    assert (await put(shop, "auto")).status == 200
    assert (await shop.ask("GET", shop.url + "/catalog")).status == 200


async def test_a_word_that_can_not_be_meant_is_refused(open_shop: OpenShop) -> None:
    shop = await open_shop()
    assert (await put(shop, "ajar")).status == 400
    assert (await put(shop, "open", operator=" ")).status == 400
    assert (await put(shop, "open", until="noon")).status == 400
    assert (await put(shop, "open", name="other")).status == 404
