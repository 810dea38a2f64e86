"""life.py: claims, dispatches and what the end of an attempt makes of its order."""

from dataclasses import replace

import pytest

from gateway.orders import life
from gateway.orders.attempts import (
    Answered,
    AttemptEnd,
    Lost,
    LostReason,
    NotSent,
    NotSentReason,
)
from gateway.orders.entry import AttemptResult, Entry
from gateway.orders.promise import Capability
from gateway.orders.states import IllegalMove, Reason, Status
from tests.orders.making import (
    BOTH,
    CAPABILITIES,
    DEDUP,
    LOOKUP,
    NOW,
    REFUSED_CONNECT,
    WHO,
    answer,
    answered,
    dispatched,
    failed,
    in_doubt,
    in_status,
    lost,
    proved_absent,
    received,
    resent,
    submission,
)


def numbers(entry: Entry) -> list[int]:
    return [attempt.number for attempt in entry.attempts]


# --- claims ----------------------------------------------------------------------------------


def test_connect_first_a_claim_with_a_connection_records_the_dispatch_in_the_same_write() -> None:
    entry = dispatched()
    assert entry.status is Status.DISPATCHED
    assert entry.open_attempt is not None
    assert entry.open_attempt.number == 1
    assert entry.first_dispatched_at == NOW
    assert [(e.source, e.target, e.reason) for e in entry.events] == [
        (None, Status.DISPATCHED, Reason.CLAIMED)
    ]


def test_a_claim_without_a_connection_is_received_and_has_no_attempt() -> None:
    entry = received()
    assert entry.status is Status.RECEIVED
    assert entry.attempts == ()
    assert entry.first_dispatched_at is None
    assert entry.request is not None


@pytest.mark.parametrize("dispatch", [True, False])
def test_after_failed_the_same_key_goes_on_counting_attempts_and_tokens(dispatch: bool) -> None:
    before = failed()
    again = life.claim_again(before, submission("claim-2", dispatch=dispatch), NOW + 5)
    assert again.id == before.id
    assert again.token == before.token + 1
    assert again.attempts[:1] == before.attempts
    assert numbers(again) == ([1, 2] if dispatch else [1])
    assert again.status is (Status.DISPATCHED if dispatch else Status.RECEIVED)
    assert again.first_dispatched_at == NOW
    assert (again.claim_id, again.claimed_at) == ("claim-2", NOW + 5)
    assert (again.answer, again.settled_at, again.doubt_since) == (None, None, None)
    assert again.request == submission().request


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.FAILED}))
def test_nothing_but_failed_can_be_claimed_again(status: Status) -> None:
    with pytest.raises((IllegalMove, ValueError)):
        life.claim_again(in_status(status), submission("claim-2"), NOW)


# --- not sent --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason", sorted(set(NotSentReason) - {NotSentReason.CLAIM_UNACKNOWLEDGED})
)
def test_an_attempt_that_was_not_sent_goes_back_to_received(reason: NotSentReason) -> None:
    entry = life.end_attempt(dispatched(), NotSent(reason), NOW, WHO)
    assert entry.status is Status.RECEIVED
    assert entry.absence_proved
    assert entry.attempts[0].result is AttemptResult.NOT_SENT
    assert life.dispatch(entry, NOW, WHO).attempts[-1].resend is False


def test_a_resend_that_was_not_sent_stays_in_doubt() -> None:
    entry = life.end_attempt(resent(in_doubt(DEDUP)), REFUSED_CONNECT, NOW, WHO)
    assert entry.status is Status.IN_DOUBT
    assert not entry.absence_proved


# --- lost ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", LostReason)
@pytest.mark.parametrize("written_bytes", [0, 100])
def test_only_a_failed_connect_proves_not_sent_everything_else_is_doubt(
    reason: LostReason, written_bytes: int
) -> None:
    entry = life.end_attempt(dispatched(), Lost(reason, written_bytes, 201), NOW, WHO)
    assert entry.status is Status.IN_DOUBT
    assert not entry.absence_proved
    assert entry.doubt_since == NOW


def test_takeover_of_a_dispatched_order_is_lost_and_never_not_sent() -> None:
    before = dispatched()
    taken = life.take_over(before, NOW + 10, "replica-2")
    assert taken.status is Status.IN_DOUBT
    assert taken.attempts[0].result is AttemptResult.LOST
    assert taken.attempts[0].reason == LostReason.LEASE_EXPIRED
    assert not taken.attempts[0].harmless
    assert taken.token == before.token + 1
    assert taken.events[-1].reason is Reason.LEASE_EXPIRED


