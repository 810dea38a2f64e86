"""When a dead worker is followed by another, and when that is no use."""

from gateway.supervisor.deaths import (
    DEATHS_MAX,
    LIVED_ON_A_DISK_S,
    LIVED_S,
    PAUSE_FIRST_S,
    PAUSE_LONGEST_S,
    Again,
    GiveUp,
    after_death,
)


def test_a_worker_that_had_served_is_followed_at_once() -> None:
    assert after_death(DEATHS_MAX - 1, LIVED_S) == Again(0.0, 0)


def test_a_worker_that_never_served_is_followed_after_a_pause() -> None:
    assert after_death(0, None) == Again(PAUSE_FIRST_S, 1)


def test_a_worker_that_died_as_soon_as_it_served_counts_as_one_that_never_did() -> None:
    assert after_death(1, LIVED_S / 2) == Again(PAUSE_FIRST_S * 2, 2)


def test_pauses_grow_and_end_in_giving_up() -> None:
    deaths, pauses = 0, []
    while isinstance(sequel := after_death(deaths, None), Again):
        deaths = sequel.deaths
        pauses.append(sequel.pause_s)
    assert sequel == GiveUp(DEATHS_MAX)
    assert pauses == sorted(pauses)
    assert max(pauses) <= PAUSE_LONGEST_S


def test_while_others_live_it_is_tried_again_for_ever() -> None:
    deaths, pause_s = 0, 0.0
    for _ in range(3 * DEATHS_MAX):
        sequel = after_death(deaths, None, others_live=True)
        assert isinstance(sequel, Again)
        deaths, pause_s = sequel.deaths, sequel.pause_s
    assert pause_s == PAUSE_LONGEST_S
    assert after_death(deaths, None) == GiveUp(deaths + 1)


def test_a_worker_whose_disk_fails_again_and_again_is_followed_more_and_more_slowly() -> None:
    first = after_death(0, LIVED_S * 10, disk_failed=True)
    assert first == Again(PAUSE_FIRST_S, 1)
    assert after_death(1, LIVED_S * 10, disk_failed=True) == Again(PAUSE_FIRST_S * 2, 2)
    assert after_death(3, LIVED_ON_A_DISK_S, disk_failed=True) == Again(0.0, 0)
