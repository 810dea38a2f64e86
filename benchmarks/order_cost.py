"""What an order costs beside a bare aiohttp proxy: ``./run bench order_cost``.

Each server runs on one core, clients and backend on the other; the two alternate, and the medians
make the ratio (orders/s of the gateway on SQLite with fsync, by POSTs/s of the bare proxy; and
CPU seconds a request). Machines are noisy: only the ratio means anything.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SERVER_CORE, LOAD_CORE = 0, 1

CONFIG = """
[listen]
address = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
[ledger]
url = "sqlite:///ledger.db"
[[upstreams]]
name = "backend"
urls = ["http://127.0.0.1:{backend}"]
[[routes]]
name = "place-order"
match = "POST /orders"
kind = "{kind}"
upstream = "backend"
{order}
[log]
level = "warning"
"""

ORDER = """capability = "lookup"
lookup = "GET /orders?idempotency_key={key}"
scope = ["header:Authorization"]"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


@contextlib.contextmanager
def running(command: list[str], core: int, **more: Any) -> Iterator[subprocess.Popen[str]]:
    pinned = ["taskset", "-c", str(core), *command]
    with subprocess.Popen(pinned, cwd=ROOT, text=True, **more) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(command: list[str], port: int, backend: int, options: argparse.Namespace) -> Any:
    """Start the server and the load anew, warm up, measure once."""
    load = [sys.executable, "-m", "benchmarks.load", str(port), str(backend)]
    load += [str(options.clients), str(options.seconds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running(load, LOAD_CORE, **pipes) as loader, running(command, SERVER_CORE) as server:
        assert loader.stdin is not None
        assert loader.stdout is not None
        loader.stdout.readline()
        wait_for(port)
        results = []
        for _ in ("warm-up", "measured"):
            began = cpu_s(server.pid)
            loader.stdin.write("go\n")
            loader.stdin.flush()
            result = json.loads(loader.stdout.readline())
            spent = cpu_s(server.pid) - began
            results.append(result | {"cpu_us": round(spent / result["requests"] * 1e6, 1)})
        loader.stdin.close()
        return results[1]


def gateway(folder: Path, kind: str, port: int, admin: int, backend: int) -> list[str]:
    file = folder / f"{kind}-{port}.toml"
    order = ORDER if kind == "order" else ""
    file.write_text(CONFIG.format(port=port, admin=admin, backend=backend, kind=kind, order=order))
    return [sys.executable, "-m", "gateway", "serve", "--config", str(file)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--clients", type=int, default=32)
    options = parser.parse_args()
    figures: dict[str, list[Any]] = {"bare": [], "plain": [], "order": []}
    for _ in range(options.rounds):
        for name, results in figures.items():
            with tempfile.TemporaryDirectory(dir=ROOT / "benchmarks") as folder:
                port, admin, backend = free_ports(3)
                if name == "bare":
                    bare = str(ROOT / "benchmarks" / "bare_proxy.py")
                    command = [sys.executable, bare, str(port), f"http://127.0.0.1:{backend}"]
                else:
                    command = gateway(Path(folder), name, port, admin, backend)
                results.append(measure(command, port, backend, options))
                print(name, results[-1], flush=True)
    rate = {name: statistics.median(r["per_s"] for r in rs) for name, rs in figures.items()}
    cpu = {name: statistics.median(r["cpu_us"] for r in rs) for name, rs in figures.items()}
    summary = {
        "order_rate_by_bare": round(rate["order"] / rate["bare"], 3),
        "plain_rate_by_bare": round(rate["plain"] / rate["bare"], 3),
        "order_cpu_by_bare": round(cpu["order"] / cpu["bare"], 3),
        "plain_cpu_by_bare": round(cpu["plain"] / cpu["bare"], 3),
        "per_s": rate,
        "cpu_us": cpu,
        "rounds": options.rounds,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