def test_takeover_of_a_resend_is_lost_too() -> None:
    taken = life.take_over(resent(proved_absent()), NOW, WHO)
    assert taken.status is Status.IN_DOUBT
    assert not taken.absence_proved
    assert not taken.quiet


@pytest.mark.parametrize("make", [received, in_doubt])
def test_takeover_of_what_is_not_under_way_only_raises_the_token(make) -> None:  # type: ignore[no-untyped-def]
    before = make()
    assert life.take_over(before, NOW + 1, WHO) == replace(before, token=before.token + 1)


# --- answers to a first attempt --------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "target"),
    [
        (200, Status.CONFIRMED),
        (201, Status.CONFIRMED),
        (202, Status.IN_DOUBT),
        (302, Status.IN_DOUBT),
        (400, Status.REJECTED),
        (401, Status.FAILED),
        (403, Status.FAILED),
        (407, Status.FAILED),
        (408, Status.IN_DOUBT),
        (409, Status.REJECTED),
        (422, Status.REJECTED),
        (425, Status.RECEIVED),
        (429, Status.RECEIVED),
        (500, Status.IN_DOUBT),
        (503, Status.IN_DOUBT),
    ],
)
@pytest.mark.parametrize("capabilities", CAPABILITIES)
def test_which_answers_to_a_first_attempt_mean_what(
    status: int, target: Status, capabilities: frozenset[Capability]
) -> None:
    entry = answered(dispatched(capabilities), status)
    assert entry.status is target
    kept = target in (Status.CONFIRMED, Status.REJECTED, Status.FAILED)
    assert (entry.answer is not None) == kept
    assert (entry.request is None) == kept
    assert entry.settled == kept


def test_too_many_requests_is_tried_again_no_sooner_than_it_says() -> None:
    told = answer(429, extra=((b"Retry-After", b"30"),))
    entry = life.end_attempt(dispatched(), Answered(told), NOW, WHO)
    assert entry.not_before == NOW + 30
    assert entry.absence_proved


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_5xx_is_no_proof_that_nothing_was_made(status: int) -> None:
    assert not answered(dispatched(), status).absence_proved


# --- evidence is per attempt -----------------------------------------------------------------


@pytest.mark.parametrize("before", [in_doubt(DEDUP), proved_absent(LOOKUP), in_doubt(BOTH)])
def test_a_success_of_any_attempt_confirms(before: Entry) -> None:
    assert answered(resent(before), 201).status is Status.CONFIRMED


@pytest.mark.parametrize("status", [401, 403, 404, 407, 408, 409, 425, 429, 500, 502, 503])
@pytest.mark.parametrize(
    "before", [in_doubt(DEDUP), life.quiet(in_doubt(DEDUP)), proved_absent(), proved_absent(BOTH)]
)
def test_on_a_resend_these_prove_nothing_and_free_nothing(status: int, before: Entry) -> None:
    entry = answered(resent(before), status)
    assert entry.status is Status.IN_DOUBT
    assert not entry.absence_proved
    assert not entry.attempts[-1].made_nothing


def test_a_refused_resend_while_the_first_attempt_still_runs_does_not_settle() -> None:
    entry = answered(resent(in_doubt(DEDUP)), 422)
    assert entry.status is Status.IN_DOUBT
    assert not entry.absence_proved


def test_under_dedup_a_refusal_settles_if_the_resend_began_after_quiet() -> None:
    assert answered(resent(life.quiet(in_doubt(DEDUP))), 422).status is Status.REJECTED


def test_under_lookup_a_refusal_after_quiet_alone_does_not_settle() -> None:
    """Without dedup the refused attempt says nothing of the earlier one."""
    two = lost(resent(proved_absent()))  # an earlier attempt that may have taken effect
    entry = replace(two, attempts=(*two.attempts, replace(two.attempts[1], number=3, result=None)))
    after_quiet = replace(
        entry, attempts=(*two.attempts, replace(entry.attempts[2], after_quiet=True))
    )
    assert answered(after_quiet, 422).status is Status.IN_DOUBT


