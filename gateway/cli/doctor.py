"""``ordergate doctor``: findings as lines for people, or as JSON."""

import asyncio
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gateway.doctor import Diagnosis
    from gateway.settings import Loaded

DONE, NOT_DONE, MISUSED = 0, 1, 2


def doctor(
    config: Annotated[
        Path, typer.Option(help="The configuration that serve would use.", metavar="FILE")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Try the real machine, ledger and upstreams: what they give, and what to do about it.

    Sends no order and writes nothing in the ledger; a gateway may run. Exit status 1 where there
    is a problem; warnings alone are 0.
    """
    from gateway.settings import SettingsInvalid, load_with_warnings

    try:
        loaded = load_with_warnings(config, os.environ)
    except SettingsInvalid as invalid:
        for each in invalid.problems:
            typer.echo(str(each), err=True)
        raise typer.Exit(MISUSED) from invalid
    found = asyncio.run(_examined(loaded, show=not as_json))
    problems = sum(each.level.value == "problem" for each in found)
    if as_json:
        typer.echo(json.dumps(_document(found), indent=2))
    else:
        warnings = sum(each.level.value == "warning" for each in found)
        typer.echo(f"problems: {problems}, warnings: {warnings}")
    raise typer.Exit(NOT_DONE if problems else DONE)


async def _examined(loaded: "Loaded", *, show: bool) -> "list[Diagnosis]":
    from gateway.doctor import examine

    found = []
    async for diagnosis in examine(loaded):
        found.append(diagnosis)
        if show:
            typer.echo(_line(diagnosis))
    return found


def _line(diagnosis: "Diagnosis") -> str:
    line = f"{diagnosis.level.value:8}{diagnosis.part}: {diagnosis.text}"
    return line if not diagnosis.advice else f"{line}\n        -> {diagnosis.advice}"


def _document(found: "list[Diagnosis]") -> dict[str, Any]:
    """``measured`` has numbers with their units in the names."""
    return {
        "problems": sum(each.level.value == "problem" for each in found),
        "warnings": sum(each.level.value == "warning" for each in found),
        "findings": [asdict(each) for each in found],
    }
