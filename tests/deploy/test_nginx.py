"""The real nginx before two gateways: it checks the configuration, and never repeats an order."""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.demo.backend import Backend
from gateway.demo.faults import Ordeal
from gateway.orders.promise import Capability
from tests.deploy.crowd import Crowd
from tests.deploy.replicas import DEPLOY, Replica, tool
from tests.ports import free_port

WORK_S = 0.2


class Nginx:
    """deploy/nginx.conf with its addresses and files changed, and nothing else."""

    def __init__(self, folder: Path, a: int, b: int) -> None:
        self.port = free_port()
        self._program = tool("nginx")
        self._config = folder / "nginx.conf"
        self._pid = folder / "nginx.pid"
        self.access_log = folder / "access.log"
        text = (DEPLOY / "nginx.conf").read_text()
        for written, meant in (
            ("listen 80;", f"listen 127.0.0.1:{self.port};"),
            ("server 127.0.0.1:8080 ", f"server 127.0.0.1:{a} "),
            ("server 127.0.0.1:8090 ", f"server 127.0.0.1:{b} "),
            ("/run/nginx.pid", str(self._pid)),
            ("/var/log/nginx/error.log", str(folder / "error.log")),
            ("/var/log/nginx/access.log", str(self.access_log)),
        ):
            assert text.count(written) == 1, written
            text = text.replace(written, meant)
        if os.geteuid() != 0:
            text = text.replace("user www-data;\n", "")
        self._config.write_text(text)
        self._process: asyncio.subprocess.Process | None = None

    def check(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, "-t", "-c", str(self._config)],
            capture_output=True,
            text=True,
            timeout=10,
        )

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(self._program, "-c", str(self._config), "-g", "daemon off;"),
            stdin=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(5):
            while not await self._listens():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGTERM)
            await self._process.wait()


def directives() -> list[list[str]]:
    text = re.sub(r"#.*", "", (DEPLOY / "nginx.conf").read_text())
    return [part.split() for part in re.split(r"[;{}]", text) if part.split()]


def test_nginx_accepts_the_configuration(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("Debian's nginx makes its folders as root")
    checked = Nginx(tmp_path, 1, 2).check()
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr


def test_nothing_in_it_repeats_a_request() -> None:
    said = [words for words in directives() if words[0].startswith("proxy_next_upstream")]
    assert said == [["proxy_next_upstream", "off"]]


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    backend = Backend(frozenset({Capability.LOOKUP}), lambda _ref, _nth: Ordeal(work_s=WORK_S))
    yield backend
    await backend.stop()


async def test_a_gateway_killed_behind_nginx_loses_and_doubles_no_order(
    tmp_path: Path, backend: Backend
) -> None:
    if os.geteuid() != 0:
        pytest.skip("Debian's nginx makes its folders as root")
    tool("nginx")
    address = await backend.start()
    a, b = (Replica(tmp_path, name, address.port) for name in "ab")
    nginx = Nginx(tmp_path, a.port, b.port)
    crowd = Crowd(nginx.port, insistent=True)
    try:
        await a.start()
        await b.start()
        await nginx.start()
        crowd.open()
        await crowd.ordered(30)
        await a.kill_in_an_order()
        await crowd.ordered(50)
        await crowd.close()
    finally:
        await crowd.send_away()
        await nginx.stop()
        await a.stop()
        await b.stop()
    assert any(failure.startswith("POST") for failure in crowd.failures), "the kill met no order"
    tried = re.findall(r"\d+\.\d+\.\d+\.\d+:\d+, ", nginx.access_log.read_text())
    assert tried == []
    await backend.quiet()
    verdict = crowd.judge(backend, kills=1)
    assert verdict.clean, verdict.findings
    assert verdict.confirmed == verdict.intents == len(backend.books.orders)
