"""How the demo ends: whether the run passes, the JSON line, and the words for people. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import orjson

from gateway.demo.journal import Spread
from gateway.demo.oracle import Verdict, by_reference

CONFIRMED_SHARE_MIN = 0.85
"""Of the intents that the backend would take, where it can be asked or deduplicates. The rest may
honestly end in ``failed``: proved not placed, and the customer told so."""

TRANSCRIPTS_MAX = 3
"""More of them say the same again."""


class Shortfall(StrEnum):
    """Why a run does not pass."""

    NO_INTENTS = "no intent was taken in"
    DUPLICATES = "an intent was ordered twice"
    LOST = "an order was lost"
    CONTRADICTIONS = "customers were told what isn't true, or two different things"
    PENDING = "an intent has no definite answer"
    LEDGER_PENDING = "the ledger still has pending orders"
    TOO_FEW_CONFIRMED = "too few of the orders that the backend would take were confirmed"
    TOO_MANY_DEAD_LETTERS = "more dead letters than faults that left doubt"
    DEMO_BROKEN = "a part of the demo itself failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run and all that is said of it. ``doubts`` are the faults that left doubt, the orders cut
    off by a kill among them (``doubts_by_kill``); ``unexplained_dead_letters`` those of intents
    that met no such fault; ``bugs`` are the demo's own."""

    verdict: Verdict
    capability: str
    seed: int
    guarded: bool
    seconds: float
    doubts: int
    doubts_by_kill: int
    unexplained_dead_letters: int
    orders: int
    submissions: int
    lookups: int
    repeats: int
    replays: int
    audited: int
    audit_unanswered: int
    ledger_pending: int
    definite: Spread
    answered: Spread
    faults: Mapping[str, int]
    bugs: Sequence[str] = ()
    transcript: str = ""

    @property
    def shortfalls(self) -> list[Shortfall]:
        """Empty for a run that passes."""
        verdict = self.verdict
        checks = {
            Shortfall.NO_INTENTS: verdict.intents == 0,
            Shortfall.DUPLICATES: verdict.duplicates > 0,
            Shortfall.LOST: verdict.lost > 0,
            Shortfall.CONTRADICTIONS: verdict.contradictions > 0,
            Shortfall.PENDING: verdict.pending > 0,
            Shortfall.LEDGER_PENDING: self.ledger_pending > 0,
            Shortfall.TOO_FEW_CONFIRMED: self.capability != "none" and not _enough(verdict),
            Shortfall.TOO_MANY_DEAD_LETTERS: (
                self.capability == "none" and verdict.dead_letter > self.doubts
            ),
            Shortfall.DEMO_BROKEN: bool(self.bugs),
        }
        return [shortfall for shortfall, applies in checks.items() if applies]

    @property
    def passed(self) -> bool:
        return not self.shortfalls


def _enough(verdict: Verdict) -> bool:
    return verdict.would_take_confirmed >= CONFIRMED_SHARE_MIN * verdict.would_take


_JUDGED = (
    *("intents", "confirmed", "rejected", "failed", "dead_letter", "pending"),
    *("duplicates", "lost", "contradictions", "kills", "would_take", "would_take_confirmed"),
)
_OBSERVED = (
    *("capability", "seed", "seconds", "doubts", "doubts_by_kill", "unexplained_dead_letters"),
    *("orders", "submissions", "lookups", "repeats", "replays", "audited", "audit_unanswered"),
    *("ledger_pending", "faults", "bugs"),
)


def as_json(outcome: Outcome) -> str:
    """The run as one line of JSON."""
    verdict = outcome.verdict
    counts = {name: getattr(verdict, name) for name in _JUDGED}
    counts["pending"] = max(verdict.pending, outcome.ledger_pending)
    rest = {name: getattr(outcome, name) for name in _OBSERVED}
    fields = {
        **counts,
        **rest,
        "gateway": outcome.guarded,
        "passed": outcome.passed,
        "shortfalls": outcome.shortfalls,
        "definite_answer_ms": _milliseconds(outcome.definite),
        "any_answer_ms": _milliseconds(outcome.answered),
        "findings": [f"{f.reference}: {f.flaw}: {f.detail}" for f in verdict.findings[:50]],
    }
    return orjson.dumps(fields).decode()


def _milliseconds(spread: Spread) -> dict[str, float]:
    named = {"p50": spread.p50_s, "p95": spread.p95_s, "p99": spread.p99_s, "max": spread.max_s}
    return {name: round(seconds * 1000, 1) for name, seconds in named.items()}


def in_words(outcome: Outcome) -> str:
    """The verdict for people."""
    verdict = outcome.verdict
    taken = f"{verdict.would_take_confirmed} of {verdict.would_take}"
    middle_ms, tail_s = outcome.definite.p50_s * 1000, outcome.definite.p99_s
    lines = [
        f"Intents: {verdict.intents}:",
        f"  confirmed {verdict.confirmed}, rejected {verdict.rejected}, failed {verdict.failed},",
        f"  dead letters {verdict.dead_letter}, pending {verdict.pending}.",
        f"The backend holds {outcome.orders} orders, after {outcome.submissions} submissions.",
        f"Faults that left doubt: {outcome.doubts}; kills of the gateway: {verdict.kills}.",
        f"Duplicates: {verdict.duplicates}.",
        f"Lost: {verdict.lost}.",
        f"Contradictions: {verdict.contradictions}.",
        f"Confirmed of what the backend would take: {taken}.",
        f"Until a definite answer: {middle_ms:.0f} ms (half), {tail_s:.1f} s (99 %).",
    ]
    lines += [f"NOT PASSED: {shortfall}." for shortfall in outcome.shortfalls]
    if outcome.passed:
        lines.append("PASSED: one order for one intent, and one true answer.")
    return "\n".join(lines)


Events = Mapping[str, Sequence[tuple[float, str]]]


def transcripts(verdict: Verdict, customers: Events, backend: Events, zero_s: float) -> str:
    """The stories of the first intents with a flaw, in the order in which things happened."""
    told = []
    for reference, findings in list(by_reference(verdict.findings).items())[:TRANSCRIPTS_MAX]:
        events = [(at_s, f"customer {text}") for at_s, text in customers.get(reference, ())]
        events += [(at_s, f"backend: {text}") for at_s, text in backend.get(reference, ())]
        told.append(f"{reference}: " + "; ".join(f"{f.flaw} ({f.detail})" for f in findings))
        told += [f"  {at_s - zero_s:8.3f} s  {text}" for at_s, text in sorted(events)]
    return "\n".join(told)
