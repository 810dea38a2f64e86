"""What the benchmarks of load share: a gateway on one core; customers and servers, in processes of
their own, on the other; the judgement of what they were told; and the plots."""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.pinned import LOAD_CORE, ROOT, SERVER_CORE, cpu_s, free_ports, running, wait_for

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
upstream_key = "client"
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

PENDING = ("received", "dispatched", "in_doubt")

GATEWAY = (sys.executable, "-m", "gateway")

LEAD_S = 0.2
"""Between a word to the processes and the moment that it names."""

SAMPLE_S = 0.25
SETTLED_S = 60.0
"""What was accepted is finished within this, or does not count as finished."""


class Rush:
    """A running rush: ``run`` as often as wanted."""

    def __init__(
        self,
        folder: Path,
        admin: int,
        customers: subprocess.Popen[str],
        servers: subprocess.Popen[str],
        gateway: subprocess.Popen[str],
    ) -> None:
        self._folder = folder
        self._admin = admin
        self._customers = customers
        self._servers = servers
        self.gateway = gateway
        self._told: dict[str, int] = {}
        self._taken: list[int] = []

    def run(self, *, commands: Any = (), **plan: Any) -> Any:
        """Customers come as ``plan`` says; ``commands`` to the servers count ``at`` from its
        beginning. Adds the gateway's CPU time and memory to what the customers saw."""
        began = time.monotonic() + LEAD_S
        told = self._folder / "told.json"
        before = self.taken()
        for command in commands:
            _tell(self._servers, command | {"at": began + command["at"]})
        cpu = cpu_s(self.gateway.pid)
        _tell(self._customers, plan | {"began": began, "told": str(told)})
        with memory(self.gateway.pid, began) as samples:
            result = _heard(self._customers)
        result["cpu_s"] = round(cpu_s(self.gateway.pid) - cpu, 2)
        result["rss_mib"] = samples
        result["taken"] = [now - then for now, then in zip(self.taken(), before, strict=True)]
        self._told |= json.loads(told.read_text())
        return result

    def taken(self) -> list[int]:
        """How many requests each server has had."""
        _tell(self._servers, {"books": str(self._folder / "books.json")})
        return [int(each) for each in _heard(self._servers)["taken"]]

    def metrics(self) -> dict[str, float]:
        """The gateway's samples, by name and labels as they are written."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._admin}/metrics", timeout=60) as read:
            lines = [line for line in read.read().decode().splitlines() if line[:1] != "#"]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def truth(self) -> dict[str, int]:
        """What must be 0, once nothing is under way any more: keys that made two orders, orders
        that were told of and are not in the books, refused ones that are, and what is pending."""
        until = time.monotonic() + SETTLED_S
        pending = self.pending()
        while pending and time.monotonic() < until:
            time.sleep(0.5)  # another process: its metrics are all that tells
            pending = self.pending()
        self.taken()
        books = Counter(json.loads((self._folder / "books.json").read_text()))
        told = Counter(self._told)
        return {
            "doubled": sum(count > 1 for count in books.values()),
            "lost": sum(told[key] in (201, 202) and not books[key] for key in told),
            "contradicted": sum(told[key] in (429, 503) and books[key] > 0 for key in told),
            "pending": pending,
            "orders_told_of": sum(status == 201 for status in told.values()),
            "orders_in_books": books.total(),
        }

    def pending(self) -> int:
        found = self.metrics()
        return sum(int(found[f'ordergate_orders{{status="{status}"}}']) for status in PENDING)


@contextlib.contextmanager
def memory(pid: int, began: float) -> Iterator[list[tuple[float, float]]]:
    """Samples of a process's resident memory: seconds since ``began``, MiB."""
    over = threading.Event()
    found: list[tuple[float, float]] = []

    def sample() -> None:
        while not over.wait(SAMPLE_S):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            found.append((round(time.monotonic() - began, 2), round(pages * 4096 / 2**20, 1)))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def _tell(process: subprocess.Popen[str], words: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(words) + "\n")
    process.stdin.flush()


def _heard(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


@contextlib.contextmanager
def rush(
    *,
    servers: int = 1,
    reads: float = 0.0,
    limits: str = "",
    upstream: str = "",
    route: str = "",
    **plan: Any,
) -> Iterator[Rush]:
    """A gateway in front of so many servers, and customers ready to come."""
    port, admin, *backends = free_ports(2 + servers)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        tempfile.TemporaryDirectory(prefix="ordergate-bench-") as name,
        running([sys.executable, "-m", "benchmarks.rush"], LOAD_CORE, **pipes) as customers,
        running([sys.executable, "-m", "benchmarks.rush_servers"], LOAD_CORE, **pipes) as backend,
    ):
        for process in (customers, backend):
            _tell(process, {"port": port, "backends": backends, "reads": reads, **plan})
            assert process.stdout is not None
            process.stdout.readline()
        file = Path(name) / "gateway.toml"
        urls = ", ".join(f'"http://127.0.0.1:{each}"' for each in backends)
        file.write_text(
            CONFIG.format(
                port=port,
                admin=admin,
                urls=urls,
                upstream=upstream,
                route=route,
                limits=limits,
            )
        )
        gateway = [*GATEWAY, "serve", "--config", str(file)]
        with running(gateway, SERVER_CORE, stderr=subprocess.DEVNULL) as server:
            wait_for(port)
            wait_for(admin)
            yield Rush(Path(name), admin, customers, backend, server)


def per_second(result: Any, *fates: str) -> list[int]:
    return [sum(each.get(fate, 0) for fate in fates) for each in result["seconds"]]


def rate(result: Any, *fates: str) -> float:
    """Answers a second, over the whole of it but the first second, in which everybody arrives."""
    counts = per_second(result, *fates)[1:]
    return sum(counts) / len(counts)


def save(name: str, summary: Any, plot: Any) -> None:
    """The figures, and the plot where matplotlib is there, in ``benchmarks/results``."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(summary, indent=1) + "\n")
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure = plot(pyplot)
    figure.tight_layout()
    figure.savefig(RESULTS / f"{name}.png", dpi=90)


class Verdicts:
    """What was aimed at, and whether it was met."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self._missed = 0

    def add(self, told: str, held: bool) -> None:
        self.told.append(f"{'holds' if held else 'MISSED'}: {told}")
        self._missed += not held

    def end(self) -> None:
        """Print them; exits 1 where an aim was missed."""
        sys.stdout.write("\n".join(self.told) + "\n")
        raise SystemExit(1 if self._missed else 0)
