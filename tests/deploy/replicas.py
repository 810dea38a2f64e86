"""Two gateways on one ledger, each a process, and the real HAProxy in front of them."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import apsw
import pytest

from tests.faults.processes import GatewayProcess
from tests.ports import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"

DRAIN_DELAY_S = 2.0
"""Above the 1.25 s in which deploy/haproxy.cfg notices."""

REST = """
[[routes]]
name = "rest"
match = "* /**"
kind = "plain"
upstream = "backend"
"""

NEEDS_ROOT = ("user ", "group ", "chroot ")
"""What an ordinary user can't do: left out for one."""


def tool(name: str) -> str:
    """The path of a system's program; skips the test without it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed; `./run test --install` installs it")
    return found


class Replica(GatewayProcess):
    """One of several gateways in one folder: its own ports, log and file, the same ledger."""

    def __init__(self, folder: Path, name: str, backend: int) -> None:
        super().__init__(folder, backend)
        text = self.config.read_text()
        self.config.unlink()
        self.name = name
        self.config = folder / f"{name}.toml"
        self.log = folder / f"{name}.log"
        delay = f"drain_s = 5\ndrain_delay_s = {DRAIN_DELAY_S}"
        self.config.write_text(text.replace("drain_s = 5", delay) + REST)

    async def start(self, *arguments: str) -> None:
        """Start it, and see that it serves: its log says why it does not."""
        await super().start(*arguments)
        assert self._process is not None
        assert self._process.returncode is None, self.log.read_text()[-2000:]

    async def kill_in_an_order(self) -> None:
        """At a moment when it waits for the backend's word: it is stopped to be looked at."""
        async with asyncio.timeout(20):
            while True:
                os.kill(self.pid, signal.SIGSTOP)
                if self._orders_out():
                    break
                os.kill(self.pid, signal.SIGCONT)
                await asyncio.sleep(0.01)  # another moment
        await self.kill()

    def _orders_out(self) -> int:
        with apsw.Connection(str(self.ledger), flags=apsw.SQLITE_OPEN_READONLY) as ledger:
            ((out,),) = ledger.execute(
                "SELECT count(*) FROM orders JOIN holders USING (holder)"
                " WHERE status = 'dispatched' AND pid = ?",
                (self.pid,),
            )
        return int(out)


class HaProxy:
    """deploy/haproxy.cfg as it stands, told where to listen and whom to ask by the environment."""

    def __init__(self, folder: Path, a: Replica, b: Replica) -> None:
        self.port = free_port()
        self.log = folder / "haproxy.log"
        self._program = tool("haproxy")
        self._socket = folder / "haproxy.sock"
        self._extra = folder / "haproxy-socket.cfg"
        self._extra.write_text(f"global\n    stats socket {self._socket}\n")
        self._config = _for_this_user(DEPLOY / "haproxy.cfg", folder)
        self._environment = {
            "ORDERGATE_STOREFRONT": f"127.0.0.1:{self.port}",
            "ORDERGATE_A": f"127.0.0.1:{a.port}",
            "ORDERGATE_A_ADMIN_PORT": str(a.admin),
            "ORDERGATE_B": f"127.0.0.1:{b.port}",
            "ORDERGATE_B_ADMIN_PORT": str(b.admin),
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *servers: str) -> None:
        """Return when these gateways count as up."""
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(self._program, "-db", "-f", str(self._config), "-f", str(self._extra)),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        for server in servers:
            await self.until(server, "UP")

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGTERM)
            await self._process.wait()

    async def until(self, server: str, state: str) -> None:
        """Wait until HAProxy's own table says so, with the health check behind it."""
        async with asyncio.timeout(30):
            while await self._state(server) != state:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)

    async def _state(self, server: str) -> str:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
            writer.write(b"show stat\n")
            table = (await reader.read()).decode()
            writer.close()
            names, *rows = [line.split(",") for line in table.removeprefix("# ").splitlines()]
            for row in rows:
                line = dict(zip(names, row, strict=False))
                if (line.get("pxname"), line.get("svname")) == ("gateways", server):
                    return line["status"] if line["check_status"].startswith("L7") else "unknown"
        return "unknown"

    def served(self) -> Counter[str]:
        """How many requests each server was given, by HAProxy's log."""
        lines = self.log.read_text().splitlines()
        return Counter(
            word.partition("/")[2]
            for line in lines
            for word in line.split()
            if word.startswith("gateways/")
        )


def _for_this_user(config: Path, folder: Path) -> Path:
    if os.geteuid() == 0:
        return config
    lines = config.read_text().splitlines(keepends=True)
    copy = folder / "haproxy.cfg"
    copy.write_text("".join(line for line in lines if not line.strip().startswith(NEEDS_ROOT)))
    return copy
