"""deploy/ordergate.service, read by systemd's own tool."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.app import CLOSE_S
from gateway.settings import load_with_warnings
from gateway.stores.sqlite import STORE_TIMEOUT_S
from gateway.supervisor import EXIT_REFUSED
from tests.deploy.replicas import DEPLOY, tool

UNIT = DEPLOY / "ordergate.service"

EXPOSURE_MAX = 15
"""In tenths, as the tool has it: 1.2 when this was written; an unprotected service has 9.6."""


class _Parser(configparser.RawConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr


def service() -> dict[str, str]:
    return section("Service")


def section(name: str) -> dict[str, str]:
    """The last value of each key: enough for those that are asked here."""
    parser = _Parser(strict=False)
    parser.read_string(UNIT.read_text())
    return dict(parser[name])


def set_in_unit() -> dict[str, str]:
    lines = re.findall(r"^Environment=(.*)$", UNIT.read_text(), re.MULTILINE)
    return dict(word.split("=", 1) for line in lines for word in line.split())


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with an interpreter that is there: verify looks for it."""
    text = UNIT.read_text()
    assert text.count("/opt/ordergate/.venv/bin/python ") == 1
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace("/opt/ordergate/.venv/bin/python ", f"{sys.executable} "))
    return copy


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool("systemd-analyze"), *arguments], capture_output=True, text=True, timeout=30
    )


def test_systemd_accepts_every_line(unit: Path) -> None:
    report = analyze("verify", "--man=no", str(unit))
    assert (report.returncode, report.stderr) == (0, "")


def test_a_mistyped_line_would_be_seen(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("NoNewPrivileges=", "NoNewPriviliges="))
    assert "NoNewPriviliges" in analyze("verify", "--man=no", str(unit)).stderr


def test_little_of_the_machine_is_exposed(unit: Path) -> None:
    report = analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", str(unit))
    assert report.returncode == 0, report.stdout


def test_systemd_waits_for_the_whole_drain() -> None:
    settings = {name: value for name, value in set_in_unit().items() if "ORDERGATE_" in name}
    listen = load_with_warnings(DEPLOY / "ordergate.toml", settings).settings.listen
    assert listen.drain_delay_s > 0
    longest_s = listen.drain_delay_s + listen.drain_s + 3 * CLOSE_S + 2 * STORE_TIMEOUT_S
    assert float(service()["TimeoutStopSec"]) > longest_s


def test_the_ledger_is_kept_where_the_unit_may_write() -> None:
    loaded = load_with_warnings(DEPLOY / "ordergate.toml", {})
    folder = f"/var/lib/{service()['StateDirectory']}"
    assert str(loaded.settings.ledger.path.parent) == folder


def test_what_needs_a_person_is_not_tried_again() -> None:
    assert str(EXIT_REFUSED) in service()["RestartPreventExitStatus"].split()


def test_what_passes_by_itself_is_tried_until_it_has() -> None:
    """A store that is away, a ledger that is locked: orders wait in it for the next start."""
    unit = section("Unit")
    within_s = float(unit["StartLimitIntervalSec"])
    starts_max = int(unit.get("StartLimitBurst", 5))
    assert starts_max * float(service()["RestartSec"]) >= within_s
