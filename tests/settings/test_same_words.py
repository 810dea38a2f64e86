"""``ordergate check`` on every broken file: one right message, and ``serve`` refuses with it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from tests.settings import test_broken_files, test_broken_routes
from tests.settings.conftest import GOOD, line_of

BROKEN = [*test_broken_files.BROKEN, *test_broken_routes.BROKEN]


def test_there_are_thirty_broken_files_and_more() -> None:
    assert len(BROKEN) >= 30
    assert len({each.values[3] for each in BROKEN}) > 50


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """``serve`` holds SIGHUP back until it serves, and here it never does."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.parametrize(("right", "wrong", "place", "problem"), BROKEN)
def test_check_and_serve_say_the_same_of_a_broken_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    right: str,
    wrong: str,
    place: str,
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = GOOD.replace(right, wrong, 1)
    Path("ordergate.toml").write_text(text, encoding="utf-8")
    said = f"ordergate.toml:{line_of(text, place or wrong)}: {problem}\n"
    command_line = CliRunner()
    checked = command_line.invoke(app, ["check", "ordergate.toml"])
    assert (checked.exit_code, checked.stdout) == (1, said)
    served = command_line.invoke(app, ["serve", "--config", "ordergate.toml"])
    assert (served.exit_code, served.stdout, served.stderr) == (2, "", said)
