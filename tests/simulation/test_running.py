"""Many histories: what they are summed up to, what is kept, and what a failing one says."""

import subprocess
import sys
from pathlib import Path

import pytest

from . import tally
from .__main__ import play_chunk
from .histories import play
from .plans import plan
from .switches import claims_overlook_what_is_there
from .tally import ROOT, Tally, keep, kept


def test_the_command_plays_histories_and_says_what_they_came_to() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--simulate", "3", "--simulate-from", "7"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "3 histories with" in ran.stdout
    assert "duplicates 0, lost 0, contradictions 0, without a definite answer 0" in ran.stdout


def test_sums_of_chunks_are_the_sums_of_their_histories() -> None:
    whole = Tally()
    whole += play_chunk(range(3, 5))[1]
    whole += play_chunk(range(5, 6))[1]
    played = [play(plan(seed)) for seed in range(3, 6)]
    assert whole.histories == 3
    assert whole.orders == sum(history.orders for history in played)
    assert whole.faults.total() == sum(history.faults.total() for history in played) > 0


def test_a_failing_history_says_how_it_is_played_again(monkeypatch: pytest.MonkeyPatch) -> None:
    claims_overlook_what_is_there(monkeypatch)
    _, sums = play_chunk(range(4))
    assert sums.failing
    assert f"./run test --simulate 1 --simulate-from {sums.failing[0]}" in sums.reports[0]
    assert "customer" in sums.reports[0]
    assert "upstream: decided" in sums.reports[0]


def test_what_was_played_of_a_version_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "KEPT", tmp_path / "kept")
    assert kept("a") == {}
    played = play_chunk(range(1))[1]
    keep("a", 0, played)
    keep("a", 50, Tally(histories=50, failing=[61]))
    read = kept("a")
    assert read[0].orders == played.orders
    assert read[0].faults == played.faults
    assert read[50].failing == [61]
