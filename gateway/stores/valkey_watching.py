"""Waking those who wait for an order that another gateway changes: at once by pub/sub, one channel
an order while somebody waits for it; by looking, rarely while that works, often while it doesn't.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Any

from redis import exceptions as errors
from redis.asyncio.connection import AbstractConnection

from gateway.ledger import EntryUnreadable, LedgerUnavailable, Watch, Watchers, version_of
from gateway.stores.valkey_calls import Calls
from gateway.stores.valkey_keys import STATUSES, Layout
from gateway.stores.valkey_lane import NotDone
from gateway.stores.valkey_orders import Orders
from middleware.tasks import Tasks, TasksClosed

LOOK_S = 5.0
"""How often the watched orders are looked at while pub/sub works: a message may be lost."""

LOOK_WITHOUT_S = 0.25
"""And while it doesn't: what a person hardly notices."""

LOOK_SHARE = 0.1
"""The part of the time that looking may take, however many orders are watched."""

SILENCE_S = 10.0
"""A listening connection that says nothing for so long, though it is asked, is dead."""

NOTE_S = 0.25
"""For a watcher that has just begun to say what it has read: the same need not be told to it."""

CHUNK = 200
"""Orders looked at, or channels asked for, in one go."""


class RemoteWatchers(Watchers):
    """Says when an order is watched that nobody watched, and when the last watcher leaves."""

    def __init__(self, begin: Callable[[str], None], end: Callable[[str], None]) -> None:
        super().__init__()
        self._begin = begin
        self._end = end

    def add(self, entry_id: str, notify: Callable[[], None] | None = None) -> Watch:
        first = entry_id not in self._watches
        watch = super().add(entry_id, notify)
        if first:
            self._begin(entry_id)
        return watch

    @property
    def ids(self) -> Collection[str]:
        return self._watches.keys()

    def remove(self, entry_id: str, watch: Watch) -> None:
        super().remove(entry_id, watch)
        if entry_id not in self._watches:
            self._end(entry_id)


