"""``ordergate trust``: believe a ledger again that forgot something."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.settings.ledger import LedgerSettings

NOT_DONE, MISUSED = 1, 2


def trust(
    config: Annotated[
        Path, typer.Option(help="The configuration that serve uses.", metavar="FILE")
    ],
) -> None:
    """Believe a ledger again that forgot something.

    Only when no client will repeat a key from before: a key that is not in the ledger is then
    taken for one that was never used. docs/operations.md, "A ledger that forgot".
    """
    from gateway.ledger import LedgerRefused, LedgerUnavailable
    from gateway.settings import SettingsInvalid, load_with_warnings

    try:
        settings = load_with_warnings(config, os.environ).settings.ledger
    except SettingsInvalid as invalid:
        for each in invalid.problems:
            typer.echo(str(each), err=True)
        raise typer.Exit(MISUSED) from invalid
    try:
        why = _trusted(settings)
    except (LedgerRefused, LedgerUnavailable) as trouble:
        typer.echo(str(trouble), err=True)
        raise typer.Exit(NOT_DONE) from trouble
    typer.echo("It was trusted already." if why is None else f"Trusted again. It was said: {why}")


def _trusted(settings: "LedgerSettings") -> str | None:
    if settings.remote is None:
        from gateway.stores.sqlite_trust import trust_again as trust_file

        return trust_file(settings.path)
    from gateway.stores.remote import trust_again as trust_servers

    return asyncio.run(trust_servers(settings))
