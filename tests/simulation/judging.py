"""The judges of a history: the demo's oracle on what was told, held and kept, and what only a
simulation can look at from outside."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.demo.oracle import Entry as KeptOrder
from gateway.demo.oracle import Finding, Flaw, Verdict, judge
from gateway.orders.entry import Entry
from gateway.orders.promise import Capability
from gateway.orders.states import Status
from gateway.stores import doubting
from gateway.stores.doubting import Said

from .laws import too_many_dead, unlawful

if TYPE_CHECKING:
    from .histories import Stage


def judged(stage: "Stage", entries: Sequence[Entry]) -> Verdict:
    """The oracle's verdict, without what nobody could know."""
    told = [_kept(stage, entry) for entry in entries if _is_shown(stage, entry)]
    verdict = judge(stage.clients.case(stage.upstream.held(), told, stage.chaos.kills))
    findings = (each for each in verdict.findings if not _excused(stage, each, entries))
    return replace(verdict, findings=tuple(findings))


def flaws(stage: "Stage", verdict: Verdict, entries: Sequence[Entry]) -> Iterator[str]:
    """Everything that is wrong at the end, a line each."""
    yield from (f"{each.reference}: {each.flaw}: {each.detail}" for each in verdict.findings)
    yield from (f"a bug: {bug}" for bug in stage.bugs)
    for entry in entries:
        yield from (f"{stage.reference(entry)}: {flaw}" for flaw in unlawful(entry))
    yield from too_many_dead(entries)
    yield from stage.reader.stale
    store = stage.store
    if store is None:
        return
    if store.distrusted and not stage.plan.forgetful:
        yield "the store is said to have forgotten what it never did"
    yield from store.forgettings.overlooked
    if not store.state.counts().conserved:
        yield f"not conserved: {store.state.counts()}"


def faults(stage: "Stage") -> Counter[str]:
    """How often what went wrong, on purpose."""
    observed, store = stage.upstream.observed, stage.store
    hits = Counter({"cache_hits": stage.reader.hits})
    shorts = Counter({"short_acknowledgement": store.shorts if store else 0})
    met = (
        observed.faults,
        observed.lookup_faults,
        stage.upstream.met,
        stage.chaos.fallen,
        +shorts,
        +hits,
    )
    return Counter({str(each): n for kind in met for each, n in kind.items() if each != "none"})


def _excused(stage: "Stage", finding: Finding, entries: Sequence[Entry]) -> bool:
    """A customer without a key is told of one entry that it failed, while another click, or one
    that was given up on and only now gets through, has made a new entry: a failed order releases
    its fingerprint (DESIGN section 4: it matches while pending or confirmed), and what is true of
    the new one (an order, or one that waits for a person) is told by its own page. With a key of
    the customer's own it is one entry, and nothing is excused."""
    reference = finding.reference
    told_failed = finding.flaw is Flaw.HELD_BUT_TOLD_FAILED
    unaided = Capability.DEDUP not in stage.plan.capabilities
    if (unaided or told_failed) and reference in _exposed(stage):
        return True
    keyless = stage.clients.journal.intents[reference].key is None
    if not keyless or not told_failed:
        return False
    ours = {each.status for each in entries if stage.reference(each) == reference}
    return Status.FAILED in ours and bool(ours & {Status.CONFIRMED, Status.DEAD_LETTER})


def _exposed(stage: "Stage") -> set[str]:
    """Whose order was lost, and taken again before it was said that the store forgot: there P1
    rests on the upstream alone, and nobody knows what was told (docs/proof.md)."""
    if stage.store is None:
        return set()
    return {stage.of(each) for each in stage.store.forgettings.exposed}


def _is_shown(stage: "Stage", entry: Entry) -> bool:
    """Whether any client is told of it: not of a failed try that the store shows since it forgot
    what followed."""
    said = Said.of(stage.store.state.forgot) if stage.store is not None else None
    return doubting.shown(entry, said and said.at) is not None


def _kept(stage: "Stage", entry: Entry) -> KeptOrder:
    answer = entry.answer
    code, body = (None, None) if answer is None else (answer.status, answer.body)
    return KeptOrder(stage.reference(entry), entry.status, code, body)
