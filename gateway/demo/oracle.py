"""The judgement: what customers were told, held against what the backend holds. Pure; no I/O.

Three records go in: the customers' (what they meant, when they asked, what they were told), the
backend's books, and, where somebody has it, the ledger. FAULTS.md's invariants come out, as far
as the records go: I1 one effect; I2 confirmed means held; I3 failed or rejected means not held;
I4 final answers are the same bytes; I5 every order ends; I6 nobody sees another's; I7 nothing is
sent that the ledger does not know; I8 how many came into doubt, and for how long.

Everything is told by *reference*, the customer's own name for one intent. Times are seconds of
any one clock.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from gateway.orders.states import FINAL, PENDING, SETTLED, Status


@dataclass(frozen=True, slots=True)
class Meant:
    """An order that a customer means to place once. ``would_take`` and ``body_digest`` are None
    where the world can't know them."""

    reference: str
    who: str
    would_take: bool | None = None
    body_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """One time of asking; ``ended_s`` (answered, or given up) is None while it is open."""

    reference: str
    began_s: float
    ended_s: float | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a customer was told, in an answer or on a status page.

    ``code`` and ``body`` are the final answer's where ``status`` is final; ``order_id`` is what
    the customer read in it; ``about`` the reference that the answer itself names, if it does.
    ``gone``: only that it is over, its answer is kept no longer.
    """

    reference: str
    status: Status
    at_s: float
    code: int | None = None
    body: bytes = b""
    order_id: str | None = None
    about: str | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """An order in the backend's books."""

    order_id: str
    reference: str
    who: str | None = None
    body_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An order in the ledger. One intent can have several (attached keys)."""

    reference: str
    status: Status
    code: int | None = None
    body: bytes | None = None
    doubt_since_s: float | None = None
    settled_s: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """The records of one run, taken when nothing is under way any more. ``unrecorded``: what
    reached the backend at a moment at which the ledger had no dispatch of it."""

    meant: Sequence[Meant]
    submissions: Sequence[Submission]
    told: Sequence[Told]
    held: Sequence[Held]
    entries: Sequence[Entry] = ()
    kills: int = 0
    unrecorded: Sequence[str] = ()


class Charge(StrEnum):
    """What a flaw counts as."""

    DUPLICATE = "duplicate"
    LOST = "lost"
    CONTRADICTION = "contradiction"
    PENDING = "pending"


class Flaw(StrEnum):
    """What is wrong with one intent."""

    ORDERED_TWICE = "ordered_twice"
    HELD_BUT_TOLD_NOTHING = "held_but_told_nothing"
    HELD_BUT_TOLD_FAILED = "held_but_told_failed"
    HELD_BUT_TOLD_REJECTED = "held_but_told_rejected"
    CONFIRMED_BUT_NOT_HELD = "confirmed_but_not_held"
    CONFIRMED_WITH_ANOTHERS_ORDER = "confirmed_with_anothers_order"
    ANSWER_ABOUT_ANOTHER = "answer_about_another"
    HELD_FOR_ANOTHER = "held_for_another"
    HELD_ALTERED = "held_altered"
    REJECTED_BUT_WOULD_BE_TAKEN = "rejected_but_would_be_taken"
    FINAL_ANSWERS_DIFFER = "final_answers_differ"
    LEDGER_REFUTED = "ledger_refuted"
    LEDGER_DISAGREES = "ledger_disagrees"
    NO_DEFINITE_ANSWER = "no_definite_answer"
    LEDGER_PENDING = "ledger_pending"
    SENT_UNRECORDED = "sent_unrecorded"


CHARGES: Mapping[Flaw, frozenset[Charge]] = MappingProxyType(
    {
        Flaw.ORDERED_TWICE: frozenset({Charge.DUPLICATE}),
        Flaw.HELD_BUT_TOLD_NOTHING: frozenset({Charge.LOST}),
        Flaw.HELD_BUT_TOLD_FAILED: frozenset({Charge.LOST, Charge.CONTRADICTION}),
        Flaw.HELD_BUT_TOLD_REJECTED: frozenset({Charge.CONTRADICTION}),
        Flaw.CONFIRMED_BUT_NOT_HELD: frozenset({Charge.CONTRADICTION}),
        Flaw.CONFIRMED_WITH_ANOTHERS_ORDER: frozenset({Charge.CONTRADICTION}),
        Flaw.ANSWER_ABOUT_ANOTHER: frozenset({Charge.CONTRADICTION}),
        Flaw.HELD_FOR_ANOTHER: frozenset({Charge.CONTRADICTION}),
        Flaw.HELD_ALTERED: frozenset({Charge.CONTRADICTION}),
        Flaw.REJECTED_BUT_WOULD_BE_TAKEN: frozenset({Charge.CONTRADICTION}),
        Flaw.FINAL_ANSWERS_DIFFER: frozenset({Charge.CONTRADICTION}),
        Flaw.LEDGER_REFUTED: frozenset({Charge.CONTRADICTION}),
        Flaw.LEDGER_DISAGREES: frozenset({Charge.CONTRADICTION}),
        Flaw.NO_DEFINITE_ANSWER: frozenset({Charge.PENDING}),
        Flaw.LEDGER_PENDING: frozenset({Charge.PENDING}),
        Flaw.SENT_UNRECORDED: frozenset({Charge.CONTRADICTION}),
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One flaw of one intent, in words that a person can follow."""

    flaw: Flaw
    reference: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Every count is of intents. ``confirmed + rejected + failed + dead_letter`` and the intents
    without a definite answer add up to ``intents``."""

    intents: int
    confirmed: int
    rejected: int
    failed: int
    dead_letter: int
    would_take: int
    would_take_confirmed: int
    kills: int
    findings: tuple[Finding, ...]
    doubt_s: tuple[float, ...] = ()
    """How long each doubt lasted that the ledger knows of and that has ended, the longest last."""

    def charged(self, charge: Charge) -> int:
        """How many intents have a flaw that counts as ``charge``."""
        guilty = (finding for finding in self.findings if charge in CHARGES[finding.flaw])
        return len({finding.reference for finding in guilty})

    @property
    def duplicates(self) -> int:
        return self.charged(Charge.DUPLICATE)

    @property
    def lost(self) -> int:
        return self.charged(Charge.LOST)

    @property
    def contradictions(self) -> int:
        return self.charged(Charge.CONTRADICTION)

    @property
    def pending(self) -> int:
        return self.charged(Charge.PENDING)

    @property
    def clean(self) -> bool:
        return not self.findings


@dataclass(slots=True)
class _File:
    """All that is known of one intent."""

    meant: Meant
    submissions: list[Submission] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    unrecorded: int = 0


def judge(case: Case) -> Verdict:
    """The verdict on a run. Orders in the books that no customer of the case meant are left out."""
    files = _files(case)
    owners = {held.order_id: held.reference for held in case.held}
    ends = {reference: conclusion(file.told) for reference, file in files.items()}
    counts = Counter(ends.values())
    takeable = [file.meant.reference for file in files.values() if file.meant.would_take]
    return Verdict(
        intents=len(files),
        confirmed=counts[Status.CONFIRMED],
        rejected=counts[Status.REJECTED],
        failed=counts[Status.FAILED],
        dead_letter=counts[Status.DEAD_LETTER],
        would_take=len(takeable),
        would_take_confirmed=sum(ends[ref] is Status.CONFIRMED for ref in takeable),
        kills=case.kills,
        findings=tuple(finding for file in files.values() for finding in _flaws(file, owners)),
        doubt_s=_doubts_s(case.entries),
    )


def _doubts_s(entries: Sequence[Entry]) -> tuple[float, ...]:
    """I8."""
    return tuple(
        sorted(
            entry.settled_s - entry.doubt_since_s
            for entry in entries
            if entry.doubt_since_s is not None and entry.settled_s is not None
        )
    )


def conclusion(told: Sequence[Told]) -> Status | None:
    """What the customer believes in the end: a final answer for good, else the last that
    settled or parked the order, else None."""
    final = [item.status for item in told if item.status in FINAL]
    if final:
        return final[0]
    last: Status | None = None
    for item in sorted(told, key=lambda item: item.at_s):
        if item.status is Status.FAILED or item.status is Status.DEAD_LETTER:
            last = item.status
    return last


def _files(case: Case) -> dict[str, _File]:
    files = {meant.reference: _File(meant) for meant in case.meant}
    if len(files) != len(case.meant):
        raise ValueError("two intents have one reference")
    for submission in case.submissions:
        files[submission.reference].submissions.append(submission)
    for told in case.told:
        files[told.reference].told.append(told)
    for held in case.held:
        if held.reference in files:
            files[held.reference].held.append(held)
    for entry in case.entries:
        if entry.reference in files:
            files[entry.reference].entries.append(entry)
    for reference in case.unrecorded:
        if reference in files:
            files[reference].unrecorded += 1
    return files


def _flaws(file: _File, owners: Mapping[str, str]) -> Iterator[Finding]:
    for check in (_held_wrongly, _told_too_little, _told_no, _told_differently, _ledger_wrong):
        for flaw, detail in check(file):
            yield Finding(flaw, file.meant.reference, detail)
    for flaw, detail in _told_yes(file, owners):
        yield Finding(flaw, file.meant.reference, detail)


def _held_wrongly(file: _File) -> Iterator[tuple[Flaw, str]]:
    """I1, and that what is held is what was meant."""
    if len(file.held) > 1:
        yield Flaw.ORDERED_TWICE, "the books hold " + ", ".join(h.order_id for h in file.held)
    for held in file.held:
        if held.who is not None and held.who != file.meant.who:
            yield Flaw.HELD_FOR_ANOTHER, f"{held.order_id} is booked to somebody else"
        if None not in (held.body_digest, file.meant.body_digest) and (
            held.body_digest != file.meant.body_digest
        ):
            yield Flaw.HELD_ALTERED, f"{held.order_id} is not, byte for byte, what was submitted"


def _told_too_little(file: _File) -> Iterator[tuple[Flaw, str]]:
    """I5."""
    if conclusion(file.told) is None:
        yield Flaw.NO_DEFINITE_ANSWER, "the customer never got a definite answer"
    if file.held and not file.told:
        yield Flaw.HELD_BUT_TOLD_NOTHING, f"{file.held[0].order_id} is held; nobody told"


def _told_no(file: _File) -> Iterator[tuple[Flaw, str]]:
    """I3. A ``failed`` says that nothing is held *and* nothing will be, unless the key is
    submitted again: only a submission that was open then, or came later, may have changed it."""
    for told in file.told:
        if told.status is Status.REJECTED and file.held:
            yield Flaw.HELD_BUT_TOLD_REJECTED, f"told {told.code}; {file.held[0].order_id} is held"
        if told.status is Status.REJECTED and file.meant.would_take:
            yield Flaw.REJECTED_BUT_WOULD_BE_TAKEN, f"told {told.code} for an order in stock"
        if told.status is Status.FAILED and file.held and not _reopened(file, told.at_s):
            yield Flaw.HELD_BUT_TOLD_FAILED, f"told failed; {file.held[0].order_id} is held"


def _reopened(file: _File, at_s: float) -> bool:
    """Whether a submission was open at, or began after, ``at_s``. One that ends at that very time
    is the one that brought the answer."""
    return any(item.ended_s is None or item.ended_s > at_s for item in file.submissions)


def _told_yes(file: _File, owners: Mapping[str, str]) -> Iterator[tuple[Flaw, str]]:
    """I2 and I6."""
    reference = file.meant.reference
    for told in file.told:
        if told.about not in (None, reference):
            yield Flaw.ANSWER_ABOUT_ANOTHER, f"the answer speaks of {told.about}"
        if told.status is not Status.CONFIRMED or (told.gone and file.held):
            continue
        owner = owners.get(told.order_id) if told.order_id is not None else None
        if owner is None:
            yield Flaw.CONFIRMED_BUT_NOT_HELD, f"told {told.order_id}; the books have no such order"
        elif owner != reference:
            yield Flaw.CONFIRMED_WITH_ANOTHERS_ORDER, f"told {told.order_id}, which is {owner}'s"


def _told_differently(file: _File) -> Iterator[tuple[Flaw, str]]:
    """I4."""
    statuses = {told.status for told in file.told if told.status in FINAL}
    different = max(len(_answers(file)), len(statuses))
    if different > 1:
        yield Flaw.FINAL_ANSWERS_DIFFER, f"{different} different final answers"


def _answers(file: _File) -> set[tuple[Status, int | None, bytes]]:
    """The final answers that the customer was told, but for those that are kept no longer."""
    finals = (told for told in file.told if told.status in FINAL and not told.gone)
    return {(told.status, told.code, told.body) for told in finals}


def _ledger_wrong(file: _File) -> Iterator[tuple[Flaw, str]]:
    """The ledger against the books, against what was told, and against what was sent (I7)."""
    if file.unrecorded:
        yield Flaw.SENT_UNRECORDED, "it reached the backend before the ledger had its dispatch"
    statuses = {entry.status for entry in file.entries}
    if statuses & PENDING:
        yield Flaw.LEDGER_PENDING, "the ledger has it as " + ", ".join(sorted(statuses & PENDING))
    if Status.CONFIRMED in statuses and not file.held:
        yield Flaw.LEDGER_REFUTED, "the ledger has it confirmed; the books don't have it"
    if file.held and statuses and statuses <= SETTLED - {Status.CONFIRMED}:
        yield Flaw.LEDGER_REFUTED, f"the ledger has it as not placed; {file.held[0].order_id} is"
    if _ledger_differs(file):
        yield Flaw.LEDGER_DISAGREES, "the ledger has another final answer than the customer"


def _ledger_differs(file: _File) -> bool:
    kept = {
        (entry.status, entry.code, entry.body)
        for entry in file.entries
        if entry.status in FINAL and entry.body is not None
    }
    return bool(kept) and bool(_answers(file) - kept)


def by_reference(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """The findings of each intent, in their order."""
    grouped: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        grouped[finding.reference].append(finding)
    return dict(grouped)
