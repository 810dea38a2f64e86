"""The faults are drawn by seed, and none outlasts the backend's longest work."""

from collections import Counter

from gateway.demo.faults import (
    COURSES,
    STORM,
    WORK_S_MAX,
    Ending,
    Fault,
    LookupFault,
    draw,
    draw_lookup,
)


def test_the_same_seed_draws_the_same_ordeal_in_any_order() -> None:
    forwards = [draw(7, f"i-{n}", 1) for n in range(50)]
    backwards = [draw(7, f"i-{n}", 1) for n in reversed(range(50))]
    assert forwards == backwards[::-1]
    assert forwards != [draw(8, f"i-{n}", 1) for n in range(50)]


def test_every_fault_of_the_storm_comes_and_none_works_too_long() -> None:
    ordeals = [draw(7, f"i-{n}", nth) for n in range(700) for nth in (1, 2)]
    assert {ordeal.fault for ordeal in ordeals} == set(Fault)
    assert max(ordeal.work_s for ordeal in ordeals) < WORK_S_MAX


def test_every_fault_has_a_course_and_a_share() -> None:
    assert set(COURSES) == set(Fault) == set(STORM)
    assert sum(STORM.values()) == 100


def test_an_answer_and_a_429_leave_no_doubt_and_all_else_does() -> None:
    clear = {fault for fault, course in COURSES.items() if not course.leaves_doubt}
    assert clear == {Fault.NONE, Fault.SLOW, Fault.NOT_PROCESSED}
    assert all(COURSES[fault].ending is not Ending.ANSWER for fault in set(Fault) - clear)


def test_lookups_fail_now_and_then() -> None:
    drawn = Counter(draw_lookup(7, f"k-{n}", 1) for n in range(400))
    assert set(drawn) == set(LookupFault)
    assert drawn[LookupFault.NONE] > 300
