"""The table of faults in docs/proof.md names tests that exist, and leaves no row out."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "proof.md").read_text(encoding="utf-8")
TABLE = TEXT.partition("| row | fault | held by |\n")[2].partition("\n\n")[0]
ROWS = {"K": 16, "R": 10, "Q": 7, "P": 9}
"""Kills, the store, SQLite, and replicas; of backends and clients: tests/edge."""


def test_every_row_is_held_by_tests_that_exist() -> None:
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8"))
    }
    assert set(re.findall(r"`(test_\w+)`", TABLE)) - defined == set()
    lines = [line.strip("| ").split(" | ") for line in TABLE.splitlines()[1:]]
    assert all("`test_" in held for _, _, held in lines)
    named = [row for rows, _, _ in lines for row in re.findall(r"\w+", rows)]
    assert sorted(named) == sorted(
        f"{row}{n + 1}" for row, last in ROWS.items() for n in range(last)
    )


def test_every_file_that_is_named_exists() -> None:
    files = set(re.findall(r"tests/[\w/]+\.py\b", TEXT))
    assert {file for file in files if not (ROOT / file).is_file()} == set()
    assert files
    stems = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    defined = re.findall(r"`(test_\w+)`", TEXT.replace(TABLE, ""))
    assert set(defined) - stems == set()
