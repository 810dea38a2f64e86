"""life.py: late answers, lookups, quiet, endings, operators."""

from dataclasses import replace

import pytest

from gateway.orders import life
from gateway.orders.attempts import Answer, Answered
from gateway.orders.entry import AttemptResult, Entry
from gateway.orders.lookups import Found, read_lookup
from gateway.orders.promise import Capability, OutcomeTable
from gateway.orders.states import IllegalMove, Reason, Status
from tests.orders.making import (
    BOTH,
    BY_KEY,
    CAPABILITIES,
    DEDUP,
    KEY,
    LOOKUP,
    NONE,
    NOW,
    REFUSED_CONNECT,
    WHO,
    answer,
    answered,
    confirmed,
    dead_letter,
    dispatched,
    failed,
    in_doubt,
    in_status,
    lost,
    proved_absent,
    received,
    rejected,
    resent,
    submission,
)

LATER = NOW + 60


def late(entry: Entry, number: int, status: int, body: bytes = b'{"id": 42}') -> Entry | None:
    return life.late_answer(entry, number, answer(status, body), LATER, WHO)


def moved(entry: Entry | None) -> Entry:
    assert entry is not None
    return entry


FOUND = read_lookup(answer(200), BY_KEY, KEY)
assert isinstance(FOUND, Found)
FOUND_ANSWER = FOUND.answer


# --- late answers, in every status -----------------------------------------------------------


@pytest.mark.parametrize("make", [in_doubt, dead_letter])
@pytest.mark.parametrize("capabilities", CAPABILITIES)
def test_a_late_success_confirms(make, capabilities: frozenset[Capability]) -> None:  # type: ignore[no-untyped-def]
    before = make(capabilities)
    after = moved(late(before, 1, 201))
    assert after.status is Status.CONFIRMED
    assert after.events[-1].reason is Reason.CONFIRMED_BY_LATE_ANSWER
    assert not after.disputed
    assert after.token > before.token
    assert after.attempts[0].result is AttemptResult.ANSWERED


@pytest.mark.parametrize("make", [in_doubt, dead_letter])
def test_a_late_refusal_of_the_only_attempt_rejects(make) -> None:  # type: ignore[no-untyped-def]
    after = moved(late(make(), 1, 422))
    assert after.status is Status.REJECTED
    assert after.events[-1].reason is Reason.REFUSED_BY_LATE_ANSWER
    assert after.answer is not None
    assert after.answer.status == 422


@pytest.mark.parametrize("make", [in_doubt, dead_letter])
@pytest.mark.parametrize("status", [202, 302, 408, 500, 503])
def test_a_late_answer_that_proves_nothing_leaves_the_doubt(make, status: int) -> None:  # type: ignore[no-untyped-def]
    before = make()
    after = moved(late(before, 1, status))
    assert after.status is before.status
    assert not after.absence_proved
    assert after.token > before.token


@pytest.mark.parametrize("status", [401, 403, 407])
@pytest.mark.parametrize("make", [in_doubt, dead_letter])
def test_a_late_not_admitted_ends_in_failed(make, status: int) -> None:  # type: ignore[no-untyped-def]
    assert moved(late(make(), 1, status)).status is Status.FAILED


@pytest.mark.parametrize("status", [425, 429])
def test_doubt_is_sticky_a_late_not_processed_leads_not_back_to_received(status: int) -> None:
    told = answer(status, extra=((b"Retry-After", b"30"),))
    after = moved(life.late_answer(in_doubt(), 1, told, LATER, WHO))
    assert after.status is Status.IN_DOUBT
    assert after.absence_proved
    assert after.not_before == LATER + 30
    assert moved(late(dead_letter(), 1, status)).status is Status.FAILED


