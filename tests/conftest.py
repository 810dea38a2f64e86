"""The options that make the quick suites long (what they measure is printed with ``-s``), and the
backend of many tests."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

from tests.scenarios.backend import Backend

# How long a drawn example takes says more of the machine's load than of the code.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ordergate faults")
    group.addoption(
        "--kills", type=int, default=6, metavar="N", help="kill -9 that often, at random (6)"
    )
    group.addoption(
        "--kills-from", type=int, default=1, metavar="SEED", help="the first seed of --kills (1)"
    )
    group.addoption(
        "--failovers", type=int, default=1, metavar="N", help="replace the master so often (1)"
    )
    group.addoption(
        "--storms", type=int, default=1, metavar="N", help="storms of 200 on one key (1)"
    )
    group.addoption(
        "--power-cuts", type=int, default=2, metavar="N", help="cut the power that often (2)"
    )
    group.addoption(
        "--idle-closes",
        type=int,
        default=100,
        metavar="N",
        help="orders to an upstream that closes idle connections at random (100)",
    )
    group.addoption(
        "--every-call", action="store_true", help="kill at every write and sync, not at some"
    )
    group.addoption(
        "--retire", type=int, default=3_000, metavar="N", help="forget so many orders (3000)"
    )


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    backend = Backend()
    await backend.start()
    yield backend
    await backend.stop()
