"""What docs/caching.md says is tested, is."""

import re
from pathlib import Path

from tests.scenarios.cache_rows import TABLE

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "caching.md").read_text(encoding="utf-8")


def test_every_row_that_the_page_names_is_there() -> None:
    named = re.findall(r"row `([^`]+)`", PAGE)
    assert len(named) > 25
    assert [row for row in named if not any(name.startswith(row) for name in TABLE)] == []


def test_every_row_is_named_by_the_page() -> None:
    named = tuple(re.findall(r"row `([^`]+)`", PAGE))
    known = (*named, "shop", "8.4", "13.2.2", "15.3.7")
    assert [name for name in TABLE if not name.startswith(known)] == []


def test_every_test_that_the_page_names_is_there() -> None:
    rooms = [ROOT / "tests" / name for name in ("scenarios", "faults")]
    sources = "".join(path.read_text() for room in rooms for path in room.glob("*.py"))
    named = set(re.findall(r"`(test_[a-z_]+)`", PAGE))
    assert len(named) > 8
    assert {name for name in named if f"def {name}(" not in sources} == set()
