"""The states of an order: one table is the truth, and an illegal move raises.

The diagram in ARCHITECTURE.md is generated from ``MOVES`` (``python -m gateway.orders.states``).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias


class Status(StrEnum):
    """What is true about an order (DESIGN: the life of an order)."""

    RECEIVED = "received"
    DISPATCHED = "dispatched"
    IN_DOUBT = "in_doubt"
    DEAD_LETTER = "dead_letter"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    FAILED = "failed"

    __hash__ = str.__hash__  # Enum's own is a call in Python, and each look into a set makes one


PENDING = frozenset({Status.RECEIVED, Status.DISPATCHED, Status.IN_DOUBT})
"""Something will move it on by itself."""

FINAL = frozenset({Status.CONFIRMED, Status.REJECTED})
"""Never moves again; every repeat of the key gets the same answer."""

SETTLED = FINAL | {Status.FAILED}
"""There is an outcome to tell."""


Outcome: TypeAlias = Literal[Status.CONFIRMED, Status.REJECTED, Status.FAILED]


class Reason(StrEnum):
    """Why an order moved. Closed: the same string is log field, metric label and timeline entry."""

    CLAIMED = "claimed"
    CLAIMED_AGAIN = "claimed_again"
    NO_CONNECTION = "no_connection"
    CONNECTED = "connected"
    NOT_SENT = "not_sent"
    NOT_PROCESSED = "not_processed"
    NOT_ADMITTED = "not_admitted"
    CONFIRMED_BY_ANSWER = "confirmed_by_answer"
    REFUSED_BY_ANSWER = "refused_by_answer"
    CONFIRMED_BY_LATE_ANSWER = "confirmed_by_late_answer"
    REFUSED_BY_LATE_ANSWER = "refused_by_late_answer"
    NO_ANSWER = "no_answer"
    ANSWER_PROVES_NOTHING = "answer_proves_nothing"
    LEASE_EXPIRED = "lease_expired"
    LEDGER_FORGOT = "ledger_forgot"
    RESENT = "resent"
    FOUND_BY_LOOKUP = "found_by_lookup"
    LOOKUP_PROVES_NOTHING = "lookup_proves_nothing"
    ABSENT_TOO_EARLY = "absent_too_early"
    ABSENCE_PROVED = "absence_proved"
    PLACE_DEADLINE = "place_deadline"
    DOUBT_DEADLINE = "doubt_deadline"
    CANNOT_RECONCILE = "cannot_reconcile"
    CLAIM_UNACKNOWLEDGED = "claim_unacknowledged"
    OPERATOR = "operator"
    OPERATOR_LOOKUP = "operator_lookup"
    OPERATOR_RESEND = "operator_resend"
    DISPUTED = "disputed"

    __hash__ = str.__hash__


BEGINNINGS = frozenset({Reason.CLAIMED, Reason.CLAIMED_AGAIN, Reason.CONNECTED, Reason.RESENT})
"""With these an attempt begins; whatever else names it is its end, or later."""

ASKS = frozenset({Reason.OPERATOR_LOOKUP, Reason.OPERATOR_RESEND})
"""An operator wants this done now."""

DOINGS = frozenset(
    {
        Reason.RESENT,
        Reason.FOUND_BY_LOOKUP,
        Reason.LOOKUP_PROVES_NOTHING,
        Reason.ABSENT_TOO_EARLY,
        Reason.ABSENCE_PROVED,
        Reason.DOUBT_DEADLINE,
        Reason.CANNOT_RECONCILE,
    }
)
"""What an operator asked for has been done, or will not be, once one of these follows."""


@dataclass(frozen=True, slots=True)
class Move:
    """One legal move. ``source`` None is the creation of the entry."""

    source: Status | None
    target: Status
    reasons: frozenset[Reason]


def _move(source: Status | None, target: Status, *reasons: Reason) -> Move:
    return Move(source, target, frozenset(reasons))


_S, _R = Status, Reason

MOVES: tuple[Move, ...] = (
    _move(None, _S.DISPATCHED, _R.CLAIMED),
    _move(None, _S.RECEIVED, _R.NO_CONNECTION),
    _move(_S.RECEIVED, _S.DISPATCHED, _R.CONNECTED),
    _move(_S.RECEIVED, _S.FAILED, _R.PLACE_DEADLINE),
    _move(_S.RECEIVED, _S.IN_DOUBT, _R.LEDGER_FORGOT),
    _move(_S.DISPATCHED, _S.CONFIRMED, _R.CONFIRMED_BY_ANSWER, _R.CONFIRMED_BY_LATE_ANSWER),
    _move(_S.RECEIVED, _S.CONFIRMED, _R.CONFIRMED_BY_LATE_ANSWER),
    _move(_S.DISPATCHED, _S.REJECTED, _R.REFUSED_BY_ANSWER),
    _move(_S.DISPATCHED, _S.RECEIVED, _R.NOT_SENT, _R.NOT_PROCESSED),
    _move(_S.DISPATCHED, _S.FAILED, _R.NOT_ADMITTED, _R.CLAIM_UNACKNOWLEDGED),
    _move(_S.DISPATCHED, _S.IN_DOUBT, _R.NO_ANSWER, _R.ANSWER_PROVES_NOTHING, _R.LEASE_EXPIRED),
    _move(
        _S.IN_DOUBT,
        _S.IN_DOUBT,
        _R.RESENT,
        _R.NOT_SENT,
        _R.NO_ANSWER,
        _R.ANSWER_PROVES_NOTHING,
        _R.LEASE_EXPIRED,
        _R.LEDGER_FORGOT,
        _R.LOOKUP_PROVES_NOTHING,
        _R.ABSENT_TOO_EARLY,
        _R.ABSENCE_PROVED,
        _R.OPERATOR_LOOKUP,
        _R.OPERATOR_RESEND,
    ),
    _move(
        _S.IN_DOUBT,
        _S.CONFIRMED,
        _R.CONFIRMED_BY_ANSWER,
        _R.CONFIRMED_BY_LATE_ANSWER,
        _R.FOUND_BY_LOOKUP,
        _R.OPERATOR,
    ),
    _move(
        _S.IN_DOUBT,
        _S.REJECTED,
        _R.REFUSED_BY_ANSWER,
        _R.REFUSED_BY_LATE_ANSWER,
        _R.OPERATOR,
    ),
    _move(_S.IN_DOUBT, _S.FAILED, _R.ABSENCE_PROVED, _R.NOT_ADMITTED, _R.OPERATOR),
    _move(_S.IN_DOUBT, _S.DEAD_LETTER, _R.DOUBT_DEADLINE, _R.CANNOT_RECONCILE),
    _move(
        _S.DEAD_LETTER,
        _S.DEAD_LETTER,
        _R.OPERATOR_LOOKUP,
        _R.LOOKUP_PROVES_NOTHING,
        _R.ABSENT_TOO_EARLY,
        _R.LEDGER_FORGOT,
    ),
    _move(_S.DEAD_LETTER, _S.IN_DOUBT, _R.OPERATOR_RESEND),
    _move(
        _S.DEAD_LETTER,
        _S.CONFIRMED,
        _R.CONFIRMED_BY_LATE_ANSWER,
        _R.FOUND_BY_LOOKUP,
        _R.OPERATOR,
    ),
    _move(_S.DEAD_LETTER, _S.REJECTED, _R.REFUSED_BY_LATE_ANSWER, _R.OPERATOR),
    _move(_S.DEAD_LETTER, _S.FAILED, _R.ABSENCE_PROVED, _R.OPERATOR),
    _move(_S.FAILED, _S.DISPATCHED, _R.CLAIMED_AGAIN),
    _move(_S.FAILED, _S.RECEIVED, _R.NO_CONNECTION),
)

_LEGAL = {(move.source, move.target): move.reasons for move in MOVES}


class IllegalMove(Exception):
    """A move that the table does not have: a bug of ours, never a state of the world."""


def check_move(source: Status | None, target: Status, reason: Reason) -> None:
    """Raise IllegalMove unless the table has this move for this reason."""
    if reason not in _LEGAL.get((source, target), frozenset()):
        raise IllegalMove(f"{source} -> {target} ({reason})")


def mermaid() -> str:
    """The table as a Mermaid state diagram, without reasons: for ARCHITECTURE.md."""
    lines = ["stateDiagram-v2"]
    for move in MOVES:
        source = "[*]" if move.source is None else move.source.value
        lines.append(f"    {source} --> {move.target.value}")
    lines += [f"    {status.value} --> [*]" for status in Status if status in FINAL]
    return "\n".join(lines)


if __name__ == "__main__":
    import sys

    sys.stdout.write(mermaid() + "\n")
