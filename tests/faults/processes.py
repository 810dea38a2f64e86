"""A gateway as its own process, to be killed, started again and looked at."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp

from gateway.demo.wire import Reply
from tests.ports import free_port

ROOT = Path(__file__).parents[2]

CONFIG = """
[listen]
address = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
drain_s = 5

[ledger]
url = "{ledger}"
{durability}
lease_s = 1

[[upstreams]]
name = "backend"
urls = ["http://127.0.0.1:{backend}"]

[[routes]]
name = "place-order"
match = "POST /orders"
kind = "order"
upstream = "backend"
capability = {capability}
{more}
scope = ["header:Authorization"]
answer_within_s = 4
attempt_timeout_s = 1
settle_s = 1.5
place_within_s = 30
doubt_within_s = 30
"""


ORDER = b'{"sku":7}'


class GatewayProcess:
    python = sys.executable
    module = "gateway"

    def __init__(
        self,
        folder: Path,
        backend: int,
        capability: str = "lookup",
        *,
        ledger: str = "sqlite:///data/ledger.db",
        durability: str = "",
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.port, self.admin = free_port(), free_port()
        self.config = folder / "gateway.toml"
        self.log = folder / "gateway.log"
        self._process: asyncio.subprocess.Process | None = None
        more = {
            "lookup": 'lookup = "GET /orders?idempotency_key={key}"',
            "dedup": "dedup_for_s = 600",
            "none": "",
        }[capability]
        self.config.write_text(
            CONFIG.format(
                port=self.port,
                admin=self.admin,
                ledger=ledger,
                durability=durability,
                backend=backend,
                capability=json.dumps(capability),
                more=more,
            )
        )

    @property
    def ledger(self) -> Path:
        return self.folder / "data" / "ledger.db"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self, *arguments: str) -> None:
        """Start it, and return when it is ready or has ended."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ORDERGATE_")}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(self.python, "-m", self.module, "serve", "--config", str(self.config)),
                *arguments,
                cwd=ROOT,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(60):
            while self._process.returncode is None and not await self._listens():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def _listens(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            return (await self.readyz())[0] in (200, 503)
        return False

    async def readyz(self) -> tuple[int, Any]:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{self.admin}/readyz"
            async with session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
                return answer.status, await answer.json()

    async def order(self, key: str, body: bytes | None = None) -> tuple[int, Any]:
        reply = await self.submit(key, body)
        return reply.status, json.loads(reply.body) if reply.body else None

    async def submit(self, key: str, body: bytes | None = None) -> Reply:
        """Raises aiohttp's ClientError, and ConnectionError, where no answer comes."""
        headers = {
            "Idempotency-Key": key,
            "Authorization": "Bearer anna",
            "Content-Type": "application/json",
        }
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{self.port}/orders"
            async with session.post(url, data=body or ORDER, headers=headers) as answer:
                return Reply(answer.status, answer.raw_headers, await answer.read())

    async def until_known(self, key: str) -> tuple[int, Any]:
        """What a client hears that repeats its key until it knows, or a person is asked."""
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                    status, told = await self.order(key)
                    if status == 201:
                        return status, told
                    assert status in (202, 503)
                    if status == 202:
                        if await self.until_settled(told["id"]) == "dead_letter":
                            return status, told
                        continue
                await asyncio.sleep(0.05)

    async def until_settled(self, order: str) -> str:
        """The order's status once it is no longer pending, by long-polling the status URL."""
        url = f"http://127.0.0.1:{self.port}/_gateway/orders/{order}"
        async with aiohttp.ClientSession() as session, asyncio.timeout(20):
            while True:
                async with session.get(url, headers={"Prefer": "wait=10"}) as answer:
                    status = str((await answer.json())["status"])
                if status not in ("received", "dispatched", "in_doubt"):
                    return status

    async def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        await self.ended()

    async def terminate(self) -> int:
        os.kill(self.pid, signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        assert self._process is not None
        async with asyncio.timeout(15):
            return await self._process.wait()

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.kill()
