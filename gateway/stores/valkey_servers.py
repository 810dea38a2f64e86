"""Which server has a bucket, and the connections to it: one server, Sentinel, or a cluster."""

# ruff: noqa: ARG002 - each kind of servers needs other arguments of one interface

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from redis import exceptions as errors
from redis.asyncio.sentinel import Sentinel
from redis.crc import key_slot

from gateway.settings.ledger_urls import Kind, RemoteUrl
from gateway.stores.valkey_keys import Bucket, Layout
from gateway.stores.valkey_lane import NotDone
from gateway.stores.valkey_nodes import (
    Access,
    Address,
    Greeting,
    Node,
    connection_options,
    info,
)
from gateway.stores.valkey_together import Together
from middleware.tasks import Tasks

log = structlog.get_logger("ordergate", part="ledger")

ASK_TIMEOUT_S = 1.0
"""For a Sentinel or a node that is asked who has what."""


SENTINELS_MEET = "__sentinel__:hello"
"""The channel on which the Sentinels of a master find each other; each listens there."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """Who could be promoted: at the master that has the ``most`` of them, those that are away
    included, and at the one that has the ``fewest`` at hand; ``automatic``: somebody promotes
    without asking us."""

    most: int
    fewest: int
    automatic: bool


class Servers(Protocol):
    """The servers of one ledger."""

    kind: Kind

    async def start(self) -> None:
        """Find out who has what. Raises NotDone."""
        ...

    def node(self, bucket: Bucket) -> Node:
        """Raises NotDone where nobody is known to have it."""
        ...

    def groups(self) -> list[tuple[Node, list[Bucket]]]:
        """All buckets, in portions that one script may touch together."""
        ...

    async def refresh(self, refusal: NotDone | None) -> bool:
        """Look again who has what; False where that can't change."""
        ...

    @property
    def nodes(self) -> list[Node]: ...

    async def replicas(self) -> Replicas: ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class Parts:
    """What every kind needs."""

    url: RemoteUrl
    access: Access
    layout: Layout
    scripts: Sequence[str]
    tasks: Tasks
    greet: Greeting
    options: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.options = connection_options(self.access, db=self.url.db)

    def node(self, address: Address) -> Node:
        return Node(address, self.options, self.scripts, self.tasks, self.greet)

    async def ask(self, address: Address, *command: str) -> Any:
        """One question, on a connection of its own. Raises NotDone."""
        options = {**self.options, "db": 0, "socket_timeout": ASK_TIMEOUT_S}
        make = options.pop("connection_class")
        connection = make(host=address[0], port=address[1], **options)
        try:
            await connection.connect()
            await connection.send_command(*command)
            return await connection.read_response()
        except (errors.RedisError, OSError, TimeoutError) as error:
            text = f"{address[0]}:{address[1]} does not answer: {error}"
            raise NotDone(text, elsewhere=True) from error
        finally:
            with suppress(errors.RedisError, OSError, TimeoutError):
                await connection.disconnect()


class OneServer:
    """A server that stays where it is, alone or with replicas that only a person promotes. Where
    Sentinels watch it, it may not stay."""

    kind = Kind.STANDALONE

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._node = parts.node(parts.url.hosts[0])

    async def start(self) -> None:
        return

    def node(self, bucket: Bucket) -> Node:
        return self._node

    def groups(self) -> list[tuple[Node, list[Bucket]]]:
        return [(self._node, list(self._parts.layout.buckets))]

    async def refresh(self, refusal: NotDone | None) -> bool:
        return False

    @property
    def nodes(self) -> list[Node]:
        return [self._node]

    async def replicas(self) -> Replicas:
        asked = (("INFO", "replication"), ("PUBSUB", "NUMSUB", SENTINELS_MEET))
        raw, heard = await self._node.ask(*asked)
        known = int(info(raw).get("connected_slaves", 0))
        watched = not isinstance(heard, Exception) and int(heard[1]) > 0
        return Replicas(known, known, automatic=watched)

    async def close(self) -> None:
        await self._node.close()


