"""Whether anything grows under load: ``./run bench soak --minutes 20``.

First more and more clients, until the rate rises no further or requests are refused for load; then
so many for the whole time, coming and leaving, half of what they ask for orders. Every two seconds
the gateway's memory, file descriptors, connections and CPU are noted. Orders are forgotten after a
minute, so that the ledger is as large at the end as soon after the beginning. Flat: the median of
the last quarter is within a tenth (memory: and 8 MiB) of that of the second quarter. Needs psutil;
draws soak.png where matplotlib is there. Exits 1 where something grows, more than one in a thousand
is refused, or a request fails in another way.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.contestants import gateway
from benchmarks.pinned import LOAD_CORE, SERVER_CORE, cpu_s, free_ports, running, wait_for

CLIENTS = (8, 16, 32, 64, 128)
NO_MORE = 0.97
"""Fewer clients that reach so much of the best rate are enough: more only wait longer."""
REFUSED_MAX = 0.001
"""A rate at which more is refused for load is not sustained. (A machine that does something else
for a moment makes the loop late, and a few are refused.)"""
MOVED_MAX = 0.1
SLACK = {"rss_mib": 8.0, "fds": 8.0, "connections": 8.0}
"""What must not grow, and what may come on top of a tenth: a cache that fills, a batch of
connections more."""
COST = "cpu_us"
"""CPU time of a request. Told and drawn, not judged: what else a machine does moves it by half."""
BUSY = 0.9
"""A gateway that uses less of its core was not asked for all that it can do."""
KEPT_S = 60
"""How long an order is kept; less in a short run: from the second quarter on as much is forgotten
as comes in."""
REHEARSALS = 3
"""So many times the search for one number: whether it is still sustained when it takes longer."""

Sample = dict[str, float]


class Stage(NamedTuple):
    """The load on one core, the gateway on the other."""

    load: Any
    server: psutil.Process

    def play(self, clients: int, seconds: float) -> Iterator[Sample]:
        self.load.stdin.write(f"{clients} {seconds}\n")
        self.load.stdin.flush()
        began = last = time.monotonic()
        used = [cpu_s(self.server.pid), cpu_s(self.load.pid)]
        while told := json.loads(self.load.stdout.readline()):
            now, spent = time.monotonic(), [cpu_s(self.server.pid), cpu_s(self.load.pid)]
            shares = [round((b - a) / (now - last), 2) for a, b in zip(used, spent, strict=True)]
            last, used = now, spent
            cpu = dict(zip(("cpu", "load_cpu"), shares, strict=True))
            cost_us = round(shares[0] * 1e6 / max(told["per_s"], 1), 1)
            seen = {**cpu, COST: cost_us, **_looked_at(self.server)}
            yield {"at_s": round(now - began, 1), **told, **seen}


def _looked_at(process: psutil.Process) -> Sample:
    with process.oneshot():
        return {
            "rss_mib": round(process.memory_info().rss / 2**20, 2),
            "fds": process.num_fds(),
            "connections": len(process.net_connections("tcp")),
        }


def searched(stage: Stage, seconds: float) -> dict[int, Sample]:
    """What so many clients come to, until more of them bring nothing."""
    found: dict[int, Sample] = {}
    for clients in CLIENTS:
        samples = list(stage.play(clients, seconds))
        found[clients] = {name: median(samples, name) for name in ("per_s", "cpu", "load_cpu")}
        found[clients]["refused"] = share_refused(samples)
        sys.stderr.write(f"{clients} clients: {found[clients]}\n")
    return found


def enough(found: dict[int, Sample]) -> int:
    """The fewest clients that come as good as to the best rate that is sustained."""
    rates = {n: each["per_s"] for n, each in found.items() if each["refused"] <= REFUSED_MAX}
    if not rates:
        raise SystemExit("even the fewest clients are refused: is the machine busy?")
    return next(n for n, rate in rates.items() if rate >= NO_MORE * max(rates.values()))


def rehearsed(stage: Stage, clients: int, seconds: float) -> int:
    """So many clients, or fewer where too much is refused to so many after a while."""
    while share_refused(list(stage.play(clients, seconds))) > REFUSED_MAX and clients > CLIENTS[0]:
        sys.stderr.write(f"{clients} clients are too many\n")
        clients //= 2
    return clients


def share_refused(samples: list[Sample]) -> float:
    refused = sum(each["refused"] for each in samples)
    return round(refused / max(1, refused + sum(each["answered"] for each in samples)), 5)


def soaked(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    port, admin, backend = free_ports(3)
    load = [sys.executable, "-m", "benchmarks.soak_load", str(port), str(backend)]
    command = gateway(folder, "order", port, admin, backend)
    _configure(Path(command[-1]), min(KEPT_S, options.minutes * 60 / 8))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running(load, LOAD_CORE, **pipes) as loader, running(command, SERVER_CORE) as server:
        assert loader.stdout is not None
        loader.stdout.readline()
        wait_for(port)
        stage = Stage(loader, psutil.Process(server.pid))
        search = searched(stage, options.search_s) if options.clients is None else {}
        clients = options.clients or rehearsed(stage, enough(search), REHEARSALS * options.search_s)
        samples = list(stage.play(clients, options.minutes * 60))
    return {"search": search, "clients": clients, "samples": samples}


def _configure(file: Path, kept_s: float) -> None:
    plain = '[[routes]]\nname = "rest"\nmatch = "* /**"\nkind = "plain"\nupstream = "backend"\n'
    times = ("attach_window_s", "retention_s", "tombstone_s")
    kept = "\n".join(("scope_is_static = true", *(f"{name} = {kept_s}" for name in times)))
    file.write_text(file.read_text().replace("scope_is_static = true", kept) + plain)


def median(samples: list[Sample], name: str) -> float:
    return round(statistics.median(each[name] for each in samples), 2)


def judged(samples: list[Sample]) -> dict[str, Any]:
    """The medians of the second and of the last quarter, and whether they are alike."""
    quarter = max(1, len(samples) // 4)
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    names = ("per_s", COST, "cpu", "load_cpu", *SLACK)
    found: dict[str, Any] = {name: [median(early, name), median(late, name)] for name in names}
    for fate in ("answered", "refused", "failed"):
        found[fate] = sum(each[fate] for each in samples)
    found["flat"] = all(
        found[name][1] <= found[name][0] * (1 + MOVED_MAX) + slack for name, slack in SLACK.items()
    )
    found["sustained"] = share_refused(samples) <= REFUSED_MAX
    found["passed"] = found["flat"] and found["sustained"] and not found["failed"]
    return found


def verdict(found: dict[str, Any], clients: int, minutes: float) -> str:
    def way(name: str) -> str:
        before, after = found[name]
        return f"{name} {before:g} to {after:g}"

    ways = ", ".join(way(name) for name in SLACK)
    passed = "PASSED" if found["passed"] else "FAILED"
    fates = ", ".join(f"{found[fate]} {fate}" for fate in ("answered", "refused", "failed"))
    flat = "flat" if found["flat"] else "NOT FLAT"
    cores = f"{found['cpu'][1]:.0%} of its core, the load {found['load_cpu'][1]:.0%} of the other"
    lines = [
        f"{passed}: {minutes:g} minutes, {clients} clients: {fates} ({way('per_s')}, {way(COST)})",
        f"{flat} from the second quarter to the last: {ways}",
        f"the gateway used {cores}",
    ]
    if found[COST][1] > found[COST][0] * (1 + MOVED_MAX):
        lines.append("a request costs more than it did: something grows, or the machine was busy")
    if found["cpu"][1] < BUSY:
        lines.append("not the gateway but what surrounds it was the limit: it may sustain more")
    return "\n".join(lines) + "\n"


def draw(samples: list[Sample], file: Path) -> None:
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return
    names = ("per_s", *SLACK, "cpu", COST)
    figure, axes = pyplot.subplots(len(names), sharex=True, figsize=(8, 9))
    for name, axis in zip(names, axes, strict=True):
        values = [each[name] for each in samples]
        axis.plot([each["at_s"] / 60 for each in samples], values)
        axis.set_ylabel(name)
        axis.set_ylim(0, 1.1 * max(values))
    axes[-1].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./run bench soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--clients", type=int, help="so many, instead of searching")
    parser.add_argument("--search-s", type=float, default=10.0, help="for each number tried")
    parser.add_argument("--output", type=Path, default=Path.cwd())
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)  # not found missing only at the end
    with tempfile.TemporaryDirectory() as folder:
        told = soaked(options, Path(folder))
    found = judged(told["samples"])
    (options.output / "soak.json").write_text(json.dumps({"judged": found, **told}))
    draw(told["samples"], options.output / "soak.png")
    sys.stdout.write(verdict(found, told["clients"], options.minutes))
    raise SystemExit(0 if found["passed"] else 1)


if __name__ == "__main__":
    main()
