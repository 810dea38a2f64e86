"""What a large ledger costs, on SQLite and on Valkey: ``./run bench growth``.

A ledger is filled step by step with settled orders, beside ``--pending`` ones that are not due. At
each step a process of its own opens it and measures: how long opening takes, one pass of the
reconciler that finds nothing due, orders one at a time and 32 at once (all that is behind the HTTP
handler; the upstream answers at once), and its memory. Each call alternates with one on an empty
ledger of the same kind: machines are noisy, and only the ratios mean anything. The exit status says
whether the aims are met. ``--json FILE`` and ``--plot FILE`` keep what was found.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import structlog
import uvloop

from benchmarks.growth_filling import COPY_FROM, copy, fill
from benchmarks.long_polls import rss_kib
from benchmarks.order_layers import WHO, Bench
from gateway.ids import new_id
from gateway.ledger import Ledger
from gateway.lookup import Lookups
from gateway.opening import open_ledger
from gateway.reconciler import Reconciler
from gateway.settings.loading import load_document
from middleware.clock import SystemClock
from tests.stores.servers import Server, valkey_binary

STEPS = (0, 1_000, 10_000, 100_000, 1_000_000)
STORES = ("sqlite", "valkey")

RATIO_MAX = 1.3
OPEN_S_MAX = 5.0
GROWN_MIB_MAX = 16.0
"""SQLite's caches are bounded, and full only where there is something to keep."""

JUDGED = ("order_us", "together_us", "pass_us", "order_cpu_us", "together_cpu_us", "pass_cpu_us")


def ledger_of(url: str, durability: str, folder: str) -> Ledger:
    """``folder`` is where this host keeps what it remembers of a remote one."""
    ledger = {"url": url, "lease_s": 3600, "durability": durability, "folder": folder}
    document = {
        "ledger": ledger,
        "upstreams": [{"name": "backend", "urls": ["http://127.0.0.1:9"]}],
        "routes": [{"name": "all", "match": "* /**", "kind": "plain", "upstream": "backend"}],
    }
    settings = load_document(document, {}, origin="benchmark").settings
    return open_ledger(settings, SystemClock(), WHO, new_id)


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


def wait_for_check() -> None:
    """Until the integrity check behind the opening is done."""
    for thread in threading.enumerate():
        if thread.name == "ledger check":
            thread.join()


async def measure(
    url: str, empty_url: str, turns: int, folders: tuple[str, str]
) -> dict[str, dict[str, float]]:
    """Opening and memory with the large ledger alone; the rest by turns with an empty one, call by
    call, so that a slow disk is slow for both."""
    full = Measured(ledger_of(url, "fsync", folders[0]))
    began = time.perf_counter()
    await full.ledger.open()
    opened_s = time.perf_counter() - began
    await asyncio.to_thread(wait_for_check)
    checked_s = time.perf_counter() - began
    for _ in range(8):
        await full.together()  # warm
    memory = rss_kib(os.getpid()) / 1024
    empty = Measured(ledger_of(empty_url, "fsync", folders[1]))
    await empty.ledger.open()
    await empty.together()
    for turn in range(turns):
        for each in (full, empty) if turn % 2 else (empty, full):
            await each.timed("order", each.order, 1)
            await each.timed("pass", each.a_pass, 1)
            if turn % 16 == 0:
                await each.timed("together", each.together, 128)
    for each in (full, empty):
        await each.ledger.close()
    told = {"open_s": opened_s, "checked_s": checked_s, "rss_mib": memory}
    rounded = {name: round(value, 3) for name, value in told.items()}
    return {"full": full.medians() | rounded, "empty": empty.medians()}


# --- the stores ------------------------------------------------------------------------------


class SqliteStore:
    durability = "fsync"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def url(self, name: str) -> str:
        return f"sqlite:///{self._folder / name}.db"

    def sync(self, mode: str) -> None:
        """A ledger on SQLite syncs by itself."""


class ValkeyStore:
    """A server for the large ledger, and one for the empty ones."""

    durability = "memory"
    """While it is filled."""

    def __init__(self, full: Server, empty: Server) -> None:
        self._full, self._empty = full, empty

    def url(self, name: str) -> str:
        server = self._full if name == "full" else self._empty
        return f"{server.url}?prefix={name}"

    def sync(self, mode: str) -> None:
        self._full.run("CONFIG", "SET", "appendfsync", mode)


