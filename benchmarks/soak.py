"""Whether anything grows under load: ``./run bench soak --minutes 20``.

Clients order, read and leave at the highest rate that one core sustains; every two seconds the
gateway's memory, file descriptors and connections are noted. Flat means: the median of the last
quarter is within a tenth (memory: and 8 MiB) of that of the second quarter. Needs psutil; draws
soak.png where matplotlib is there. Exits 1 where something grows or a request fails.
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
from typing import Any

import psutil

from benchmarks.contestants import gateway
from benchmarks.pinned import LOAD_CORE, SERVER_CORE, free_ports, running, wait_for

EVERY_S = 2.0
GROWTH_MAX = 0.1
SLACK = {"rss_mib": 8.0, "fds": 8.0, "connections": 8.0}
"""What may come on top: a cache that fills, a batch of connections more."""


def sample(process: psutil.Process) -> dict[str, float]:
    with process.oneshot():
        return {
            "rss_mib": round(process.memory_info().rss / 2**20, 2),
            "fds": process.num_fds(),
            "connections": len(process.net_connections("tcp")),
        }


def soaked(options: argparse.Namespace, folder: Path) -> list[dict[str, float]]:
    port, admin, backend = free_ports(3)
    load = [sys.executable, "-m", "benchmarks.soak_load", str(port), str(backend)]
    load += [str(options.clients), str(options.minutes * 60)]
    command = gateway(folder, "order", port, admin, backend)
    _with_a_plain_route(Path(command[-1]))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running(load, LOAD_CORE, **pipes) as loader, running(command, SERVER_CORE) as server:
        assert loader.stdin is not None
        assert loader.stdout is not None
        loader.stdout.readline()
        wait_for(port)
        loader.stdin.write("go\n")
        loader.stdin.flush()
        return list(_samples(loader, psutil.Process(server.pid)))


def _samples(loader: Any, process: psutil.Process) -> Iterator[dict[str, float]]:
    began = time.monotonic()
    for line in loader.stdout:
        told = json.loads(line)
        yield {"at_s": round(time.monotonic() - began, 1), **told, **sample(process)}


def _with_a_plain_route(file: Path) -> None:
    plain = '[[routes]]\nname = "rest"\nmatch = "* /**"\nkind = "plain"\nupstream = "backend"\n'
    file.write_text(file.read_text() + plain)


def judged(samples: list[dict[str, float]]) -> dict[str, Any]:
    """The medians of the second and of the last quarter, and whether they are alike."""
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    found: dict[str, Any] = {"samples": len(samples)}
    for name in ("per_s", *SLACK):
        before = statistics.median(each[name] for each in early)
        after = statistics.median(each[name] for each in late)
        found[name] = [round(before, 1), round(after, 1)]
    found["failed"] = sum(each["failed"] for each in samples)
    found["requests"] = sum(each["requests"] for each in samples)
    found["flat"] = all(
        found[name][1] <= found[name][0] * (1 + GROWTH_MAX) + slack for name, slack in SLACK.items()
    )
    return found


def draw(samples: list[dict[str, float]], file: Path) -> None:
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return
    names = ("per_s", *SLACK)
    figure, axes = pyplot.subplots(len(names), sharex=True, figsize=(8, 8))
    for name, axis in zip(names, axes, strict=True):
        axis.plot([each["at_s"] / 60 for each in samples], [each[name] for each in samples])
        axis.set_ylabel(name)
        axis.set_ylim(bottom=0)
    axes[-1].set_xlabel("minutes")
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./run bench soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--output", type=Path, default=Path.cwd())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = soaked(options, Path(folder))
    found = judged(samples)
    (options.output / "soak.json").write_text(json.dumps({"judged": found, "samples": samples}))
    draw(samples, options.output / "soak.png")
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    raise SystemExit(0 if found["flat"] and not found["failed"] else 1)


if __name__ == "__main__":
    main()
