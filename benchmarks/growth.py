"""What a large ledger costs: ``./run bench growth``, JSON, and a plot with ``--plot FILE``.

A ledger is filled step by step with settled orders, beside ``--pending`` ones that are not due, on
any store (``--url``; a SQLite file of its own unless given; there most are copied in SQL). At each
step a process of its own opens it and measures: how long opening takes, one pass of the reconciler
that finds nothing due, orders one at a time and 32 at once (all that is behind the HTTP handler;
the upstream answers at once), and its memory. Each measure alternates with the same of an empty
ledger (``--empty-url``): machines are noisy, and only the ratios mean anything.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import apsw
import structlog
import uvloop

from benchmarks.long_polls import rss_kib
from benchmarks.order_layers import END, WHO, Bench
from gateway.app import new_id, open_ledger
from gateway.ledger import Ledger
from gateway.lookup import Lookups
from gateway.orders import life
from gateway.orders.attempts import Lost, LostReason
from gateway.reconciler import Reconciler
from gateway.settings.loading import load_document
from gateway.stores.codec import key_digest
from gateway.stores.sqlite import SqliteLedger
from middleware.clock import SystemClock

T = TypeVar("T")

STEPS = (0, 1_000, 10_000, 100_000, 1_000_000)
AT_ONCE = 256
"""Orders under way while filling: what a store takes in one batch."""

COPY_FROM = 50_000
"""From so many settled orders on SQLite itself copies more: the port would take half an hour."""

NEVER_S = 1_000_000.0


def ledger_of(url: str, more: str) -> Ledger:
    document = {
        "ledger": {"url": url, "lease_s": 60, **json.loads(more)},
        "upstreams": [{"name": "backend", "urls": ["http://127.0.0.1:9"]}],
        "routes": [{"name": "all", "match": "* /**", "kind": "plain", "upstream": "backend"}],
    }
    settings = load_document(document, {}, origin="benchmark").settings
    return open_ledger(settings, SystemClock(), WHO, new_id)


async def hold_on(ledger: Ledger, work: Coroutine[Any, Any, T]) -> T:
    """Do ``work`` while the hold is kept."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(20)
            await ledger.renew_hold()

    renewing = asyncio.create_task(renew())
    try:
        return await work
    finally:
        renewing.cancel()


# --- filling ---------------------------------------------------------------------------------


async def fill(ledger: Ledger, settled: int, pending: int, told: Callable[[int], None]) -> None:
    bench = Bench(ledger)
    left = iter([True] * settled + [False] * pending)
    made = 0

    async def make() -> None:
        nonlocal made
        for ends in left:
            request = replace(await bench.request(made), dispatch=True)
            claim = await ledger.claim(request)
            assert claim.lease is not None
            entry = claim.claimed.entry
            end = END if ends else Lost(LostReason.TIMEOUT, 100)
            after = life.end_attempt(entry, end, ledger.now(), WHO)
            await ledger.write(claim.lease, entry, after, due_in_s=None if ends else NEVER_S)
            made += 1
            if made % 50_000 == 0:
                told(made)

    await asyncio.gather(*(make() for _ in range(AT_ONCE)))


async def fill_url(options: argparse.Namespace) -> None:
    ledger = ledger_of(options.fill, options.ledger)
    await ledger.open()
    settled, copies = options.settled_more, 0
    if isinstance(ledger, SqliteLedger):  # durable is what the measures are; this is only bulk
        assert ledger._parts is not None  # noqa: SLF001
        db = ledger._parts.file.writer  # noqa: SLF001
        db.pragma("synchronous", "OFF")
        made = db.execute("SELECT confirmed FROM tally").fetchone()[0]
        copies = settled if made >= COPY_FROM else 0
        settled -= copies
    told = lambda made: print(f"  {made} orders made", file=sys.stderr, flush=True)  # noqa: E731
    await hold_on(ledger, fill(ledger, settled, options.pending_more, told))
    if copies:
        copy(db, copies)
    await ledger.close()


def copy(db: apsw.Connection, number: int) -> None:
    """So many more settled orders, each with a key of its own, as SQLite copies them."""
    db.pragma("cache_size", -1_000_000)
    db.create_scalar_function("digest_of", lambda *of: key_digest(*of), 2, deterministic=True)
    columns = [row[1] for row in db.execute("PRAGMA table_info(orders)")]
    anew = {
        "seq": "seq + :by",
        "key": "key || :tag",
        "id": "id || :tag",
        "key_digest": "digest_of(scope, key || :tag)",
    }
    chosen = ", ".join(anew.get(name, name) for name in columns)
    some = "(SELECT seq FROM orders WHERE status = 'confirmed' ORDER BY seq LIMIT :number)"
    for tag, start in enumerate(range(0, number, COPY_FROM)):
        newest = db.execute("SELECT max(seq) FROM orders").fetchone()[0]
        names = {"by": newest, "tag": f"-{tag}", "number": min(COPY_FROM, number - start)}
        with db:
            answers = (
                f"INSERT INTO answers SELECT seq + :by, head, body FROM answers WHERE seq IN {some}"
            )
            db.execute(answers, names)
            db.execute(f"INSERT INTO orders SELECT {chosen} FROM orders WHERE seq IN {some}", names)
            db.execute(
                "UPDATE tally SET made = made + :n, confirmed = confirmed + :n", {"n": db.changes()}
            )
        db.pragma("wal_checkpoint(TRUNCATE)")


# --- measuring -------------------------------------------------------------------------------


async def timed_us(call: Callable[[], Awaitable[object]], number: int) -> float:
    """The median, in microseconds."""
    took = []
    for _ in range(number):
        began = time.perf_counter()
        await call()
        took.append((time.perf_counter() - began) * 1e6)
    return statistics.median(took)


