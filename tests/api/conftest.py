"""The same gateway and backend as the scenarios have."""

import pytest

from tests.scenarios.conftest import OpenShop, open_shop

__all__ = ["OpenShop", "Raw", "open_shop"]


class Raw:
    """TOML as it stands, also what follows the order route's last line: other sections."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


REQUESTS = 30
"""That schemathesis makes of each operation, right and wrong: some ten seconds in all."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Read only where this folder, or a file of it, is named on the command line."""
    group = parser.getgroup("schemathesis")
    text = f"N requests of each operation (default {REQUESTS})"
    group.addoption("--schemathesis", type=int, metavar="N", help=text)


@pytest.fixture(scope="session")
def request_count(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("--schemathesis", default=None) or REQUESTS)
