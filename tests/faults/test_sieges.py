"""Random kills and stops over three gateways on one ledger (FAULTS.md K13, P3, P4; I1 to I8), of
each kind; a store with servers is struck too.

./run test tests/faults/test_sieges.py --kills 1000 -k sqlite -s     # --kills-from goes on
"""

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.besieged import Besieged, File, OneServer
from tests.faults.failing_over import Watched
from tests.faults.siege import Plan, Siege

KILLS_EACH = 25
"""Kills in one siege: a minute of trade. Sieges of other seeds follow until the kills are done."""

STORES: dict[str, Callable[[Path], Besieged]] = {
    "sqlite": File,
    "valkey": OneServer,
    "replicated": Watched,
}


def plan(seed: int, kills: int, store: str) -> Plan:
    long = kills == KILLS_EACH
    outages = 0 if store == "sqlite" else 5 if long else 1
    return Plan(seed, kills, stops=2 if long else 1, outages=outages)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("store", STORES)
async def test_kills_and_stops_at_random_lose_and_double_no_order(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
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
        outcome = await Siege(folder, plan(seed, kills, store), STORES[store](folder)).lay()
        sums["kills"] += outcome.kills
        sums["stops"] += outcome.stops
        sums["outages"] += len(outcome.outages)
        sums["intents"] += outcome.verdict.intents
        sums["doubted"] += outcome.doubted
        print(f"{store}, seed {seed}: {outcome.line()}", flush=True)
        again = f"--kills {kills} --kills-from {seed} -k {store}"
        assert outcome.clean, f"{outcome.line()}\n(again: {again})\n{outcome.complaint()}"
    print(f"{store}: " + ", ".join(f"{name} {sums[name]}" for name in sums), flush=True)
    assert sums["kills"] == wanted