async def measure(options: argparse.Namespace) -> dict[str, float]:
    ledger = ledger_of(options.measure, options.ledger)
    began = time.perf_counter()
    await ledger.open()
    opened_s = time.perf_counter() - began
    if isinstance(ledger, SqliteLedger) and ledger._parts and ledger._parts.check:  # noqa: SLF001
        await asyncio.to_thread(ledger._parts.check.wait)  # noqa: SLF001
    checked_s = time.perf_counter() - began
    before_kib = rss_kib(os.getpid())
    bench = Bench(ledger)
    reconciler = Reconciler(
        ledger=ledger,
        sender=cast("Any", None),
        lookups=cast("Lookups", None),
        tasks=cast("Any", None),
        clock=SystemClock(),
        telemetry=bench.telemetry,
        draw=lambda: 0.5,
        who=WHO,
    )
    number = 0

    async def order() -> None:
        nonlocal number
        number += 1
        await bench.place(number)

    async def orders(count: int) -> None:
        for _ in range(count):
            await order()

    await asyncio.gather(*(orders(options.orders // 64) for _ in range(32)))  # warm
    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(orders(options.orders // 32) for _ in range(32)))
    took = time.perf_counter() - began
    spent = time.process_time() - cpu
    figures = {
        "open_s": round(opened_s, 3),
        "checked_s": round(checked_s, 3),
        "pass_us": round(await timed_us(reconciler.run_once, 300), 1),
        "order_us": round(await timed_us(order, options.orders // 8), 1),
        "together_us": round(took / options.orders * 1e6, 1),
        "cpu_us": round(spent / options.orders * 1e6, 1),
        "rss_mib": round(rss_kib(os.getpid()) / 1024, 1),
        "rss_opened_mib": round(before_kib / 1024, 1),
    }
    await ledger.close()
    return figures


# --- all of it -------------------------------------------------------------------------------


def child(options: argparse.Namespace, *more: str) -> str:
    command = [sys.executable, "-m", "benchmarks.growth", *more]
    command += ["--ledger", options.ledger, "--orders", str(options.orders)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def grow(options: argparse.Namespace, url: str, empty: str) -> list[dict[str, Any]]:
    steps = []
    have = 0
    for settled in (each for each in STEPS if each <= options.settled):
        pending = options.pending if settled == STEPS[0] else 0
        child(
            options, "--fill", url, f"--settled-more={settled - have}", f"--pending-more={pending}"
        )
        have = settled
        of: dict[str, list[dict[str, float]]] = {"empty": [], "full": []}
        for _ in range(options.rounds):
            for name, each in (("empty", empty), ("full", url)):
                of[name].append(json.loads(child(options, "--measure", each)))
                if name == "empty" and not options.empty_url:
                    for left in Path(each.removeprefix("sqlite:///")).parent.glob("empty.db*"):
                        left.unlink()  # what was measured has filled it
        full, none = medians(of["full"]), medians(of["empty"])
        names = ("pass_us", "order_us", "together_us", "cpu_us")
        ratios = {name: round(full[name] / none[name], 3) for name in names}
        step = {"settled": settled, "full": full, "empty": none, "ratios": ratios}
        print(json.dumps(step), file=sys.stderr, flush=True)
        steps.append(step)
    return steps


def plot(steps: list[dict[str, Any]], title: str, file: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    settled = [max(step["settled"], 1) for step in steps]
    lines = {"order_us": "an order", "together_us": "orders, 32 at once", "pass_us": "a pass"}
    for name, label in lines.items():
        left.plot(settled, [step["ratios"][name] for step in steps], marker="o", label=label)
    left.axhline(1.3, linestyle=":", color="grey")
    left.set(xscale="log", ylim=(0, 2), xlabel="settled orders", ylabel="time by an empty ledger's")
    left.legend()
    right.plot(
        settled, [step["full"]["rss_mib"] for step in steps], marker="o", label="memory, MiB"
    )
    right.plot(
        settled,
        [step["full"]["open_s"] * 100 for step in steps],
        marker="o",
        label="opening, 10 ms",
    )
    right.set(xscale="log", ylim=(0, None), xlabel="settled orders")
    right.legend()
    figure.suptitle(title)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settled", type=int, default=STEPS[-1])
    parser.add_argument("--pending", type=int, default=10_000)
    parser.add_argument("--orders", type=int, default=3_200, help="measured in each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url", help="of a new, empty ledger")
    parser.add_argument("--empty-url", help="of another one")
    parser.add_argument("--ledger", default="{}", help="more of [ledger], as JSON")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--fill", help=argparse.SUPPRESS)
    parser.add_argument("--settled-more", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--pending-more", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30), cache_logger_on_first_use=True
    )
    if options.fill or options.measure:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if options.fill:
                runner.run(fill_url(options))
                if options.fill.startswith("sqlite"):  # else what is measured next pays for it
                    with Path(options.fill.removeprefix("sqlite:///")).open("rb") as file:
                        os.fsync(file.fileno())
            else:
                print(json.dumps(runner.run(measure(options))))
        return
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
        url = options.url or f"sqlite:///{folder}/full.db"
        empty = options.empty_url or f"sqlite:///{folder}/empty.db"
        steps = grow(options, url, empty)
    store = url.split(":", 1)[0]
    print(json.dumps({"store": store, "pending": options.pending, "steps": steps}))
    if options.plot:
        title = f"{store}: {options.pending} pending orders beside the settled ones"
        plot(steps, title, options.plot)


if __name__ == "__main__":
    main()