class SentinelServers:
    """The master that the Sentinels name."""

    kind = Kind.SENTINEL

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._node: Node | None = None
        self._known: set[Address] | None = None
        """The replicas, when somebody last told."""
        self._away: str | None = None
        """Why no Sentinel can be reached, since the last look."""
        self._together = Together(self._look)
        options = connection_options(parts.access, db=0, sentinel=True)
        options.pop("connection_class")
        options.pop("db")
        options["socket_timeout"] = ASK_TIMEOUT_S
        if parts.access.tls:
            options["ssl"] = True
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]
            list(parts.url.hosts), sentinel_kwargs=options
        )
        self._service = parts.url.service or ""

    async def start(self) -> None:
        await self._together.look()

    def node(self, bucket: Bucket) -> Node:
        if self._node is None:
            raise NotDone("no Sentinel names a master", elsewhere=True)
        return self._node

    def groups(self) -> list[tuple[Node, list[Bucket]]]:
        return [(self.node(self._parts.layout.buckets[0]), list(self._parts.layout.buckets))]

    async def refresh(self, refusal: NotDone | None) -> bool:
        with suppress(NotDone):
            await self._together.look()
        return True

    async def _look(self) -> None:
        try:
            address: Address = tuple(await self._sentinel.discover_master(self._service))
        except (errors.RedisError, OSError, TimeoutError) as error:
            raise NotDone(f"no Sentinel names a master: {error}", elsewhere=True) from error
        before = self._node
        if before is not None and before.address == address:
            return
        self._node = self._parts.node(address)
        if before is not None:
            self._node.lane.acknowledgement = before.lane.acknowledgement
            await before.close()

    @property
    def nodes(self) -> list[Node]:
        return [] if self._node is None else [self._node]

    async def replicas(self) -> Replicas:
        """All that a Sentinel knows of, also those that are away: it may promote them. While none
        can be reached, all that were known last and all that follow the master since: orders need
        no Sentinel, and whoever one may promote out of our sight has to acknowledge them."""
        try:
            self._known = await self._told()
            away = None
        except (errors.ConnectionError, errors.TimeoutError, OSError) as error:
            away = str(error)
            if isinstance(error, errors.AuthenticationError) or self._known is None:
                raise NotDone(f"no Sentinel tells of replicas: {away}", elsewhere=True) from error
            self._known |= await _followers(self.node(self._parts.layout.buckets[0]))
        except errors.RedisError as error:
            raise NotDone(f"no Sentinel tells of replicas: {error}", elsewhere=True) from error
        if (away is None) is not (self._away is None):
            event = "a Sentinel answers again" if away is None else "no Sentinel answers"
            log.warning(event, reason=away)
        self._away = away
        return Replicas(len(self._known), len(self._known), automatic=bool(self._known))

    async def _told(self) -> set[Address]:
        """By the Sentinel that named the master; where that can't be reached, by the one of the
        others that answers first."""
        first, *others = self._sentinel.sentinels
        try:
            return _addresses(await first.sentinel_slaves(self._service))
        except (errors.ConnectionError, errors.TimeoutError, OSError):
            if not others:
                raise
        asked = [asyncio.ensure_future(each.sentinel_slaves(self._service)) for each in others]
        try:
            failed: Exception = OSError("there is none")
            for told in asyncio.as_completed(asked):
                try:
                    return _addresses(await told)
                except (errors.RedisError, OSError, TimeoutError) as error:
                    failed = error
            raise failed
        finally:
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def close(self) -> None:
        with suppress(errors.RedisError, OSError, TimeoutError):
            await self._sentinel.aclose()
        for node in self.nodes:
            await node.close()


