"""Two hundred at once on one key, over three gateways (FAULTS.md L11): one order, one answer.

./run test tests/faults/test_storms.py --storms 100 -s
"""

import asyncio
import json
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.demo.answers import Definite, conclude
from gateway.demo.backend import Backend
from gateway.demo.faults import Fault, Ordeal
from gateway.demo.wire import Address, Reply, Request, exchange
from gateway.orders.states import Status
from tests.faults.besieged import Besieged, File, OneServer
from tests.faults.siege import CAPABILITIES, Plan, Siege

STORES: dict[str, Callable[[Path], Besieged]] = {"sqlite": File, "valkey": OneServer}

REQUESTS = 200
WITHIN_S = 60.0
PATIENCE_S = 20.0

FATES = (Fault.NONE, Fault.LOST_REPLY, Fault.SLOW, Fault.RESET_BEFORE, Fault.LATE)
"""What the backend does with the first submission of each storm, in turn; then it takes them."""


def fate(reference: str, nth: int) -> Ordeal:
    first = FATES[int(reference.removeprefix("storm-")) % len(FATES)]
    return Ordeal(first if nth == 1 else Fault.NONE, work_s=0.3)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("store", STORES)
async def test_storms_on_one_key_make_one_order_and_one_answer(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    storms: int = request.config.getoption("--storms")
    chance = random.Random("storms")
    siege = Siege(tmp_path, Plan(seed=2), STORES[store](tmp_path))
    backend = Backend(CAPABILITIES[2], fate)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(siege.store.close)
        await siege.store.start()
        stack.push_async_callback(backend.stop)
        address = await backend.start()
        stack.push_async_callback(siege.leave)
        await siege.build(address, CAPABILITIES[2])
        doors = [gateway.seat.storefront for gateway in siege.gateways]
        for number in range(storms):
            await storm(f"storm-{number}", doors, chance)
        await backend.quiet()
    made = [order.reference for order in backend.books.orders]
    assert sorted(made) == sorted(f"storm-{number}" for number in range(storms))
    print(f"{store}: {storms} storms of {REQUESTS}: {len(made)} orders", flush=True)


async def storm(reference: str, doors: list[Address], chance: random.Random) -> None:
    """Everybody ends with the same definite answer."""
    body = json.dumps({"reference": reference, "sku": "tea", "quantity": 1}).encode()
    headers = (
        (b"Authorization", b"Bearer one-customer"),
        (b"Idempotency-Key", f'"{reference}"'.encode()),
        (b"Content-Type", b"application/json"),
    )
    order = Request("POST", "/orders", headers, body)

    async def insist() -> Definite:
        while True:
            outcome = await exchange(chance.choice(doors), order, PATIENCE_S)
            said = conclude(outcome)
            if isinstance(said, Definite):
                return said
            assert not isinstance(outcome, Reply) or outcome.status in (202, 503)
            await asyncio.sleep(chance.uniform(0.1, 0.5))

    async with asyncio.timeout(WITHIN_S):
        answers = await asyncio.gather(*(insist() for _ in range(REQUESTS)))
    assert len(set(answers)) == 1
    assert answers[0].status is Status.CONFIRMED
    assert answers[0].about == reference
