"""What the log says of a lookup that does not prove itself."""

import pytest
from structlog.testing import capture_logs

from gateway.lookup import Lookups
from gateway.orders.attempts import Answer
from gateway.orders.lookups import NoEvidence
from gateway.orders.promise import LookupPlan
from gateway.telemetry import Telemetry
from middleware.clock import SystemClock
from tests.orders.making import answer, in_doubt

NOT_PROVED = "lookup does not prove itself: a random key must be absent"


async def test_an_outage_is_one_line_whatever_waits_for_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [(503, b"")] * 3 + [(200, b'{"id": 1}')] * 2 + [(404, b"")] * 2

    async def told(
        _: Lookups, _upstream: str, _plan: LookupPlan, _key: str, _order: str | None
    ) -> Answer | NoEvidence:
        status, body = answers.pop(0)
        return answer(status, body)

    monkeypatch.setattr(Lookups, "answer", told)
    lookups = Lookups(
        pools={}, clock=SystemClock(), telemetry=Telemetry(), random_key=lambda: "random"
    )
    with capture_logs() as logged:
        while answers:
            await lookups.look_up(in_doubt())
    lines = [(line["event"], line["why"]) for line in logged]
    assert lines == [(NOT_PROVED, "503"), (NOT_PROVED, "found a random key")]
