"""An order's whole life at random, and the same with each safeguard switched off."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.orders import life
from gateway.orders.attempts import NotSent, NotSentReason
from gateway.orders.bookkeeping import nothing_made, raise_token
from gateway.orders.entry import Entry
from gateway.orders.outcomes import Refuses, judge
from gateway.orders.states import IllegalMove, Reason, Status
from tests.orders.journey import Journey
from tests.orders.making import DEDUP, LOOKUP, NONE

QUICK = settings(
    max_examples=300,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
HUNT = settings(QUICK, max_examples=2000, database=None, phases=[Phase.generate], derandomize=True)


def test_whatever_befalls_an_order_it_is_made_once_and_told_truly() -> None:
    run_state_machine_as_test(Journey, settings=QUICK)


def taken_over_as_not_sent(entry: Entry, now: float, who: str) -> Entry:
    taken = raise_token(entry)
    if taken.open_attempt is None:
        return taken
    return life.end_attempt(taken, NotSent(NotSentReason.LEASE_LOST), now, who)


def absent_without_quiet(entry: Entry, now: float, who: str) -> Entry:
    proved = replace(nothing_made(entry), status=Status.IN_DOUBT)
    return replace(proved, quiet_attempt=len(entry.attempts))


def judged_as_a_first_attempt(*args: Any, resend: bool) -> Any:
    return judge(*args, resend=False)


def refusals_always_settle(_entry: Entry, _number: int) -> bool:
    return True


def server_errors_refuse(*args: Any, resend: bool) -> Any:
    return Refuses() if args[0].status >= 500 else judge(*args, resend=resend)


def always(_entry: Entry, _now: float) -> bool:
    return True


def buried_as_failed(entry: Entry, _reason: Reason, now: float, _who: str) -> Entry:
    return replace(entry, status=Status.FAILED, settled_at=now, request=None)


class Racing(Journey):
    """The first attempt is slow and makes the order; the others are refused before it does."""

    tried = ((DEDUP, 7200.0),)

    def fate(self, number: int, _delay_s: float, refusal: int | None) -> tuple[float, int | None]:
        return (29.9, None) if number == 1 else (0.0, refusal or 422)


class Forgetting(Journey):
    tried = ((DEDUP, 60.0),)


class LookingUp(Journey):
    tried = ((LOOKUP, 0.0),)


class Helpless(Journey):
    tried = ((NONE, 0.0),)


SAFEGUARDS: dict[str, tuple[type[Journey], Any, str, Callable[..., Any]]] = {
    "a takeover is Lost, never not sent": (Journey, life, "take_over", taken_over_as_not_sent),
    "a no counts only after quiet": (LookingUp, life, "absent", absent_without_quiet),
    "a resend is judged with care": (Racing, life, "judge", judged_as_a_first_attempt),
    "a refusal settles only with proof": (
        Racing,
        life,
        "refusal_settles",
        refusals_always_settle,
    ),
    "a 5xx proves nothing": (Journey, life, "judge", server_errors_refuse),
    "a key is not remembered for ever": (Forgetting, Entry, "key_remembered", always),
    "doubt ends with a person": (Helpless, life, "bury", buried_as_failed),
}


@pytest.mark.parametrize("safeguard", SAFEGUARDS)
def test_the_journey_finds_a_safeguard_that_is_off(
    safeguard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an invariant, a move that the table does not have, or the guard before each sending."""
    machine, where, name, broken = SAFEGUARDS[safeguard]
    monkeypatch.setattr(where, name, broken)
    with pytest.raises((AssertionError, IllegalMove, ValueError)):
        run_state_machine_as_test(machine, settings=HUNT)


def test_the_journey_finds_a_resend_in_doubt_to_an_upstream_that_only_looks_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both guards off: the plan's, and the one before each sending."""
    monkeypatch.setattr(Entry, "may_be_sent", always)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(LookingUp, settings=HUNT)
