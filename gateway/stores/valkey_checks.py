"""Whether a server may keep the ledger as durably as was asked for: read from the server, judged
here. The judgements are pure; each says what is wrong and what to do."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gateway.stores.valkey_lane import NOTHING, Acknowledgement, Copied, NotDone, Synced
from gateway.stores.valkey_nodes import Node, info
from gateway.stores.valkey_servers import Replicas

Durability = Literal["fsync", "replicated", "memory"]

OLDEST = (6, 2)
WAITAOF_SINCE = (7, 2)
"""Redis 7.2, and Valkey, which began there."""

ACKNOWLEDGED_WITHIN_S = 1.5
"""How long an order waits for a sync or for the replicas: one that lags for longer is not one to
promise by."""


@dataclass(frozen=True, slots=True)
class Demands:
    """What the configuration asks for; ``replicas`` must acknowledge where it is replicated."""

    durability: Durability
    replicas: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What one server says of itself. ``appendfsync`` None: it would not say (CONFIG is forbidden
    on many managed services). ``pauses_syncing``: during a snapshot or a rewrite of its log."""

    name: str
    product: str
    version: tuple[int, ...]
    append_only: bool
    appendfsync: str | None
    pauses_syncing: bool
    eviction: str
    server_time: float

    @property
    def says_when_synced(self) -> bool:
        return self.version >= WAITAOF_SINCE

    @classmethod
    async def of(cls, node: Node) -> "Facts":
        """Raises NotDone."""
        asked = (("INFO",), ("CONFIG", "GET", "*appendfsync*"), ("TIME",))
        raw, policy, clock = await node.ask(*asked)
        if isinstance(raw, Exception) or isinstance(clock, Exception):
            raise NotDone(f"{node.name} does not say what it is: {raw}", elsewhere=False)
        told = info(raw)
        kept = [] if isinstance(policy, Exception) else [each.decode() for each in policy]
        settings = dict(zip(kept[::2], kept[1::2], strict=True))
        return cls(
            name=node.name,
            product=_product(told),
            version=_version(told),
            append_only=told.get("aof_enabled") == "1",
            appendfsync=settings.get("appendfsync"),
            pauses_syncing=settings.get("no-appendfsync-on-rewrite") == "yes",
            eviction=told.get("maxmemory_policy", "unknown"),
            server_time=int(clock[0]) + int(clock[1]) / 1e6,
        )


def _product(told: Mapping[str, str]) -> str:
    if "valkey_version" in told:
        return f"Valkey {told['valkey_version']}"
    return f"Redis {told.get('redis_version', 'of unknown version')}"


def _version(told: Mapping[str, str]) -> tuple[int, ...]:
    """Of the protocol that it speaks: a Valkey says which Redis it is like."""
    parts = told.get("redis_version", "0").split(".")
    return tuple(int(part) for part in parts if part.isdecimal())


def unfit(demands: Demands, facts: Sequence[Facts], replicas: Replicas) -> Iterator[str]:
    """Why this store must not be used so."""
    durability = demands.durability
    for each in facts:
        yield from _any_durability(each)
        if durability == "fsync":
            yield from _fsync(each)
    if durability == "fsync" and replicas.automatic:
        yield (
            "what is synced on one server is not on the replica that would be promoted in its"
            ' place: with automatic failover use durability = "replicated" (Sentinels are named in'
            " the url), or have no replicas, and no Sentinels that watch it"
        )
    if durability == "replicated":
        yield from _replicated(demands.replicas, replicas)
        yield from away(demands, replicas)


def _any_durability(facts: Facts) -> Iterator[str]:
    if facts.version < OLDEST:
        yield f"{facts.name} is {facts.product}: the oldest that will do is Redis 6.2"
    if facts.eviction != "noeviction":
        yield (
            f"{facts.name} may evict orders when its memory is full (maxmemory-policy"
            f" {facts.eviction}): set maxmemory-policy noeviction"
        )


def _fsync(facts: Facts) -> Iterator[str]:
    if not facts.append_only:
        yield (
            f"{facts.name} keeps nothing on disk: set appendonly yes and appendfsync always, or"
            ' choose durability = "replicated"'
        )
    elif facts.appendfsync is None:
        yield (
            f"{facts.name} won't say its appendfsync, and its word that a write is synced is worth"
            " something only with appendfsync always: let the gateway's user run CONFIG GET, or"
            ' choose durability = "replicated"'
        )
    elif facts.appendfsync != "always":
        yield (
            f"{facts.name} answers before it has synced (appendfsync {facts.appendfsync}): set"
            " appendfsync always"
        )
    elif facts.pauses_syncing and not facts.says_when_synced:
        yield (
            f"{facts.name} is {facts.product}, which can't tell when a write is synced (WAITAOF"
            " came with 7.2), and pauses syncing: set no-appendfsync-on-rewrite no"
        )


def _replicated(wanted: int, replicas: Replicas) -> Iterator[str]:
    if replicas.most > wanted:
        yield (
            f"there are {replicas.most} replicas that could be promoted, and only {wanted} would"
            f" have to acknowledge an order: set replicas = {replicas.most} under [ledger]"
        )


def away(demands: Demands, replicas: Replicas) -> Iterator[str]:
    """What comes right by itself, as a rule: a replica that is started again."""
    wanted = demands.replicas
    if demands.durability == "replicated" and replicas.most <= wanted > replicas.fewest:
        yield (
            f"an order must be acknowledged by {wanted} replicas, and there are"
            f" {replicas.fewest}: bring them back, or lower replicas under [ledger] once they are"
            " gone for good"
        )


def acknowledgement(demands: Demands, facts: Sequence[Facts]) -> Acknowledgement:
    """What each order waits for."""
    if demands.durability == "replicated":
        return Copied(demands.replicas, ACKNOWLEDGED_WITHIN_S)
    if demands.durability != "fsync":
        return NOTHING
    says = all(each.says_when_synced for each in facts)
    return Synced(ACKNOWLEDGED_WITHIN_S if says else None)


def other_history(
    durability: Durability, known: str, told: Mapping[str, Any], line: Sequence[str]
) -> str | None:
    """What a new connection's replication id, another one than is ``known``, says of the data
    behind it; None: all is there. ``line`` are the ids that this data was written under, each the
    next one's second (``scripts/hold.lua``).

    A promoted replica names the id that it followed before, which is the known one or came after
    it; every other new id is a restart, or another server.
    """
    ids = {told.get("master_replid"), told.get("master_replid2")}
    promoted = known in ids or (known in line and not ids.isdisjoint(line))
    match durability:
        case "fsync":
            return None  # what was acknowledged is on its disk; what is not there, sequences show
        case "replicated":
            it = f"{told.get('master_replid', '')[:8]} instead of {known[:8]}"
            text = f"the server is not one that all orders were copied to ({it})"
            return None if promoted else text
        case _:
            what = "a replica took over" if promoted else "the server was restarted or replaced"
            return f"{what}, and nothing was promised to be there"
