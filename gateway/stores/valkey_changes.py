"""The log of changes on Valkey or Redis, for gateways on any number of hosts.

One sorted set and one counter, in one slot. A server that lost its last appends (a failover, a
restart) may reach the same number again with other marks: so each append has a name, and a log
whose entry at a known position has another name is another log. Marks that nobody else had heard
yet leave no such trace: so a server with another history (its replication id) is another log too.
Whoever finds that forgets all it has kept. Where writes are copied to replicas, so is the question:
a master that was deposed and doesn't know it can't have it acknowledged.

A gateway that caches nothing looks now and then whether another one does, and tells of its changes
from then on. That may be ``KNOWN_FOR_S`` late, so the first cache keeps nothing for longer than
``SETTLES_S`` after it began.
"""

import asyncio
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gateway.settings.ledger_urls import RemoteUrl
from gateway.stores.valkey_finding import FAILURES, Finding
from gateway.stores.valkey_keys import Layout
from gateway.stores.valkey_lane import Args, Command, Copied
from gateway.stores.valkey_nodes import Access
from gateway.stores.valkey_scripts import scripts
from middleware.caching.changes import HEARD_MAX, ChangesUnknown, News
from middleware.caching.invalidation import Mark

KEPT = 2 * HEARD_MAX
"""Twice what a replica remembers: one that was away for longer forgets what it kept."""

KNOWN_FOR_S = 1.0
"""For so long, from the beginning of the question, it is believed that nobody caches."""

SETTLES_S = 1.5
"""By the server's clock. Longer than that, as two clocks may not run alike."""

ACKNOWLEDGED_S = 1.0

_APPEND, _SINCE = "changes_append", "changes_since"
_RECENT = -2


class ValkeyChangeLog:
    """The ``ChangeLog`` port at ``url``, beside the ledger there. With ``replicas`` an append is
    told only once so many have it: a failover must not bring back what was changed."""

    def __init__(
        self,
        url: RemoteUrl,
        *,
        access: Access,
        replicas: int = 0,
        make_name: Callable[[], str] = lambda: secrets.token_hex(8),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replicas = replicas
        self._make_name = make_name
        self._layout = Layout(url.prefix)
        self._bucket = self._layout.buckets[0]
        ends = (b":changes", b":changes:last", b":changes:read", b":changes:asked")
        self._keys = tuple(self._bucket.meta + end for end in ends)
        self._now = now
        names = (_APPEND, _SINCE)
        self._finding = Finding(url, access, self._layout, names, "the log of changes")
        self._position = -1
        self._newest = b""
        self._history = b""
        self._names: OrderedDict[int, bytes] = OrderedDict()
        self._read = False
        self._unread_until = -math.inf

    async def append(self, marks: Sequence[Mark]) -> None:
        texts = [mark.encoded() for mark in marks]
        await self._script(_APPEND, (KEPT, self._make_name(), *texts))

    async def since(self, position: int) -> News:
        newest = self._newest if position == self._position else b""
        return await self._news(position, newest)

    async def recent(self) -> News:
        return await self._news(_RECENT, b"")

    async def _news(self, position: int, newest: bytes) -> News:
        copied = "1" if self._replicas else ""
        last, name, same, found, history, read_for_ms = await self._script(
            _SINCE, (position, newest, "1", copied)
        )
        other = self._history not in (b"", history)
        self._position, self._newest, self._history = int(last), bytes(name), history
        settling = int(read_for_ms) < SETTLES_S * 1000
        if other or not same:
            self._names.clear()
        entries = [_Read.of(each) for each in found]
        self._names.update((each.position, each.name) for each in entries)
        self._names[self._position] = self._newest
        if entries and entries[0].position == 1:
            self._names[0] = b""
        while len(self._names) > HEARD_MAX:
            self._names.popitem(last=False)
        if other or not same:
            return News(self._position, None, settling)
        return News(self._position, [(each.position, each.mark) for each in entries], settling)

    def stamp(self, position: int) -> bytes | None:
        name = self._names.get(position)
        return None if name is None else b"%b:%d:%b" % (self._history, position, name)

    def position_of(self, stamp: bytes) -> int | None:
        history, _, rest = stamp.partition(b":")
        number, _, name = rest.partition(b":")
        if history != self._history or not number.isdigit():
            return None
        position = int(number)
        return position if self._names.get(position) == name else None

    def nothing_new(self, position: int) -> bool:  # noqa: ARG002 - only the server knows
        return False

    def in_use(self) -> bool:
        return self._read or self._now() >= self._unread_until

    async def look(self) -> bool:
        began = self._now()
        *_, read_for_ms = await self._script(_SINCE, (-1, "", "", ""))
        self._read = self._read or int(read_for_ms) >= 0
        self._unread_until = began + KNOWN_FOR_S
        return not self._read

    async def close(self) -> None:
        await self._finding.close()

    async def _script(self, name: str, args: Args) -> Any:
        """Twice where the server may have moved: the same marks once more do no harm."""
        command = ("EVALSHA", scripts()[name].sha, len(self._keys), *self._keys, *args)
        try:
            return await self._once(command)
        except FAILURES as error:
            looking = self._finding.look_again(error)
            if looking is None or not await asyncio.shield(looking):
                raise ChangesUnknown(f"the log of changes failed: {error}") from error
        except asyncio.CancelledError:  # a server that is silent is found elsewhere, too
            self._finding.look_again(None)
            raise
        try:
            return await self._once(command)
        except FAILURES as error:
            raise ChangesUnknown(f"the log of changes failed: {error}") from error

    async def _once(self, command: Args) -> Any:
        node = (await self._finding.servers()).node(self._bucket)
        if self._replicas:
            node.lane.acknowledgement = Copied(self._replicas, ACKNOWLEDGED_S)
        return await node.lane.submit(Command(command, acknowledged=True))


class _Read(NamedTuple):
    """One entry of the log."""

    position: int
    name: bytes
    mark: Mark

    @classmethod
    def of(cls, entry: bytes) -> "_Read":
        position, name, mark = entry.split(b"\n", 2)
        return cls(int(position), name, Mark.decoded(mark))
