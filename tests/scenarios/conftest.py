"""A gateway on real sockets, in this process, over a ledger that the story chooses."""

import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.settings import load
from tests.scenarios.backend import Backend
from tests.scenarios.shop import Shop

TEMPLATE = """
[listen]
address = "127.0.0.1:0"
admin = "127.0.0.1:0"
drain_s = 1

[ledger]
url = "sqlite:///ledger.db"
lease_s = 4

[[upstreams]]
name = "backend"
urls = ["http://127.0.0.1:{port}"]

[[routes]]
name = "place-order"
match = "POST /orders"
kind = "order"
upstream = "backend"
{order}

[[routes]]
name = "rest"
match = "* /**"
kind = "plain"
upstream = "backend"
"""

DEFAULTS: dict[str, object] = {
    "capability": "lookup",
    "lookup": "GET /orders?idempotency_key={key}",
    "key": "attach",
    "scope": ["header:Authorization"],
    "answer_within_s": 5,
    "attempt_timeout_s": 0.3,
    "settle_s": 0.4,
    "place_within_s": 30,
    "doubt_within_s": 30,
    "attach_window_s": 60,
}


def toml(options: dict[str, object]) -> str:
    lines = []
    for name, value in options.items():
        if value is None:
            continue
        text = repr(value).replace("'", '"') if isinstance(value, str | list) else str(value)
        lines.append(f"{name} = {text.lower() if isinstance(value, bool) else text}")
    return "\n".join(lines)


OpenShop = Callable[..., Awaitable[Shop]]


@pytest.fixture
async def open_shop(tmp_path: Path, backend: Backend) -> AsyncIterator[OpenShop]:
    """``await open_shop(capability=…, …)``: a started gateway and a client of it."""
    shops: list[Shop] = []
    numbers = itertools.count(1)

    async def open_(
        ledger: Any = None,
        more: str = "",
        edits: Mapping[str, str] = MappingProxyType({}),
        **options: object,
    ) -> Shop:
        chosen = DEFAULTS | options
        if chosen["capability"] == "dedup":
            chosen = {"dedup_for_s": 600} | chosen | {"lookup": None}
        elif chosen["capability"] == "none":
            chosen = chosen | {"lookup": None}
        elif isinstance(chosen["capability"], list):
            chosen = {"dedup_for_s": 600} | chosen
        file = tmp_path / f"gateway-{next(numbers)}.toml"
        text = TEMPLATE.format(port=backend.port, order=toml(chosen)) + more
        for old, new in edits.items():
            assert old in text
            text = text.replace(old, new)
        file.write_text(text)
        gateway = Gateway(load(file, {}), ledger=ledger, draw=random.Random(7).random)
        shop = Shop(gateway)
        shops.append(shop)
        await shop.start()
        return shop

    yield open_
    for shop in shops:
        await shop.stop()