def test_a_late_success_after_rejected_or_failed_disputes_and_changes_nothing_else() -> None:
    lost_then_refused = moved(late(in_doubt(), 1, 422))  # settled; attempt 1 answered
    assert late(lost_then_refused, 1, 201) is None
    two = answered(resent(proved_absent()), 422)
    for before in (two, failed()):
        after = moved(late(before, 1, 201))
        assert after.disputed
        assert after.status is before.status
        assert after.answer == before.answer
        assert after.events[-1].reason is Reason.DISPUTED
        assert after.token > before.token
        assert late(after, 1, 201) is None  # told once


@pytest.mark.parametrize("status", [202, 401, 422, 429, 500])
def test_a_late_answer_that_agrees_with_the_outcome_changes_nothing(status: int) -> None:
    assert late(failed(), 1, status) is None
    assert late(answered(resent(in_doubt(DEDUP)), 201), 1, status) is None


@pytest.mark.parametrize(
    ("body", "disputed"),
    [(b'{"id": 42}', False), (b'{"id": 43}', True), (b'{"order": 43}', False), (b"?", False)],
)
def test_a_late_success_of_another_order_than_the_confirmed_one_disputes(
    body: bytes, disputed: bool
) -> None:
    pending = lost(dispatched(DEDUP, OutcomeTable(answer_id="/id")))
    settled = answered(resent(pending), 201, b'{"id": 42}')
    after = late(settled, 1, 201, body)
    assert (after is not None and after.disputed) == disputed
    if after is not None:
        assert after.answer == settled.answer


def test_an_order_found_in_another_shape_is_not_disputed_by_its_own_late_answer() -> None:
    pending = lost(dispatched(LOOKUP, OutcomeTable(answer_id="/data/id")))
    settled = life.found(pending, FOUND_ANSWER, NOW, WHO, several=False)
    assert late(settled, 1, 201, b'{"data": {"id": 42}}') is None


def test_a_late_success_of_an_old_try_confirms_a_new_one_and_disputes() -> None:
    for dispatch in (True, False):
        again = life.claim_again(failed(), submission("claim-2", dispatch=dispatch), NOW)
        after = moved(late(again, 1, 201))
        assert after.status is Status.CONFIRMED
        assert after.disputed


def test_a_late_refusal_of_an_old_try_says_nothing_of_the_new_one() -> None:
    for dispatch in (True, False):
        again = life.claim_again(failed(), submission("claim-2", dispatch=dispatch), NOW)
        assert late(again, 1, 422) is None


@pytest.mark.parametrize("status", Status)
def test_an_answer_to_an_attempt_that_never_was_changes_nothing(status: Status) -> None:
    entry = in_status(status)
    for number in (0, -1):
        assert late(entry, number, 201) is None


@pytest.mark.parametrize("status", Status)
def test_an_order_that_a_forgotten_attempt_made_contradicts_that_it_was_refused(
    status: Status,
) -> None:
    """Only a ledger that forgot shows fewer attempts than are answered. A try that failed is left:
    a client that submits again gets the truth, and of what is disputed nobody does."""
    entry = in_status(status)
    number = len(entry.attempts) + 1
    assert late(entry, number, 422) is None
    after = late(entry, number, 201)
    if status is Status.REJECTED:
        assert after is not None
        assert (after.status, after.disputed) == (status, True)
    else:
        assert after is None


@pytest.mark.parametrize("status", [201, 422, 500])
def test_an_attempt_is_answered_once(status: int) -> None:
    for entry in (confirmed(), rejected(), answered(dispatched(), 503)):
        assert late(entry, 1, status) is None


@pytest.mark.parametrize("status", [201, 202, 302, 401, 408, 422, 429, 500])
@pytest.mark.parametrize("begun", [dispatched(), dispatched(NONE), resent(in_doubt(DEDUP))])
def test_an_answer_that_overtakes_the_word_of_its_timeout_counts_as_in_time(
    status: int, begun: Entry
) -> None:
    """The ledger was away when the attempt timed out: the answer arrives before "lost" does."""
    number = len(begun.attempts)
    after = moved(late(begun, number, status))
    in_time = life.end_attempt(begun, Answered(answer(status)), LATER, WHO)
    assert after == replace(in_time, token=begun.token + 1)
    assert not after.disputed


