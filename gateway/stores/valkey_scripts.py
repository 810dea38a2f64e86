"""The Lua scripts, by name and digest. Each begins with ``prelude.lua``."""

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).with_name("scripts")
PRELUDE = "prelude"


class Script(NamedTuple):
    text: str
    sha: str


@cache
def scripts() -> dict[str, Script]:
    """Read once, when a ledger is first made; never while an order waits."""
    prelude = (FOLDER / f"{PRELUDE}.lua").read_text()
    made = {}
    for path in sorted(FOLDER.glob("*.lua")):
        if path.stem != PRELUDE:
            text = f"{prelude}\n{path.read_text()}"
            digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            made[path.stem] = Script(text, digest)
    return made