class ClusterServers:
    """Masters, each with some slots; a slot may move while we run."""

    kind = Kind.CLUSTER

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._slots = {key_slot(each.meta): each for each in parts.layout.buckets}
        self._of_slot: dict[int, Address] = {}
        self._nodes: dict[Address, Node] = {}
        self._replicas: dict[Address, int] = {}
        self._ids: dict[Address, str] = {}
        self._answered: tuple[Address, ...] = ()
        self._together = Together(self._look)

    async def start(self) -> None:
        await self._together.look()

    def node(self, bucket: Bucket) -> Node:
        address = self._of_slot.get(key_slot(bucket.meta))
        if address is None:
            raise NotDone(f"no node of the cluster has bucket {bucket.number}", elsewhere=True)
        return self._at(address)

    def at(self, host: str, port: int) -> Node:
        return self._at((host, port))

    def _at(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = self._parts.node(address)
            other = next((each for each in self._nodes.values() if each is not node), None)
            if other is not None:
                node.lane.acknowledgement = other.lane.acknowledgement
        return node

    def groups(self) -> list[tuple[Node, list[Bucket]]]:
        return [(self.node(each), [each]) for each in self._parts.layout.buckets]

    async def refresh(self, refusal: NotDone | None) -> bool:
        error = None if refusal is None else refusal.error
        if isinstance(error, errors.MovedError):
            self._of_slot[error.slot_id] = (error.host, error.port)
            return True
        if not isinstance(error, errors.AskError | errors.TryAgainError):
            with suppress(NotDone):
                await self._together.look()
        return True

    async def _look(self) -> None:
        """Of who answered last, then of the others: a node that is gone costs a second. One that
        knows no master of some slot may have been taken out of the cluster, and goes on running:
        it is believed only where nobody knows more."""
        asked = (*self._answered, *self._of_slot.values(), *self._parts.url.hosts)
        best: tuple[int, Any, Address] | None = None
        why = ""
        for address in dict.fromkeys(asked):
            try:
                told = await self._parts.ask(address, "CLUSTER", "SLOTS")
            except NotDone as no:
                why = no.detail
                continue
            known = len(self._masters(_ranges(told, address)))
            if best is None or known > best[0]:
                best = known, told, address
            if known == len(self._slots):
                break
        if best is None:
            raise NotDone(f"no node of the cluster answers: {why}", elsewhere=True)
        _, told, address = best
        self._take(told, address)
        self._answered = (address,)
        await self._forget()

    def _take(self, told: Any, asked: Address) -> None:
        ranges = _ranges(told, asked)
        self._replicas = {address: replicas for _, _, address, replicas in ranges}
        self._ids = {_address(each[2], asked): each[2][2].decode() for each in told}
        self._of_slot = self._masters(ranges)

    def _masters(self, ranges: Sequence[tuple[int, int, Address, int]]) -> dict[int, Address]:
        found: dict[int, Address] = {}
        for start, end, address, _ in ranges:
            found.update({slot: address for slot in self._slots if start <= slot <= end})
        return found

    async def _forget(self) -> None:
        """Those that have nothing of ours any more: where nodes get new addresses, they would
        become ever more. What each pipeline must report goes on to those that are new."""
        current = self.nodes
        for address, node in tuple(self._nodes.items()):
            if current and node not in current and node.lane.idle:
                del self._nodes[address]
                await node.close()

    @property
    def nodes(self) -> list[Node]:
        return [self._at(address) for address in dict.fromkeys(self._of_slot.values())]

    async def replicas(self) -> Replicas:
        """All that the cluster knows of, also those that are away, which it tells of nobody who
        asks for slots: one that comes back may be promoted."""
        await self._together.look()
        masters = set(self._of_slot.values())
        told = await self._parts.ask(self._answered[0], "CLUSTER", "NODES")
        members = _replicas_of(told)
        known = max([members[self._ids.get(each, "")] for each in masters], default=0)
        fewest = min([self._replicas.get(each, 0) for each in masters], default=0)
        return Replicas(known, fewest, automatic=known > 0)

    async def close(self) -> None:
        for node in self._nodes.values():
            await node.close()


def _addresses(told: Any) -> set[Address]:
    return {(str(each["ip"]), int(each["port"])) for each in told}


async def _followers(master: Node) -> set[Address]:
    """The replicas that follow it now. Raises NotDone."""
    (raw,) = await master.ask(("INFO", "replication"))
    found = set()
    for name, value in info(raw).items():
        if name.startswith("slave") and name.removeprefix("slave").isdigit():
            fields = dict(each.partition("=")[::2] for each in value.split(","))
            found.add((fields.get("ip", name), int(fields.get("port", 0))))
    return found


def _replicas_of(nodes: bytes | str) -> Counter[str]:
    """By its master's id, how many a cluster has (``CLUSTER NODES``)."""
    text = nodes.decode() if isinstance(nodes, bytes) else nodes
    rows = [line.split() for line in text.splitlines()]
    return Counter(row[3] for row in rows if "slave" in row[2].split(","))


def _address(node: Sequence[Any], asked: Address) -> Address:
    """Of a node in ``CLUSTER SLOTS``: one without a name is the one that was asked."""
    return (node[0].decode() if node[0] else asked[0], int(node[1]))


def _ranges(told: Any, asked: Address) -> list[tuple[int, int, Address, int]]:
    """First and last slot, master, and how many replicas it has at hand."""
    found = []
    for start, end, master, *replicas in told:
        found.append((int(start), int(end), _address(master, asked), len(replicas)))
    return found


def servers(parts: Parts) -> "OneServer | SentinelServers | ClusterServers":
    match parts.url.kind:
        case Kind.STANDALONE:
            return OneServer(parts)
        case Kind.SENTINEL:
            return SentinelServers(parts)
        case Kind.CLUSTER:
            return ClusterServers(parts)