def test_a_late_refusal_beside_a_resend_under_way_settles_nothing() -> None:
    begun = resent(in_doubt(DEDUP))
    after = moved(late(begun, 1, 422))
    assert after.status is Status.IN_DOUBT
    assert after.open_attempt == begun.open_attempt
    assert not after.absence_proved


def test_a_late_success_beside_a_resend_under_way_confirms() -> None:
    after = moved(late(resent(in_doubt(DEDUP)), 1, 201))
    assert after.status is Status.CONFIRMED
    assert moved(late(in_doubt(DEDUP), 1, 201)).status is Status.CONFIRMED


def test_a_late_answer_of_an_unframed_kind_confirms_nothing() -> None:
    cut = Answer(201, b"", (), b"", framed=False)
    after = moved(life.late_answer(in_doubt(), 1, cut, LATER, WHO))
    assert after.status is Status.IN_DOUBT


# --- lookups and quiet -----------------------------------------------------------------------


def test_a_lookup_that_finds_the_order_confirms_whenever_it_began() -> None:
    for before in (in_doubt(), life.quiet(in_doubt()), dead_letter(), proved_absent()):
        after = life.found(before, FOUND_ANSWER, NOW, WHO, several=False)
        assert after.status is Status.CONFIRMED
        assert after.answer == FOUND_ANSWER
        assert not after.disputed


def test_a_found_order_too_large_to_keep_leaves_a_tombstone() -> None:
    before = in_doubt()
    small = replace(before, promise=replace(before.promise, answer_bytes_max=4))
    after = life.found(small, FOUND_ANSWER, NOW, WHO, several=False)
    assert after.status is Status.CONFIRMED
    assert after.answer == replace(FOUND_ANSWER, body=None)


def test_more_than_one_match_sets_disputed() -> None:
    after = life.found(in_doubt(), FOUND_ANSWER, NOW, WHO, several=True)
    assert (after.status, after.disputed) == (Status.CONFIRMED, True)


def test_a_no_proves_absence_only_if_the_lookup_began_after_quiet() -> None:
    early = life.absent(in_doubt(), NOW, WHO)
    assert early.events[-1].reason is Reason.ABSENT_TOO_EARLY
    assert not early.absence_proved
    after = life.absent(life.quiet(early), NOW, WHO)
    assert after.events[-1].reason is Reason.ABSENCE_PROVED
    assert after.absence_proved
    assert after.status is Status.IN_DOUBT


def test_a_no_after_a_lost_resend_proves_nothing_before_quiet_comes_again() -> None:
    again = lost(resent(proved_absent()))
    assert not life.absent(again, NOW, WHO).absence_proved
    assert life.absent(life.quiet(again), NOW, WHO).absence_proved


def test_quiet_cannot_be_noted_while_an_attempt_is_under_way() -> None:
    for entry in (dispatched(), resent(in_doubt(DEDUP))):
        with pytest.raises(ValueError, match="under way"):
            life.quiet(entry)


def test_quiet_outlives_a_takeover_and_an_attempt_left_behind_ends_it() -> None:
    assert life.take_over(life.quiet(in_doubt()), NOW, WHO).quiet
    assert not life.take_over(resent(life.quiet(in_doubt(DEDUP))), NOW, WHO).quiet


def test_a_lookup_without_evidence_changes_nothing_but_the_timeline() -> None:
    before = in_doubt()
    after = life.no_evidence(before, "status 500", LATER, WHO)
    assert replace(after, events=before.events, updated_at=before.updated_at) == before


# --- endings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        in_doubt(),
        life.quiet(in_doubt()),
        dispatched(),
        resent(proved_absent()),
        lost(resent(proved_absent())),
        answered(dispatched(), 503),
        dead_letter(),
    ],
)
@pytest.mark.parametrize("reason", [Reason.ABSENCE_PROVED, Reason.PLACE_DEADLINE])
def test_only_proof_of_absence_fails_an_order(entry: Entry, reason: Reason) -> None:
    with pytest.raises((ValueError, IllegalMove)):
        life.fail(entry, reason, NOW, WHO)


