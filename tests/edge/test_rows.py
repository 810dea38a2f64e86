"""The table of rows names tests that exist, and leaves no row out."""

import re
from collections import Counter
from pathlib import Path

from tests.edge.hostile import answers, requests

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


def test_the_counts_in_the_documentation_are_those_of_the_corpora() -> None:
    asked = requests.cases()
    refused = sum(status >= 400 for case in asked for status in case.statuses)
    accepted = sum(len(case.statuses) for case in asked) - refused
    forwarded = sum(case.forwarded for case in asked)
    fates = Counter(answers.fate(case) for case in answers.cases())
    told = (HERE.parents[1] / "docs" / "proof.md").read_text(encoding="utf-8")
    assert (
        f"- {len(asked)} hostile requests: {refused} refused, {accepted} accepted,"
        f" {forwarded} forwarded, 0 ill formed\n"
    ) in told
    assert (
        f"- {fates.total()} hostile answers: {fates['502']} told as 502,"
        f" {fates['cut short']} cut short, {fates['passed on']} passed on\n"
    ) in told
