"""A scope from a verified token: who is one client, and what a false token comes to."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import KEY, Shop

ISSUER = ECKey.generate_key("P-256", {"kid": "one"})
STRANGER = ECKey.generate_key("P-256", {"kid": "one"})


def bearer(
    sub: str | None = "anna", *, lives_s: float = 3600, key: Any = ISSUER, **more: Any
) -> str:
    claims = {"exp": int(time.time() + lives_s), "jti": time.time_ns()} | more
    if sub is not None:
        claims["sub"] = sub
    return "Bearer " + jwt.encode({"alg": "ES256", "kid": "one"}, claims, key)


def write_keys(path: Path, *keys: ECKey) -> None:
    path.write_text(json.dumps({"keys": [key.as_dict(private=False) for key in keys]}))


@pytest.fixture
async def shop(tmp_path: Path, open_shop: OpenShop) -> Shop:
    write_keys(tmp_path / "jwks.json", ISSUER)
    section = '[jwt]\nkeys = "jwks.json"\nalgorithms = ["ES256"]\nleeway_s = 0\n'
    return await open_shop(scope=["jwt:sub", "cookie:session"], more=section)


async def test_a_refreshed_token_makes_a_retry_no_new_order(shop: Shop, backend: Backend) -> None:
    first = await shop.order(who=bearer())
    again = await shop.order(who=bearer())
    assert (first.status, again.status) == (201, 201)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.order == again.order
    assert len(backend.orders) == 1


async def test_two_customers_may_use_the_same_key(shop: Shop, backend: Backend) -> None:
    assert (await shop.order(who=bearer("anna"))).status == 201
    other = await shop.order(who=bearer("berta"))
    assert other.headers["Idempotency-Status"] == "created"
    assert len(backend.orders) == 2


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        (bearer(lives_s=-1), "expired"),
        (bearer(key=STRANGER), "signature"),
        (bearer(sub=["anna"]), "claim"),  # type: ignore[arg-type]
        ("bearer opaque", "malformed"),
    ],
)
async def test_a_false_token_is_refused_before_anything_is_recorded(
    shop: Shop, backend: Backend, who: str, reason: str
) -> None:
    told = await shop.order(who=who, Cookie="session=also-anna")
    assert told.status == 401
    assert told.json["type"].endswith("/token-invalid")
    assert told.json["reason"] == reason
    assert told.json["safe_new_key"] is False
    assert told.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert (await shop.gateway.ledger.counts()).made == 0
    assert backend.requests == []


async def test_an_order_after_an_expired_try_keeps_its_key(shop: Shop, backend: Backend) -> None:
    placed = await shop.order(who=bearer())
    assert (await shop.order(who=bearer(lives_s=-1))).status == 401
    again = await shop.order(who=bearer())
    assert again.order == placed.order
    assert len(backend.orders) == 1


async def test_without_a_token_the_next_scope_counts(shop: Shop, backend: Backend) -> None:
    first = await shop.order(who=None, Cookie="session=s1")
    by_basic = await shop.order(who="Basic YTpi", Cookie="session=s1")
    without_claim = await shop.order(who=bearer(sub=None), Cookie="session=s1")
    assert first.order == by_basic.order == without_claim.order
    anonymous = await shop.order(who=None)
    assert anonymous.order != first.order
    assert len(backend.orders) == 2


async def test_the_status_by_key_is_its_clients_own(shop: Shop) -> None:
    placed = await shop.order(who=bearer())
    url = f"{shop.url}/_gateway/orders?key={KEY}"
    found = await shop.ask("GET", url, headers={"Authorization": bearer()})
    assert found.json["id"] == placed.order
    other = await shop.ask("GET", url, headers={"Authorization": bearer("berta")})
    assert other.status == 404
    expired = await shop.ask("GET", url, headers={"Authorization": bearer(lives_s=-1)})
    assert expired.status == 401


async def test_two_authorizations_are_two_clients(shop: Shop, backend: Backend) -> None:
    headers = [("Authorization", bearer()), ("Authorization", bearer("berta"))]
    headers += [("Idempotency-Key", KEY), ("Content-Type", "application/json")]
    told = await shop.ask("POST", shop.url + "/orders", data=b"{}", headers=headers)
    assert told.status == 400
    assert backend.requests == []


async def test_a_refused_token_is_counted_and_not_logged(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    who = bearer(key=STRANGER)
    await shop.order(who=who)
    metrics = (await shop.ask("GET", shop.admin_url + "/metrics")).body.decode()
    assert 'ordergate_tokens_refused_total{reason="signature"} 1.0' in metrics
    told = capsys.readouterr()
    assert who.partition(" ")[2] not in told.out + told.err
