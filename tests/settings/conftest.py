"""A configuration that is right, to be broken in one place at a time."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.settings import SettingsInvalid, load

GOOD = """\
[listen]
address = "127.0.0.1:8080"
admin = "127.0.0.1:8081"

[ledger]
url = "sqlite:////var/lib/ordergate/ledger.db"

[[upstreams]]
name = "backend"
urls = ["http://127.0.0.1:9000"]

[[routes]]
name = "place-order"
match = "POST /orders"
kind = "order"
upstream = "backend"
capability = "lookup"
lookup = "GET /orders?idempotency_key={key}"
scope = ["header:Authorization"]
scope_is_static = true
answer_within_s = 10
attempt_timeout_s = 5
settle_s = 30

[[routes]]
name = "rest"
match = "* /**"
kind = "plain"
upstream = "backend"
"""

Problems = Callable[..., list[str]]


def line_of(text: str, place: str) -> int:
    """The line on which ``place`` stands in ``text``; ``place#2`` is where it does so again."""
    fragment, _, number = place.partition("#")
    before = fragment.join(text.split(fragment)[: int(number or 1)])
    return before.count("\n") + 1


@pytest.fixture
def problems(tmp_path: Path) -> Problems:
    """What is wrong with a text, each problem as ``LINE: key: what. Suggestion.``"""

    def found(text: str, environment: dict[str, str] | None = None) -> list[str]:
        path = tmp_path / "ordergate.toml"
        path.write_text(text, encoding="utf-8")
        try:
            load(path, environment or {})
        except SettingsInvalid as invalid:
            return [str(each).removeprefix(f"{path}:").strip() for each in invalid.problems]
        return []

    return found