class Watching:
    """The duty behind ``RemoteWatchers``: works while somebody watches."""

    def __init__(self, layout: Layout, *, look_s: float = LOOK_S) -> None:
        self.watchers = RemoteWatchers(self._begin, self._end)
        self._layout = layout
        self._tasks: Tasks | None = None
        self._look_s = look_s
        self._calls: Calls | None = None
        self._orders: Orders | None = None
        self._connection: AbstractConnection | None = None
        self._listening: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._changed: set[str] = set()
        self._began: dict[str, float] = {}
        self._wanted: dict[str, bool] = {}
        self._clock = time.monotonic
        self._prefix = f"{layout.prefix}:changed:".encode()

    def start(self, calls: Calls, orders: Orders, tasks: Tasks) -> None:
        self._calls, self._orders, self._tasks = calls, orders, tasks

    # --- who watches -------------------------------------------------------------------------

    def _begin(self, entry_id: str) -> None:
        self._wanted[entry_id] = True
        self._began[entry_id] = self._clock()
        self._wake()

    def _end(self, entry_id: str) -> None:
        self._wanted[entry_id] = False
        self._began.pop(entry_id, None)
        self._news.set()

    def _wake(self) -> None:
        if self._tasks is None:
            return
        self._news.set()
        with suppress(TasksClosed):
            if self._looking is None or self._looking.done():
                self._looking = self._tasks.start(self._look_on(), name="look at watched orders")
            if self._listening is None or self._listening.done():
                self._listening = self._tasks.start(self._listen_on(), name="hear of changes")

    # --- pub/sub -----------------------------------------------------------------------------

    async def _listen_on(self) -> None:
        while self.watchers.ids:
            with suppress(errors.RedisError, OSError, TimeoutError, NotDone):
                await self._listen()
            await asyncio.sleep(LOOK_WITHOUT_S)

    async def _listen(self) -> None:
        assert self._calls is not None  # noqa: S101 - start was called
        node = self._calls.servers.node(self._layout.buckets[0])
        connection: AbstractConnection = node.pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            self._wanted = dict.fromkeys(self.watchers.watched, True)
            self._connection = connection
            self._news.set()
            while self.watchers.ids:
                self._hear(await connection.read_response(timeout=SILENCE_S))
        finally:
            self._connection = None
            with suppress(errors.RedisError, OSError, TimeoutError):
                await connection.disconnect()

    def _hear(self, said: Any) -> None:
        """A channel that is open now, or news on it: either way its order may have changed."""
        if not isinstance(said, list) or said[0] not in (b"message", b"subscribe"):
            return
        entry_id = said[1].removeprefix(self._prefix).decode()
        if said[0] == b"message":
            self._have_changed(entry_id)
        else:
            asyncio.get_running_loop().call_later(
                NOTE_S if self._is_new(entry_id) else 0.0, self._have_changed, entry_id
            )

    def _is_new(self, entry_id: str) -> bool:
        """Whether its watcher may be about to say what it has read."""
        new = self._clock() - self._began.get(entry_id, float("-inf")) < NOTE_S
        return new and self.watchers.known(entry_id) is None

    def _have_changed(self, entry_id: str) -> None:
        self._changed.add(entry_id)
        self._news.set()

    async def _say(self) -> None:
        """Ask for the channels that are wanted now, and give up the others."""
        connection, wanted = self._connection, self._wanted
        if connection is None or not wanted:
            return
        self._wanted = {}
        for command, on in (("SUBSCRIBE", True), ("UNSUBSCRIBE", False)):
            channels = [self._layout.channel(each) for each, is_on in wanted.items() if is_on is on]
            for start in range(0, len(channels), CHUNK):
                await connection.send_command(command, *channels[start : start + CHUNK])

    # --- looking -----------------------------------------------------------------------------

    async def _look_on(self) -> None:
        loop = asyncio.get_running_loop()
        look_at, pause_s = loop.time(), 0.0
        while self.watchers.ids:
            try:
                await self._say()
                changed, self._changed = self._changed, set()
                await self._look(changed)
                if loop.time() >= look_at:
                    look_at = loop.time() + await self._look_at_all()
            except (LedgerUnavailable, errors.RedisError, OSError, TimeoutError):
                pause_s = LOOK_WITHOUT_S
            await asyncio.sleep(pause_s)
            pause_s = 0.0
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, look_at - loop.time())):
                    await self._news.wait()
            self._news.clear()

    async def _look_at_all(self) -> float:
        """How long until the next time."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        connection = self._connection
        if connection is not None:
            await connection.send_command("PING")
        watched = self.watchers.watched
        for start in range(0, len(watched), CHUNK):
            chunk = watched[start : start + CHUNK]
            await self._look([each for each in chunk if not self._is_new(each)])
        usual_s = self._look_s if connection is not None else min(LOOK_WITHOUT_S, self._look_s)
        return max(usual_s, (loop.time() - began) / LOOK_SHARE)

    async def _look(self, entry_ids: Iterable[str]) -> None:
        """Publish those that are not as their watchers know them."""
        ids = [each for each in entry_ids if each in self.watchers.ids]
        if ids:
            await asyncio.gather(*(self._look_at(each) for each in ids))

    async def _look_at(self, entry_id: str) -> None:
        assert self._calls is not None  # noqa: S101 - start was called
        assert self._orders is not None  # noqa: S101
        place = await self._orders.locate(entry_id)
        if place is None:
            return
        command = ("HMGET", place.order, "tk", "st", "ua")
        token, status, at = await self._calls.read(place.bucket, *command)
        if token is None:
            return
        version = int(token), STATUSES[int(status) - 1].value, float(at)
        if version != self.watchers.known(entry_id):
            stored = None
            with suppress(EntryUnreadable):  # told; who waits for others hears of them
                stored = await self._orders.find(entry_id, told=True)
            if stored is not None and version_of(stored.entry) != self.watchers.known(entry_id):
                self.watchers.publish(stored.entry)
