"""The real gateway in a stormy world: whatever happens, one order and one true answer.

More of them: ``./run test --simulate 2000``. Faults that they found are rows of
``test_safeguards`` now: a seed tells the same story only until the gateway makes one call more.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from .blows import WEIGHTS, Blow
from .histories import Played, play
from .plans import CAPABILITIES, forgetful, plan

EMBEDDED_HISTORIES = range(12)
"""On an SQLite file: some more than are drawn anyhow."""


def check(played: Played) -> None:
    if not played.clean:
        pytest.fail(played.report(), pytrace=False)


def test_every_order_gets_one_true_answer_whatever_happens(history_seed: int) -> None:
    check(play(plan(history_seed)))


@pytest.mark.parametrize("seed", EMBEDDED_HISTORIES)
def test_an_embedded_ledger_survives_its_process(seed: int) -> None:
    check(play(plan(seed, embedded=True)))


@pytest.mark.parametrize("seed", range(8))
def test_a_rolling_restart_loses_nothing(seed: int) -> None:
    check(play(replace(plan(seed), replicas=3, blows=(Blow.DRAIN,) * 4)))


@pytest.mark.parametrize("seed", range(24))
def test_a_store_that_forgot_makes_no_second_order_once_it_is_said(seed: int) -> None:
    """A gateway whose writes are gone notices with its next call and says so there; from then on
    what is not there is looked up before it is sent, by every gateway."""
    check(play(forgetful(plan(seed, CAPABILITIES[seed % 3]))))


@pytest.mark.parametrize("seed", range(24))
def test_an_upstream_that_dies_at_any_await_leaves_no_order_undecided(seed: int) -> None:
    check(play(replace(plan(seed), blows=(Blow.UPSTREAM_STRIKE,) * 6)))


def test_an_upstream_that_stays_away_leaves_no_order_undecided() -> None:
    """Longer than orders are placed, and than doubt may last."""
    for seed in range(len(CAPABILITIES)):
        drawn = plan(seed)
        check(play(replace(drawn, blows=(*drawn.blows, Blow.UPSTREAM_GONE))))


def test_histories_have_doubt_and_deaths_in_them() -> None:
    """A storm that hurts nobody would prove nothing."""
    played = [play(plan(seed)) for seed in range(len(CAPABILITIES) * 5)]
    doubted = sum(history.doubted for history in played)
    assert doubted > 0.1 * sum(history.orders for history in played)
    assert sum(history.kills for history in played) > len(played) // 2
    befallen = {blow for history in played for blow in history.plan.blows}
    assert befallen >= set(WEIGHTS)


def test_one_seed_is_one_history_of_the_gateway() -> None:
    """Also in another process with other hashes and addresses."""
    tests = Path(__file__).resolve().parent.parent
    code = (
        "from tests.simulation.histories import play;"
        "from tests.simulation.plans import plan;"
        "print(*(play(plan(seed)).digest for seed in (3, 4)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "5", "PYTHONPATH": str(tests.parent)}
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.split()
    assert told == [play(plan(seed)).digest for seed in (3, 4)]
