"""Calls of scripts: to the server that has the bucket, within a time, and never believed where
the reply shows that the store forgot.

A call that has surely not been done is made again where a server may have moved. One whose reply
was lost is made once more: every script knows its own write again.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

from redis import exceptions as errors

from gateway.ledger import Hold, LedgerUnavailable
from gateway.stores.valkey_host import HostMemory
from gateway.stores.valkey_keys import Bucket, Layout
from gateway.stores.valkey_lane import Args, Command, NotDone, ReplyLost, Unacknowledged
from gateway.stores.valkey_nodes import Node
from gateway.stores.valkey_remembered import GONE, MARK_MAX, Head, Known, forgotten
from gateway.stores.valkey_scripts import scripts
from gateway.stores.valkey_servers import ClusterServers, Servers
from gateway.stores.valkey_trust import Trust
from middleware.clock import Clock

MOVE_S = 3.5
"""How long a call waits for a failover or a slot to move: Sentinel and cluster take some seconds.
Less than the store's timeout, so that the caller hears why."""

PAUSE_FIRST_S, PAUSE_MAX_S = 0.02, 0.25

DRIFT = 0.0005
"""By how much two clocks may drift apart: ten times what quartz does."""

FOLLOW_MAX = 3
"""How often a call goes at once where a server says that its slot is now."""

FORGOT = b"forgot"
"""What a script says that finds less than its caller knows, and has done nothing."""

UNHEARD = b"unheard"
"""What a script says, and has done nothing, where its caller had not heard by the time it decided
that the store forgot."""

KeysOf = Callable[[Bucket], Sequence[bytes]]


