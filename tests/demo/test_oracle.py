"""Each invariant broken by hand, one at a time; the oracle must see it, and see nothing else."""

from dataclasses import replace

import pytest

from gateway.demo.oracle import (
    CHARGES,
    Case,
    Charge,
    Entry,
    Flaw,
    Held,
    Meant,
    Submission,
    Told,
    by_reference,
    conclusion,
    judge,
)
from gateway.orders.states import Status

MEANT = Meant("i-1", "ann", would_take=True, body_digest="d1")
OTHER = Meant("i-2", "bob", would_take=True, body_digest="d2")
HELD = Held("o-1", "i-1", "ann", "d1")
OTHERS = Held("o-2", "i-2", "bob", "d2")
ASKED = Submission("i-1", 0.0, 1.0)
CONFIRMED = Told("i-1", Status.CONFIRMED, 1.0, 201, b'{"id":"o-1"}', "o-1", "i-1")
REJECTED = Told("i-1", Status.REJECTED, 1.0, 422, b"no", None, "i-1")
FAILED = Told("i-1", Status.FAILED, 1.0)
PARKED = Told("i-1", Status.DEAD_LETTER, 1.0)
WAITING = Told("i-1", Status.IN_DOUBT, 0.5)


def case(told: list[Told], held: list[Held], entries: tuple[Entry, ...] = ()) -> Case:
    return Case([MEANT], [ASKED], told, held, entries)


def flaws(records: Case) -> set[Flaw]:
    return {finding.flaw for finding in judge(records).findings}


def test_a_confirmed_order_that_is_held_once_is_clean() -> None:
    verdict = judge(case([WAITING, CONFIRMED, CONFIRMED], [HELD]))
    assert verdict.clean
    assert (verdict.intents, verdict.confirmed) == (1, 1)
    assert (verdict.would_take, verdict.would_take_confirmed) == (1, 1)


def test_a_rejection_of_what_the_backend_refuses_is_clean() -> None:
    records = replace(case([REJECTED], []), meant=[replace(MEANT, would_take=False)])
    verdict = judge(records)
    assert verdict.clean
    assert (verdict.rejected, verdict.would_take) == (1, 0)


def test_a_failed_order_that_is_not_held_is_clean() -> None:
    verdict = judge(case([FAILED], []))
    assert verdict.clean
    assert verdict.failed == 1


@pytest.mark.parametrize("held", [[], [HELD]])
def test_a_dead_letter_is_clean_and_not_pending_whether_held_or_not(held: list[Held]) -> None:
    verdict = judge(case([WAITING, PARKED], held))
    assert verdict.clean
    assert (verdict.dead_letter, verdict.pending, verdict.lost) == (1, 0, 0)


def test_an_order_that_nobody_meant_is_left_out() -> None:
    assert judge(case([CONFIRMED], [HELD, Held("o-9", "a-curl-of-mine")])).clean


def test_a_second_order_for_one_intent_is_a_duplicate() -> None:
    verdict = judge(case([CONFIRMED], [HELD, replace(HELD, order_id="o-7")]))
    assert [finding.flaw for finding in verdict.findings] == [Flaw.ORDERED_TWICE]
    assert (verdict.duplicates, verdict.lost, verdict.contradictions) == (1, 0, 0)


def test_three_orders_for_one_intent_are_one_duplicated_intent() -> None:
    held = [HELD, replace(HELD, order_id="o-7"), replace(HELD, order_id="o-8")]
    assert judge(case([CONFIRMED], held)).duplicates == 1


def test_confirmed_without_an_order_in_the_books_is_a_contradiction() -> None:
    assert flaws(case([CONFIRMED], [])) == {Flaw.CONFIRMED_BUT_NOT_HELD}


def test_confirmed_without_an_order_id_is_a_contradiction() -> None:
    nameless = replace(CONFIRMED, order_id=None)
    assert flaws(case([nameless], [HELD])) == {Flaw.CONFIRMED_BUT_NOT_HELD}


def test_confirmed_with_another_customers_order_is_a_contradiction() -> None:
    stranger = replace(CONFIRMED, order_id="o-2")
    found = flaws(Case([MEANT, OTHER], [ASKED], [stranger], [HELD, OTHERS]))
    assert Flaw.CONFIRMED_WITH_ANOTHERS_ORDER in found


