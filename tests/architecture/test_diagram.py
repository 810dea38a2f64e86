"""ARCHITECTURE.md shows the table that the code runs on."""

import re
from pathlib import Path

from gateway.orders.states import mermaid

ARCHITECTURE = Path(__file__).resolve().parents[2] / "ARCHITECTURE.md"
BLOCK = re.compile(
    r"<!-- states:begin -->\s*```mermaid\n(.*?)\n```\s*<!-- states:end -->", re.DOTALL
)


def test_the_state_diagram_is_current() -> None:
    found = BLOCK.search(ARCHITECTURE.read_text(encoding="utf-8"))
    assert found, "ARCHITECTURE.md needs a mermaid block between states:begin and states:end"
    assert found[1] == mermaid(), (
        "the diagram is out of date: replace it with what `python -m gateway.orders.states` prints"
    )
