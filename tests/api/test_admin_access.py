"""admin_access.py: the operators' token, and what a wrong one costs."""

import asyncio
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import pytest

from gateway.api import admin_access
from gateway.api.admin_access import (
    PAUSE_FIRST_S,
    PAUSE_MAX_S,
    PEERS_MAX,
    Backoff,
    admin_token,
)
from gateway.api.admin_documents import effective
from gateway.settings import SettingsInvalid, load
from middleware.peers import peer_of
from tests.scenarios.conftest import DEFAULTS, TEMPLATE, OpenShop, toml


async def test_a_wrong_token_waits_and_the_right_one_does_not(open_shop: OpenShop) -> None:
    shop = await open_shop()
    loop = asyncio.get_running_loop()
    url = f"{shop.admin_url}/admin/counts"

    async def took(headers: dict[str, str], status: int) -> float:
        began = loop.time()
        assert (await shop.ask("GET", url, headers=headers)).status == status
        return loop.time() - began

    first = await took({}, 401)
    second = asyncio.create_task(took({"Authorization": "Bearer guess"}, 401))
    await asyncio.sleep(0)
    assert await took(shop.admin_headers, 200) < PAUSE_FIRST_S
    assert first >= PAUSE_FIRST_S
    assert await second >= PAUSE_FIRST_S
    for path in ("", "/orders/x", "/nothing", "/openapi.json"):
        assert (await shop.ask("GET", f"{shop.admin_url}/admin{path}")).status == 401
        await shop.ask(
            "GET", url, headers=shop.admin_headers
        )  # forgives, so that the next one waits no longer


async def test_a_flood_of_wrong_tokens_is_cut_off_and_the_right_one_let_in(
    open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_access, "WAITING_MAX", 2)
    shop = await open_shop()
    url = f"{shop.admin_url}/admin/counts"
    guesses = [asyncio.ensure_future(shop.ask("GET", url)) for _ in range(5)]
    done = await asyncio.gather(*guesses, return_exceptions=True)
    cut_off = [each for each in done if isinstance(each, aiohttp.ClientError)]
    assert len(cut_off) == 3
    assert (await shop.ask("GET", url, headers=shop.admin_headers)).status == 200


def test_each_wrong_token_of_a_peer_costs_twice_the_one_before() -> None:
    backoff = Backoff()
    pauses = [backoff.wrong("a", 0.0) for _ in range(8)]
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert pauses[-1] == PAUSE_MAX_S
    assert backoff.wrong("b", 0.0) == PAUSE_FIRST_S
    assert backoff.wrong("a", 901.0) == PAUSE_FIRST_S
    backoff.right("b")
    assert backoff.wrong("b", 902.0) == PAUSE_FIRST_S


def test_the_peers_that_are_remembered_are_bounded() -> None:
    backoff = Backoff()
    for number in range(PEERS_MAX * 2):
        backoff.wrong(str(number), 0.0)
    assert len(backoff) == PEERS_MAX


def test_a_host_with_many_addresses_is_one_peer() -> None:
    assert peer_of("2001:db8::1") == peer_of("2001:db8::ffff")
    assert peer_of("2001:db8::1") != peer_of("2001:db8:0:1::1")
    assert peer_of("192.0.2.1") != peer_of("192.0.2.2")
    assert peer_of(None) == ""


def test_the_token_file_is_made_once_whole_and_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "data" / "token"
    with ThreadPoolExecutor(8) as starts:
        tokens = set(starts.map(admin_token, [path] * 16))
    assert len(tokens) == 1
    assert len(tokens.pop()) >= 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_an_empty_token_file_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("\n")
    with pytest.raises(OSError, match="holds no admin token"):
        admin_token(path)


def test_the_token_may_come_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(TEMPLATE.format(port=9, order=toml(DEFAULTS)))
    secret = "a-token-of-more-than-22-characters"
    settings = load(file, {"ORDERGATE_LISTEN__ADMIN_TOKEN": secret})
    assert settings.admin_token == secret
    assert secret not in str(effective(settings)) + repr(settings)
    with pytest.raises(SettingsInvalid) as invalid:
        load(file, {"ORDERGATE_LISTEN__ADMIN_TOKEN": "hunter2"})
    assert "hunter2" not in str(invalid.value)
