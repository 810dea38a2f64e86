"""What was played before: sums of chunks, kept by the code that they exercised.

One file a key, one line a chunk, outside git. The key is a digest of the code that histories run,
as it lies there, committed or not: a commit that touches nothing of it loses nothing, and a change
of it begins anew. A line is written at once or not at all, as far as its reader can tell, so that
a run may be killed at any moment; the same chunk twice counts once.
"""

import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from .tally import SUMS, Tally

ROOT = Path(__file__).resolve().parents[2]

KEPT = ROOT / ".simulation"

TREES = ("gateway", "middleware", "tests/simulation")
CODE = frozenset({".py", ".sql", ".lua"})
"""What a history runs; pages and styles are not played."""

LIBRARIES = "requirements/run.txt"

CHUNK = 50
"""Histories that are kept together; chunks begin at its multiples, so that none overlap."""


@dataclass(frozen=True, slots=True)
class Exercised:
    """What histories run. ``commit``: where it lies, for people."""

    key: str
    commit: str

    def __str__(self) -> str:
        return f"{self.key} ({', '.join(TREES)} at {self.commit})"


def exercised(root: Path = ROOT) -> Exercised:
    """Of the tree as it lies there, and the Python, on which a history depends."""
    digest = hashlib.sha256()
    for path in sorted(_code(root)):
        body = path.read_bytes()
        digest.update(f"{path.relative_to(root)} {len(body)}\n".encode() + body)
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    return Exercised(f"{digest.hexdigest()[:16]}-{python}", _commit(root))


def _code(root: Path) -> Iterator[Path]:
    yield root / LIBRARIES
    for tree in TREES:
        for path in (root / tree).rglob("*"):
            if path.suffix in CODE and not path.name.startswith(("test_", "conftest")):
                yield path


def _commit(root: Path) -> str:
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return "no commit"
    changed = _git(root, "status", "--porcelain", "--untracked-files=all", "--", *TREES, LIBRARIES)
    return f"{commit}, with uncommitted changes" if changed else commit


def _git(root: Path, *arguments: str) -> str | None:
    try:
        ran = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return ran.stdout.strip()


def keep(key: str, chunk: range, tally: Tally) -> None:
    """Add one whole chunk to what is kept; what is none is not kept."""
    if chunk.start % CHUNK or len(chunk) != CHUNK or tally.histories != CHUNK:
        return
    KEPT.mkdir(exist_ok=True)
    line = {"first": chunk.start, **{name: getattr(tally, name) for name in SUMS}}
    line |= {"faults": dict(tally.faults), "failing": tally.failing}
    with (KEPT / f"{key}.jsonl").open("ab") as file:
        file.write(b"\n" + orjson.dumps(line) + b"\n")  # begins anew after a torn line


def kept(key: str) -> dict[int, Tally]:
    """The chunks of a key, by their first seed: the latest of each, whole lines only."""
    try:
        lines = (KEPT / f"{key}.jsonl").read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    chunks: dict[int, Tally] = {}
    for line in lines:
        try:
            read = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        sums = {name: read[name] for name in SUMS}
        chunks[read["first"]] = Tally(
            **sums, faults=Counter(read["faults"]), failing=read["failing"]
        )
    return chunks


def ranges(firsts: Iterable[int]) -> str:
    """Which seeds the chunks that begin there are, as few ranges."""
    joined: list[list[int]] = []
    for first in sorted(firsts):
        if joined and joined[-1][1] == first:
            joined[-1][1] += CHUNK
        else:
            joined.append([first, first + CHUNK])
    return ", ".join(f"{first:,} to {end - 1:,}" for first, end in joined)