def test_a_refusal_settles_where_absence_of_every_earlier_attempt_is_proved() -> None:
    assert answered(resent(proved_absent()), 422).status is Status.REJECTED


def test_a_refusal_settles_where_every_earlier_attempt_was_not_sent() -> None:
    back = life.end_attempt(dispatched(), REFUSED_CONNECT, NOW, WHO)
    assert answered(life.dispatch(back, NOW, WHO), 422).status is Status.REJECTED


def test_a_refusal_settles_only_if_it_answers_the_latest_attempt() -> None:
    doubt = lost(resent(proved_absent()))
    late = life.late_answer(doubt, 1, answer(422), NOW, WHO)
    assert late is not None
    assert late.status is Status.IN_DOUBT


def test_every_attempt_renews_quiet() -> None:
    quiet = life.quiet(in_doubt(DEDUP))
    assert quiet.quiet
    for end in (REFUSED_CONNECT, Lost(LostReason.RESET), Answered(answer(503))):
        entry = life.end_attempt(resent(quiet), end, NOW, WHO)
        assert not entry.quiet
        assert not resent(entry).attempts[-1].after_quiet


def test_two_refused_resends_before_quiet_do_not_settle() -> None:
    entry = answered(resent(answered(resent(in_doubt(DEDUP)), 422)), 422)
    assert entry.status is Status.IN_DOUBT


def test_a_refusal_does_not_settle_where_an_attempt_was_lost_after_quiet() -> None:
    lost_again = lost(resent(life.quiet(in_doubt(DEDUP))))
    assert answered(resent(lost_again), 422).status is Status.IN_DOUBT


# --- what may not be done --------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", CAPABILITIES)
def test_a_resend_is_refused_while_an_earlier_attempt_may_take_effect_unless_dedup(
    capabilities: frozenset[Capability],
) -> None:
    for doubt in (in_doubt(capabilities), life.quiet(in_doubt(capabilities))):
        if Capability.DEDUP in capabilities:
            assert resent(doubt).open_attempt is not None
        else:
            with pytest.raises(ValueError, match="may still take effect"):
                resent(doubt)


def test_dedup_never_resends_later_than_first_dispatch_plus_dedup_for_s() -> None:
    doubt = in_doubt(DEDUP)
    ends_by = NOW + doubt.promise.dedup_for_s
    last = ends_by - max(doubt.promise.attempt_timeout_s, doubt.promise.settle_s)
    assert resent(doubt, last - 0.1).open_attempt is not None
    for late in (last, ends_by, ends_by + 1e6):
        with pytest.raises(ValueError, match="remembered"):
            resent(doubt, late)


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.RECEIVED}))
def test_only_a_received_order_is_dispatched(status: Status) -> None:
    with pytest.raises((IllegalMove, ValueError)):
        life.dispatch(in_status(status), NOW, WHO)


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.IN_DOUBT}))
def test_only_an_order_in_doubt_is_resent(status: Status) -> None:
    with pytest.raises((IllegalMove, ValueError)):
        life.resend(in_status(status, DEDUP), NOW, WHO)


def test_there_is_never_more_than_one_attempt_under_way() -> None:
    for entry in (dispatched(), resent(in_doubt(DEDUP))):
        with pytest.raises((IllegalMove, ValueError)):
            life.dispatch(entry, NOW, WHO)
        with pytest.raises((IllegalMove, ValueError)):
            life.resend(entry, NOW, WHO)


ENDS: tuple[AttemptEnd, ...] = (
    REFUSED_CONNECT,
    Lost(LostReason.RESET),
    Answered(answer(201)),
)


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.DISPATCHED}))
@pytest.mark.parametrize("end", ENDS)
def test_an_attempt_that_is_not_under_way_cannot_end(status: Status, end: AttemptEnd) -> None:
    with pytest.raises(ValueError, match="no attempt under way"):
        life.end_attempt(in_status(status), end, NOW, WHO)


def test_a_claim_not_acknowledged_and_never_sent_is_settled_as_failed() -> None:
    unsent = NotSent(NotSentReason.CLAIM_UNACKNOWLEDGED)
    entry = life.end_attempt(dispatched(), unsent, NOW, WHO)
    assert entry.status is Status.FAILED
    assert entry.events[-1].reason is Reason.CLAIM_UNACKNOWLEDGED
    assert life.claim_again(entry, submission("claim-2"), NOW).status is Status.DISPATCHED
