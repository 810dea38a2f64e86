"""The story of a history that failed: of its first flawed orders, told by customer, ledger and
upstream, and what befell whom meanwhile."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gateway.demo.oracle import Verdict, by_reference
from gateway.orders.entry import Entry

from .world import EPOCH_S, World

if TYPE_CHECKING:
    from .histories import Stage

TRANSCRIPTS_MAX = 2
"""More of them say the same again."""

NOISE = ("accepts", "refuses", "client-", "lookup", "submission", "told")


def transcript(stage: "Stage", verdict: Verdict, entries: Sequence[Entry]) -> str:
    flawed = list(by_reference(verdict.findings)) or [
        flaw.partition(":")[0] for flaw in stage.flaws if flaw.startswith("i-")
    ]
    told: list[str] = []
    for reference in dict.fromkeys(flawed[:TRANSCRIPTS_MAX]):
        lines = sorted((*_lines(stage, reference, entries), *_strokes(stage.world)))
        told += [f"--- {reference}", *(f"{at:10.4f} {text}" for at, text in lines)]
    return "\n".join(told)


def _lines(stage: "Stage", reference: str, entries: Sequence[Entry]) -> Iterator[tuple[float, str]]:
    for at, text in stage.clients.journal.events.get(reference, ()):
        yield at, f"customer {text}"
    for at, text in stage.upstream.observed.events.get(reference, ()):
        yield at, f"upstream: {text}"
    for entry in entries:
        if stage.reference(entry) == reference:
            yield from _timeline(entry)


def _timeline(entry: Entry) -> Iterator[tuple[float, str]]:
    for event in entry.events:
        text = f"{event.source} -> {event.target} {event.reason} {event.detail or ''}"
        yield event.at - EPOCH_S, f"ledger {entry.id[-6:]} {event.who}: {text} #{event.attempt}"


def _strokes(world: World) -> Iterator[tuple[float, str]]:
    for at, host, text in world.trace:
        if " #" not in text and not any(word in text for word in NOISE):
            yield at, f"[{host}] {text}"
