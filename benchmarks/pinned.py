"""Servers of a benchmark: started on one core, waited for, their CPU time read from /proc."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
SERVER_CORE, LOAD_CORE = 0, 1
"""What is measured has a core for itself; load and backend share the other."""


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
        time.sleep(0.05)  # another process: nothing tells when it listens
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
    """CPU time of a process, its threads and its children, to the nanosecond."""
    family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    threads = (path for each in family for path in Path(f"/proc/{each}/task").iterdir())
    return sum(int((path / "schedstat").read_text().split()[0]) for path in threads) / 1e9
