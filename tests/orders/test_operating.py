"""operating.py: what operators may ask for, and that it is done once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest

from gateway.orders import life
from gateway.orders.bookkeeping import EVENTS_MAX
from gateway.orders.entry import Entry, KeptAnswer
from gateway.orders.operating import (
    ActionRefused,
    Refusal,
    action_of,
    ask_lookup,
    ask_resend,
    lookup_refusal,
    resend_refusal,
    resolve,
    result_of,
)
from gateway.orders.promise import Capability
from gateway.orders.reconciling import Bury, Circumstances, Done, LookUp, NoteQuiet, Resend, Wait
from gateway.orders.reconciling import plan as next_step
from gateway.orders.states import Reason, Status
from tests.orders.making import (
    BOTH,
    DEDUP,
    LOOKUP,
    NONE,
    NOW,
    WHO,
    answered,
    dead_letter,
    dispatched,
    in_doubt,
    in_status,
    lost,
    proved_absent,
    resent,
)

EVA, NONCE = "operator:eva", "n-1"
FOUND = KeptAnswer(201, b"Created", (), b"{}", "digest", source="lookup")


def looked_up(entry: Entry, nonce: str = NONCE) -> Entry:
    return ask_lookup(entry, "a call", NOW, EVA, nonce)


def sent_again(entry: Entry, now: float = NOW) -> Entry:
    return ask_resend(entry, None, now, EVA, NONCE)


def step(entry: Entry, *, quiet_in_s: float = 30.0, now: float = NOW) -> object:
    return next_step(entry, Circumstances(now, quiet_in_s, listening=False))


@pytest.mark.parametrize("make", [in_doubt, dead_letter])
def test_an_asked_lookup_is_the_operators_event_under_a_new_token(make: object) -> None:
    entry = make()  # type: ignore[operator]
    asked = looked_up(entry)
    assert asked.token == entry.token + 1
    assert asked.status is entry.status
    assert asked.asked is Reason.OPERATOR_LOOKUP
    assert asked.waits
    event = asked.events[-1]
    assert (event.who, event.nonce, event.detail) == (EVA, NONCE, "a call")


def test_an_order_in_doubt_is_looked_up_at_once_also_past_its_deadline() -> None:
    asked = looked_up(in_doubt())
    assert step(asked) == LookUp()
    assert step(asked, now=NOW + 9999) == LookUp()
    answered_no = life.absent(asked, NOW, WHO)
    assert answered_no.asked is None
    assert step(answered_no, now=NOW + 9999) == Bury(Reason.DOUBT_DEADLINE)


def test_a_dead_letter_is_looked_up_after_quiet_and_then_left_alone() -> None:
    asked = looked_up(dead_letter())
    assert step(asked, quiet_in_s=7.0) == Wait(7.0)
    assert step(asked, quiet_in_s=0.0) == NoteQuiet()
    assert step(life.quiet(asked)) == LookUp()
    nothing = life.no_evidence(life.quiet(asked), "status 500", NOW, WHO)
    assert nothing.status is Status.DEAD_LETTER
    assert (nothing.waits, step(nothing)) == (False, Done())


def test_a_lookup_settles_a_dead_letter_by_evidence_only() -> None:
    asked = life.quiet(looked_up(dead_letter()))
    assert life.found(asked, FOUND, NOW, WHO, several=False).status is Status.CONFIRMED
    absent = life.absent(asked, NOW, WHO)
    assert (absent.status, absent.events[-1].reason) == (Status.FAILED, Reason.ABSENCE_PROVED)
    assert absent.absence_proved
    early = life.absent(looked_up(dead_letter()), NOW, WHO)
    assert (early.status, early.events[-1].reason) == (
        Status.DEAD_LETTER,
        Reason.ABSENT_TOO_EARLY,
    )


@pytest.mark.parametrize("status", [Status.CONFIRMED, Status.REJECTED, Status.FAILED])
def test_a_settled_order_is_neither_looked_up_nor_sent_again(status: Status) -> None:
    entry = in_status(status, BOTH)
    assert lookup_refusal(entry) is Refusal.SETTLED
    assert resend_refusal(entry, NOW) is Refusal.SETTLED


def test_an_order_that_moves_by_itself_is_left_alone() -> None:
    assert resend_refusal(in_status(Status.RECEIVED, DEDUP), NOW) is Refusal.NOT_IN_DOUBT
    for entry in (dispatched(BOTH), resent(in_doubt(BOTH))):
        assert lookup_refusal(entry) is Refusal.ATTEMPT_UNDER_WAY
        assert resend_refusal(entry, NOW) is Refusal.ATTEMPT_UNDER_WAY
    assert lookup_refusal(proved_absent()) is Refusal.ABSENCE_PROVED


@pytest.mark.parametrize("capabilities", [NONE, DEDUP])
def test_without_a_lookup_nobody_can_be_asked(capabilities: frozenset[Capability]) -> None:
    with pytest.raises(ActionRefused) as refused:
        looked_up(dead_letter(capabilities))
    assert refused.value.refusal is Refusal.NO_LOOKUP


@pytest.mark.parametrize("capabilities", [NONE, LOOKUP])
def test_what_could_make_a_second_order_is_not_sent_again(
    capabilities: frozenset[Capability],
) -> None:
    for entry in (in_doubt(capabilities), dead_letter(capabilities)):
        with pytest.raises(ActionRefused) as refused:
            sent_again(entry)
        assert refused.value.refusal is Refusal.SECOND_ORDER


def test_nothing_is_sent_again_once_the_upstream_may_have_forgotten_the_key() -> None:
    remembered = NOW + 7200 - 31
    assert resend_refusal(dead_letter(DEDUP), remembered) is None
    assert resend_refusal(dead_letter(DEDUP), remembered + 1) is Refusal.SECOND_ORDER
    asked = sent_again(dead_letter(DEDUP), remembered)
    assert step(asked, now=remembered) == Resend()
    assert step(asked, now=remembered + 1) != Resend()


def test_a_dead_letter_sent_again_is_in_doubt_with_its_time_anew() -> None:
    late = NOW + 5000
    asked = sent_again(dead_letter(BOTH), late)
    assert (asked.status, asked.doubt_since) == (Status.IN_DOUBT, late)
    assert step(asked, now=late) == Resend()  # and not the lookup that would come first
    again = lost(resent(asked, late), late)
    assert (again.asked, again.status) == (None, Status.IN_DOUBT)
    assert step(again, now=late) == LookUp()


def test_an_absence_proved_is_sent_again() -> None:
    asked = sent_again(proved_absent())
    assert step(asked) == Resend()


def test_the_result_of_an_action_is_the_event_that_ended_it() -> None:
    asked = looked_up(in_doubt())
    action = action_of(asked, NONCE)
    assert action is not None
    assert result_of(asked, action) is None
    done = life.no_evidence(asked, "status 500", NOW, WHO)
    result = result_of(done, action)
    assert result is not None
    assert result.reason is Reason.LOOKUP_PROVES_NOTHING
    assert action_of(done, "n-2") is None


def test_the_result_of_a_resend_is_what_became_of_its_attempt() -> None:
    asked = sent_again(in_doubt(DEDUP))
    action = asked.events[-1]
    under_way = resent(asked)
    assert result_of(under_way, action) is None
    result = result_of(lost(under_way), action)
    assert result is not None
    assert result.reason is Reason.NO_ANSWER
    success = result_of(answered(under_way, 201), action)
    assert success is not None
    assert success.target is Status.CONFIRMED


def test_an_answer_that_proves_nothing_does_not_take_an_ask_away() -> None:
    asked = looked_up(in_doubt())
    event = replace(asked.events[-1], reason=Reason.ANSWER_PROVES_NOTHING, nonce=None)
    assert replace(asked, events=(*asked.events, event)).asked is Reason.OPERATOR_LOOKUP


def test_a_long_timeline_keeps_the_operators_words() -> None:
    entry = looked_up(in_doubt())
    for _ in range(EVENTS_MAX * 2):
        entry = life.no_evidence(entry, "status 500", NOW, WHO)
        entry = looked_up(entry, "n-2") if action_of(entry, "n-2") is None else entry
    assert len(entry.events) == EVENTS_MAX
    assert action_of(entry, NONCE) is not None
    assert action_of(entry, "n-2") is not None


@pytest.mark.parametrize("outcome", [Status.FAILED, Status.REJECTED])
@pytest.mark.parametrize("make", [in_doubt, dead_letter])
def test_nobody_can_say_that_it_was_not_placed_while_it_may_be(
    make: Callable[..., Entry], outcome: Literal[Status.FAILED, Status.REJECTED]
) -> None:
    entry = make(NONE)
    quiet_at = entry.quiet_at
    assert quiet_at == NOW + entry.promise.settle_s
    with pytest.raises(ActionRefused) as refused:
        resolve(entry, outcome, "not in the books", quiet_at - 0.5, EVA, NONCE)
    assert (refused.value.refusal, refused.value.wait_s) == (Refusal.NOT_QUIET, 0.5)
    assert resolve(entry, outcome, "not in the books", quiet_at, EVA, NONCE).status is outcome
    assert resolve(entry, Status.CONFIRMED, "there", NOW, EVA, NONCE).status is Status.CONFIRMED


def test_each_attempt_puts_off_when_it_is_known() -> None:
    asked = life.no_evidence(in_doubt(LOOKUP), "status 500", NOW + 5, WHO)
    assert asked.quiet_at == NOW + asked.promise.settle_s  # of a question nothing can come
    again = lost(resent(in_doubt(DEDUP), NOW + 7), NOW + 8)
    assert again.quiet_at == NOW + 8 + again.promise.settle_s


def test_it_is_not_known_sooner_where_a_long_timeline_lost_the_end() -> None:
    entry = in_doubt(BOTH)
    for at in (10.0,) * EVENTS_MAX:
        entry = life.no_evidence(entry, "status 500", NOW + at, WHO)
    entry = lost(resent(entry, NOW + 50), NOW + 60)
    for at in (70.0,) * EVENTS_MAX:
        entry = life.no_evidence(entry, "status 500", NOW + at, WHO)
    promise = entry.promise
    assert entry.quiet_at == NOW + 50 + promise.attempt_timeout_s + promise.settle_s


def test_what_is_quiet_or_made_nothing_need_not_be_waited_for() -> None:
    for entry in (life.quiet(in_doubt(LOOKUP)), proved_absent(LOOKUP)):
        assert resolve(entry, Status.FAILED, "gone", NOW, EVA, NONCE).status is Status.FAILED


def test_a_resolution_carries_its_nonce() -> None:
    entry = life.resolve(dead_letter(), Status.FAILED, "not in the books", NOW, EVA, NONCE)
    action = action_of(entry, NONCE)
    assert action is not None
    assert result_of(entry, action) is action
