"""How many histories are played, and from which seed on."""

import pytest

HISTORIES = 100
"""The ordinary run's: about eight seconds. A night's is ``--simulate 100000``."""

OPTION, FROM = "--simulate", "--simulate-from"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Read only where this folder, or a file of it, is named on the command line."""
    group = parser.getgroup("simulation")
    group.addoption(OPTION, type=int, metavar="N", help=f"play N histories (default {HISTORIES})")
    group.addoption(FROM, type=int, metavar="SEED", help="the first history's seed (default 0)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "history_seed" in metafunc.fixturenames:
        count = metafunc.config.getoption(OPTION, default=None)
        first = metafunc.config.getoption(FROM, default=None) or 0
        seeds = range(first, first + (HISTORIES if count is None else count))
        metafunc.parametrize("history_seed", seeds)