class Calls:
    """``given_time`` stands for the server's clock (tests). ``trust`` is told of each sign that
    the store forgot; what was written is kept in ``memory`` before its caller hears of it."""

    def __init__(
        self,
        servers: Servers,
        layout: Layout,
        *,
        clock: Clock,
        given_time: Callable[[], float] | None,
        trust: Trust,
        memory: HostMemory,
        hold: Callable[[], Hold],
    ) -> None:
        self.remembered = trust.remembered
        self.servers = servers
        self.lag_s = float("-inf")
        self._lag_at = 0.0
        self._layout = layout
        self._clock = clock
        self._given_time = given_time
        self._trust = trust
        self._memory = memory
        self._hold = hold
        self._wrote_at: list[float | None] = [None] * len(layout.buckets)
        self._marks = itertools.count()

    async def order(
        self,
        bucket: Bucket,
        name: str,
        keys: Args,
        args: Args,
        *,
        holder: str,
        writes: bool = True,
        patient: bool = True,
    ) -> list[Any]:
        """One script on one bucket; what follows the head of its reply. Raises LedgerUnavailable
        also where the reply is no proof: the store forgot, or it is not durable; and at once,
        unless ``patient``, where the bucket moves just now."""
        known: list[Known] = []
        start = self._clock.monotonic()
        reply = await self._script(
            [bucket],
            name,
            keys,
            args,
            known=known,
            holder=holder,
            acknowledged=True,
            move_s=MOVE_S if patient else 0.0,
        )
        head = Head.of(reply[0])
        wrote = writes and reply[1] == b"ok"
        note = wrote or (writes and reply[1] == b"echo")
        told = self._check(bucket, known[0], head, holder, said=reply[1], wrote=wrote, note=note)
        if note:
            self._memory.keep()
        if told or reply[1] == UNHEARD:
            text = "another gateway found that the ledger forgot"
            raise LedgerUnavailable(text, written=False if reply[1] == UNHEARD else None)
        if wrote:  # else the bucket keeps the time of an earlier write
            self._wrote_at[bucket.number] = start
        return list(reply[1:])

    async def everywhere(
        self,
        name: str,
        keys_of: KeysOf,
        args: Args,
        *,
        holder: str | None = None,
        writes: bool = False,
        adopt: bool = False,
        some: bool = False,
        only: int | None = None,
    ) -> list[tuple[Bucket, Any]]:
        """One script on every bucket, as few calls as the servers allow. With ``holder`` each
        bucket's reply has a head, which is checked (or, with ``adopt``, taken as it is). With
        ``some`` nobody waits for a bucket that moves just now: the others are enough."""
        move_s = 0.0 if some else MOVE_S
        calls = [
            self._group(
                buckets,
                name,
                keys_of,
                args,
                holder=holder,
                writes=writes,
                adopt=adopt,
                move_s=move_s,
            )
            for buckets in self._portions(only)
        ]
        if not some:
            return [each for group in await asyncio.gather(*calls) for each in group]
        tried = await asyncio.gather(*calls, return_exceptions=True)
        failed = [each for each in tried if isinstance(each, BaseException)]
        grave = [each for each in failed if not _moves(each)]
        if grave or len(failed) == len(tried):
            raise (grave or failed)[0]
        return [each for group in tried if not isinstance(group, BaseException) for each in group]

    async def _group(
        self,
        buckets: list[Bucket],
        name: str,
        keys_of: KeysOf,
        args: Args,
        *,
        holder: str | None,
        writes: bool,
        adopt: bool,
        move_s: float,
    ) -> list[tuple[Bucket, Any]]:
        known: list[Known] = []
        keys = [key for bucket in buckets for key in keys_of(bucket)]
        start = self._clock.monotonic()
        replies = await self._script(
            buckets,
            name,
            keys,
            args,
            known=known,
            holder=holder,
            acknowledged=writes,
            adopt=adopt,
            move_s=move_s,
        )
        if holder is None:
            return list(zip(buckets, replies, strict=True)) if isinstance(replies, list) else []
        for bucket, before, reply in zip(buckets, known, replies, strict=True):
            head, wrote = Head.of(reply[0]), writes and reply[1] == b"ok"
            if adopt:
                self._trust.told(bucket.number, head.forgot)
                self.remembered.adopt(bucket.number, head)
            else:
                self._check(bucket, before, head, holder, said=reply[1], wrote=wrote, note=wrote)
            if wrote:
                self._wrote_at[bucket.number] = start
        if writes:
            self._memory.keep()
        return [(bucket, reply[1:]) for bucket, reply in zip(buckets, replies, strict=True)]

    async def everywhere_flat(
        self, name: str, keys_of: KeysOf, args: Args
    ) -> list[tuple[Bucket, list[bytes]]]:
        """As ``everywhere``, for a script that says something of each key."""

        async def group(buckets: list[Bucket]) -> list[tuple[Bucket, list[bytes]]]:
            keyed = [(bucket, key) for bucket in buckets for key in keys_of(bucket)]
            keys = [key for _, key in keyed]
            command = ("EVALSHA", scripts()[name].sha, len(keys), *keys, *args)
            replies = await self._call(buckets, command, acknowledged=False, on_send=None)
            return [(bucket, flat) for (bucket, _), flat in zip(keyed, replies, strict=True)]

        found = await asyncio.gather(*(group(buckets) for _, buckets in self._groups()))
        return [each for portion in found for each in portion]

    async def read(self, bucket: Bucket, *command: bytes | str | int) -> Any:
        """A command that changes nothing."""
        return await self._call([bucket], command, acknowledged=False, on_send=None)

    async def read_all(self, buckets_and_commands: Sequence[tuple[Bucket, Args]]) -> list[Any]:
        return await asyncio.gather(
            *(
                self._call([bucket], command, acknowledged=False, on_send=None)
                for bucket, command in buckets_and_commands
            )
        )

    # --- heads -------------------------------------------------------------------------------

    def _time(self, buckets: Sequence[Bucket]) -> tuple[str, str]:
        """A given time, and how long ago we last wrote there, by our own monotonic clock."""
        if self._given_time is not None:
            return repr(self._given_time()), ""
        last = [self._wrote_at[bucket.number] for bucket in buckets]
        known = [each for each in last if each is not None]
        if len(known) < len(last):
            return "", ""
        return "", repr(self._clock.monotonic() - min(known))

    def _check(
        self,
        bucket: Bucket,
        known: Known,
        head: Head,
        holder: str,
        *,
        said: bytes | list[bytes],
        wrote: bool,
        note: bool,
    ) -> bool:
        """Whether it was just heard here that another gateway found that the store forgot: what
        was decided without knowing it must not stand; what decides nothing about an order may.
        Raises LedgerUnavailable where the reply itself shows it.

        ``note``: what the reply shows is acknowledged, as it is only behind a write of this very
        call. What others wrote and this one merely read, a failover may rightly undo.
        """
        held = self._hold().holder == holder and self._hold().valid(self._clock.monotonic())
        sign = forgotten(known, head, holder=holder, wrote=wrote, held=held)
        if sign is None and said == FORGOT:
            sign = GONE
        if sign is not None:
            self._trust.noticed(sign, head.now)
            raise LedgerUnavailable(f"the ledger forgot: {sign}")
        self._follow(head.now)
        if note:
            self.remembered.note(bucket.number, head, holder=holder)
        return self._trust.told(bucket.number, head.forgot)

    def _follow(self, server_time: float) -> None:
        """The server's clock by ours: the fastest reply says it best, and clocks drift apart."""
        now = self._clock.monotonic()
        drift_s = max(0.0, now - self._lag_at) * DRIFT
        self.lag_s, self._lag_at = max(self.lag_s - drift_s, server_time - now), now

    # --- the way there -----------------------------------------------------------------------

    def _portions(self, only: int | None) -> list[list[Bucket]]:
        if only is not None:
            return [[self._layout.buckets[only]]]
        return [buckets for _, buckets in self._groups()]

    def _groups(self) -> list[tuple[Node, list[Bucket]]]:
        try:
            return self.servers.groups()
        except NotDone as no:
            raise LedgerUnavailable(no.detail, written=False) from no

    async def _script(
        self,
        buckets: list[Bucket],
        name: str,
        keys: Args,
        args: Args,
        *,
        known: list[Known],
        holder: str | None,
        acknowledged: bool,
        adopt: bool = False,
        move_s: float = MOVE_S,
    ) -> Any:
        """``known`` becomes what was known of each bucket when the call went out last: what the
        script is told too, where it has a ``holder``, and is to ``adopt`` nothing."""
        command: list[bytes | str | int | float] = ["EVALSHA", scripts()[name].sha, len(keys)]
        command += keys
        if holder is not None:
            command += (*self._time(buckets), "")
        asker = len(command) - 1
        command += args
        mark = f"{next(self._marks) % MARK_MAX:08x}"

        def on_send() -> None:
            known[:] = [self.remembered.known(each.number) for each in buckets]
            if holder is not None:
                lines = [] if adopt else [each.line(holder) for each in known]
                command[asker] = "\n".join([f"{holder} {mark}", *lines])

        return await self._call(
            buckets, command, acknowledged=acknowledged, on_send=on_send, move_s=move_s
        )

    async def _call(
        self,
        buckets: list[Bucket],
        args: Args,
        *,
        acknowledged: bool,
        on_send: Callable[[], None] | None,
        move_s: float = MOVE_S,
    ) -> Any:
        end = self._clock.monotonic() + move_s
        pause_s, lost, followed = PAUSE_FIRST_S, False, 0
        asked: NotDone | None = None
        while True:
            refusal: NotDone | None = None
            try:
                return await self._once(buckets[0], args, acknowledged, on_send, asked)
            except Unacknowledged as short:
                raise LedgerUnavailable(f"not durable: {short}") from short
            except ReplyLost as unheard:
                if lost:
                    raise LedgerUnavailable(str(unheard)) from unheard
                lost = True
            except NotDone as no:
                refusal = no
            asked = refusal if isinstance(_error(refusal), errors.AskError) else None
            moved = await self.servers.refresh(refusal)
            if isinstance(_error(refusal), errors.AskError) and followed < FOLLOW_MAX:
                followed += 1
                continue
            late = self._clock.monotonic() + pause_s > end
            if refusal is not None and (late or not (moved and refusal.elsewhere)):
                written: Literal[False] | None = None if lost else False
                raise LedgerUnavailable(refusal.detail, written=written) from refusal
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_MAX_S)

    async def _once(
        self,
        bucket: Bucket,
        args: Args,
        acknowledged: bool,
        on_send: Callable[[], None] | None,
        asked: NotDone | None,
    ) -> Any:
        node, asking = self.servers.node(bucket), False
        error = _error(asked)
        if type(error) is errors.AskError and isinstance(self.servers, ClusterServers):
            node, asking = self.servers.at(error.host, error.port), True
        command = Command(args, acknowledged=acknowledged, on_send=on_send, asking=asking)
        return await node.lane.submit(command)


def _moves(error: BaseException) -> bool:
    """Whether it is only that a slot is on its way from one server to another."""
    cause = error.__cause__
    return isinstance(cause, NotDone) and isinstance(
        cause.error, errors.TryAgainError | errors.AskError
    )


def _error(refusal: NotDone | None) -> Exception | None:
    return None if refusal is None else refusal.error
