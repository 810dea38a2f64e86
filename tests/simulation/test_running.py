"""Many histories: what they are summed up to, what is kept, and what a failing one says."""

import gc
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import __main__ as running
from . import kept
from .__main__ import play_chunk
from .histories import Played, play
from .kept import ROOT, exercised
from .loop import Stuck
from .plans import Plan, plan
from .switches import claims_overlook_what_is_there
from .tally import Tally


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


def test_a_history_that_breaks_off_fails_and_the_others_are_played(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(each: Plan) -> Played:
        if each.seed == 4:
            raise Stuck("a livelock")
        return play(each)

    monkeypatch.setattr(running, "play", breaks)
    _, sums = play_chunk(range(3, 6))
    assert (sums.histories, sums.failing) == (3, [4])
    assert "a livelock" in sums.reports[0]
    assert "./run test --simulate 1 --simulate-from 4" in sums.reports[0]


# --- what is kept ------------------------------------------------------------------------------


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of one's own for what is kept, in chunks of two; the file of this code."""
    monkeypatch.setattr(kept, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(kept, "CHUNK", 2)
    yield tmp_path / "kept" / f"{exercised().key}.jsonl"
    gc.unfreeze()


def simulate(first: int, count: int) -> int:
    asked = ["--simulate", str(count), "--simulate-from", str(first), "--processes", "1"]
    return running.main(asked)


def in_all(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The summary of everything kept, without its timings."""
    told = capsys.readouterr().out.partition("of it in all: ")[2].splitlines()
    return [told[0].partition(" (")[0], *(line for line in told[1:] if "a processor" not in line)]


def test_sums_are_kept_by_the_code_and_say_its_key_and_commit(
    books: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate(2, 4) == 0
    told = capsys.readouterr().out
    assert f"code {exercised()}" in told
    assert "of it in all: seeds 2 to 5 (" in told
    assert len(kept.kept(exercised().key)) == 2


def test_a_run_that_was_killed_goes_on_and_comes_to_the_same_sums(
    books: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = multiprocessing.get_context("fork").Process(target=simulate, args=(0, 6))
    run.start()
    while not kept.kept(exercised().key):
        time.sleep(0.01)
    run.kill()
    run.join()
    before = len(kept.kept(exercised().key))
    assert simulate(0, 6) == 0
    assert f"{2 * before} of these histories were played before" in capsys.readouterr().err
    simulate(0, 6)
    resumed = in_all(capsys)
    monkeypatch.setattr(kept, "KEPT", tmp_path / "anew")
    simulate(0, 6)
    assert resumed == in_all(capsys)


@pytest.mark.parametrize("torn_at", [1, 2, 20, -2, -1])
def test_a_line_that_a_kill_has_torn_is_played_again_and_spoils_no_other(
    books: Path, torn_at: int
) -> None:
    key, chunk = exercised().key, play_chunk(range(2))[1]
    kept.keep(key, range(2), chunk)
    kept.keep(key, range(2, 4), Tally(histories=2, orders=7))
    whole = books.read_bytes()
    first_line = whole.index(b"}\n") + 2
    books.write_bytes(whole[: first_line + torn_at if torn_at > 0 else torn_at])
    kept.keep(key, range(4, 6), Tally(histories=2, orders=9))
    read = kept.kept(key)
    assert read[0].orders == chunk.orders
    assert read[0].faults == chunk.faults
    assert read[4].orders == 9
    assert set(read) == ({0, 2, 4} if torn_at == -1 else {0, 4})


def test_no_seed_counts_twice(books: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not where ranges overlap, not where they begin within a chunk, and not where two runs have
    played the same chunk."""
    simulate(0, 3)
    simulate(1, 5)
    key = exercised().key
    for first, sums in kept.kept(key).items():
        kept.keep(key, range(first, first + 2), sums)
    simulate(0, 6)
    told = capsys.readouterr().out.rpartition("of it in all: ")[2]
    assert told.startswith("seeds 0 to 5 (")
    assert "6 histories with" in told
    played = [play(plan(seed)) for seed in range(6)]
    assert f"with {sum(each.orders for each in played)} orders" in told


def test_a_chunk_that_failed_is_played_again_for_its_report(books: Path) -> None:
    key = exercised().key
    kept.keep(key, range(2, 4), Tally(histories=2, failing=[3]))
    assert kept.kept(key)[2].failing == [3]
    assert simulate(2, 2) == 0
    assert kept.kept(key)[2].failing == []


def test_seeds_are_told_as_ranges(books: Path) -> None:
    assert kept.ranges([4, 0, 2, 8]) == "0 to 5, 8 to 9"


def test_only_the_code_that_is_played_makes_the_key(tmp_path: Path) -> None:
    """Also uncommitted, which the summary names; what is only told about it does not."""
    git(tmp_path, "init", "-q")
    for name in ("gateway/a.py", "middleware/b.sql", "tests/simulation/c.py", kept.LIBRARIES):
        written(tmp_path / name, "1")
    committed(tmp_path)
    before = exercised(tmp_path)
    assert "uncommitted" not in str(before)
    for name in ("docs/d.md", "gateway/pages/e.css", "tests/simulation/test_c.py"):
        written(tmp_path / name, "2")
    committed(tmp_path)
    assert exercised(tmp_path).key == before.key
    assert exercised(tmp_path).commit != before.commit
    for name in ("gateway/a.py", "gateway/new.py", "middleware/b.sql", "tests/simulation/c.py"):
        changed_before = exercised(tmp_path)
        written(tmp_path / name, "3")
        assert exercised(tmp_path).key != changed_before.key
        assert exercised(tmp_path).commit.endswith(", with uncommitted changes")
        committed(tmp_path)
        assert "uncommitted" not in exercised(tmp_path).commit


def written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def committed(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "a")


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True)
