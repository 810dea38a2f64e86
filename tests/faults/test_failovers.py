"""The store's master is replaced while three gateways take orders on it (FAULTS.md R3; I1 to I8):
it is killed, frozen, or cut off from all but the gateways.

./run test tests/faults/test_failovers.py --failovers 50 -s
"""

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.besieged import Besieged
from tests.faults.failing_over import Clustered, Watched
from tests.faults.siege import Plan, Siege

FAILOVERS_EACH = 10
"""In one siege: a minute or two of trade. Sieges of other seeds follow."""

STORES: dict[str, Callable[[Path], Besieged]] = {"sentinel": Watched, "cluster": Clustered}


@pytest.mark.timeout(0)
@pytest.mark.parametrize("store", STORES)
async def test_failovers_under_load_lose_and_double_no_order(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wanted: int = request.config.getoption("--failovers")
    sums: Counter[str] = Counter()
    for seed in itertools.count(1):
        failovers = min(FAILOVERS_EACH, wanted - sums["failovers"])
        if failovers <= 0:
            break
        folder = tmp_path / str(seed)
        folder.mkdir()
        plan = Plan(seed, outages=failovers, pause_s=(0.5, 2.0))
        outcome = await Siege(folder, plan, STORES[store](folder)).lay()
        sums["failovers"] += len(outcome.outages)
        sums["intents"] += outcome.verdict.intents
        sums["doubted"] += outcome.doubted
        sums.update(each.kind for each in outcome.outages)
        print(f"{store}, seed {seed}: {outcome.line()}", flush=True)
        assert outcome.clean, f"{outcome.line()}\n{outcome.complaint()}"
    print(f"{store}: " + ", ".join(f"{name} {sums[name]}" for name in sums), flush=True)
    assert sums["failovers"] == wanted
