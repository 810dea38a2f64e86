"""How many histories the ordinary run plays."""

import pytest

HISTORIES = 300
"""Some twenty seconds. More of them: ``./run test --simulate 100000``."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "history_seed" in metafunc.fixturenames:
        metafunc.parametrize("history_seed", range(HISTORIES))
