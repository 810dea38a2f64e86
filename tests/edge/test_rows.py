"""The table of rows names tests that exist, and leaves no row out."""

import re
from collections import Counter
from pathlib import Path

from tests.edge.hostile import answers, requests

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
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


GROUPS = {case.group for case in requests.cases()}


def test_every_case_that_is_named_is_in_the_corpus() -> None:
    named = {tuple(name.split(": ", 1)) for name in re.findall(r"`([^`]+: [^`]+)`", TABLE)}
    cases = {(case.group, case.name) for case in requests.cases()}
    assert {name for name in named - cases if name[0] in GROUPS} == set()
    assert len(named & cases) > 30


SOURCES = [path for name in ("gateway", "middleware") for path in (ROOT / name).rglob("*.py")]
NOT_NEEDED = re.compile(
    r"\b(add_static|FileResponse|StaticResource|MultipartReader|MultipartWriter|FormData|CookieJar"
    r"|BasicAuth|DigestAuthMiddleware|WebSocketResponse|ws_connect|request\.(?:post|multipart))\b"
)
OWN_WORKERS = ROOT / "gateway" / "supervisor" / "asking.py"


def test_what_had_flaws_and_is_not_needed_is_not_used() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in SOURCES}
    assert [path for path, text in texts.items() if NOT_NEEDED.search(text)] == []
    assert [path for path, text in texts.items() if "ClientSession" in text] == [OWN_WORKERS]


def test_the_counts_in_the_documentation_are_those_of_the_corpora() -> None:
    asked = requests.cases()
    refused = sum(status >= 400 for case in asked for status in case.statuses)
    accepted = sum(len(case.statuses) for case in asked) - refused
    forwarded = sum(case.forwarded for case in asked)
    fates = Counter(answers.fate(case) for case in answers.cases())
    told = (ROOT / "docs" / "proof.md").read_text(encoding="utf-8")
    assert (
        f"- {len(asked)} hostile requests: {refused} refused, {accepted} accepted,"
        f" {forwarded} forwarded, 0 ill formed\n"
    ) in told
    assert (
        f"- {fates.total()} hostile answers: {fates['502']} told as 502,"
        f" {fates['cut short']} cut short, {fates['passed on']} passed on\n"
    ) in told
