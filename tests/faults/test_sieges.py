"""Random kills and stops over three gateways on one ledger (FAULTS.md K13, P3, P4; I1 to I8).

./run test tests/faults/test_sieges.py --kills 1000 -s      # sums print; --kills-from goes on
"""

import itertools
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.siege import Plan, Siege

KILLS_EACH = 25
"""Kills in one siege: a minute of trade. Sieges of other seeds follow until the kills are done."""

STOPS_EACH = 2


@pytest.mark.timeout(0)
async def test_kills_and_stops_at_random_lose_and_double_no_order(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wanted: int = request.config.getoption("--kills")
    first: int = request.config.getoption("--kills-from")
    sums: Counter[str] = Counter()
    for seed in itertools.count(first):
        kills = min(KILLS_EACH, wanted - sums["kills"])
        if kills <= 0:
            break
        folder = tmp_path / str(seed)
        folder.mkdir()
        plan = Plan(seed, kills, stops=STOPS_EACH if kills == KILLS_EACH else 1)
        outcome = await Siege(folder, plan).lay()
        sums["kills"] += outcome.kills
        sums["stops"] += outcome.stops
        sums["intents"] += outcome.verdict.intents
        sums["doubted"] += outcome.doubted
        print(f"seed {seed}: {outcome.line()}", flush=True)
        assert outcome.clean, (
            f"seed {seed} (again: --kills {kills} --kills-from {seed}): {outcome.line()}\n"
            f"bugs {[bug[-500:] for bug in outcome.bugs[:3]]}, ledger whole: {outcome.whole}\n"
            f"{outcome.transcript}"
        )
    print(", ".join(f"{name} {number}" for name, number in sums.items()), flush=True)
    assert sums["kills"] == wanted
