"""A light value is the dataclass that it was, but for the cost of making one."""

import copy
import pickle
from dataclasses import dataclass, field, replace

import pytest

from middleware.values import light


@light
@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 2
    note: str | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("left of the edge")


def test_a_light_value_is_made_compared_and_shown_as_before() -> None:
    assert Point(1) == Point(x=1, y=2, note="not compared")
    assert Point(1) != Point(1, 3)
    assert hash(Point(1)) == hash(Point(1, 2, "x"))
    assert repr(Point(1)) == "Point(x=1, y=2)"
    assert not hasattr(Point(1), "__dict__")


def test_a_light_value_is_replaced_copied_and_pickled_as_before() -> None:
    assert replace(Point(1), y=5) == Point(1, 5)
    assert copy.copy(Point(1, 3)) == pickle.loads(pickle.dumps(Point(1, 3))) == Point(1, 3)


def test_a_light_value_still_checks_itself_and_its_arguments() -> None:
    with pytest.raises(ValueError, match="left of the edge"):
        Point(-1)
    with pytest.raises(TypeError, match="x"):
        Point()  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        Point(1).z = 3  # type: ignore[attr-defined]


def test_what_makes_its_own_defaults_is_refused() -> None:
    with pytest.raises(TypeError, match="items"):

        @light
        @dataclass(frozen=True, slots=True)
        class Basket:
            items: list[str] = field(default_factory=list)
