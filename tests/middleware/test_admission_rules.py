"""admission/rules.py: how many are let in, and who may begin to wait."""

import pytest

from middleware.admission import AdmissionPolicy
from middleware.admission.rules import (
    STANDING_WAIT_S,
    Limit,
    expected_wait_s,
    may_wait,
    usual_s,
)


def test_one_late_turn_among_others_is_not_usual() -> None:
    assert usual_s([0.001, 0.3, 0.001]) == pytest.approx(0.001)
    assert usual_s([0.02, 0.03, 0.04]) == pytest.approx(0.025)


def ticks(limit: Limit, latency_s: float, count: int, *, reached: bool = True) -> int:
    for _ in range(count):
        limit.tick(lag_s=0.0, latency_s=latency_s, reached=reached, most=limit.value)
    return limit.value


def test_the_limit_follows_the_latency_only_where_it_is_asked_to() -> None:
    fixed = Limit(AdmissionPolicy(100))
    assert (ticks(fixed, 0.05, 10), ticks(fixed, 5.0, 10)) == (100, 100)
    adaptive = Limit(AdmissionPolicy(100, requests_min=16, adaptive=True))
    assert ticks(adaptive, 0.05, 10) == 100
    assert ticks(adaptive, 0.08, 10) == 100  # not twice as long
    assert ticks(adaptive, 1.0, 50) == 16
    assert 30 < ticks(adaptive, 0.05, 30) <= 100


def test_the_limit_grows_only_where_somebody_wants_more() -> None:
    limit = Limit(AdmissionPolicy(100, requests_min=10))
    for _ in range(30):
        limit.tick(lag_s=1.0, latency_s=None, reached=True, most=limit.value)
    assert limit.value == 10
    assert ticks(limit, 0.01, 20, reached=False) == 10


def test_another_policy_keeps_what_was_found_out() -> None:
    limit = Limit(AdmissionPolicy(100, requests_min=16, lag_s=0.02))
    ticks(limit, 0.0, 5)
    limit.tick(lag_s=0.0201, latency_s=None, reached=True, most=limit.value)
    assert limit.value == 85
    limit.apply(AdmissionPolicy(400, requests_min=16))
    assert limit.value == 85
    limit.apply(AdmissionPolicy(20))
    assert limit.value == 20


def test_a_rush_at_the_start_finds_a_small_door_that_opens_within_seconds() -> None:
    limit = Limit(AdmissionPolicy(1024, requests_min=16))
    assert limit.value == 16
    assert ticks(limit, 0.1, 6) == 1024


def test_after_the_first_lag_the_door_opens_slowly() -> None:
    limit = Limit(AdmissionPolicy(1024, requests_min=16))
    opened = ticks(limit, 0.1, 4)
    limit.tick(lag_s=0.03, latency_s=None, reached=True, most=limit.value)
    closed = limit.value
    assert closed < opened
    assert closed < ticks(limit, 0.1, 1) <= closed * 1.25 + 1


def test_a_loop_that_is_very_late_is_quick_again_after_a_turn_or_two() -> None:
    limit = Limit(AdmissionPolicy(1024, requests_min=16))
    ticks(limit, 0.1, 25)
    for _ in range(3):
        limit.tick(lag_s=0.8, latency_s=None, reached=True, most=limit.value)
    assert limit.value <= 70


def test_the_wait_is_foreseen_by_the_rate_of_endings() -> None:
    assert expected_wait_s(9, 10.0) == pytest.approx(1.0)
    assert expected_wait_s(9, 0.0) == 0.0


def longest_wait_s(policy: AdmissionPolicy, standing_s: float) -> float:
    """The longest that is begun, where a thousand end in a second."""
    return sum(may_wait(policy, ahead, 1000.0, standing_s) for ahead in range(10_000)) / 1000.0


def test_a_burst_may_wait_and_a_standing_queue_may_not() -> None:
    policy = AdmissionPolicy(1, queue_s=0.5)
    assert longest_wait_s(policy, 0.0) == longest_wait_s(policy, 0.49) == 0.25
    assert longest_wait_s(policy, 0.5) == STANDING_WAIT_S
    assert longest_wait_s(AdmissionPolicy(1, queue_s=0.02), 1.0) == 0.01


def test_where_nothing_ends_nobody_waits_behind_another_for_long() -> None:
    policy = AdmissionPolicy(1, queue_s=0.5)
    assert may_wait(policy, 100, 0.0, 0.49)  # it is not known yet how long that takes
    assert not may_wait(policy, 1, 0.0, 0.5)
    assert may_wait(policy, 0, 0.0, 0.5)


def test_work_that_piles_up_elsewhere_lets_fewer_in_too() -> None:
    limit = Limit(AdmissionPolicy(1024, requests_min=16))
    limit.tick(lag_s=0.0, delay_s=0.1, latency_s=None, reached=True, most=limit.value)
    opened = limit.value
    assert opened == 32
    limit.tick(lag_s=0.0, delay_s=0.4, latency_s=None, reached=True, most=opened)
    assert limit.value == opened // 2
