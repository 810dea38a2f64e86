"""What the hand-written pages say exists: commands, options, settings, statuses, metrics, links."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from gateway.cli import app
from gateway.pages.reference import statuses
from gateway.settings.models import Settings
from gateway.settings.routes import RouteSettings
from gateway.settings.upstreams import UpstreamSettings
from gateway.supervisor.admin import WorkerCounts
from gateway.telemetry import Telemetry

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
OURS = ("./run", "ordergate")
NOT_OURS = {"test", "lint", "lock"}  # ./run's own
VARIABLE = re.compile(r"[A-Z_]+=")


def commands(text: str) -> Iterator[str]:
    """The commands of ours that a page tells its readers to type."""
    for block in CONSOLE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                typed = line.removeprefix("$ ").split(" #")[0].split(" | ")[0].strip()
                words = [word for word in typed.split() if not VARIABLE.match(word)]
                if words[0] in OURS and not set(words[1:2]) & NOT_OURS:
                    yield typed


TYPED = [
    pytest.param(typed, id=f"{page.name}: {typed}")
    for page in PAGES
    for typed in commands(page.read_text(encoding="utf-8"))
]


def understood(typed: str) -> None:
    """Parse a command as the command line would, and run nothing. Raises what it raises."""
    command: Any = typer.main.get_command(app)
    arguments, name = shlex.split(re.sub(r"^(?:[A-Z_]+=\S+ )*", "", typed))[1:], "ordergate"
    while hasattr(command, "commands"):
        assert arguments[0] in command.commands, f"no command {arguments[0]!r}"
        name, command, arguments = arguments[0], command.commands[arguments[0]], arguments[1:]
    command.make_context(name, arguments)


@pytest.mark.parametrize("typed", TYPED)
def test_every_command_that_is_shown_exists(typed: str) -> None:
    understood(typed)


def test_a_command_that_does_not_exist_is_found() -> None:
    page = "```console\n$ A_B=c ordergate serve --config x\n$ ./run chek a  # now\n$ curl x\n```\n"
    assert list(commands(page)) == ["A_B=c ordergate serve --config x", "./run chek a"]
    with pytest.raises(AssertionError, match="chek"):
        understood("./run chek a.toml")
    with pytest.raises(Exception, match="No such option"):
        understood("./run check --quick a.toml")


def test_every_status_that_the_code_can_tell_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    listed = {int(code) for code in re.findall(r"^\| (\d{3}) ", page, re.MULTILINE)}
    told = {code for codes in statuses().values() for code in codes} - {401}  # operators only
    told |= {200, 202}
    assert told - listed == set()


def test_every_metric_has_its_line_in_the_runbook() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    names = set()
    for registry in (Telemetry().registry, WorkerCounts().registry):
        names |= {
            family.name + ("_total" if family.type == "counter" else "")
            for family in registry.collect()
        }
    assert [name for name in sorted(names) if f"`{name}" not in page] == []


SETTING = re.compile(r"`([a-z]+(?:_[a-z]+)*_(?:s|max|when)|lookup_[a-z]+|dedup_[a-z_]+)\b")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_is_named_exists(page: Path) -> None:
    known = {name for part in (RouteSettings, UpstreamSettings) for name in part.model_fields}
    for field in Settings.model_fields.values():
        known |= set(getattr(field.annotation, "model_fields", ()))
    text = page.read_text(encoding="utf-8")
    assert {name for name in SETTING.findall(text) if name not in known} <= {"age_s"}


LINK = re.compile(r"\]\((?!https?:)([^)#]+)(#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [target for target, _ in LINK.findall(text)]
    assert [target for target in targets if not (page.parent / target).exists()] == []
