"""The table of rows names tests that exist, and leaves no row out."""

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
TABLE = (HERE / "README.md").read_text(encoding="utf-8")


def test_every_row_is_held_by_tests_that_exist() -> None:
    defined = {
        name
        for path in HERE.parent.rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8"))
    }
    named = set(re.findall(r"`(test_\w+)`", TABLE))
    assert named - defined == set()
    rows = dict(re.findall(r"^\| ([BL]\d+) \|(.*)$", TABLE, re.MULTILINE))
    expected = {f"B{number}" for number in range(1, 16)} | {f"L{n}" for n in range(1, 18)}
    assert rows.keys() == expected
    assert all("`test_" in held for held in rows.values())
