"""states.py: the table is the truth."""

from itertools import product

import pytest

from gateway.orders.states import (
    FINAL,
    MOVES,
    PENDING,
    SETTLED,
    IllegalMove,
    Reason,
    Status,
    check_move,
    mermaid,
)

LEGAL = {(move.source, move.target, reason) for move in MOVES for reason in move.reasons}
SOURCES: tuple[Status | None, ...] = (None, *Status)


def targets_of(status: Status | None) -> set[Status]:
    return {move.target for move in MOVES if move.source is status}


@pytest.mark.parametrize(("source", "target"), list(product(SOURCES, Status)))
def test_a_move_that_the_table_does_not_have_raises(source: Status | None, target: Status) -> None:
    for reason in Reason:
        if (source, target, reason) in LEGAL:
            check_move(source, target, reason)
        else:
            with pytest.raises(IllegalMove):
                check_move(source, target, reason)


def test_doubt_is_sticky_nothing_leads_from_in_doubt_back_to_received_or_dispatched() -> None:
    reached, fresh = {Status.IN_DOUBT}, {Status.IN_DOUBT}
    while fresh:  # not by a detour either, except through failed: absence proved, a new claim
        fresh = {t for s in fresh if s is not Status.FAILED for t in targets_of(s)} - reached
        reached |= fresh
    assert reached.isdisjoint({Status.RECEIVED, Status.DISPATCHED})


@pytest.mark.parametrize("status", sorted(FINAL))
def test_confirmed_and_rejected_are_final(status: Status) -> None:
    assert targets_of(status) == set()


def test_nothing_frees_a_key_but_failed() -> None:
    again = {m.source for m in MOVES if Reason.CLAIMED_AGAIN in m.reasons}
    assert again == {Status.FAILED}
    assert {Status.FAILED} == SETTLED - FINAL


def test_failed_is_reached_only_for_a_reason_that_proves_that_nothing_was_placed() -> None:
    into_failed = {m.source: m.reasons for m in MOVES if m.target is Status.FAILED}
    assert into_failed == {
        Status.RECEIVED: {Reason.PLACE_DEADLINE},
        Status.DISPATCHED: {Reason.NOT_ADMITTED, Reason.CLAIM_UNACKNOWLEDGED},
        Status.IN_DOUBT: {Reason.ABSENCE_PROVED, Reason.NOT_ADMITTED, Reason.OPERATOR},
        Status.DEAD_LETTER: {Reason.ABSENCE_PROVED, Reason.OPERATOR},
    }


def test_a_dead_letter_is_moved_by_evidence_or_an_operator_only() -> None:
    out = set[Reason]().union(*(m.reasons for m in MOVES if m.source is Status.DEAD_LETTER))
    assert out == {
        Reason.OPERATOR,
        Reason.ABSENCE_PROVED,
        Reason.FOUND_BY_LOOKUP,
        Reason.CONFIRMED_BY_LATE_ANSWER,
        Reason.REFUSED_BY_LATE_ANSWER,
        # these leave it where it is, or, where that can't make a second order, in doubt again
        Reason.OPERATOR_LOOKUP,
        Reason.LOOKUP_PROVES_NOTHING,
        Reason.ABSENT_TOO_EARLY,
        Reason.LEDGER_FORGOT,
        Reason.OPERATOR_RESEND,
    }


def test_a_lease_that_expires_leads_from_dispatched_to_doubt_and_nowhere_else() -> None:
    by_expiry = {(m.source, m.target) for m in MOVES if Reason.LEASE_EXPIRED in m.reasons}
    assert by_expiry == {
        (Status.DISPATCHED, Status.IN_DOUBT),
        (Status.IN_DOUBT, Status.IN_DOUBT),
    }


def test_every_status_but_a_final_one_has_a_way_on_and_every_status_a_way_in() -> None:
    for status in Status:
        assert (targets_of(status) == set()) == (status in FINAL)
        assert any(move.target is status for move in MOVES)
    assert PENDING.isdisjoint(SETTLED | {Status.DEAD_LETTER})


def test_no_pair_of_statuses_stands_twice_in_the_table() -> None:
    pairs = [(move.source, move.target) for move in MOVES]
    assert len(pairs) == len(set(pairs))


def test_the_diagram_covers_every_move() -> None:
    lines = mermaid().splitlines()
    assert lines[0] == "stateDiagram-v2"
    arrows = {line.strip() for line in lines[1:]}
    expected = {
        f"{'[*]' if m.source is None else m.source.value} --> {m.target.value}" for m in MOVES
    } | {f"{status.value} --> [*]" for status in FINAL}
    assert arrows == expected
    assert len(lines) == len(expected) + 1
