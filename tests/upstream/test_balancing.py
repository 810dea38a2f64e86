"""Which server is asked, when one is put aside, and how it comes back."""

import random
from collections import Counter

import pytest

from gateway.upstream.balancing import (
    EJECTIONS_MAX,
    BalancePolicy,
    Candidate,
    Standing,
    Turn,
    order_of_choice,
    sticky_order,
)

POLICY = BalancePolicy(eject_after=3, eject_s=10.0, slow_start_s=10.0)


def chosen(candidates: list[Candidate], draws: int = 3000) -> Counter[int]:
    chance = random.Random(7)
    return Counter(
        order_of_choice(candidates, (chance.random(), chance.random()))[0] for _ in range(draws)
    )


def test_the_less_busy_of_two_is_asked_first() -> None:
    assert order_of_choice([Candidate(5), Candidate(1)], (0.0, 0.0)) == (1, 0)
    assert order_of_choice([Candidate(0), Candidate(1)], (0.9, 0.0)) == (0, 1)


def test_equal_servers_share_alike() -> None:
    counts = chosen([Candidate(3)] * 3)
    assert all(800 < counts[index] < 1200 for index in range(3))


def test_the_busiest_of_three_is_never_first() -> None:
    assert chosen([Candidate(9), Candidate(1), Candidate(1)])[0] == 0


def test_a_server_that_is_out_is_not_asked() -> None:
    assert chosen([Candidate(0, is_out=True), Candidate(50), Candidate(50)])[0] == 0
    assert order_of_choice([Candidate(0, is_out=True), Candidate(50)], (0.0, 0.0)) == (1,)


def test_where_all_are_out_all_are_asked() -> None:
    assert len(chosen([Candidate(0, is_out=True)] * 3)) == 3


def test_a_server_that_came_back_bears_less_at_first() -> None:
    counts = chosen([Candidate(1, share=0.1), Candidate(5), Candidate(5)])
    assert counts[0] == 0
    assert chosen([Candidate(0, share=0.5), Candidate(5), Candidate(5)])[0] > 1500


def test_failures_in_a_row_put_a_server_aside_for_a_while() -> None:
    standing = Standing()
    outcomes = [standing.ended(0.0, POLICY, failed=True) for _ in range(3)]
    assert outcomes == [False, False, True]
    assert standing.is_out(9.9)
    assert not standing.is_out(10.0)


def test_a_success_in_between_forgives() -> None:
    standing = Standing()
    for failed in (True, True, False, True, True):
        standing.ended(0.0, POLICY, failed=failed)
    assert not standing.is_out(0.1)


def test_each_time_in_a_row_is_longer_up_to_a_limit() -> None:
    standing, now, lengths = Standing(), 0.0, []
    for _ in range(EJECTIONS_MAX + 3):
        for _ in range(3):
            standing.ended(now, POLICY, failed=True)
        lengths.append(standing.ejected_until - now)
        now = standing.ejected_until
    assert lengths[:3] == [10.0, 20.0, 30.0]
    assert lengths[-1] == 100.0


def test_after_a_good_while_the_times_are_forgotten() -> None:
    standing = Standing()
    for _ in range(3):
        standing.ended(0.0, POLICY, failed=True)
    standing.ended(30.0, POLICY, failed=False)
    assert standing.ejections == 0


def test_it_comes_back_slowly() -> None:
    standing = Standing()
    for _ in range(3):
        standing.ended(0.0, POLICY, failed=True)
    shares = [standing.share(now, POLICY) for now in (10.0, 15.0, 20.0)]
    assert shares == [0.1, pytest.approx(0.5), 1.0]
    assert Standing().share(0.0, POLICY) == 1.0


def test_checks_count_two_alike() -> None:
    standing = Standing()
    told = [standing.checked(0.0, POLICY, well=well) for well in (False, True, False, False)]
    assert told == [False, False, False, True]
    assert standing.is_out(1e6)
    assert [standing.checked(50.0, POLICY, well=True) for _ in range(2)] == [False, True]
    assert not standing.is_out(50.0)
    assert standing.share(50.0, POLICY) == pytest.approx(0.1)


def test_when_a_server_goes_only_its_own_clients_move() -> None:
    names = ["a:1", "b:1", "c:1"]
    up = [Candidate(0)] * 3
    without_b = [Candidate(0), Candidate(0, is_out=True), Candidate(0)]
    values = [str(number).encode() for number in range(300)]
    before = [sticky_order(names, up, value)[0] for value in values]
    after = [sticky_order(names, without_b, value)[0] for value in values]
    assert all(count > 60 for count in Counter(before).values())
    assert all(old == new for old, new in zip(before, after, strict=True) if old != 1)
    assert 1 not in after


def test_no_server_is_tried_twice_for_one_connection() -> None:
    turn = Turn()
    assert [turn.next((1, 0), 3) for _ in range(4)] == [1, 0, 2, None]
