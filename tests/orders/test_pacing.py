"""What waits is worked off at a bounded rate that follows the load."""

import pytest

from gateway.orders.pacing import BURST_S, Load, Pace


def waits(pace: Pace, load: Load, count: int, now: float = 100.0) -> float:
    """When the last of so many slots is there, counted from ``now``."""
    return [pace.slot_in_s(now, load) for _ in range(count)][-1]


@pytest.mark.parametrize("load", list(Load))
def test_so_many_a_second_and_no_more(load: Load) -> None:
    pace = Pace()
    pace.slot_in_s(100.0, load)
    assert waits(pace, load, int(load.per_s)) == pytest.approx(1.0 - BURST_S, abs=0.02)


def test_what_was_not_used_is_not_saved_up() -> None:
    pace = Pace()
    waits(pace, Load.IDLE, 10)
    after = [pace.slot_in_s(1000.0, Load.IDLE) for _ in range(100)]
    assert after.count(0.0) == pytest.approx(Load.IDLE.per_s * BURST_S, abs=2)


def test_it_slows_down_at_once_when_requests_have_to_wait() -> None:
    pace = Pace()
    waits(pace, Load.IDLE, 50)
    first = pace.slot_in_s(101.0, Load.PRESSED)
    second = pace.slot_in_s(101.0, Load.PRESSED)
    assert second - first == pytest.approx(0.0, abs=0.1)
    assert waits(pace, Load.PRESSED, 10, now=101.0) == pytest.approx(1.0, abs=0.2)
