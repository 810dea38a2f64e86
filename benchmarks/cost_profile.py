"""Where the microseconds of a request go: ``./run bench cost_profile``, a table for each kind.

The load of ``cost`` on one kind of route at a time, while py-spy looks at the gateway's stacks.
The innermost frame that is the gateway's decides whose time it was; its share of the looks, times
the CPU time of a request (measured without py-spy), are its microseconds. Only Python's frames are
seen: what the event loop does below them counts for the loop, or for who writes to a socket.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from benchmarks.contestants import CONTESTANTS, backend
from benchmarks.cost import WARM_UP_S, load, missing
from benchmarks.pinned import LOAD_CORE, ROOT, SERVER_CORE, cpu_s, free_ports, running, wait_for

RATE = 500
"""Looks a second."""

SHARE_MIN = 0.005

PY_SPY = Path(sys.executable).with_name("py-spy")

LOOP = "event loop: waiting, reading from sockets, the kernel's part of it"
WRITES = "writing to sockets, the kernel's part of it"
OTHER = "Python's and other libraries' own"

_WRITES = re.compile(r"^(Connection\.(_write_whole|write)|AtOnce\.answered|Outgoing\.send) ")
_PARTS: Sequence[tuple[str, str]] = (
    ("gateway/server/", "server: reading heads strictly, turns, answers"),
    ("gateway/api/templates", "forwarding: which fields go up, which come back"),
    ("gateway/api/forwarding", "forwarding: which fields go up, which come back"),
    ("gateway/upstream/", "hop: choosing a connection, exchange, reading the answer"),
    ("gateway/api/", "routes and handlers"),
    ("gateway/routes", "routes and handlers"),
    ("middleware/idempotency/", "gate: key, scope, fingerprint"),
    ("middleware/", "middlewares: id, log, counts, problems, admission"),
    ("gateway/telemetry", "middlewares: id, log, counts, problems, admission"),
    ("structlog/", "middlewares: id, log, counts, problems, admission"),
    ("prometheus_client/", "middlewares: id, log, counts, problems, admission"),
    ("gateway/stores/", "ledger: SQLite, group commit, fsync"),
    ("gateway/telling", "ledger: SQLite, group commit, fsync"),
    ("gateway/orders/", "order: phases, life of an entry"),
    ("gateway/placement", "order: phases, life of an entry"),
    ("gateway/sending", "order: phases, life of an entry"),
    ("gateway/", "other duties"),
)
_FRAME = re.compile(r"^(?P<function>.*) \((?P<file>[^()]*?)(?::\d+)?\)$")


def part_of(stack: Sequence[str]) -> str:
    """Whose time it is, from a stack's frames, outermost first."""
    leaf = stack[-1]
    if leaf.startswith("Runner.run "):
        return LOOP
    if _WRITES.match(leaf):
        return WRITES
    for frame in reversed(stack):
        found = _FRAME.match(frame)
        file = found["file"] if found else ""
        for prefix, part in _PARTS:
            if file.startswith(prefix) or f"/{prefix}" in file:
                return part
    return OTHER


def shares(raw: Iterable[str]) -> dict[str, float]:
    """Of py-spy's raw format: a stack, joined by semicolons, and how often it was seen."""
    counts: Counter[str] = Counter()
    for line in raw:
        stack, _, seen = line.rstrip().rpartition(" ")
        counts[part_of(stack.split(";"))] += int(seen)
    total = counts.total() or 1
    return {part: count / total for part, count in counts.most_common()}


def profile(
    kind: str, seconds: int, connections: int, backend_port: int
) -> tuple[float, float, dict[str, float]]:
    """CPU microseconds of a request, those of them in the kernel, and the share of each part."""
    with tempfile.TemporaryDirectory(dir=ROOT / "benchmarks") as name:  # a disk, not memory
        folder, [port] = Path(name), free_ports(1)
        raw = folder / "raw"
        command = CONTESTANTS[kind].command(folder, port, backend_port)
        with running(command, SERVER_CORE, stderr=subprocess.DEVNULL) as server:
            wait_for(port)
            load(port, WARM_UP_S, connections)
            spent, in_kernel = cpu_s(server.pid), _kernel_s(server.pid)
            requests = load(port, seconds, connections)["requests"]
            spent, in_kernel = cpu_s(server.pid) - spent, _kernel_s(server.pid) - in_kernel
            look = ["taskset", "-c", str(LOAD_CORE), str(PY_SPY), "record", "--nonblocking"]
            look += ["--rate", str(RATE), "--duration", str(seconds), "--format", "raw"]
            look += ["--output", str(raw), "--pid", str(server.pid)]
            with subprocess.Popen(
                look, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as spy:
                while spy.poll() is None:
                    load(port, 1, connections)
        if spy.returncode:
            raise SystemExit("py-spy may not look at another process here (ptrace)")
        return (
            spent / requests * 1e6,
            in_kernel / requests * 1e6,
            shares(raw.read_text().splitlines()),
        )


def _kernel_s(pid: int) -> float:
    """The kernel's part of a process's CPU time, of all its threads, in ticks of 10 ms."""
    times = psutil.Process(pid).cpu_times()
    return float(times.system)


def table(kind: str, cpu_us: float, kernel_us: float, parts: dict[str, float]) -> str:
    title = CONTESTANTS[kind].title
    lines = [f"| {title} | µs | share |", "|---|---|---|"]
    lines += [
        f"| {part} | {share * cpu_us:.1f} | {share:.0%} |"
        for part, share in parts.items()
        if share >= SHARE_MIN
    ]
    lines.append(f"| **all**, {kernel_us:.0f} µs of it in the kernel | {cpu_us:.0f} | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--only", default="plain,order", metavar="NAME,NAME")
    options = parser.parse_args()
    kinds = options.only.split(",")
    if lacking := missing(kinds):
        raise SystemExit(f"not installed: {', '.join(lacking)} (`./run --install bench`)")
    with tempfile.TemporaryDirectory() as folder:
        [backend_port] = free_ports(1)
        with running(backend(Path(folder), backend_port), LOAD_CORE):
            wait_for(backend_port)
            for kind in kinds:
                told = profile(kind, options.seconds, options.connections, backend_port)
                sys.stdout.write(table(kind, *told) + "\n\n")


if __name__ == "__main__":
    main()
