"""What the benchmarks of load share: a gateway on one core, a rush on the other, and the plots."""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.pinned import LOAD_CORE, ROOT, SERVER_CORE, free_ports, running, wait_for

CONFIG = """
[listen]
address = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
[ledger]
url = "sqlite:///ledger.db"
[[upstreams]]
name = "backend"
urls = [{urls}]
{upstream}
[[routes]]
name = "place-order"
match = "POST /orders"
kind = "order"
upstream = "backend"
capability = "lookup"
lookup = "GET /orders?idempotency_key={{key}}"
scope = ["header:Authorization"]
scope_is_static = true
{route}
[[routes]]
name = "rest"
match = "* /**"
kind = "plain"
upstream = "backend"
[limits]
{limits}
[log]
level = "error"
"""

UNPROTECTED = "requests_max = 1000000\nrequests_min = 1000000\nlag_s = 10\nconnections_max = 100000"
"""The same gateway with every limit out of reach."""

RESULTS = ROOT / "benchmarks" / "results"


class Rush:
    """A running rush: ``run`` as often as wanted. ``gateway`` is the gateway's process."""

    def __init__(self, load: subprocess.Popen[str], gateway: subprocess.Popen[str]) -> None:
        self._load = load
        self.gateway = gateway

    def run(self, **plan: Any) -> Any:
        assert self._load.stdin is not None
        assert self._load.stdout is not None
        self._load.stdin.write(json.dumps(plan) + "\n")
        self._load.stdin.flush()
        return json.loads(self._load.stdout.readline())

    @property
    def rss_mib(self) -> float:
        for line in Path(f"/proc/{self.gateway.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0.0


@contextlib.contextmanager
def rush(
    *, servers: int = 1, limits: str = "", upstream: str = "", route: str = "", **plan: Any
) -> Iterator[Rush]:
    """A gateway in front of so many servers, and customers ready to come."""
    port, admin, *backends = free_ports(2 + servers)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-m", "benchmarks.rush"]
    with (
        tempfile.TemporaryDirectory(prefix="ordergate-bench-") as folder,
        running(command, LOAD_CORE, **pipes) as load,
    ):
        assert load.stdin is not None
        assert load.stdout is not None
        load.stdin.write(json.dumps({"port": port, "backends": backends, **plan}) + "\n")
        load.stdin.flush()
        load.stdout.readline()
        file = Path(folder) / "gateway.toml"
        urls = ", ".join(f'"http://127.0.0.1:{each}"' for each in backends)
        file.write_text(
            CONFIG.format(
                port=port, admin=admin, urls=urls, upstream=upstream, route=route, limits=limits
            )
        )
        gateway = [sys.executable, "-m", "gateway", "serve", "--config", str(file)]
        with running(gateway, SERVER_CORE, stderr=subprocess.DEVNULL) as server:
            wait_for(port)
            time.sleep(0.5)
            yield Rush(load, server)
            load.stdin.close()


def per_second(result: Any, *fates: str) -> list[int]:
    return [sum(each.get(fate, 0) for fate in fates) for each in result["seconds"]]


def rate(result: Any, *fates: str) -> float:
    """Answers a second, over the whole of it."""
    return sum(result["totals"].get(fate, 0) for fate in fates) / len(result["seconds"])


def truth(result: Any) -> dict[str, int]:
    """What must be 0: keys that made two orders, and orders told of that are not in the books."""
    return {
        "doubled": result["doubled"],
        "told_but_missing": max(0, result["told_created"] - result["in_books"]),
    }


def save(name: str, summary: Any, plot: Any = None) -> None:
    """The figures, and the plot where matplotlib is there, in ``benchmarks/results``."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary, indent=1))
    if plot is None:
        return
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure = plot(pyplot)
    figure.tight_layout()
    figure.savefig(RESULTS / f"{name}.png", dpi=90)
