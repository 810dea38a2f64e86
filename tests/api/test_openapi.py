"""The description of the operators' API is the API: every route, every status, every answer."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from gateway.api.admin import OPENAPI
from gateway.ledger import LedgerUnavailable
from gateway.orders.operating import Refusal
from gateway.orders.states import Status
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import Answer, Shop

DOCUMENT: dict[str, Any] = json.loads(OPENAPI.read_text("utf-8"))
METHODS = ("get", "post", "put", "patch", "delete")
WORD = {"operator": "eva", "reason": "a call", "nonce": "n-1"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield method.upper(), path, item[method]


def resolved(node: Any) -> Any:
    """What a reference within the document stands for."""
    while isinstance(node, dict) and "$ref" in node:
        target: Any = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def check(answer: Answer, method: str, path: str) -> None:
    """``answer`` has a described status, and a body as its schema has it."""
    described = DOCUMENT["paths"][path][method.lower()]["responses"]
    assert str(answer.status) in described, f"{method} {path} may not answer {answer.status}"
    content = resolved(described[str(answer.status)])["content"]
    kind = answer.headers["Content-Type"].partition(";")[0]
    assert kind in content
    schema = content[kind]["schema"] | {"components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(answer.json)


async def ask(shop: Shop, method: str, path: str, order: str = "", **more: Any) -> Answer:
    url = shop.admin_url + path.replace("{id}", order)
    headers = shop.admin_headers | more.pop("headers", {})
    answer = await shop.ask(method, url + more.pop("query", ""), headers=headers, **more)
    check(answer, method, path)
    return answer


def test_every_schema_is_one() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_reference_leads_somewhere() -> None:
    found = re.findall(r'"\$ref": "([^"]+)"', OPENAPI.read_text("utf-8"))
    assert found
    for reference in found:
        resolved({"$ref": reference})


def test_the_words_are_those_of_the_code() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["Status"]["enum"] == [status.value for status in Status]
    assert set(schemas["Counts"]["properties"]["by_status"]["required"]) == set(Status)
    assert schemas["Problem"]["properties"]["refusal"]["enum"] == [each.value for each in Refusal]


async def test_every_route_is_described_and_every_description_is_a_route(
    open_shop: OpenShop,
) -> None:
    shop = await open_shop()
    operators = shop.gateway._operators
    assert operators is not None
    served = {
        (route.method, route.resource.canonical)
        for route in operators.application.router.routes()
        if route.resource is not None and route.resource.canonical.startswith("/admin")
    }
    described = {(method, path) for method, path, _ in operations()}
    assert {each for each in served if each[0] != "HEAD"} == described


async def test_the_description_is_served(open_shop: OpenShop) -> None:
    shop = await open_shop()
    assert (await ask(shop, "GET", "/admin/openapi.json")).json == DOCUMENT


@pytest.mark.parametrize(("method", "path"), [(m, p) for m, p, _ in operations()])
async def test_refusals_are_as_described(open_shop: OpenShop, method: str, path: str) -> None:
    shop = await open_shop()
    url = shop.admin_url + path.replace("{id}", "no-such").replace("{name}", "no-such")
    unknown = await shop.ask(method, url)
    assert unknown.status == 401
    check(unknown, method, path)
    other = "DELETE"
    not_allowed = await shop.ask(other, url, headers=shop.admin_headers)
    assert not_allowed.status == 405
    check(not_allowed, method, path)
    if "{id}" in path:
        word = WORD | {"outcome": "failed"}
        missing = await ask(shop, method, path, "no-such", json=word)
        assert missing.status == 404
    if method == "POST":
        assert (await ask(shop, method, path, "no-such", data=b"{")).status == 400
        large = io.BytesIO(b" " * 2**21)
        assert (await ask(shop, method, path, "no-such", data=large)).status == 413


@pytest.mark.parametrize(("method", "path"), [(m, p) for m, p, _ in operations()])
async def test_a_ledger_that_is_away_is_as_described(
    open_shop: OpenShop, method: str, path: str
) -> None:
    if not path.startswith(("/admin/orders", "/admin/counts")):
        return  # they don't ask it

    async def away(*_: object) -> None:
        raise LedgerUnavailable("away")

    shop = await open_shop()
    for name in ("find", "page", "counts", "amend"):
        setattr(shop.gateway.ledger, name, away)
    told = await ask(shop, method, path, "x", json=WORD | {"outcome": "failed"})
    assert told.status == 503


async def test_answers_are_as_described(backend: Backend, open_shop: OpenShop) -> None:
    backend.script += [acts.take, acts.answer(422), acts.lose_reply]
    backend.lookup_script += [acts.answer(404)] + [acts.answer(500)] * 100
    shop = await open_shop(answer_within_s=0.4, doubt_within_s=30, settle_s=0.5)
    orders = [(await shop.taken(f"key-{number}")).order for number in range(3)]
    one = "/admin/orders/{id}"
    for order in orders:
        assert (await ask(shop, "GET", one, order)).status == 200
    listed = await ask(shop, "GET", "/admin/orders", query="?limit=2&status=confirmed,rejected")
    assert len(listed.json["orders"]) == 2
    assert (await ask(shop, "GET", "/admin/orders", query="?limit=x")).status == 400
    for path in ("/admin/counts", "/admin/config"):
        assert (await ask(shop, "GET", path)).status == 200
    asked = await ask(shop, "POST", f"{one}/lookup", orders[2], json=WORD)
    assert asked.status == 202
    done = await ask(
        shop, "POST", f"{one}/lookup", orders[2], json=WORD, headers={"Prefer": "wait=10"}
    )
    assert (done.status, done.headers["Idempotent-Replayed"]) == (200, "true")
    refused = await ask(shop, "POST", f"{one}/resend", orders[2], json=WORD | {"nonce": "n-2"})
    assert refused.json["refusal"] == "could_make_a_second_order"
    word = WORD | {"outcome": "confirmed", "nonce": "n-3"}
    assert (await ask(shop, "POST", f"{one}/resolve", orders[2], json=word)).status == 200
    anew = word | {"nonce": "n-4"}
    assert (await ask(shop, "POST", f"{one}/resolve", orders[2], json=anew)).status == 409
    used = await ask(shop, "POST", f"{one}/lookup", orders[2], json=WORD | {"nonce": "n-3"})
    assert used.json["nonce"] == "n-3"
