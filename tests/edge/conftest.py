"""What the tests of requests that go straight look at."""

import pytest

from tests.edge.straight import Fates, watch_fates, watch_orders


@pytest.fixture
def fates(monkeypatch: pytest.MonkeyPatch) -> Fates:
    return watch_fates(monkeypatch)


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Fates:
    return watch_orders(monkeypatch)
