"""``ordergate cache``: what is kept, and how to end it, over the admin API."""

from typing import Annotated, Any

import typer

from gateway.cli.orders import (
    MISUSED,
    AdminOption,
    ConfigOption,
    JsonOption,
    TokenOption,
    asked,
    client_for,
    print_json,
)

cache = typer.Typer(help="See and purge what a running gateway has cached.")


@cache.command()
def show(
    config: ConfigOption = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how full the cache is, and what it has answered."""
    client = client_for(config, admin, token_file)
    found = asked(client.cache)
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        typer.echo(f"{name:<10} {value:>15,}")


@cache.command()
def purge(
    url: Annotated[
        str | None,
        typer.Option(help="One URL with its query, or a path with any query.", metavar="URL"),
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help='Paths, as in "/catalog/**".', metavar="PATTERN")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="A cache group (RFC 9875).", metavar="NAME")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is kept.")] = False,
    soft: Annotated[
        bool, typer.Option("--soft", help="Make it stale: the upstream is asked whether it holds.")
    ] = False,
    config: ConfigOption = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """End what is kept, in every process of the gateway."""
    named: dict[str, Any] = {"url": url, "pattern": pattern, "group": group}
    named = {name: text for name, text in named.items() if text is not None}
    if everything:
        named["all"] = True
    if len(named) != 1:
        typer.echo("Say what: one of --url, --pattern, --group or --all.", err=True)
        raise typer.Exit(MISUSED)
    client = client_for(config, admin, token_file)
    done = asked(lambda: client.purge(named | {"soft": soft}))
    if as_json:
        print_json(done)
    else:
        typer.echo("Made stale." if soft else "Purged.")
