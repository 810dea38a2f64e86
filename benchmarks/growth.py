"""What a large ledger costs: ``./run bench growth``, JSON, and a plot with ``--plot FILE``.

A ledger is filled step by step with settled orders, beside ``--pending`` ones that are not due, on
any store (``--url``; a SQLite file of its own unless given; there most are copied in SQL). At each
step a process of its own opens it and measures: how long opening takes, one pass of the reconciler
that finds nothing due, orders one at a time and 32 at once (all that is behind the HTTP handler;
the upstream answers at once), and its memory. Each call alternates with one on an empty ledger
(``--empty-url``): machines are noisy, and only the ratios mean anything.
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
from gateway.app import new_id
from gateway.ledger import Ledger
from gateway.lookup import Lookups
from gateway.opening import open_ledger
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


class Measured:
    """One open ledger, what stands before it, and what was measured on it."""

    def __init__(self, ledger: Ledger) -> None:
        self._bench = bench = Bench(ledger)
        self.ledger = ledger
        self._number = 0
        self._reconciler = Reconciler(
            ledger=ledger,
            sender=cast("Any", None),
            lookups=cast("Lookups", None),
            tasks=cast("Any", None),
            clock=SystemClock(),
            telemetry=bench.telemetry,
            draw=lambda: 0.5,
            who=WHO,
        )
        self.took: dict[str, list[float]] = {}

    async def order(self) -> None:
        self._number += 1
        await self._bench.place(self._number)

    async def a_pass(self) -> None:
        await self._reconciler.run_once()

    async def together(self) -> None:
        """32 at once, four each."""

        async def four() -> None:
            for _ in range(4):
                await self.order()

        await asyncio.gather(*(four() for _ in range(32)))

    async def timed(self, name: str, call: Callable[[], Awaitable[object]], calls: int) -> None:
        began, spent = time.perf_counter(), time.process_time()
        await call()
        took_s, cpu_s = time.perf_counter() - began, time.process_time() - spent
        self.took.setdefault(f"{name}_us", []).append(took_s * 1e6 / calls)
        self.took.setdefault(f"{name}_cpu_us", []).append(cpu_s * 1e6 / calls)

    def medians(self) -> dict[str, float]:
        return {name: round(statistics.median(took), 1) for name, took in self.took.items()}


async def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Opening and memory with the large ledger alone; the rest by turns with an empty one, call by
    call, so that a slow disk is slow for both."""
    ledger = ledger_of(options.measure, options.ledger)
    began = time.perf_counter()
    await ledger.open()
    opened_s = time.perf_counter() - began
    if isinstance(ledger, SqliteLedger) and ledger._parts and ledger._parts.check:  # noqa: SLF001
        await asyncio.to_thread(ledger._parts.check.wait)  # noqa: SLF001
    full = Measured(ledger)
    checked_s = time.perf_counter() - began
    for _ in range(8):
        await full.together()  # warm
    memory = rss_kib(os.getpid()) / 1024
    empty = Measured(ledger_of(options.empty_url, options.ledger))
    await empty.ledger.open()
    await empty.together()
    for turn in range(options.orders):
        for each in (full, empty) if turn % 2 else (empty, full):
            await each.timed("order", each.order, 1)
            await each.timed("pass", each.a_pass, 1)
            if turn % 16 == 0:
                await each.timed("together", each.together, 128)
    told = {"open_s": opened_s, "checked_s": checked_s, "rss_mib": memory}
    for each in (full, empty):
        await each.ledger.close()
    return {"full": full.medians() | told, "empty": empty.medians()}


# --- all of it -------------------------------------------------------------------------------


def child(options: argparse.Namespace, *more: str) -> str:
    command = [sys.executable, "-m", "benchmarks.growth", *more]
    command += ["--ledger", options.ledger, "--orders", str(options.orders)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def grow(options: argparse.Namespace, url: str, folder: str) -> list[dict[str, Any]]:
    steps = []
    have = 0
    for settled in (each for each in STEPS if each <= options.settled):
        pending = options.pending if settled == STEPS[0] else 0
        more = (f"--settled-more={settled - have}", f"--pending-more={pending}")
        child(options, "--fill", url, *more)
        have = settled
        empty = options.empty_url or f"sqlite:///{folder}/empty-{settled}.db"
        step = json.loads(child(options, "--measure", url, "--empty-url", empty))
        full, none = step["full"], step["empty"]
        step["ratios"] = {name: round(full[name] / none[name], 3) for name in none}
        step["settled"] = settled
        print(json.dumps(step), file=sys.stderr, flush=True)
        steps.append(step)
    return steps


def plot(steps: list[dict[str, Any]], title: str, file: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    settled = [max(step["settled"], 1) for step in steps]
    lines = {
        "order_us": "an order",
        "together_us": "orders, 32 at once",
        "together_cpu_us": "their CPU",
        "pass_us": "a pass",
    }
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
    parser.add_argument("--orders", type=int, default=400, help="measured one at a time")
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
        steps = grow(options, url, folder)
    store = url.split(":", 1)[0]
    print(json.dumps({"store": store, "pending": options.pending, "steps": steps}))
    if options.plot:
        title = f"{store}: {options.pending} pending orders beside the settled ones"
        plot(steps, title, options.plot)


if __name__ == "__main__":
    main()
