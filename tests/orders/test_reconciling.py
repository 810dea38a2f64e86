"""reconciling.py: the next step for an order that is not settled."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orders import life
from gateway.orders.attempts import Answered
from gateway.orders.bookkeeping import EVENTS_MAX
from gateway.orders.entry import Entry
from gateway.orders.operating import ask_resend
from gateway.orders.promise import Capability, Promise
from gateway.orders.reconciling import (
    BACKOFF_MAX_S,
    WAIT_S_MIN,
    Bury,
    Circumstances,
    Done,
    GiveUp,
    LookUp,
    NoteQuiet,
    Place,
    Resend,
    Step,
    Wait,
    backoff_s,
    plan,
)
from gateway.orders.states import Reason, Status
from tests.orders.making import (
    BOTH,
    CAPABILITIES,
    DEDUP,
    LOOKUP,
    NONE,
    NOW,
    WHO,
    answer,
    answered,
    dispatched,
    in_doubt,
    in_status,
    lost,
    proved_absent,
    received,
    resent,
    submission,
    within,
)


def step(
    entry: Entry,
    after_s: float = 0.0,
    *,
    quiet_in_s: float = 30.0,
    listening: bool = False,
    next_try_in_s: float = 0.0,
    looked_up: bool = False,
) -> Step:
    return plan(
        entry, Circumstances(NOW + after_s, quiet_in_s, listening, next_try_in_s, looked_up)
    )


@pytest.mark.parametrize("entry", [received(DEDUP), in_doubt(LOOKUP), proved_absent(DEDUP)])
def test_no_wait_is_shorter_than_clocks_can_tell(entry: Entry) -> None:
    """Its timer would be over before the clock that is asked again has moved, for ever."""
    assert step(entry, next_try_in_s=1e-12) == Wait(WAIT_S_MIN)


def waits(found: Step) -> float:
    assert isinstance(found, Wait)
    assert found.for_s > 0
    return found.for_s


QUIET_DEDUP, QUIET_LOOKUP = life.quiet(in_doubt(DEDUP)), life.quiet(in_doubt(LOOKUP))


# --- received --------------------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", CAPABILITIES)
def test_a_received_order_is_placed_until_place_within_s_ends_placing(
    capabilities: frozenset[Capability],
) -> None:
    entry = received(capabilities)
    assert step(entry) == Place()
    assert step(entry, 899.9) == Place()
    assert step(entry, 900.0) == GiveUp(Reason.PLACE_DEADLINE)
    assert step(entry, 900.0, next_try_in_s=9.0) == GiveUp(Reason.PLACE_DEADLINE)


def test_placing_waits_for_the_back_off_and_for_retry_after() -> None:
    told = answer(429, extra=((b"Retry-After", b"30"),))
    entry = life.end_attempt(dispatched(), Answered(told), NOW, WHO)
    assert step(entry) == Wait(30.0)
    assert step(entry, 29.0, next_try_in_s=4.0) == Wait(4.0)
    assert step(entry, 30.0) == Place()


def test_no_wait_to_place_lasts_longer_than_place_within_s() -> None:
    told = answer(429, extra=((b"Retry-After", b"3600"),))
    entry = life.end_attempt(dispatched(), Answered(told), NOW, WHO)
    assert step(entry) == Wait(900.0)
    assert step(entry, 890.0, next_try_in_s=60.0) == Wait(10.0)


# --- doubt, by capability --------------------------------------------------------------------


def test_none_goes_to_a_dead_letter_as_soon_as_its_connection_is_no_longer_read() -> None:
    entry = in_doubt(NONE)
    assert waits(step(entry, listening=True)) <= 30.0
    assert step(entry, listening=False) == Bury(Reason.CANNOT_RECONCILE)
    assert step(entry, listening=False, quiet_in_s=0.0) == Bury(Reason.CANNOT_RECONCILE)


def test_none_whose_attempt_proved_to_have_made_nothing_fails() -> None:
    entry = life.late_answer(in_doubt(NONE), 1, answer(429), NOW, WHO)
    assert entry is not None
    assert step(entry) == GiveUp(Reason.ABSENCE_PROVED)


@pytest.mark.parametrize("capabilities", [DEDUP, LOOKUP, BOTH])
def test_doubt_within_s_buries(capabilities: frozenset[Capability]) -> None:
    for entry in (in_doubt(capabilities), life.quiet(in_doubt(capabilities))):
        assert not isinstance(step(entry, 3599.0), Bury)
        assert step(entry, 3600.0) == Bury(Reason.DOUBT_DEADLINE)
        assert step(entry, 1e9, listening=True, quiet_in_s=0) == Bury(Reason.DOUBT_DEADLINE)


@pytest.mark.parametrize("capabilities", CAPABILITIES)
@given(quiet_in_s=st.floats(0, 1e5), next_try_in_s=st.floats(0, 1e5), after_s=st.floats(0, 3599))
def test_no_wait_in_doubt_lasts_longer_than_doubt_within_s(
    capabilities: frozenset[Capability], quiet_in_s: float, next_try_in_s: float, after_s: float
) -> None:
    for entry in (in_doubt(capabilities), life.quiet(in_doubt(capabilities))):
        found = step(
            entry,
            after_s,
            quiet_in_s=quiet_in_s,
            next_try_in_s=next_try_in_s,
            listening=True,
            looked_up=True,
        )
        if isinstance(found, Wait):
            assert 0 < found.for_s <= max(3600.0 - after_s, 0.001) + 1e-6


def test_quiet_is_noted_when_settle_s_have_passed() -> None:
    for capabilities in (DEDUP, LOOKUP, BOTH):
        assert step(in_doubt(capabilities), quiet_in_s=0.0) == NoteQuiet()
        assert step(life.quiet(in_doubt(capabilities)), quiet_in_s=0.0) != NoteQuiet()


def test_lookup_asks_and_asks_again_by_the_back_off() -> None:
    assert step(in_doubt(LOOKUP)) == LookUp()
    assert step(in_doubt(LOOKUP), next_try_in_s=4.0) == Wait(4.0)
    assert step(in_doubt(LOOKUP), looked_up=True) == LookUp()
    assert step(QUIET_LOOKUP) == LookUp()


def test_a_back_off_ends_when_quiet_comes() -> None:
    assert step(in_doubt(LOOKUP), next_try_in_s=50.0, quiet_in_s=7.0) == Wait(7.0)
    assert step(QUIET_LOOKUP, next_try_in_s=50.0, quiet_in_s=0.0) == Wait(50.0)


def test_dedup_resends_at_once_and_again_by_the_back_off() -> None:
    assert step(in_doubt(DEDUP)) == Resend()
    assert step(in_doubt(DEDUP), next_try_in_s=4.0) == Wait(4.0)


def test_dedup_after_a_refused_resend_waits_for_quiet_before_the_next() -> None:
    refused = answered(resent(in_doubt(DEDUP)), 422)
    assert step(refused, quiet_in_s=12.0) == Wait(12.0)
    assert step(life.quiet(refused), quiet_in_s=0.0) == Resend()


def test_both_look_up_first_and_resend_after_a_lookup_that_did_not_settle() -> None:
    assert step(in_doubt(BOTH)) == LookUp()
    assert step(in_doubt(BOTH), looked_up=True) == Resend()


@pytest.mark.parametrize("entry", [in_doubt(DEDUP), QUIET_DEDUP])
def test_dedup_never_resends_later_than_first_dispatch_plus_dedup_for_s(entry: Entry) -> None:
    short = within(entry, dedup_for_s=100.0, attempt_timeout_s=5.0, settle_s=30.0)
    assert step(short, 69.9) == Resend()
    for after_s in (70.0, 95.0, 100.0, 2000.0):
        assert isinstance(step(short, after_s), Wait)
        assert not short.key_remembered(NOW + after_s)
    assert step(short, 3600.0) == Bury(Reason.DOUBT_DEADLINE)


def test_both_only_look_up_once_the_key_may_be_forgotten() -> None:
    short = within(life.quiet(in_doubt(BOTH)), dedup_for_s=100.0)
    assert step(short, 200.0, looked_up=True) == LookUp()


# --- absence proved --------------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", [LOOKUP, BOTH])
def test_a_proved_absence_resends_within_place_within_s_or_gives_up(
    capabilities: frozenset[Capability],
) -> None:
    entry = proved_absent(capabilities)
    assert step(entry) == Resend()
    assert step(entry, next_try_in_s=3.0) == Wait(3.0)
    assert step(entry, 895.0, next_try_in_s=60.0) == Wait(5.0)
    assert step(entry, 900.0) == GiveUp(Reason.ABSENCE_PROVED)


def test_a_proved_absence_is_not_resent_to_a_dedup_that_may_have_forgotten_the_key() -> None:
    entry = within(proved_absent(BOTH), dedup_for_s=100.0)
    assert step(entry, 96.0) == GiveUp(Reason.ABSENCE_PROVED)


def test_a_lost_resend_after_proved_absence_is_doubt_again() -> None:
    assert step(lost(resent(proved_absent()))) == LookUp()


# --- every circumstance ----------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.DEAD_LETTER, *map(Status, ("confirmed", "rejected"))])
def test_what_is_settled_or_a_persons_is_done(status: Status) -> None:
    assert step(in_status(status)) == Done()
    assert step(in_status(Status.FAILED)) == Done()


@pytest.mark.parametrize("begun", [dispatched(), dispatched(DEDUP), resent(in_doubt(DEDUP))])
def test_nothing_is_done_about_an_order_while_an_attempt_is_under_way(begun: Entry) -> None:
    for after_s in (0.0, 1e6):
        assert waits(step(begun, after_s, quiet_in_s=0.0)) > 0


CIRCUMSTANCES = st.builds(
    Circumstances,
    now=st.floats(NOW, NOW + 10_000),
    quiet_in_s=st.just(0.0) | st.floats(0, 100),
    listening=st.booleans(),
    next_try_in_s=st.just(0.0) | st.floats(0, 100),
    looked_up_since_send=st.booleans(),
)


def doubts(capabilities: frozenset[Capability]) -> list[Entry]:
    doubt, absent = in_doubt(capabilities), proved_absent(capabilities)
    made = [doubt, life.quiet(doubt), absent, received(capabilities), dispatched(capabilities)]
    if Capability.DEDUP in capabilities:
        made += [lost(resent(doubt)), answered(resent(doubt), 422), answered(resent(doubt), 409)]
    return [*made, lost(resent(absent)), life.quiet(lost(resent(absent)))]


@pytest.mark.parametrize("capabilities", CAPABILITIES)
@given(seen=CIRCUMSTANCES, which=st.integers(0, 20))
def test_a_plan_never_sends_while_an_earlier_attempt_may_take_effect_unless_dedup(
    capabilities: frozenset[Capability], seen: Circumstances, which: int
) -> None:
    entries = doubts(capabilities)
    entry = entries[which % len(entries)]
    match plan(entry, seen):
        case Place():
            assert entry.status is Status.RECEIVED
            assert entry.absence_proved
            assert life.dispatch(entry, seen.now, WHO).open_attempt is not None
        case Resend():
            assert entry.absence_proved or entry.promise.dedup
            if entry.promise.dedup:
                assert entry.key_remembered(seen.now)
            assert life.resend(entry, seen.now, WHO).open_attempt is not None
        case GiveUp(reason):
            assert life.fail(entry, reason, seen.now, WHO).status is Status.FAILED
        case Bury(reason):
            assert life.bury(entry, reason, seen.now, WHO).status is Status.DEAD_LETTER
        case NoteQuiet():
            assert seen.quiet_in_s <= 0
            assert life.quiet(entry).quiet
        case LookUp():
            assert entry.promise.can_look_up
        case Wait(for_s):
            assert for_s > 0
        case Done():
            raise AssertionError("a pending order is never done")


def test_a_capability_without_its_lookup_waits_for_its_doubt_to_end() -> None:
    bare = replace(QUIET_LOOKUP, promise=Promise("r", "u", LOOKUP, lookup=None))
    assert step(bare) == Wait(3600.0)


# --- the back-off ----------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_a_back_off_is_bounded_and_never_nothing(tries: int, draw: float) -> None:
    assert 0.25 <= backoff_s(tries, draw) <= BACKOFF_MAX_S


@given(st.integers(0, 100))
def test_a_back_off_grows_with_the_tries(tries: int) -> None:
    assert backoff_s(tries + 1, 0.5) >= backoff_s(tries, 0.5)
    assert backoff_s(tries, 0.0) * 2 == backoff_s(tries, 1.0)


# --- after the ledger forgot ------------------------------------------------------------------


def taken_after_forgetting(capabilities: frozenset[Capability]) -> Entry:
    """Its client may have been told that it failed."""
    return life.suspect(life.take_over(in_doubt(capabilities), NOW + 1, WHO), NOW + 1, WHO)


def claimed_after_forgetting(capabilities: frozenset[Capability]) -> Entry:
    """Its client asks for it just now."""
    return life.suspect(received(capabilities), NOW, WHO)


@pytest.mark.parametrize("capabilities", [LOOKUP, BOTH])
def test_what_a_client_was_perhaps_told_had_failed_is_looked_up_and_not_sent(
    capabilities: frozenset[Capability],
) -> None:
    entry = taken_after_forgetting(capabilities)
    assert step(entry, 2) == LookUp()
    assert isinstance(step(entry, 2, looked_up=True, next_try_in_s=1), Wait)
    quiet = life.quiet(entry)
    assert step(quiet, 40, quiet_in_s=0, looked_up=True) == LookUp()
    absent = life.absent(quiet, NOW + 40, WHO)
    assert step(absent, 40, quiet_in_s=0) == GiveUp(Reason.ABSENCE_PROVED)


def test_where_only_sending_again_could_tell_a_person_decides() -> None:
    entry = taken_after_forgetting(DEDUP)
    assert step(entry, 2) == Bury(Reason.CANNOT_RECONCILE)
    assert isinstance(step(entry, 2, listening=True), Wait)
    dead = life.bury(entry, Reason.CANNOT_RECONCILE, NOW + 2, WHO)
    assert step(ask_resend(dead, None, NOW + 3, "ann", "nonce"), 3) == Resend()


@pytest.mark.parametrize("capabilities", [DEDUP, LOOKUP, BOTH])
def test_what_a_client_asks_for_after_the_ledger_forgot_is_sent(
    capabilities: frozenset[Capability],
) -> None:
    entry = life.quiet(claimed_after_forgetting(capabilities))
    if Capability.LOOKUP in capabilities:
        entry = life.absent(entry, NOW + 40, WHO)
    assert step(entry, 40, quiet_in_s=0) == Resend()


def test_a_key_that_is_claimed_again_leaves_the_forgetting_behind() -> None:
    absent = life.absent(life.quiet(taken_after_forgetting(LOOKUP)), NOW + 40, WHO)
    failed = life.fail(absent, Reason.ABSENCE_PROVED, NOW + 40, WHO)
    assert failed.perhaps_told
    assert not life.claim_again(failed, submission("claim-2"), NOW + 50).perhaps_told


@pytest.mark.parametrize("status", [401, 422, 429])
def test_a_refusal_says_nothing_of_attempts_that_the_ledger_forgot(status: int) -> None:
    entry = taken_after_forgetting(DEDUP)
    late = life.late_answer(entry, 1, answer(status), NOW + 2, WHO)
    assert late is not None
    assert late.status is Status.IN_DOUBT
    assert not late.absence_proved


@pytest.mark.parametrize("beyond", [0, 1])
def test_an_order_that_an_attempt_made_which_the_ledger_forgot_is_confirmed(beyond: int) -> None:
    """Also where more of them are forgotten than one stands for."""
    entry = taken_after_forgetting(DEDUP)
    late = life.late_answer(entry, len(entry.attempts) + beyond, answer(201), NOW + 2, WHO)
    assert late is not None
    assert (late.status, late.disputed) == (Status.CONFIRMED, False)
    failed = life.fail(
        life.absent(life.quiet(entry), NOW + 40, WHO), Reason.ABSENCE_PROVED, NOW + 40, WHO
    )
    late = life.late_answer(failed, len(entry.attempts) + beyond, answer(201), NOW + 50, WHO)
    assert late is not None
    assert late.disputed


def test_that_a_client_was_perhaps_told_is_forgotten_by_nothing_that_follows() -> None:
    """Not by an answer to an attempt that was lost with the rest, nor in a long time of doubt."""
    entry = taken_after_forgetting(DEDUP)
    for status in (502, 422, 401, 429):
        assert life.late_answer(entry, len(entry.attempts), answer(status), NOW + 2, WHO) is None
    for tries in range(2 * EVENTS_MAX):
        entry = life.no_evidence(entry, "503", NOW + tries, WHO)
    assert entry.perhaps_told
