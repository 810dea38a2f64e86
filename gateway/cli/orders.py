"""``ordergate orders``: what operators see and settle, over the admin API."""

import getpass
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

import typer

from gateway.cli.admin import AdminClient, AdminFailed, read_token

if TYPE_CHECKING:
    from gateway.settings import Settings

NOT_DONE, MISUSED = 1, 2

WAITING = ("received", "dispatched", "in_doubt", "dead_letter")
"""What is not settled: what ``list`` shows unless told otherwise."""

ConfigOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config", help="The gateway's own file: says address and token.", metavar="FILE"
    ),
]
AdminOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--admin", help="The admin listener, as in http://127.0.0.1:8081.", metavar="URL"),
]
TokenOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--token-file", help="Where the operators' token is: beside the ledger.", metavar="FILE"
    ),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OperatorOption: TypeAlias = Annotated[str | None, typer.Option(help="Your name; else the login.")]
NonceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Repeat the one of an action whose end you did not see: it is done once."),
]
OrderId: TypeAlias = Annotated[str, typer.Argument(metavar="ID")]

orders = typer.Typer(help="See the orders of a running gateway, and settle those that wait.")

Answer = TypeVar("Answer")


@orders.command("list")
def list_orders(
    config: ConfigOption = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    status: Annotated[
        list[str] | None, typer.Option(help="Only these; may repeat. Default: what waits.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="In whatever status.")] = False,
    route: Annotated[list[str] | None, typer.Option(help="Only of these; may repeat.")] = None,
    upstream: Annotated[list[str] | None, typer.Option(help="Only of these; may repeat.")] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Only these: 90s, 10min, 2h or 3d old.", metavar="TIME")
    ] = None,
    disputed: Annotated[
        bool, typer.Option("--disputed", help="Only those whose outcome evidence contradicts.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    after: Annotated[str | None, typer.Option(help="Where the last page ended.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List orders, oldest first: those that wait, unless told otherwise."""
    client = client_for(config, admin, token_file)
    everything = every or (disputed and not status)  # what is disputed is settled
    filters = {
        "status": "" if everything else ",".join(status or WAITING),
        "route": ",".join(route or ()),
        "upstream": ",".join(upstream or ()),
        "older_than_s": "" if older_than is None else _seconds(older_than),
        "disputed": "true" if disputed else "",
    }
    page = asked(lambda: client.orders(filters, limit, after))
    if as_json:
        print_json(page)
        return
    _print_table(page["orders"])
    for order in page["unreadable"]:
        typer.echo(
            f"{order['id']} ({order['status']}, {_span(order['age_s'])} old) can not be read:"
            f" {order['why']}",
            err=True,
        )
    if page["next"] is not None:
        typer.echo(f"There are more: --after {page['next']}", err=True)


@orders.command()
def show(
    order_id: OrderId,
    config: ConfigOption = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one order and all its moves."""
    client = client_for(config, admin, token_file)
    order = asked(lambda: client.order(order_id))
    if as_json:
        print_json(order)
    else:
        _print_order(order)


@orders.command()
def lookup(
    order_id: OrderId,
    reason: Annotated[str | None, typer.Option(help="Kept in the order's timeline.")] = None,
    operator: OperatorOption = None,
    nonce: NonceOption = None,
    config: ConfigOption = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the upstream now about an order in doubt or a dead letter."""
    word = _word(operator, nonce, reason)
    _act(client_for(config, admin, token_file), order_id, "lookup", word, as_json)


@orders.command()
def resend(
    order_id: OrderId,
    reason: Annotated[str | None, typer.Option(help="Kept in the order's timeline.")] = None,
    operator: OperatorOption = None,
    nonce: NonceOption = None,
    config: ConfigOption = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send an order in doubt or a dead letter again, where that can't make a second order."""
    word = _word(operator, nonce, reason)
    _act(client_for(config, admin, token_file), order_id, "resend", word, as_json)


@orders.command()
def resolve(
    order_id: OrderId,
    outcome: Annotated[
        Literal["confirmed", "rejected", "failed"],
        typer.Argument(help="What the upstream's own books say became of the order."),
    ],
    reason: Annotated[str, typer.Option(help="How you know: kept in the order's timeline.")],
    operator: OperatorOption = None,
    nonce: NonceOption = None,
    config: ConfigOption = None,
    admin: AdminOption = None,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Settle an order in doubt or a dead letter, for good.

    "failed" frees the key: the customer may order again. Look in the upstream's books first.
    """
    word = {**_word(operator, nonce, reason), "outcome": outcome}
    _act(client_for(config, admin, token_file), order_id, "resolve", word, as_json)


def _word(operator: str | None, nonce: str | None, reason: str | None) -> dict[str, str]:
    word = {"operator": operator or _login(), "nonce": nonce or secrets.token_hex(8)}
    return word if reason is None else {**word, "reason": reason}


def _act(
    client: AdminClient, order_id: str, action: str, word: dict[str, str], as_json: bool
) -> None:
    """Do it and tell what came of it; where that isn't known, how to ask without doing it twice."""
    again = f"To repeat it without doing it twice: --nonce {word['nonce']}"
    try:
        order = client.act(order_id, action, word)
    except AdminFailed as failure:
        typer.echo(str(failure), err=True)
        if failure.unknown:
            typer.echo(again, err=True)
        raise typer.Exit(NOT_DONE) from failure
    except KeyboardInterrupt:
        typer.echo(again, err=True)
        raise
    if as_json:
        print_json(order)
        return
    result = order["action"]["result"]
    if result is None:
        typer.echo(f"{order['id']} is {order['status']}; nothing has come of it yet.")
        return
    detail = f" ({result['detail']})" if result["detail"] and action != "resolve" else ""
    why = "" if action == "resolve" else f": {result['reason']}{detail}"
    typer.echo(f"{order['id']} is {order['status']}{why}.")


def _seconds(text: str) -> str:
    """``2h`` and the like, in seconds."""
    found = re.fullmatch(r"(\d{1,7}(?:\.\d{1,3})?)\s*(s|min|h|d)?", text)
    if found is None:
        raise typer.BadParameter("write 90s, 10min, 2h or 3d", param_hint="--older-than")
    size = {"s": 1, "min": 60, "h": 3600, "d": 86_400}[found[2] or "s"]
    return f"{float(found[1]) * size:.3f}"


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # a container's user without a name
        raise typer.BadParameter("say who you are", param_hint="--operator") from error


# --- whom to ask ----------------------------------------------------------------------------


def client_for(config: Path | None, admin: str | None, token_file: Path | None) -> AdminClient:
    """The admin API that the options, or the gateway's own file, name."""
    secret = None
    if config is not None and (admin is None or token_file is None):
        settings = _loaded(config)
        admin = admin or _reachable(settings.listen.admin)
        secret = settings.admin_token if token_file is None else None
        token_file = token_file or settings.admin_token_file
    if admin is None or token_file is None:
        raise typer.BadParameter(
            "write --config FILE, or --admin URL and --token-file FILE", param_hint="orders"
        )
    file = token_file
    return AdminClient(_checked_url(admin), secret or asked(lambda: read_token(file)))


def _loaded(config: Path) -> "Settings":
    from gateway.settings import SettingsInvalid, load

    try:
        return load(config, os.environ)
    except SettingsInvalid as invalid:
        typer.echo(str(invalid), err=True)
        raise typer.Exit(MISUSED) from invalid


def _reachable(address: str) -> str | None:
    """The URL of a listener on this machine; None where only it knows its port."""
    from gateway.settings.values import split_address

    host, port = split_address(address)
    if port == 0:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _checked_url(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise typer.BadParameter(
            f"{url!r} is no admin address; write http://127.0.0.1:8081", param_hint="--admin"
        )
    return f"{parts.scheme}://{parts.netloc}"


def asked(ask: Callable[[], Answer]) -> Answer:
    """The answer, or a message and exit 1."""
    try:
        return ask()
    except AdminFailed as failure:
        typer.echo(str(failure), err=True)
        raise typer.Exit(NOT_DONE) from failure


# --- printing -------------------------------------------------------------------------------

COLUMNS = ("id", "status", "route", "age", "attempts", "reason")


def print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _print_table(found: Sequence[dict[str, Any]]) -> None:
    """Columns without frames or cuts: they go through grep and awk."""
    if not found:
        typer.echo("No such orders.", err=True)
        return
    rows = [COLUMNS, *(_row(order) for order in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def _row(order: dict[str, Any]) -> tuple[str, ...]:
    status = f"{order['status']}{' (disputed)' if order['disputed'] else ''}"
    values = (order["id"], status, order["route"], _span(order["age_s"]))
    return (*values, str(order["attempts"]), str(order["reason"] or "-"))


def _print_order(order: dict[str, Any]) -> None:
    disputed = ", DISPUTED: evidence contradicts it" if order["disputed"] else ""
    typer.echo(f"{order['id']}: {order['status']}{disputed}")
    typer.echo(f"route {order['route']}, {_span(order['age_s'])} old")
    for line in _timeline(order["timeline"]):
        typer.echo(line)


def _timeline(events: Iterable[dict[str, Any]]) -> Iterable[str]:
    for event in events:
        at = datetime.fromtimestamp(event["at"], UTC).isoformat(timespec="milliseconds")
        move = f"{event['from'] or '(new)'} -> {event['to']}"
        detail = f": {event['detail']}" if event.get("detail") else ""
        yield f"  {at}  {move}  {event['reason']}  by {event['who']}{detail}"


def _span(seconds: float) -> str:
    """Two units are enough to act on: ``3 h 12 min``."""
    whole = int(seconds)
    for size, unit, smaller, smaller_unit in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {smaller_unit}"
    return f"{whole} s"
