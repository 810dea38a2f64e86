"""What no file of the tree may say: where it was made."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Written in two halves, or this file would be the first to be found.
REGISTRIES = [
    r"\bpypi\." + r"org",
    r"pythonhosted\." + r"org",
    r"registry\.npmjs\." + r"org",
    r"proxy\.golang\." + r"org",
    r"index\.crates\." + r"io",
    r"(?:extra-)?index-" + r"url\s*=",
]
PLACES = [
    r"(?<![\w.])/ho" + r"me/\w+",
    r"(?<![\w.])/ro" + r"ot/",
    r"(?<![\w.])/Us" + r"ers/\w+",
    r"(?<![\w.])/wo" + r"rk/",
    r"\.py" + r"env/",
]
FORBIDDEN = re.compile("|".join(REGISTRIES + PLACES))


def tracked_texts() -> Iterator[tuple[Path, str]]:
    """Every text file that is, or would be, in a commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        timeout=30,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout, so nothing says which files belong to it")
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file():
            raw = path.read_bytes()
            if b"\0" not in raw:
                yield path.relative_to(ROOT), raw.decode("utf-8")


def test_no_file_names_a_registry_or_a_machine() -> None:
    found = [
        f"{path}:{number}: {match[0]}"
        for path, text in tracked_texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if (match := FORBIDDEN.search(line))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "https://py" + "pi.org/simple",
        "cd /ho" + "me/ann/src",
        "--index-" + "url = x",
        "/ro" + "ot/x",
    ],
)
def test_a_registry_or_a_machine_is_found(line: str) -> None:
    assert FORBIDDEN.search(line)


PIN = re.compile(
    r"^[a-z0-9._-]+==[^\n]*(?:\\\n    --hash=sha256:[0-9a-f]{64}[^\n]*)+", re.MULTILINE
)
REQUIREMENT = re.compile(r"^[^\s#]\S*", re.MULTILINE)


def requirements(name: str) -> str:
    return (ROOT / "requirements" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["run.txt", "test.txt", "uv.txt"])
def test_locks_hold_hashes_and_no_addresses(name: str) -> None:
    text = requirements(name)
    assert "://" not in text
    assert len(PIN.findall(text)) == len(REQUIREMENT.findall(text)) > 0


def test_what_runs_is_what_is_tested() -> None:
    run, test = (set(REQUIREMENT.findall(requirements(name))) for name in ("run.txt", "test.txt"))
    assert run < test