@contextmanager
def store_of(kind: str, folder: Path) -> Iterator[SqliteStore | ValkeyStore]:
    if kind == "sqlite":
        yield SqliteStore(folder)
        return
    options = ("--appendonly", "yes", "--auto-aof-rewrite-percentage", "0")
    folders = [folder / name for name in ("full", "empty")]
    for each in folders:
        each.mkdir()
    full, empty = (Server(valkey_binary(), *options, folder=each) for each in folders)
    with full, empty:
        empty.run("CONFIG", "SET", "appendfsync", "always")
        yield ValkeyStore(full, empty)


# --- all of it -------------------------------------------------------------------------------


def child(*options: str) -> str:
    command = [sys.executable, "-m", "benchmarks.growth", *options]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def grow(options: argparse.Namespace, store: SqliteStore | ValkeyStore) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    have, url = 0, store.url("full")
    for settled in (each for each in STEPS if each <= options.settled):
        copies = settled - have if have >= COPY_FROM else 0
        pending = options.pending if settled == STEPS[0] else 0
        store.sync("no")
        more = (f"--settled={settled - have - copies}", f"--pending={pending}")
        child(f"--fill={url}", f"--durability={store.durability}", f"--copies={copies}", *more)
        have = settled
        store.sync("always")
        empty = store.url(f"empty-{settled}")
        turns = f"--orders={options.orders}"
        step = json.loads(child(f"--measure={url}", f"--empty-url={empty}", turns))
        full, none = step["full"], step["empty"]
        step["ratios"] = {name: round(full[name] / none[name], 3) for name in none}
        step["settled"] = settled
        print(json.dumps(step), file=sys.stderr, flush=True)
        steps.append(step)
    return steps


def misses(store: str, steps: list[dict[str, Any]]) -> Iterator[str]:
    for step in steps:
        where = f"{store}, {step['settled']} settled:"
        for name in JUDGED:
            if step["ratios"][name] > RATIO_MAX:
                yield f"{where} {name} is {step['ratios'][name]} of an empty ledger's"
        if step["full"]["open_s"] > OPEN_S_MAX:
            yield f"{where} opening takes {step['full']['open_s']} s"
        if (grown := step["full"]["rss_mib"] - steps[0]["full"]["rss_mib"]) > GROWN_MIB_MAX:
            yield f"{where} the gateway grew by {grown:.0f} MiB"


async def fill_url(options: argparse.Namespace, folder: str) -> None:
    ledger = ledger_of(options.fill, options.durability, folder)
    await ledger.open()
    await fill(ledger, options.settled, options.pending)
    await ledger.close()


def run_child(options: argparse.Namespace) -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30), cache_logger_on_first_use=True
    )
    with (
        tempfile.TemporaryDirectory() as one,
        tempfile.TemporaryDirectory() as two,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        if options.fill:
            runner.run(fill_url(options, one))
            if options.copies:
                copy(options.fill, options.copies)
            return
        measuring = measure(options.measure, options.empty_url, options.orders, (one, two))
        print(json.dumps(runner.run(measuring)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=STORES, help="only this one")
    parser.add_argument("--settled", type=int, default=STEPS[-1])
    parser.add_argument("--pending", type=int, default=10_000)
    parser.add_argument("--orders", type=int, default=400, help="measured one at a time")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    for hidden in ("--fill", "--measure", "--empty-url", "--durability"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--copies", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill or options.measure:
        run_child(options)
        return
    stores: dict[str, list[dict[str, Any]]] = {}
    for kind in [options.store] if options.store else STORES:
        with (
            tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder,
            store_of(kind, Path(folder)) as store,
        ):
            stores[kind] = grow(options, store)
    summary = {"pending": options.pending, "stores": stores}
    if options.json:
        options.json.write_text(json.dumps(summary, indent=1) + "\n")
    if options.plot:
        from benchmarks.growth_plot import plot

        plot(summary, RATIO_MAX, options.plot)
    missed = [text for kind, steps in stores.items() for text in misses(kind, steps)]
    raise SystemExit("\n".join(missed) if missed else 0)


if __name__ == "__main__":
    main()
