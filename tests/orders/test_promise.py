"""promise.py: what an order was promised when it was claimed stays what it is."""

from dataclasses import FrozenInstanceError, replace

import pytest

from gateway.orders import life
from gateway.orders.attempts import Answered
from gateway.orders.promise import Capability, OutcomeTable, Promise
from gateway.orders.states import Status
from tests.orders.making import (
    BY_KEY,
    DEDUP,
    LOOKUP,
    NOW,
    WHO,
    answer,
    dispatched,
    failed,
    promise,
    submission,
)


def test_a_promise_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        promise().settle_s = 0.0  # type: ignore[misc]


def test_a_claim_again_is_promised_what_the_route_promises_then() -> None:
    """The backend may have ceased to deduplicate: a try that is lost then must not be repeated."""
    other = replace(promise(DEDUP, OutcomeTable(confirmed_when=("5xx",))), settle_s=0.0)
    for dispatch in (True, False):
        again = life.claim_again(
            failed(LOOKUP), submission("claim-2", promised=other, dispatch=dispatch), NOW + 9
        )
        assert again.promise == other
        assert again.upstream_key == failed(LOOKUP).upstream_key


def test_an_answer_is_judged_by_the_promise_in_the_entry() -> None:
    listed = dispatched(outcomes=OutcomeTable(confirmed_when=("503",)))
    assert life.end_attempt(listed, Answered(answer(503)), NOW, WHO).status is Status.CONFIRMED
    plain = dispatched()
    assert life.end_attempt(plain, Answered(answer(503)), NOW, WHO).status is Status.IN_DOUBT


@pytest.mark.parametrize(
    ("capabilities", "lookup", "dedup", "can_look_up"),
    [
        (frozenset[Capability](), None, False, False),
        (frozenset[Capability](), BY_KEY, False, False),
        (LOOKUP, BY_KEY, False, True),
        (LOOKUP, None, False, False),
        (DEDUP, None, True, False),
        (LOOKUP | DEDUP, BY_KEY, True, True),
    ],
)
def test_capabilities_are_what_was_declared(
    capabilities: frozenset[Capability], lookup: object, dedup: bool, can_look_up: bool
) -> None:
    made = Promise("r", "u", capabilities, BY_KEY if lookup else None)
    assert (made.dedup, made.can_look_up) == (dedup, can_look_up)
