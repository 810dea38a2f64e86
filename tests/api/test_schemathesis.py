"""schemathesis against the operators' API as it is described: generated requests, right and wrong.

A quick run by default; ``pytest tests/api --schemathesis 2000`` makes so many of each operation.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from requests import Session
from schemathesis import GenerationMode

from gateway.api.admin import OPENAPI
from gateway.app import Gateway
from gateway.settings import load
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import DEFAULTS, TEMPLATE, toml
from tests.scenarios.shop import Shop

DOCUMENT = json.loads(OPENAPI.read_text("utf-8"))
for secured in (DOCUMENT, *(each for path in DOCUMENT["paths"].values() for each in path.values())):
    if isinstance(secured, dict):
        secured.pop("security", None)  # the token is ours to send, and wrong ones cost seconds
SCHEMA: Any = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [each.ok() for each in SCHEMA.get_all_operations()]


@dataclass
class Served:
    """A gateway in a thread of its own, with an order in each of several statuses."""

    url: str
    headers: dict[str, str]
    orders: list[str]


async def seeded(backend: Backend, shop: Shop) -> list[str]:
    """One confirmed, one rejected, one dead letter, one in doubt, one that waits."""
    backend.script += [acts.take, acts.answer(422), acts.lose_reply, acts.lose_reply]
    backend.lookup_script += [acts.answer(404)] + [acts.answer(500)] * 100_000
    keys = [f"key-{number}" for number in range(4)]
    told = [await shop.order(key) for key in keys]
    await shop.settled(told[2].order)
    return [each.order for each in told]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    ready = threading.Event()
    state: dict[str, Any] = {}
    folder = tmp_path_factory.mktemp("schemathesis")
    thread = threading.Thread(target=lambda: asyncio.run(_serve(folder, ready, state)))
    thread.start()
    try:
        assert ready.wait(30), "the gateway did not start"
        yield state["served"]
    finally:
        if "loop" in state:
            state["loop"].call_soon_threadsafe(state["over"].set)
        thread.join(30)


async def _serve(folder: Path, ready: threading.Event, state: dict[str, Any]) -> None:
    state["loop"], state["over"] = asyncio.get_running_loop(), asyncio.Event()
    backend = Backend()
    await backend.start()
    options = DEFAULTS | {"answer_within_s": 0.3, "doubt_within_s": 1}
    file = folder / "gateway.toml"
    file.write_text(TEMPLATE.format(port=backend.port, order=toml(options)))
    shop = Shop(Gateway(load(file, {})))
    try:
        await shop.start()
        orders = await seeded(backend, shop)
        state["served"] = Served(shop.admin_url, shop.admin_headers, orders)
        ready.set()
        await state["over"].wait()
    finally:
        await shop.stop()
        await backend.stop()


pytestmark = pytest.mark.filterwarnings(
    "ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning"
)
"""A habit of schemathesis; the runs are seeded."""


def _can_be(operation: Any, mode: GenerationMode) -> bool:
    """Wrong requests only where there is something to get wrong: any id is one. Right purges are
    not made by chance: what a URL or a pattern may be is more than a schema says."""
    if mode is GenerationMode.POSITIVE:
        return bool(operation.path != "/admin/cache/purge")
    return bool(operation.body or operation.query)


CASES = [
    pytest.param(operation, mode, id=f"{operation.label} {mode.value}")
    for operation in OPERATIONS
    for mode in GenerationMode
    if _can_be(operation, mode)
]


@pytest.mark.parametrize(("operation", "mode"), CASES)
def test_answers_are_as_described(
    served: Served, operation: Any, mode: GenerationMode, request_count: int
) -> None:
    session = Session()

    @seed(7)
    @settings(
        max_examples=request_count, deadline=None, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(mode), order=st.sampled_from([*served.orders, None]))
    def every(case: Any, order: str | None) -> None:
        if order is not None and "id" in case.path_parameters:
            case.path_parameters["id"] = order
        case.headers.pop("Prefer", None)  # waits are honoured, and would be waited for
        answer = case.call(base_url=served.url, session=session, headers=served.headers, timeout=10)
        case.validate_response(answer)

    try:
        every()
    finally:
        session.close()
