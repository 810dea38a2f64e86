"""What the supervisor asks its workers over their own admin listeners, on loopback."""

import asyncio
import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from gateway.supervisor.scrapes import Scrapes
from gateway.supervisor.workers import Worker

log = structlog.get_logger("ordergate", part="process")

ASK_S_MAX = 1.0
"""A worker answers in milliseconds; whoever asks us waits for some seconds at most."""

SCRAPE_EVERY_S = 1.0
"""What a worker counted since the last scrape is lost with it when it is killed. A scrape costs a
worker a millisecond or two."""

HUNG_S = 60.0
"""A worker whose loop stood still for so long has lost its lease, and every client of it waits in
vain; the kernel goes on giving it connections. A busy machine's worker answers once in a while."""


_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""It is we who can't ask: that says nothing against the worker."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What a worker says of itself. ``answers``: it says anything at all."""

    slot: int
    pid: int
    answers: bool
    ready: bool
    reasons: tuple[str, ...] = ()


class Asking:
    """Asks workers; ``close`` in the end. Made in a running loop."""

    def __init__(self, workers: Callable[[], Iterable[Worker]], *, hung_s: float = HUNG_S) -> None:
        self._workers = workers
        self._hung_s = hung_s
        self._answered_at: dict[int, float] = {}
        self.scrapes = Scrapes()
        # Each request has a connection of its own: aiohttp repeats some on one that had closed.
        self.session = ClientSession(
            connector=TCPConnector(force_close=True, limit=0),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
        )
        self._scraping = asyncio.Lock()

    async def states(self) -> list[WorkerState]:
        """Of every worker process there is, by slot."""
        workers = sorted(self._workers(), key=lambda worker: worker.slot)
        return list(await asyncio.gather(*(self._state(worker) for worker in workers)))

    async def _state(self, worker: Worker) -> WorkerState:
        if worker.admin is None:
            return WorkerState(worker.slot, worker.pid, False, False, ("starting",))
        told = await self._ask(worker, "/readyz")
        if told is None:
            return WorkerState(worker.slot, worker.pid, False, False, ("does not answer",))
        status, body = told
        return WorkerState(worker.slot, worker.pid, True, status == 200, _reasons(body))

    async def scrape(self) -> None:
        """Take the metrics of every worker that answers; of the others stay the last ones."""
        async with self._scraping:
            await asyncio.gather(*(self._scrape(worker) for worker in self._workers()))

    async def _scrape(self, worker: Worker) -> None:
        told = await self._ask(worker, "/metrics")
        if told is None:  # its ledger may be silent: that alone is not to look as if it hung
            await self._ask(worker, "/livez")
        if told is None or told[0] != 200:
            return
        try:
            self.scrapes.told(worker.serial, told[1].decode())
        except ValueError:
            log.exception("the metrics of a worker can't be read", pid=worker.pid)

    async def keep_scraping(self) -> None:
        while True:
            await asyncio.sleep(SCRAPE_EVERY_S)
            await self.scrape()
            self.end_hung()

    def end_hung(self) -> None:
        """Kill what serves and has not answered for ``hung_s``: the next takes its orders up."""
        now = asyncio.get_running_loop().time()
        serving = [worker for worker in self._workers() if worker.admin is not None]
        known = self._answered_at
        self._answered_at = {each.serial: known.get(each.serial, now) for each in serving}
        for worker in serving:
            if now - self._answered_at[worker.serial] > self._hung_s:
                log.error("a worker hangs: killed", pid=worker.pid, seconds=self._hung_s)
                worker.kill()

    async def _ask(self, worker: Worker, path: str) -> tuple[int, bytes] | None:
        """Status and body, or None where it does not answer in time."""
        url = admin_url(worker)
        if url is None:
            return None
        try:
            timeout = ClientTimeout(total=ASK_S_MAX)
            async with self.session.get(url + path, timeout=timeout) as answer:
                told = answer.status, await answer.read()
        except (ClientError, OSError, TimeoutError) as trouble:
            if getattr(trouble, "errno", None) in _OURS:
                self._answered_at[worker.serial] = asyncio.get_running_loop().time()
            return None
        self._answered_at[worker.serial] = asyncio.get_running_loop().time()
        return told

    async def close(self) -> None:
        await self.session.close()


def admin_url(worker: Worker) -> str | None:
    return None if worker.admin is None else "http://{}:{}".format(*worker.admin)


def _reasons(body: bytes) -> tuple[str, ...]:
    try:
        told: Any = orjson.loads(body)
        return tuple(str(reason) for reason in told["reasons"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ("its answer can't be read",)
