"""When the breaker opens, what it lets through then, and whose failures count."""

import pytest

from gateway.upstream.breaking import (
    PROBE_S_MAX,
    Breaker,
    BreakerPolicy,
    BreakerState,
    Override,
    Verdict,
    is_failure,
)

POLICY = BreakerPolicy(calls_min=10, slow_s=1.0)


def call(
    breaker: Breaker,
    now: float,
    *,
    failed: bool = False,
    took_s: float = 0.1,
    order: str | None = None,
) -> Verdict:
    verdict = breaker.allows(now)
    if verdict is not Verdict.REFUSE:
        probe = verdict is Verdict.PROBE
        breaker.ended(now, failed=failed, took_s=took_s, probe=probe, order=order)
    return verdict


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(POLICY)
    for _ in range(10):
        call(breaker, now, failed=True)
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_it_opens_by_the_share_of_failures_and_not_by_failures_in_a_row() -> None:
    """bad, bad, ok, bad, bad, ok: two thirds fail, and never many in a row."""
    breaker = Breaker(POLICY)
    for number in range(12):
        call(breaker, number * 0.1, failed=number % 3 != 2)
    assert breaker.state is BreakerState.OPEN


def test_few_calls_say_little() -> None:
    breaker = Breaker(POLICY)
    for _ in range(9):
        call(breaker, 0.0, failed=True)
    assert breaker.state is BreakerState.CLOSED


def test_failures_of_long_ago_are_forgotten() -> None:
    breaker = Breaker(POLICY)
    for _ in range(9):
        call(breaker, 0.0, failed=True)
    for number in range(9):
        call(breaker, 10.5 + number * 0.01)
    call(breaker, 10.7, failed=True)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.rates(10.7).failed == 1


def test_most_calls_slow_open_it_too() -> None:
    breaker = Breaker(POLICY)
    for number in range(10):
        call(breaker, 0.0, took_s=0.1 if number < 2 else 1.5)
    assert breaker.state is BreakerState.OPEN


def test_open_it_lets_nothing_through_until_its_time() -> None:
    breaker = opened()
    assert breaker.allows(4.9) is Verdict.REFUSE
    assert breaker.open_for_s(4.0) == pytest.approx(1.0)
    assert breaker.allows(5.0) is Verdict.PROBE


def test_half_open_it_lets_a_few_probes_through_of_a_herd() -> None:
    breaker = opened()
    verdicts = [breaker.allows(5.0) for _ in range(50)]
    assert verdicts.count(Verdict.PROBE) == POLICY.probes
    assert verdicts.count(Verdict.ADMIT) == 0


def test_probes_that_do_well_close_it() -> None:
    breaker = opened()
    for _ in range(POLICY.probes):
        assert call(breaker, 5.0) is Verdict.PROBE
    assert breaker.state is BreakerState.CLOSED
    assert call(breaker, 5.0, failed=True) is Verdict.ADMIT
    assert breaker.state is BreakerState.CLOSED  # what was before counts no more


@pytest.mark.parametrize(("failed", "took_s"), [(True, 0.1), (False, 2.0)])
def test_one_probe_that_does_not_opens_it_again(failed: bool, took_s: float) -> None:
    breaker = opened()
    call(breaker, 5.0)
    call(breaker, 5.0, failed=failed, took_s=took_s)
    assert breaker.state is BreakerState.OPEN
    assert breaker.allows(9.9) is Verdict.REFUSE
    assert breaker.allows(10.0) is Verdict.PROBE


def test_a_probe_that_sent_nothing_makes_room_for_another() -> None:
    breaker = opened()
    for _ in range(10):
        assert breaker.allows(5.0) is Verdict.PROBE
        breaker.unused()


def test_probes_that_are_never_heard_of_again_do_not_shut_it_for_ever() -> None:
    breaker = opened()
    for _ in range(POLICY.probes):
        breaker.allows(5.0)
    assert breaker.allows(6.0) is Verdict.REFUSE
    assert breaker.allows(5.0 + PROBE_S_MAX) is Verdict.PROBE


def test_one_poisonous_order_never_opens_it_for_others() -> None:
    breaker = Breaker(POLICY)
    for number in range(500):
        call(breaker, number * 0.01, failed=True, order="poison")
        call(breaker, number * 0.01, order=f"good-{number}")
    assert breaker.state is BreakerState.CLOSED
    assert breaker.opened == 0


def test_a_poisonous_order_alone_never_opens_it() -> None:
    breaker = Breaker(POLICY)
    for number in range(500):
        call(breaker, number * 0.01, failed=True, order="poison")
    assert breaker.state is BreakerState.CLOSED


def test_a_poisonous_order_as_a_probe_decides_nothing() -> None:
    breaker = Breaker(POLICY)
    for number in range(10):
        call(breaker, 0.0, failed=True, order=f"o-{number}")
    assert breaker.state is BreakerState.OPEN
    for _ in range(20):
        assert call(breaker, 5.0, failed=True, order="o-3") is Verdict.PROBE
    assert str(breaker.state) == "half_open"
    for number in range(POLICY.probes):
        call(breaker, 5.0, order=f"new-{number}")
    assert str(breaker.state) == "closed"


def test_many_failing_orders_open_it() -> None:
    breaker = Breaker(POLICY)
    for number in range(10):
        call(breaker, 0.0, failed=True, order=f"o-{number}")
    assert breaker.state is BreakerState.OPEN


def test_an_operator_may_hold_it_open_or_closed() -> None:
    breaker = Breaker(POLICY)
    breaker.set(Override.OPEN)
    assert breaker.allows(1e9) is Verdict.REFUSE
    breaker.set(Override.CLOSED)
    for _ in range(50):
        assert call(breaker, 0.0, failed=True) is Verdict.ADMIT
    assert (breaker.effective, breaker.opened, breaker.open_for_s(0.0)) == ("closed", 0, 0.0)
    assert breaker.rates(0.0).failed == 50
    breaker.set(Override.AUTO)
    assert breaker.state is BreakerState.CLOSED


def test_which_answers_are_failures() -> None:
    statuses = (200, 202, 302, 404, 408, 429, 500, 501, 502, 503, 504)
    assert [each for each in statuses if is_failure(each)] == [500, 502, 503, 504]
