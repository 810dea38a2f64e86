"""A supervisor and its workers as real processes, and what their log says."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.processes import GatewayProcess

LISTEN = "drain_s = 5"
"""What stands in the processes' configuration, to be replaced or added to."""

PATIENCE_S = 20.0


class Workers(GatewayProcess):
    """``workers`` gateways behind one supervisor."""

    def __init__(self, folder: Path, backend: int, workers: int = 2, **more: object) -> None:
        super().__init__(folder, backend)
        self.rewrite(LISTEN, f"{LISTEN}\nworkers = {workers}")
        for name, value in more.items():
            self.rewrite(LISTEN, f"{LISTEN}\n{name} = {json.dumps(value)}")

    def rewrite(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))

    async def _listens(self) -> bool:
        """``start`` returns once it is ready, or has ended."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            return (await self.readyz())[0] == 200
        return False

    def hang_up(self) -> None:
        """SIGHUP: reload."""
        os.kill(self.pid, signal.SIGHUP)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Every line of this event so far, of all processes."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in found if event["event"] == name]

    async def until_event(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        async with asyncio.timeout(PATIENCE_S):
            while len(found := self.events(name)) < count:  # noqa: ASYNC110 - a log file
                await asyncio.sleep(0.02)
        return found

    async def all_ready(self, count: int = 2) -> list[int]:
        """The pids of the workers, once so many are ready."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                _, told = await self.readyz()
                ready = [each["pid"] for each in told["workers"] if each["ready"]]
                if len(ready) == count:
                    return ready
                await asyncio.sleep(0.05)

    async def admin_get(self, path: str, **headers: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.admin}{path}"
        timeout = aiohttp.ClientTimeout(total=5)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers=headers) as answer,
        ):
            return answer.status, await answer.text()

    async def metrics(self) -> Mapping[str, float]:
        """Every sample, summed over its labels."""
        _, text = await self.admin_get("/metrics")
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    async def insist(self, key: str) -> tuple[str, int]:
        """Repeat the key until the answer is known: the order's id there, and how many requests
        were cut off on the way."""
        cut_off = 0
        async with asyncio.timeout(60):
            while True:
                try:
                    status, told = await self.order(key)
                except (aiohttp.ClientError, OSError):
                    cut_off += 1
                else:
                    if status == 201:
                        return str(told["id"]), cut_off
                await asyncio.sleep(0.05)


async def gone(pid: int) -> None:
    """Until no such process runs (a dead one that nobody waits for counts as gone)."""
    async with asyncio.timeout(PATIENCE_S):
        while _runs(pid):  # noqa: ASYNC110 - not a child of ours
            await asyncio.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
