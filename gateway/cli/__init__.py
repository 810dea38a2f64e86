"""``ordergate``: the command line. Exit statuses: 0 done, 1 not, 2 used or configured wrongly.

What a command needs is imported in it, so that ``--help`` and ``check`` don't wait for aiohttp.
"""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gateway import __version__
from gateway.cli.cache import cache
from gateway.cli.doctor import doctor
from gateway.cli.ledger import ledger
from gateway.cli.orders import orders
from gateway.cli.trust import trust

if TYPE_CHECKING:
    from gateway.settings import Loaded, Settings

DONE, NOT_DONE, MISUSED = 0, 1, 2

app = typer.Typer(
    name="ordergate",
    help="An order gateway: every order gets one definite answer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(orders, name="orders")
app.add_typer(cache, name="cache")
app.add_typer(ledger, name="ledger")
app.command()(doctor)
app.command()(trust)


def main() -> None:
    """The entry point of the ``ordergate`` script. Exits."""
    _open_standard_streams()
    app(prog_name="ordergate")


def _open_standard_streams() -> None:
    """A process that was started with closed standard streams gives their numbers to its first
    sockets; event loop and loggers then take those for streams."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    # Open until the process ends.
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - as said
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - as said
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115 - as said


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ordergate {__version__}")
        raise typer.Exit(DONE)


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print it and leave."),
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    config: Annotated[
        Path | None, typer.Option(help="The configuration file (TOML).", metavar="FILE")
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(help="Without a file: where the order backend is.", metavar="URL"),
    ] = None,
    order_matches: Annotated[
        list[str] | None,
        typer.Option(
            "--orders",
            help='Without a file: which requests place orders, as in "POST /orders". May repeat.',
            metavar="MATCH",
        ),
    ] = None,
) -> None:
    """Run the gateway, from a file or for one backend without a file."""
    # Until there is somebody to heed it (``heed_hangups``): what changes after this is read anew.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    loaded = _settings_to_serve(config, upstream, order_matches or [])
    import structlog

    from gateway.supervisor import STDERR, Unfailing
    from gateway.supervisor import serve as run

    told = Unfailing(STDERR)
    for warning in loaded.warnings:
        told.write(f"{warning.place}: warning: {warning.message}\n")
        told.flush()
    told.close()
    log = structlog.get_logger("ordergate", part="process")

    def reread() -> "Settings":
        again = _loaded_to_serve(config, upstream, order_matches or [])
        for warning in again.warnings:
            log.warning("configuration warning", place=warning.place, reason=warning.message)
        return again.settings

    raise typer.Exit(run(loaded.settings, reread))


def _settings_to_serve(config: Path | None, upstream: str | None, matches: list[str]) -> "Loaded":
    from gateway.settings import SettingsInvalid

    try:
        return _loaded_to_serve(config, upstream, matches)
    except SettingsInvalid as invalid:
        for problem in invalid.problems:
            typer.echo(str(problem), err=True)
        raise typer.Exit(MISUSED) from invalid


def _loaded_to_serve(config: Path | None, upstream: str | None, matches: list[str]) -> "Loaded":
    """Also what a reload reads. Raises SettingsInvalid."""
    from gateway.settings import load_document, load_with_warnings

    if config is not None:
        if upstream is not None or matches:
            raise typer.BadParameter(
                "the file says it already: leave out --upstream and --orders",
                param_hint="--config",
            )
        return load_with_warnings(config, os.environ)
    if upstream is None or not matches:
        raise typer.BadParameter(
            'write --config FILE, or --upstream URL and --orders "POST /orders"',
            param_hint="serve",
        )
    return load_document(document_for(upstream, matches), os.environ, origin="command line")


def document_for(upstream: str, matches: list[str]) -> dict[str, Any]:
    """The configuration that ``--upstream`` and ``--orders`` stand for.

    Nothing is known of the upstream, so nothing is taken for granted: its capability is "none".
    """
    order_routes = [
        {
            "name": "orders" if len(matches) == 1 else f"orders-{number}",
            "match": match,
            "kind": "order",
            "upstream": "backend",
            "capability": "none",
            "scope": ["header:Authorization"],
        }
        for number, match in enumerate(matches, start=1)
    ]
    rest = {"name": "rest", "match": "* /**", "kind": "plain", "upstream": "backend"}
    return {
        "upstreams": [{"name": "backend", "urls": [upstream]}],
        "routes": [*order_routes, rest],
    }


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The configuration file (TOML).", metavar="FILE")],
) -> None:
    """Check a configuration: every problem at once, each with its place.

    ORDERGATE_... variables count, as they do for serve.
    """
    from gateway.settings import SettingsInvalid, load_with_warnings

    try:
        loaded = load_with_warnings(file, os.environ)
    except SettingsInvalid as invalid:
        for problem in invalid.problems:
            typer.echo(str(problem))
        raise typer.Exit(NOT_DONE) from invalid
    for warning in loaded.warnings:
        typer.echo(f"{warning.place}: warning: {warning.message}")
    typer.echo("OK")


@app.command()
def demo(
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Take orders for so long, then drain; without it, until Ctrl-C.", min=1, max=86_400
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses the faults and the shoppers.", min=0)] = 1,
    orders_per_second: Annotated[float, typer.Option(min=0.1, max=1000)] = 15.0,
    capability: Annotated[
        Literal["dedup", "lookup", "both", "none"],
        typer.Option(help="What the backend can do about an order in doubt."),
    ] = "lookup",
    ledger_url: Annotated[
        str | None,
        typer.Option(
            "--ledger", help="A Valkey or Redis to keep the ledger on, not a file.", metavar="URL"
        ),
    ] = None,
    without_gateway: Annotated[
        bool,
        typer.Option(
            "--without-gateway", help="The same storm straight at the backend: see the harm."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The last line on stdout is one JSON object.")
    ] = False,
) -> None:
    """A faulty order backend, the gateway in front of it, and storefront traffic, live."""
    from gateway.demo.run import DemoOptions, Offer
    from gateway.demo.run import demo as run
    from gateway.settings.ledger_urls import RemoteUrlInvalid, parse_remote

    try:
        if ledger_url is not None:
            parse_remote(ledger_url)
    except RemoteUrlInvalid as invalid:
        raise typer.BadParameter(f"{invalid}; {invalid.advice}", param_hint="--ledger") from invalid
    options = DemoOptions(
        seconds=seconds,
        seed=seed,
        orders_per_second=orders_per_second,
        capability=Offer(capability),
        ledger=ledger_url,
        without_gateway=without_gateway,
        json=as_json,
    )
    status = run(options)
    sys.stdout.flush()
    raise typer.Exit(status)
