"""``ordergate ledger``: what is done with a ledger as a whole."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.stores.moving import Moved, Source, Target

NOT_DONE, MISUSED = 1, 2
SQLITE = "sqlite:///"

TOLD_EVERY = 10_000
"""Orders between two signs of life of a long copy."""

AGAIN = "Once TO is there again, say the same command again: what has arrived is kept."

ledger = typer.Typer(help="Back a ledger up, or move it.", no_args_is_help=True)


@ledger.command()
def backup(
    to: Annotated[Path, typer.Argument(help="The file to make; it must not exist.", metavar="TO")],
    config: Annotated[
        Path, typer.Option("--config", help="The configuration that serve uses.", metavar="FILE")
    ],
) -> None:
    """Copy the ledger as it is just now, whole and synced; the gateway may run.

    A backup knows nothing of what is ordered after it, so no gateway takes it for the ledger:
    docs/operations.md says how to restore one.
    """
    from gateway.ledger import LedgerRefused
    from gateway.settings import SettingsInvalid, load_with_warnings
    from gateway.stores.sqlite_backup import back_up

    try:
        url = load_with_warnings(config, os.environ).settings.ledger.url
    except SettingsInvalid as invalid:
        for each in invalid.problems:
            typer.echo(str(each), err=True)
        raise typer.Exit(MISUSED) from invalid
    if not url.startswith(SQLITE):
        typer.echo("only a SQLite ledger is backed up so: a server has tools of its own", err=True)
        raise typer.Exit(MISUSED)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        made = back_up(Path(url.removeprefix(SQLITE)), to.absolute(), at=at)
    except LedgerRefused as refused:
        typer.echo(str(refused), err=True)
        raise typer.Exit(NOT_DONE) from refused
    typer.echo(f"{made.path}: {made.orders} orders, {made.pending} pending, as of {at}")
    typer.echo(
        "It does not know what is ordered from now on. Restore it only where the ledger itself is"
        " gone: a key that was claimed since is unknown to it."
    )


@ledger.command()
def copy(
    source: Annotated[
        str, typer.Argument(help="As in sqlite:////var/lib/ordergate/ledger.db.", metavar="FROM")
    ],
    target: Annotated[str, typer.Argument(help="A ledger that is not there yet.", metavar="TO")],
    config: Annotated[
        Path | None,
        typer.Option(
            help="With TO on Valkey or Redis: a configuration with its password and durability.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Move a shop to another ledger: every order, key and answer. Stop the gateways first.

    No gateway opens either ledger while it lasts; afterwards only the new one. Broken off, it is
    ended by the same command.
    """
    from gateway.ledger import LedgerRefused, LedgerUnavailable

    try:
        moved = asyncio.run(_moved(source, target, config))
    except LedgerUnavailable as broken:
        typer.echo(f"{broken}\nThe move did not end. {AGAIN}", err=True)
        raise typer.Exit(NOT_DONE) from broken
    except LedgerRefused as refused:
        typer.echo(str(refused), err=True)
        raise typer.Exit(NOT_DONE) from refused
    counts = moved.counts
    by_status = ", ".join(f"{word} {number}" for word, number in counts.by_status.items() if number)
    typer.echo(
        f"moved {moved.entries} orders ({moved.copied} by this command): {by_status or 'none'};"
        f" made {counts.made}, removed {counts.removed}"
    )
    typer.echo(f"Set [ledger] url = {target!r} and start. {source} is refused from now on.")


async def _moved(source: str, target: str, config: Path | None) -> "Moved":
    from gateway.stores.moving import move

    if source == target or (_file(source) is not None and _file(source) == _file(target)):
        raise typer.BadParameter("FROM and TO are the same ledger")
    leaving, arriving = _source(source), _target(target, config)
    try:
        return await move(leaving, arriving, _tell)
    finally:
        await arriving.close()
        await leaving.close()


def _tell(what: str, entries: int) -> None:
    if entries and entries % TOLD_EVERY == 0:
        typer.echo(f"{entries} orders {what} …", err=True)


def _source(url: str) -> "Source":
    from gateway.stores.sqlite_host import HostFacts
    from gateway.stores.sqlite_moving import SqliteSource
    from middleware.clock import SystemClock

    return SqliteSource(_path(url), host=HostFacts.read(), clock=SystemClock())


def _target(url: str, config: Path | None) -> "Target":
    from gateway.settings.ledger_urls import is_remote

    if is_remote(url):
        return _remote_target(url, config)
    from gateway.stores.sqlite_host import HostFacts
    from gateway.stores.sqlite_moving import SqliteTarget
    from middleware.clock import SystemClock

    return SqliteTarget(_path(url), host=HostFacts.read(), clock=SystemClock())


def _remote_target(url: str, config: Path | None) -> "Target":
    from gateway.settings import SettingsInvalid, load_with_warnings
    from gateway.settings.ledger import LedgerSettings
    from gateway.stores.valkey_moving import ValkeyTarget

    if config is None:
        return ValkeyTarget(LedgerSettings(url=url))
    try:
        settings = load_with_warnings(config, os.environ).settings.ledger
    except SettingsInvalid as invalid:
        raise typer.BadParameter(str(invalid)) from invalid
    if settings.url != url:
        raise typer.BadParameter(f"{config} has another [ledger] url than {url}")
    return ValkeyTarget(settings)


def _file(url: str) -> Path | None:
    """However it is written."""
    return Path(url.removeprefix(SQLITE)).resolve() if url.startswith(SQLITE) else None


def _path(url: str) -> Path:
    """Three slashes: from here; four: from the root."""
    path = url.removeprefix(SQLITE)
    if path == url or path in ("", ":memory:"):
        raise typer.BadParameter(
            f"{url} is no ledger that can be copied: write sqlite:////PATH. (From one server to"
            " another its own replication moves a ledger.)"
        )
    return Path(path)
