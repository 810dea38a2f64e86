"""``ordergate trust``: believe a ledger again that forgot something."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

NOT_DONE, MISUSED = 1, 2


def trust(
    config: Annotated[
        Path, typer.Option(help="The configuration that serve uses.", metavar="FILE")
    ],
) -> None:
    """Believe a ledger on Valkey or Redis again that forgot something.

    Only when no client will repeat a key from before: a key that is not in the ledger is then
    taken for one that was never used. docs/operations.md, "A ledger that forgot".
    """
    from gateway.ledger import LedgerUnavailable
    from gateway.settings import SettingsInvalid, load_with_warnings
    from gateway.stores.remote import trust_again

    try:
        settings = load_with_warnings(config, os.environ).settings.ledger
    except SettingsInvalid as invalid:
        for each in invalid.problems:
            typer.echo(str(each), err=True)
        raise typer.Exit(MISUSED) from invalid
    if settings.remote is None:
        typer.echo("an SQLite ledger forgets nothing", err=True)
        raise typer.Exit(MISUSED)
    try:
        why = asyncio.run(trust_again(settings))
    except LedgerUnavailable as unavailable:
        typer.echo(str(unavailable), err=True)
        raise typer.Exit(NOT_DONE) from unavailable
    typer.echo("It was trusted already." if why is None else f"Trusted again. It was said: {why}")