def test_an_order_that_was_never_sent_fails_at_its_place_deadline() -> None:
    for entry in (received(), life.end_attempt(dispatched(), REFUSED_CONNECT, NOW, WHO)):
        after = life.fail(entry, Reason.PLACE_DEADLINE, LATER, WHO)
        assert (after.status, after.settled_at) == (Status.FAILED, LATER)


def test_only_an_order_in_doubt_is_buried() -> None:
    for status in set(Status) - {Status.IN_DOUBT}:
        with pytest.raises((IllegalMove, ValueError)):
            life.bury(in_status(status), Reason.DOUBT_DEADLINE, NOW, WHO)
    with pytest.raises(ValueError, match="under way"):
        life.bury(resent(in_doubt(DEDUP)), Reason.DOUBT_DEADLINE, NOW, WHO)


def test_doubt_since_is_when_the_order_first_came_into_doubt() -> None:
    entry = lost(resent(in_doubt(DEDUP)), LATER)
    assert entry.doubt_since == NOW
    again = life.claim_again(failed(), submission("claim-2"), LATER)
    assert lost(again, LATER + 5).doubt_since == LATER + 5


# --- operators -------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Status.CONFIRMED, Status.REJECTED, Status.FAILED])
@pytest.mark.parametrize("make", [in_doubt, dead_letter])
def test_an_operator_settles_an_order_in_doubt_or_a_dead_letter(make, outcome) -> None:  # type: ignore[no-untyped-def]
    before = make()
    after = life.resolve(before, outcome, "phoned", LATER, "operator:ann")
    assert (after.status, after.settled_at) == (outcome, LATER)
    assert after.token > before.token
    event = after.events[-1]
    assert (event.reason, event.who, event.detail) == (Reason.OPERATOR, "operator:ann", "phoned")


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.IN_DOUBT, Status.DEAD_LETTER}))
@pytest.mark.parametrize("outcome", [Status.CONFIRMED, Status.REJECTED, Status.FAILED])
def test_an_operator_cannot_settle_anything_else(status: Status, outcome) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(IllegalMove):
        life.resolve(in_status(status), outcome, "", NOW, "operator:ann")


@pytest.mark.parametrize("outcome", [Status.CONFIRMED, Status.REJECTED, Status.FAILED])
def test_an_operator_cannot_settle_an_order_while_an_attempt_is_under_way(outcome) -> None:  # type: ignore[no-untyped-def]
    """It would free the key, or lose the answer, of what is being sent this moment."""
    with pytest.raises(IllegalMove):
        life.resolve(resent(in_doubt(DEDUP)), outcome, "", NOW, "operator:ann")


def test_an_operators_failed_is_proof_so_that_the_next_try_can_end() -> None:
    """Else the next try could neither be rejected nor fail at its place deadline."""
    resolved = life.resolve(dead_letter(NONE), Status.FAILED, "not there", NOW, "operator:ann")
    assert resolved.absence_proved
    waiting = life.claim_again(resolved, submission("claim-2", dispatch=False), NOW)
    assert life.fail(waiting, Reason.PLACE_DEADLINE, LATER, WHO).status is Status.FAILED
    sent = life.claim_again(resolved, submission("claim-2"), NOW)
    assert answered(sent, 422).status is Status.REJECTED


def test_evidence_against_an_operators_word_disputes() -> None:
    resolved = life.resolve(dead_letter(BOTH), Status.FAILED, "", NOW, "operator:ann")
    assert moved(late(resolved, 1, 201)).disputed


def test_a_dispute_is_a_flag_and_changes_neither_status_nor_answer() -> None:
    for status in Status:
        before = in_status(status)
        after = life.dispute(before, "the books differ", LATER, WHO)
        assert after.disputed
        assert (after.status, after.answer, after.token) == (
            before.status,
            before.answer,
            before.token,
        )
