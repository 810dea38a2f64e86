"""Several workers on one port and one ledger: started, started again, reloaded and drained."""

import asyncio
import itertools
import signal
import socket
from typing import assert_never

import structlog

from gateway.api.admin_access import admin_token
from gateway.settings import Settings, UpstreamSettings
from gateway.settings.values import split_address
from gateway.supervisor.admin import AdminListener, WorkerCounts
from gateway.supervisor.asking import Asking
from gateway.supervisor.channel import Configuration
from gateway.supervisor.deaths import DEATHS_MAX, Again, GiveUp, after_death
from gateway.supervisor.logs import Levels
from gateway.supervisor.ports import reserve
from gateway.supervisor.process import EXIT_AGAIN, EXIT_REFUSED, tell_address_refused, url_of
from gateway.supervisor.reloading import ReloadRefused, Reread, heed_hangups, reread
from gateway.supervisor.workers import Worker
from middleware.tasks import Tasks

log = structlog.get_logger("ordergate", part="process")

EXIT_WORKERS_DIE = 4
"""Workers die as soon as they are started: their own lines in the log say of what."""

STOP_S = 15.0
"""For a worker to close what it has after its drain: its ledger may wait for a slow disk."""

CLOSE_S = 5.0


class Supervisor:
    """Call ``run`` once. Serves nothing itself but operators; holds no orders and no ledger."""

    def __init__(self, settings: Settings, read: Reread, levels: Levels) -> None:
        self._settings = settings
        self._read = read
        self._levels = levels
        self._retired: dict[str, UpstreamSettings] = {}
        self._workers: dict[int, Worker] = {}
        self._deaths: dict[int, int] = {}
        """Of each slot: at once and in a row."""
        self._serials = itertools.count(1)
        self._serving = asyncio.Event()
        self._ending = asyncio.Event()
        self._status = 0
        self._keepers = Tasks(self._task_failed)
        self._duties = Tasks(self._task_failed)
        self._counts = WorkerCounts()
        self._counts.configured.set(settings.listen.workers)
        self._asking = Asking(self._workers.values)
        self._admin = AdminListener(
            asking=self._asking,
            workers=self._workers.values,
            draining=self._ending.is_set,
            counts=self._counts,
            token=self._admin_token,
        )
        self._token = settings.admin_token
        self._port: socket.socket | None = None
        self._address = settings.listen.address

    async def run(self) -> int:
        """Until SIGTERM, SIGINT, or workers that will not live; the exit status."""
        listen = self._settings.listen
        try:
            self._port, self._address = await reserve(listen.address)
            admin = await self._admin.start(*split_address(listen.admin))
        except OSError as error:
            tell_address_refused(error, listen)
            self._status = EXIT_REFUSED
        else:
            self._heed_signals()
            await self._run_workers(admin)
        await self._admin.stop()
        await self._asking.close()
        if self._port is not None:
            self._port.close()
        return self._status

    async def _run_workers(self, admin: tuple[str, int]) -> None:
        """The first one alone: it makes what all of them need, and says what is wrong with it."""
        self._duties.start(self._asking.keep_scraping(), name="scrape the workers")
        self._start_keeping(1)
        await self._first_of(self._serving, self._ending)
        if not self._ending.is_set():
            log.info(
                "serving",
                storefront=url_of(split_address(self._address)),
                admin=url_of(admin),
                ledger=self._settings.ledger.url,
                workers=self._settings.listen.workers,
            )
            for slot in range(2, self._settings.listen.workers + 1):
                self._start_keeping(slot)
        await self._ending.wait()
        await self._drain()
        await self._duties.close(CLOSE_S)

    async def _first_of(self, *events: asyncio.Event) -> None:
        waiting = [self._duties.start(event.wait(), name="wait") for event in events]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    def _admin_token(self) -> str:
        """The workers' own; the first of them makes the file before it serves."""
        if self._token is None:
            self._token = admin_token(self._settings.admin_token_file)
        return self._token

    # --- one slot ---

    def _start_keeping(self, slot: int) -> None:
        self._keepers.start(self._keep(slot), name=f"keep worker {slot}")

    async def _keep(self, slot: int) -> None:
        """See that a worker runs in this slot, until we end."""
        deaths = self._deaths[slot] = 0
        while not self._ending.is_set():
            status, served_s = await self._one_life(slot)
            if self._ending.is_set():
                return
            if status == EXIT_REFUSED and not self._serving.is_set():
                self._end(EXIT_REFUSED)  # it said why
                return
            self._counts.deaths.inc()
            sequel = after_death(
                deaths,
                served_s,
                disk_failed=status == EXIT_AGAIN,
                others_live=self._others_live(slot),
            )
            self._deaths[slot] = sequel.deaths
            match sequel:
                case Again(pause_s, deaths):
                    log.warning("worker ended", worker=slot, status=status, again_in_s=pause_s)
                    if deaths == DEATHS_MAX:
                        log.error(
                            "a worker dies whenever it is started", worker=slot, deaths=deaths
                        )
                    await self._pause(pause_s)
                case GiveUp(deaths):
                    log.error(
                        "a worker dies whenever it is started: giving up",
                        worker=slot, status=status, deaths=deaths,
                    )  # fmt: skip
                    self._end(EXIT_WORKERS_DIE)
                case _:
                    assert_never(sequel)

    def _others_live(self, slot: int) -> bool:
        """Whether one serves in another slot, or may soon."""
        serve = any(each.serves for each in self._workers.values())
        others = (count for each, count in self._deaths.items() if each != slot)
        return serve or any(count < DEATHS_MAX for count in others)

    async def _one_life(self, slot: int) -> tuple[int, float | None]:
        """Exit status (negative: the signal), and how long it served."""
        serial = next(self._serials)
        settings = self._settings
        try:
            worker = await Worker.spawn(slot, serial, self._configuration())
        except OSError as error:
            log.error("a worker can't be started", worker=slot, reason=str(error))
            return EXIT_AGAIN, None  # no room for one more process, as a rule
        self._workers[slot] = worker
        self._asking.scrapes.began(serial)
        log.info("worker started", worker=slot, pid=worker.pid)
        if self._settings is not settings:  # reloaded while it was on its way
            worker.configure(self._configuration())
        if self._ending.is_set():  # asked while it was on its way
            worker.drain()
        try:
            return await worker.life(self._serves)
        finally:
            del self._workers[slot]
            if worker.last_metrics is not None:
                self._asking.scrapes.told(serial, worker.last_metrics)
            self._asking.scrapes.ended(serial)

    def _serves(self, worker: Worker) -> None:
        log.info("worker serves", worker=worker.slot, pid=worker.pid)
        self._serving.set()
        self._duties.start(self._admin.tell_new(worker), name=f"tell worker {worker.slot}")

    async def _pause(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._ending.wait()
        except TimeoutError:
            pass

    def _configuration(self) -> Configuration:
        """The workers' own: the port that was reserved, and an admin listener only for us."""
        listen = self._settings.listen.model_copy(
            update={"address": self._address, "admin": "127.0.0.1:0"}
        )
        settings = self._settings.model_copy(update={"listen": listen})
        return Configuration(settings, tuple(self._retired.values()), self._settings.listen)

    # --- signals ---

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_end)
        heed_hangups(self._reload)

    def _asked_to_end(self) -> None:
        """A second time it cuts the drain short."""
        if self._ending.is_set():
            for worker in self._workers.values():
                worker.hurry()
        self._end(0)

    def _end(self, status: int) -> None:
        if not self._ending.is_set():
            self._status = status
            self._ending.set()

    def _reload(self) -> None:
        """All workers take the new configuration, or the old one stays with all."""
        try:
            settings = reread(self._read, self._settings)
        except ReloadRefused as refused:
            log.error("reload refused: the old configuration stays", reasons=refused.reasons)
            return
        names = {upstream.name for upstream in settings.upstreams}
        for upstream in self._settings.upstreams:
            self._retired[upstream.name] = upstream
        self._retired = {name: each for name, each in self._retired.items() if name not in names}
        self._settings = settings
        self._levels.apply(settings.log)
        for worker in self._workers.values():
            worker.configure(self._configuration())
        log.info("reloaded", workers=len(self._workers))

    # --- the end ---

    async def _drain(self) -> None:
        """``/readyz`` says 503 by now; each worker waits, drains and ends."""
        listen = self._settings.listen
        log.info("draining", seconds=listen.drain_s, delay_seconds=listen.drain_delay_s)
        for worker in self._workers.values():
            worker.drain()
        patience_s = listen.drain_delay_s + listen.drain_s + STOP_S
        if not await self._keepers.finish(patience_s):
            for worker in self._workers.values():
                log.error("a worker did not drain: killed", worker=worker.slot, pid=worker.pid)
                worker.kill()
            await self._keepers.finish(CLOSE_S)
        await self._keepers.close(CLOSE_S)
        log.info("stopped")

    def _task_failed(self, name: str, error: BaseException) -> None:
        log.error("task failed", task=name, exc_info=error)
        self._end(1)  # without its keeper a worker would not come back: all start anew