def test_an_answer_about_another_intent_is_a_contradiction() -> None:
    assert flaws(case([replace(CONFIRMED, about="i-2")], [HELD])) == {Flaw.ANSWER_ABOUT_ANOTHER}


def test_an_order_booked_to_another_customer_is_a_contradiction() -> None:
    assert flaws(case([CONFIRMED], [replace(HELD, who="bob")])) == {Flaw.HELD_FOR_ANOTHER}


def test_an_order_with_other_bytes_is_a_contradiction() -> None:
    assert flaws(case([CONFIRMED], [replace(HELD, body_digest="d9")])) == {Flaw.HELD_ALTERED}


def test_told_rejected_while_held_is_a_contradiction() -> None:
    records = replace(case([REJECTED], [HELD]), meant=[replace(MEANT, would_take=None)])
    assert flaws(records) == {Flaw.HELD_BUT_TOLD_REJECTED}
    assert judge(records).contradictions == 1


def test_a_made_up_rejection_is_a_contradiction() -> None:
    assert flaws(case([REJECTED], [])) == {Flaw.REJECTED_BUT_WOULD_BE_TAKEN}


def test_told_failed_while_held_is_lost_and_a_contradiction() -> None:
    verdict = judge(case([FAILED], [HELD]))
    assert {finding.flaw for finding in verdict.findings} == {Flaw.HELD_BUT_TOLD_FAILED}
    assert (verdict.lost, verdict.contradictions) == (1, 1)


def test_an_order_made_after_the_customer_was_told_failed_is_lost_too() -> None:
    """A late execution: the books are read when all is quiet, so it is simply held."""
    confirmed_later = replace(CONFIRMED, at_s=9.0)
    assert flaws(case([FAILED, confirmed_later], [HELD])) == {Flaw.HELD_BUT_TOLD_FAILED}


@pytest.mark.parametrize("again", [Submission("i-1", 0.5, 3.0), Submission("i-1", 2.0, None)])
def test_a_failed_order_may_be_made_by_submitting_it_again(again: Submission) -> None:
    told = [FAILED, replace(CONFIRMED, at_s=3.0)]
    verdict = judge(replace(case(told, [HELD]), submissions=[ASKED, again]))
    assert verdict.clean
    assert (verdict.confirmed, verdict.failed) == (1, 0)


def test_held_while_the_customer_was_told_nothing_is_lost_and_pending() -> None:
    verdict = judge(case([], [HELD]))
    assert (verdict.lost, verdict.pending, verdict.contradictions) == (1, 1, 0)


def test_told_only_that_it_is_under_way_is_pending() -> None:
    verdict = judge(case([WAITING], [HELD]))
    assert (verdict.lost, verdict.pending) == (0, 1)


@pytest.mark.parametrize(
    "second",
    [
        replace(CONFIRMED, body=b'{"id": "o-1"}'),
        replace(CONFIRMED, code=200),
        replace(CONFIRMED, at_s=50.0, body=b""),
    ],
)
def test_two_final_answers_that_differ_by_a_byte_are_a_contradiction(second: Told) -> None:
    assert flaws(case([CONFIRMED, second], [HELD])) == {Flaw.FINAL_ANSWERS_DIFFER}


def test_confirmed_and_rejected_for_one_intent_is_a_contradiction() -> None:
    assert Flaw.FINAL_ANSWERS_DIFFER in flaws(case([CONFIRMED, REJECTED], [HELD]))


def test_an_answer_that_is_kept_no_longer_says_the_same_as_before() -> None:
    gone = Told("i-1", Status.CONFIRMED, 2.0, gone=True)
    assert judge(case([gone], [HELD])).clean
    assert judge(case([CONFIRMED, gone], [HELD])).clean
    assert flaws(case([gone], [])) == {Flaw.CONFIRMED_BUT_NOT_HELD}
    assert Flaw.FINAL_ANSWERS_DIFFER in flaws(case([REJECTED, gone], [HELD]))


