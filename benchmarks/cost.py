"""What a request costs beside nginx, HAProxy and a bare aiohttp proxy: ``./run bench cost``.

POSTs of 1 KiB by wrk, answers of 1 KiB by nginx. Each proxy runs on one core, load and backend on
the other; they take turns, and the medians make the ratios (requests/s, and CPU time of a request
by the kernel's account). Machines are noisy: only ratios mean anything. One JSON object on stdout;
``--json`` and ``--plot`` write files.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.contestants import CONTESTANTS, Contestant, backend
from benchmarks.pinned import LOAD_CORE, ROOT, SERVER_CORE, cpu_s, free_ports, running, wait_for

WARM_UP_S = 1

Figures: TypeAlias = dict[str, float]


def load(port: int, seconds: float, connections: int) -> Figures:
    """One run of wrk; raises SystemExit where an answer failed."""
    url, script = f"http://127.0.0.1:{port}/orders", ROOT / "benchmarks" / "post.lua"
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}"]
    command += [f"-d{seconds:g}s", "-s", str(script), url, "--", str(time.monotonic_ns())]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures: Figures = json.loads(told.strip().splitlines()[-1])
    if figures["failed"]:
        raise SystemExit(f"{figures['failed']} requests failed:\n{told}")
    return figures


def measure(contestant: Contestant, options: argparse.Namespace, backend_port: int) -> Figures:
    """Start it anew, warm it up, measure once."""
    with tempfile.TemporaryDirectory(dir=ROOT / "benchmarks") as folder:  # a disk, not memory
        [port] = free_ports(1)
        command = contestant.command(Path(folder), port, backend_port)
        with running(command, SERVER_CORE, stderr=subprocess.DEVNULL) as server:
            wait_for(port)
            load(port, WARM_UP_S, options.connections)
            began = cpu_s(server.pid)
            figures = load(port, options.seconds, options.connections)
            spent = cpu_s(server.pid) - began
    return {
        "per_s": figures["requests"] / figures["seconds"],
        "cpu_us": spent / figures["requests"] * 1e6,
        "p50_ms": figures["p50_ms"],
        "p99_ms": figures["p99_ms"],
    }


def summary(rounds: Mapping[str, list[Figures]]) -> dict[str, Any]:
    """Medians, and the ratios to each of the two measures that took part.

    Each round's figures are compared with the same round's: what slows the machine slows both.
    """
    medians = {
        name: {each: _rounded(statistics.median(r[each] for r in runs)) for each in runs[0]}
        for name, runs in rounds.items()
    }
    told: dict[str, Any] = {"medians": medians}
    for measure_of in ("bare", "nginx"):
        if measure_of in rounds:
            told[f"by_{measure_of}"] = {
                name: {
                    "requests": _ratio(runs, rounds[measure_of], "per_s"),
                    "cpu": _ratio(runs, rounds[measure_of], "cpu_us"),
                }
                for name, runs in rounds.items()
            }
    return told


def _ratio(runs: list[Figures], others: list[Figures], figure: str) -> float:
    return _rounded(
        statistics.median(a[figure] / b[figure] for a, b in zip(runs, others, strict=True))
    )


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def missing(names: Iterable[str]) -> list[str]:
    """The programs that these contestants, the load and the backend need and that are not here."""
    needed = {"wrk", "nginx", "taskset", *(CONTESTANTS[name].needs or "wrk" for name in names)}
    return sorted(each for each in needed if shutil.which(each) is None)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--only", default=",".join(CONTESTANTS), metavar="NAME,NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a PNG")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    names = options.only.split(",")
    if unknown := set(names) - CONTESTANTS.keys():
        raise SystemExit(f"no contestant is called {sorted(unknown)}; there are {[*CONTESTANTS]}")
    if lacking := missing(names):
        raise SystemExit(
            f"not installed: {', '.join(lacking)}. On Debian and Ubuntu `./run --install bench`"
            " installs wrk, nginx and HAProxy."
        )
    rounds: dict[str, list[Figures]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        [backend_port] = free_ports(1)
        with running(backend(Path(folder), backend_port), LOAD_CORE):
            wait_for(backend_port)
            for _ in range(options.rounds):
                for name, runs in rounds.items():
                    runs.append(measure(CONTESTANTS[name], options, backend_port))
                    sys.stderr.write(f"{name:13} {_line(runs[-1])}\n")
    conditions = {key: getattr(options, key) for key in ("rounds", "seconds", "connections")}
    told = json.dumps({**summary(rounds), **conditions}, indent=1)
    sys.stdout.write(told + "\n")
    if options.json:
        options.json.write_text(told + "\n")
    if options.plot:
        from benchmarks.cost_plot import plot

        plot(summary(rounds), options.plot)


def _line(figures: Figures) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())


if __name__ == "__main__":
    main()
