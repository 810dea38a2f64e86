"""Two gateways on one ledger, without a balancer: what one begins, the other knows of
(FAULTS.md P4)."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.deploy.replicas import Replica
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend

KEY = "key-0123456789-abcdefghij"


@pytest.fixture
async def pair(tmp_path: Path, backend: Backend) -> AsyncIterator[tuple[Replica, Replica]]:
    a, b = (Replica(tmp_path, name, backend.port) for name in "ab")
    try:
        await asyncio.gather(a.start(), b.start())
        yield a, b
    finally:
        await a.stop()
        await b.stop()


async def test_a_double_click_that_meets_both_gateways_makes_one_order(
    backend: Backend, pair: tuple[Replica, Replica]
) -> None:
    a, b = pair
    backend.script.append(acts.after("go", acts.take))
    clicks = [asyncio.create_task(each.order(KEY)) for each in (a, b, a, b)]
    await backend.until(lambda: len(backend.posts) == 1)
    backend.gate("go").set()
    first, *others = await asyncio.gather(*clicks)
    assert first[0] == 201
    assert others == [first] * 3
    assert len(backend.posts) == 1


async def test_forty_keys_at_both_gateways_at_once_make_forty_orders(
    backend: Backend, pair: tuple[Replica, Replica]
) -> None:
    numbers = range(40)
    at_a, at_b = await asyncio.gather(
        *(asyncio.gather(*(each.order(f"{KEY}-{n}") for n in numbers)) for each in pair)
    )
    assert at_a == at_b
    assert {status for status, _ in at_a} == {201}
    assert len({told["id"] for _, told in at_a}) == len(backend.posts) == 40


async def test_an_order_of_a_paused_gateway_is_settled_by_the_other_and_told_alike(
    backend: Backend, pair: tuple[Replica, Replica]
) -> None:
    """It wakes with a lease that it no longer has, and an answer that nobody waits for."""
    a, b = pair
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(a.order(KEY))
    await backend.until(lambda: len(backend.posts) == 1)
    os.kill(a.pid, signal.SIGSTOP)
    try:
        backend.gate("go").set()
        await backend.until(lambda: len(backend.orders) == 1)
        status, told = await b.order(KEY)
        if status == 202:
            assert await b.until_settled(told["id"]) == "confirmed"
            status, told = await b.order(KEY)
        assert (status, told["id"]) == (201, "o-1")
        assert backend.asked, "it was settled without a look"
    finally:
        os.kill(a.pid, signal.SIGCONT)
    assert (await asked) == (status, told)
    assert (await a.order(KEY)) == (status, told)
    assert (await a.readyz())[0] == 200
    assert len(backend.posts) == 1
