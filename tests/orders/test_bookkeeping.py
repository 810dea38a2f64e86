"""bookkeeping.py: answers kept, events written."""

from gateway.orders import life
from gateway.orders.attempts import Answer, Answered
from gateway.orders.bookkeeping import EVENTS_MAX, keep
from gateway.orders.states import Reason, Status
from tests.orders.making import (
    BOTH,
    NOW,
    WHO,
    answer,
    dispatched,
    in_doubt,
    promise,
    proved_absent,
)


def test_a_kept_answer_has_no_credentials_and_nothing_of_its_connection() -> None:
    told = answer(
        201,
        extra=(
            (b"Set-Cookie", b"a=b"),
            (b"WWW-Authenticate", b"Basic"),
            (b"Connection", b"close, X-Hop"),
            (b"x-hop", b"1"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Location", b"/orders/42"),
        ),
    )
    kept = keep(told, 1000)
    assert [name for name, _ in kept.headers] == [b"Content-Type", b"Location"]
    assert kept.body == told.body


def test_an_answer_too_large_to_keep_leaves_a_tombstone_and_the_claim() -> None:
    large = answer(201, b'"' + b"x" * 2_000_000 + b'"')
    entry = life.end_attempt(dispatched(), Answered(large), NOW, WHO)
    assert entry.status is Status.CONFIRMED
    assert entry.answer is not None
    assert entry.answer.body is None
    assert len(entry.answer.digest) == 64
    assert entry.answer.headers == ((b"Content-Type", b"application/json"),)
    cut = Answer(201, b"", (), b"", oversize=True, digest="ab" * 32)
    assert keep(cut, 1000).body is None
    assert keep(cut, 1000).digest == "ab" * 32


def test_the_events_of_an_order_are_capped_and_the_ends_are_kept() -> None:
    entry = in_doubt()
    for turn in range(3 * EVENTS_MAX):
        entry = life.no_evidence(entry, str(turn), NOW + turn, WHO)
        assert len(entry.events) <= EVENTS_MAX
    assert len(entry.events) == EVENTS_MAX
    assert [event.reason for event in entry.events[:2]] == [Reason.CLAIMED, Reason.NO_ANSWER]
    assert entry.events[-1].detail == str(3 * EVENTS_MAX - 1)
    times = [event.at for event in entry.events]
    assert times == sorted(times)


def test_every_move_is_an_event_with_when_from_to_why_and_who() -> None:
    entry = life.fail(proved_absent(), Reason.ABSENCE_PROVED, NOW + 3, "replica-9")
    event = entry.events[-1]
    assert (event.at, event.source, event.target) == (NOW + 3, Status.IN_DOUBT, Status.FAILED)
    assert (event.reason, event.who) == (Reason.ABSENCE_PROVED, "replica-9")
    for earlier, later in zip(entry.events, entry.events[1:], strict=False):
        assert earlier.target is later.source


def test_the_promise_of_a_submission_is_frozen_in_its_entry() -> None:
    assert dispatched(BOTH).promise == promise(BOTH)
