"""This process's hold on a remote ledger, and whether its servers are still fit to be held."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal

from redis import exceptions as errors

from gateway.ledger import Hold, LedgerRefused, LedgerUnavailable
from gateway.settings.ledger_urls import Kind
from gateway.stores import steps
from gateway.stores.valkey_calls import Calls
from gateway.stores.valkey_checks import (
    Demands,
    Facts,
    acknowledgement,
    away,
    other_history,
    unfit,
)
from gateway.stores.valkey_host import HostMemory
from gateway.stores.valkey_keys import Bucket, Layout
from gateway.stores.valkey_lane import NotDone
from gateway.stores.valkey_nodes import Ask, Node
from gateway.stores.valkey_trust import Trust
from middleware.clock import Clock

LOOK_AT_SERVERS_S = 2.5
"""How often the servers' settings are looked at: with about every renewal of the hold."""


class HoldKeeper:
    """``epoch`` names the buckets that this process is the first to use."""

    def __init__(
        self,
        calls: Calls,
        trust: Trust,
        memory: HostMemory,
        layout: Layout,
        demands: Demands,
        *,
        clock: Clock,
        lease_s: float,
        new_holder: Callable[[], str],
        epoch: str,
        now: Callable[[], float],
        event: Callable[..., None],
    ) -> None:
        self.hold = Hold("", float("-inf"))
        self.unfit: str | None = None
        self._calls = calls
        self._trust = trust
        self._memory = memory
        self._layout = layout
        self._demands = demands
        self._clock = clock
        self._lease_s = lease_s
        self._new_holder = new_holder
        self._epoch = epoch
        self._now = now
        self._event = event
        self._looked_at = float("-inf")

    # --- the hold ----------------------------------------------------------------------------

    async def renew(self) -> None:
        """Renew the hold, or take a new one. Where the store forgot, say so there first, and take
        a new one: what this process holds, others may have been given since."""
        await self._memory.look()
        await self.look_at_servers(first=False)
        hold, start = self.hold, self._clock.monotonic()
        if self._trust.pending is not None:
            hold.lapsed = True
            why = self._trust.pending.text()
            await self._calls.everywhere("distrust", lambda bucket: (bucket.meta,), (why,))
        elif hold.valid(start):
            renewed = await self.everywhere("renew", hold.holder)
            if renewed and hold.valid(self._clock.monotonic()):
                hold.trusted_until = steps.trusted_until(start, self._lease_s)
                await self._memory.save()
                return
        hold.lapsed = True
        await self._take()
        await self._memory.save()

    async def _take(self) -> None:
        holder, start = self._new_holder(), self._clock.monotonic()
        told = self._trust.pending
        self._calls.remembered.hold(holder)
        await self.everywhere("take", holder, adopt=told is not None)
        if self._trust.pending is told:
            self._trust.pending = None
        self.hold = Hold(holder, steps.trusted_until(start, self._lease_s))

    async def everywhere(
        self, action: Literal["take", "renew", "end"], holder: str, *, adopt: bool = False
    ) -> bool:
        """Whether it is so in every bucket: a hold is one right to act on all of them."""
        replies = await self._calls.everywhere(
            "hold",
            lambda bucket: (bucket.meta,),
            (action, self._lease_s, self._epoch if action == "take" else ""),
            holder=holder,
            writes=True,
            adopt=adopt,
        )
        if any(said == b"moving" for _, (said,) in replies):
            raise LedgerRefused("another ledger is being copied here: let the copy end, or end it")
        return all(said == b"ok" for _, (said,) in replies)

    # --- the servers -------------------------------------------------------------------------

    async def look_at_servers(self, *, first: bool) -> None:
        """Whether the servers keep what they are asked to: somebody may have changed them. At the
        start what is wrong is refused, later it is trouble, and no order is taken."""
        now = asyncio.get_running_loop().time()
        if not first and self.unfit is None and now - self._looked_at < LOOK_AT_SERVERS_S:
            return
        self._looked_at = now
        servers, demands = self._calls.servers, self._demands
        try:
            facts = [await Facts.of(node) for node in servers.nodes]
            replicas = await servers.replicas()
        except NotDone as no:
            await servers.refresh(no)
            raise LedgerUnavailable(no.detail, written=False) from no
        reasons = list(unfit(demands, facts, replicas))
        wrong = "; ".join(reasons)
        if first and reasons:
            if reasons == list(away(demands, replicas)):
                raise LedgerUnavailable(wrong, written=False)
            raise LedgerRefused(wrong)
        if wrong and self.unfit is None:
            self._event("the ledger is not as durable as it must be", reason=wrong)
        self.unfit = wrong or None
        for node in servers.nodes:
            node.lane.acknowledgement = acknowledgement(demands, facts)

    async def greet(self, node: Node, told: Mapping[str, str], ask: Ask) -> None:
        """Every new connection: whose data is behind it?"""
        name = node.name if self._calls.servers.kind is Kind.CLUSTER else "master"
        histories = self._trust.remembered.histories
        known, now_known = histories.get(name), told["master_replid"]
        bucket = self._some_bucket(node)
        if known not in (None, now_known) and bucket is not None:
            if now_known in self._trust.remembered.replaced:
                raise errors.ConnectionError(f"{node.name} was replaced as master")
            line = await ask("HGET", bucket.meta, "line")
            if isinstance(line, Exception):
                raise errors.ConnectionError(f"{node.name} can't be asked: {line}")
            ids = line.decode().split() if line else []
            sign = other_history(self._demands.durability, known, told, ids)
            if sign is not None:
                self._trust.noticed(sign, self._now())
                self.hold.lapsed = True
            self._trust.remembered.replaced.add(known)
        histories[name] = now_known

    def _some_bucket(self, node: Node) -> Bucket | None:
        """One that this server has; None where it has none, and can have forgotten nothing."""
        servers, buckets = self._calls.servers, self._layout.buckets
        if servers.kind is not Kind.CLUSTER:
            return buckets[0]
        for bucket in buckets:
            with suppress(NotDone):
                if servers.node(bucket) is node:
                    return bucket
        return None
