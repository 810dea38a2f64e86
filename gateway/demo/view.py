"""What the demo shows while it runs: three columns of observations, or a plain line. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gateway.demo.faults import Fault
from gateway.demo.journal import Spread
from gateway.demo.metrics import Gauges
from gateway.orders.states import Status


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look at everything. Times in seconds; ``gauges`` None while the gateway is away."""

    elapsed_s: float
    phase: str
    title: str
    intents: int
    told: Mapping[Status, int]
    waiting: int
    oldest_waiting_s: float
    repeats: int
    replays: int
    definite: Spread
    answered: Spread
    gauges: Gauges | None
    guarded: bool
    kills: int
    orders: int
    twice: int
    submissions: int
    lookups: int
    in_flight: int
    refusals: int
    doubts: int
    faults: Counter[Fault]


_COLOURS = {
    Status.CONFIRMED: "green",
    Status.REJECTED: "cyan",
    Status.FAILED: "yellow",
    Status.DEAD_LETTER: "magenta",
}


def line(snapshot: Snapshot) -> str:
    """One look as one plain line, for logs and pipes."""
    told = " ".join(f"{status} {snapshot.told.get(status, 0)}" for status in _COLOURS)
    return (
        f"{snapshot.elapsed_s:5.1f} s {snapshot.phase}: intents {snapshot.intents} {told}"
        f" waiting {snapshot.waiting} | in the books {snapshot.orders}, twice {snapshot.twice}"
        f" | {_gateway_words(snapshot)}kills {snapshot.kills}, faults that left doubt"
        f" {snapshot.doubts} | p50 {snapshot.definite.p50_s * 1000:.0f} ms"
        f" p99 {snapshot.definite.p99_s * 1000:.0f} ms"
    )


def _gateway_words(snapshot: Snapshot) -> str:
    if not snapshot.guarded:
        return "no gateway, "
    if snapshot.gauges is None:
        return "gateway away, "
    return (
        f"pending {snapshot.gauges.pending}, replays {snapshot.replays}, doubts resolved"
        f" {_or_dash(snapshot.gauges.doubts_resolved)}, "
    )


def render(snapshot: Snapshot) -> RenderableType:
    """One look as a live picture."""
    columns = Table.grid(expand=True, padding=(0, 1))
    panels = [_customers(snapshot), _gateway(snapshot), _backend(snapshot)]
    for _ in panels:
        columns.add_column(ratio=1)
    columns.add_row(*panels)
    head = f"{snapshot.title}   {snapshot.elapsed_s:.0f} s   {snapshot.phase}"
    return Group(Text(head, style="bold"), columns)


def _customers(snapshot: Snapshot) -> Panel:
    rows = _rows()
    rows.add_row("intents", str(snapshot.intents))
    for status, colour in _COLOURS.items():
        rows.add_row(Text(f"told {status}", style=colour), str(snapshot.told.get(status, 0)))
    rows.add_row("waiting", str(snapshot.waiting))
    rows.add_row("longest waiting", f"{snapshot.oldest_waiting_s:.1f} s")
    rows.add_row("asked again", str(snapshot.repeats))
    for name, spread in (("answer", snapshot.answered), ("definite", snapshot.definite)):
        rows.add_row(f"{name} p50", f"{spread.p50_s * 1000:.0f} ms")
        rows.add_row(f"{name} p99", f"{spread.p99_s * 1000:.0f} ms")
    return Panel(rows, title="what customers see")


def _gateway(snapshot: Snapshot) -> Panel:
    rows = _rows()
    gauges = snapshot.gauges
    if not snapshot.guarded:
        rows.add_row("there is none", "")
    elif gauges is None:
        rows.add_row(Text("away", style="bold red"), "")
    else:
        for status in Status:
            rows.add_row(f"{status}", str(gauges.orders[status]))
        rows.add_row("oldest pending", _or_dash(gauges.oldest_pending_age_s, " s"))
        rows.add_row("came into doubt", _or_dash(gauges.doubts))
        rows.add_row("doubts resolved", _or_dash(gauges.doubts_resolved))
        for result, count in sorted(gauges.attempts.items()):
            rows.add_row(f"attempts {result}", str(count))
    if snapshot.guarded:
        rows.add_row("duplicates stopped", str(snapshot.replays))
        rows.add_row(Text("killed with -9", style="bold red"), str(snapshot.kills))
    return Panel(rows, title="what the gateway sees")


def _backend(snapshot: Snapshot) -> Panel:
    rows = _rows()
    rows.add_row("submissions", str(snapshot.submissions))
    rows.add_row("working on", str(snapshot.in_flight))
    rows.add_row(Text("orders in the books", style="green"), str(snapshot.orders))
    rows.add_row(Text("ordered twice", style="bold red"), str(snapshot.twice))
    rows.add_row("refused", str(snapshot.refusals))
    rows.add_row("lookups", str(snapshot.lookups))
    rows.add_row("faults that left doubt", str(snapshot.doubts))
    for fault, count in sorted(snapshot.faults.items()):
        if fault is not Fault.NONE:
            rows.add_row(Text(f"  {fault}", style="dim"), str(count))
    return Panel(rows, title="what the backend sees")


def _rows() -> Table:
    rows = Table.grid(expand=True)
    rows.add_column(overflow="ellipsis", no_wrap=True)
    rows.add_column(justify="right", no_wrap=True)
    return rows


def _or_dash(value: float | None, unit: str = "") -> str:
    if value is None:
        return "-"
    return f"{value:.1f}{unit}" if unit else f"{value:.0f}"
