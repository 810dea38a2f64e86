"""claiming.py: who gets a key."""

from collections.abc import Callable
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orders import life
from gateway.orders.attempts import NotSent, NotSentReason
from gateway.orders.claiming import (
    Fresh,
    InFlight,
    Mismatch,
    Replay,
    Unreadable,
    attach_matches,
    decide,
)
from gateway.orders.entry import Entry
from gateway.orders.states import Status
from tests.orders.making import NOW, WHO, answer, failed, in_status, rejected, submission

SAME = submission("claim-2")
OTHER = submission("claim-2", fingerprint="r1:bb", canonical="c1:bb")
REWRITTEN = submission("claim-2", fingerprint="r1:bb", canonical="c1:aa")


@pytest.mark.parametrize("status", Status)
def test_the_same_submission_gets_what_the_status_says(status: Status) -> None:
    entry = in_status(status)
    claimed = decide(entry, SAME)
    match status:
        case Status.CONFIRMED | Status.REJECTED:
            assert claimed == Replay(entry)
        case Status.FAILED:
            assert claimed is None
        case _:
            assert claimed == InFlight(entry)


@pytest.mark.parametrize("status", Status)
def test_nothing_frees_a_key_but_failed(status: Status) -> None:
    taken_again = decide(in_status(status), SAME) is None
    assert taken_again == (status is Status.FAILED)


@pytest.mark.parametrize("status", Status)
def test_another_submission_is_a_mismatch_in_every_status(status: Status) -> None:
    entry = in_status(status)
    assert decide(entry, OTHER) == Mismatch(entry)


@pytest.mark.parametrize("status", Status)
def test_json_written_otherwise_is_the_same_submission(status: Status) -> None:
    assert not isinstance(decide(in_status(status), REWRITTEN), Mismatch | Unreadable)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize(
    ("fingerprint", "canonical"),
    [("x9:aa", None), ("x9:aa", "c1:aa"), ("r1:other", "x9:aa"), ("", None), ("aa", None)],
)
def test_an_unknown_fingerprint_tag_is_never_fresh(
    status: Status, fingerprint: str, canonical: str | None
) -> None:
    entry = replace(in_status(status), fingerprint=fingerprint, canonical_fingerprint=canonical)
    assert decide(entry, SAME) == Unreadable(entry)


def test_two_bodies_without_a_canonical_form_are_not_the_same() -> None:
    entry = replace(in_status(Status.CONFIRMED), canonical_fingerprint=None)
    plain = submission("claim-2", fingerprint="r1:bb", canonical=None)
    assert decide(entry, plain) == Mismatch(entry)
    assert decide(in_status(Status.CONFIRMED), plain) == Mismatch(in_status(Status.CONFIRMED))


@pytest.mark.parametrize("status", Status)
def test_the_same_claim_made_twice_is_one_claim(status: Status) -> None:
    """Fresh only while nothing else has become of it: what moved on is nobody's to send."""
    entry = in_status(status)
    claimed = decide(entry, submission("claim-1"))
    match status:
        case Status.RECEIVED | Status.DISPATCHED:
            assert claimed == Fresh(entry)
        case Status.IN_DOUBT | Status.DEAD_LETTER:
            assert claimed == InFlight(entry)
        case _:
            assert claimed == Replay(entry)


def test_a_claim_that_was_settled_as_not_sent_is_not_made_again_by_its_own_echo() -> None:
    request = submission("claim-1")
    unsent = NotSent(NotSentReason.CLAIM_UNACKNOWLEDGED)
    settled = life.end_attempt(life.claim(request, NOW), unsent, NOW, WHO)
    assert settled.status is Status.FAILED
    assert decide(settled, request) == Replay(settled)


def test_a_disputed_failure_is_replayed_and_not_sent_again() -> None:
    disputed = life.late_answer(failed(), 1, answer(201), NOW, WHO)
    assert disputed is not None
    assert disputed.status is Status.FAILED
    assert disputed.disputed
    assert decide(disputed, SAME) == Replay(disputed)


# --- attached keys ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status", [Status.RECEIVED, Status.DISPATCHED, Status.IN_DOUBT, Status.DEAD_LETTER]
)
@given(after_s=st.floats(0, 1e9))
def test_a_submission_without_a_key_matches_while_the_order_is_not_settled(
    status: Status, after_s: float
) -> None:
    assert attach_matches(in_status(status), NOW + after_s)


@given(after_s=st.floats(0, 1e6))
def test_it_matches_a_confirmed_order_for_attach_window_s(after_s: float) -> None:
    entry = in_status(Status.CONFIRMED)
    now = NOW + after_s
    assert attach_matches(entry, now) == (now < NOW + entry.promise.attach_window_s)


@pytest.mark.parametrize("status", [Status.REJECTED, Status.FAILED])
def test_a_rejection_or_failure_releases_it_at_once(status: Status) -> None:
    assert not attach_matches(in_status(status), NOW)


@pytest.mark.parametrize("make", [rejected, failed])
def test_a_disputed_refusal_is_taken_for_the_order_that_evidence_says_it_is(make) -> None:  # type: ignore[no-untyped-def]
    entry = make()
    if entry.status is Status.REJECTED:
        entry = life.dispute(entry, "the books hold it", NOW + 5, WHO)
    else:
        entry = life.late_answer(entry, 1, answer(201), NOW + 5, WHO)
    assert attach_matches(entry, NOW + 6)
    assert not attach_matches(entry, NOW + 5 + entry.promise.attach_window_s)


def test_a_submission_from_before_its_try_failed_is_no_new_try() -> None:
    """It lay in a gateway that stood still; its client was told, or asks, elsewhere."""
    entry = failed()
    for waited_at, verdict in ((NOW - 1, Replay(entry)), (NOW, None), (NOW + 1, None)):
        assert decide(entry, replace(submission("claim-2"), waited_at=waited_at)) == verdict
    gone = replace(submission("claim-2"), waited_at=-inf)
    assert decide(entry, gone) == Replay(entry)
    assert decide(entry, submission("claim-2")) is None


@pytest.mark.parametrize("make", [failed, rejected])
def test_a_keyless_submission_from_before_the_refusal_gets_that_refusal(
    make: Callable[[], Entry],
) -> None:
    entry = make()
    assert attach_matches(entry, NOW + 1, waited_at=NOW - 1)
    assert not attach_matches(entry, NOW + 1, waited_at=NOW)
    assert not attach_matches(entry, NOW + entry.promise.attach_window_s, waited_at=NOW - 1)