def test_a_final_status_without_its_answer_is_another_answer() -> None:
    bare = Told("i-1", Status.CONFIRMED, 2.0)
    assert Flaw.FINAL_ANSWERS_DIFFER in flaws(case([CONFIRMED, bare], [HELD]))
    kept = Entry("i-1", Status.CONFIRMED, 201, b'{"id":"o-1"}')
    assert Flaw.LEDGER_DISAGREES in flaws(case([bare], [HELD], (kept,)))
    assert judge(case([replace(bare, gone=True)], [HELD], (kept,))).clean


@pytest.mark.parametrize("status", [Status.RECEIVED, Status.DISPATCHED, Status.IN_DOUBT])
def test_an_order_that_the_ledger_has_as_pending_is_pending(status: Status) -> None:
    verdict = judge(case([CONFIRMED], [HELD], (Entry("i-1", status),)))
    assert (verdict.pending, len(verdict.findings)) == (1, 1)


def test_a_ledger_that_has_it_confirmed_without_an_order_is_refuted() -> None:
    records = case([PARKED], [], (Entry("i-1", Status.CONFIRMED),))
    assert flaws(records) == {Flaw.LEDGER_REFUTED}


@pytest.mark.parametrize("status", [Status.REJECTED, Status.FAILED])
def test_a_ledger_that_has_it_as_not_placed_while_held_is_refuted(status: Status) -> None:
    assert flaws(case([PARKED], [HELD], (Entry("i-1", status),))) == {Flaw.LEDGER_REFUTED}


def test_a_ledger_with_another_final_answer_disagrees() -> None:
    kept = Entry("i-1", Status.CONFIRMED, 201, b"other bytes")
    assert flaws(case([CONFIRMED], [HELD], (kept,))) == {Flaw.LEDGER_DISAGREES}


def test_a_ledger_with_the_same_final_answer_is_clean() -> None:
    kept = Entry("i-1", Status.CONFIRMED, CONFIRMED.code, CONFIRMED.body)
    assert judge(case([CONFIRMED], [HELD], (kept,))).clean


def test_every_intent_is_counted_once_and_findings_name_theirs() -> None:
    meant = [Meant(f"i-{n}", "ann") for n in range(5)]
    told = [
        Told("i-0", Status.CONFIRMED, 1.0, 201, b"", "o-0"),
        Told("i-1", Status.REJECTED, 1.0, 422),
        Told("i-2", Status.FAILED, 1.0),
        Told("i-3", Status.DEAD_LETTER, 1.0),
    ]
    verdict = judge(Case(meant, [], told, [Held("o-0", "i-0")], kills=2))
    ended = verdict.confirmed + verdict.rejected + verdict.failed + verdict.dead_letter
    assert (ended, verdict.pending, verdict.intents, verdict.kills) == (4, 1, 5, 2)
    assert list(by_reference(verdict.findings)) == ["i-4"]


def test_two_intents_with_one_reference_are_refused() -> None:
    with pytest.raises(ValueError, match="one reference"):
        judge(Case([MEANT, MEANT], [], [], []))


def test_a_final_answer_is_the_conclusion_whatever_came_later() -> None:
    assert conclusion([CONFIRMED, replace(PARKED, at_s=9.0)]) is Status.CONFIRMED
    assert conclusion([replace(PARKED, at_s=2.0), FAILED]) is Status.DEAD_LETTER
    assert conclusion([WAITING]) is None


def test_every_flaw_is_charged() -> None:
    assert set(CHARGES) == set(Flaw)
    assert all(charges <= set(Charge) and charges for charges in CHARGES.values())


def test_an_order_that_was_sent_before_it_was_recorded_is_seen() -> None:
    records = replace(case([CONFIRMED], [HELD]), unrecorded=["i-1"])
    assert flaws(records) == {Flaw.SENT_UNRECORDED}
    assert judge(records).contradictions == 1


def test_doubts_are_counted_and_timed() -> None:
    confirmed = Entry("i-1", Status.CONFIRMED, 201, CONFIRMED.body, 3.0, 7.5)
    never = replace(confirmed, doubt_since_s=None)
    waiting = replace(confirmed, settled_s=None)
    assert judge(case([CONFIRMED], [HELD], (confirmed, never, waiting))).doubt_s == (4.5,)
