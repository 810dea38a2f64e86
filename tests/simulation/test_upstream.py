"""The simulated upstream and its clients, without a gateway between them: the harm is real."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.demo.faults import Fault
from gateway.demo.oracle import Verdict, judge
from gateway.demo.wire import Address
from gateway.orders.promise import Capability

from .clients import Clients
from .test_network import storm
from .upstream import PORT, Upstream
from .world import Crash, World

DEDUP = frozenset({Capability.DEDUP})
NOTHING: frozenset[Capability] = frozenset()


def history(
    seed: int,
    capabilities: frozenset[Capability],
    *,
    crash: Crash | None = None,
    calm: bool = False,
    guarded: bool = True,
) -> tuple[Verdict, Upstream, World]:
    world = World(seed)
    upstream = Upstream(world, world.host("upstream"), capabilities)
    clients = Clients(world, Address("upstream", PORT), orders=20, guarded=guarded, keyed_only=True)

    async def story() -> Verdict:
        upstream.start()
        if calm:
            upstream.calm()
        if crash is not None:
            world.loop.call_later(2, world.crash, upstream.host, crash)
            world.loop.call_later(4, upstream.start)
        await clients.shop()
        await clients.come_back(window_is_open=True)
        clients.record()
        return judge(clients.case(upstream.held()))

    return world.run(story()), upstream, world


@pytest.mark.parametrize("seed", range(5))
def test_an_upstream_that_deduplicates_makes_one_order_whatever_it_says(seed: int) -> None:
    verdict, upstream, _ = history(seed, DEDUP)
    assert verdict.duplicates == verdict.lost == verdict.pending == 0
    assert verdict.intents == 20
    assert sum(upstream.observed.faults.values()) > upstream.observed.faults[Fault.NONE]


@pytest.mark.parametrize("how", list(Crash))
def test_books_and_stored_answers_survive_a_crash(how: Crash) -> None:
    verdict, upstream, world = history(3, DEDUP, crash=how)
    assert verdict.duplicates == verdict.lost == verdict.pending == 0
    assert upstream.host.lives == 2
    assert any(text == how for _, _, text in world.trace)


def test_clients_that_retry_at_a_plain_upstream_order_twice() -> None:
    verdicts = [history(seed, NOTHING, guarded=False)[0] for seed in range(5)]
    assert sum(verdict.duplicates for verdict in verdicts) > 0


def test_one_seed_is_one_history_of_orders() -> None:
    first, _, one = history(11, NOTHING)
    again, _, other = history(11, NOTHING)
    assert one.digest() == other.digest()
    assert first == again
    assert history(12, NOTHING)[2].digest() != one.digest()


def test_a_calm_upstream_confirms_everything_that_it_would_take() -> None:
    verdict, upstream, _ = history(5, DEDUP, calm=True)
    assert verdict.clean
    assert verdict.would_take_confirmed == verdict.would_take
    assert upstream.observed.faults.total() == upstream.observed.faults[Fault.NONE]


def test_histories_do_not_depend_on_the_hash_seed() -> None:
    """Another process, other hashes, other addresses: the same history."""
    tests = Path(__file__).resolve().parent.parent
    code = "from simulation.test_upstream import whole; print(whole(7))"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)]),
            },
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout.strip()
        for seed in ("0", "1")
    }
    assert digests == {whole(7)}


def whole(seed: int) -> str:
    """The digests of a history of orders and of a storm on aiohttp, each with a crash."""
    return f"{history(seed, DEDUP, crash=Crash.POWER)[2].digest()} {storm(seed)}"
