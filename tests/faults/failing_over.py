"""Stores whose master is replaced by one of its replicas, ``durability = "replicated"``: each blow
ends with another one as master."""

import asyncio
import random
import signal
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults.besieged import settings, until
from tests.faults.links import Link
from tests.faults.witnesses import RemoteWitness, Witness
from tests.stores.servers import Server, cluster, sentinel_of, valkey_binary, with_replicas

DOWN_AFTER_MS = 2500
"""A busy machine lets a master that is well wait for a second or more."""

KEEPING = ("--appendonly", "yes")
"""Who was killed comes back with what it had. One that comes back empty, and is promoted before it
has caught up, has nothing: that is a store that forgot."""

ZOMBIE_S = 1.0
"""For how long a master that was deposed without knowing it goes on, for whoever believes it."""


class Peer:
    """One of the servers that can be master, with an address of its own to come from."""

    def __init__(self, number: int, link: Link, folder: Path, *options: str) -> None:
        folder.mkdir(exist_ok=True)
        self.address = f"127.0.1.{number}"
        self.link = link
        self.server = Server(
            valkey_binary(),
            *("--bind-source-addr", self.address, "--repl-diskless-sync-delay", "0"),
            *("--replica-announce-ip", "127.0.0.1"),
            *("--replica-announce-port", str(link.port)),
            *options,
            folder=folder,
        )
        link.target = self.server.port

    async def ask(self, *command: str | int) -> Any:
        return await asyncio.to_thread(self.server.run, *command)

    def follow(self, master: "Peer") -> tuple[str, ...]:
        return "127.0.0.1", str(master.link.port)

    async def follows(self, master: "Peer") -> bool:
        told = await self.ask("INFO", "replication")
        named = told["role"] == "slave" and told["master_port"] == master.link.port
        return bool(named and told["master_link_status"] == "up")


class Watched:
    """A master with replicas, and a Sentinel."""

    SENTINEL = "127.0.1.100"

    def __init__(self, folder: Path, replicas: int = 1) -> None:
        self.replicas = replicas
        self.folder = folder
        self.peers: list[Peer] = []
        self._links: list[Link] = []
        self._sentinel: Server | None = None

    async def start(self) -> None:
        for number in range(self.replicas + 1):
            self._links.append(await Link().start())
            folder = self.folder / f"server-{number}"
            self.peers.append(Peer(number + 1, self._links[-1], folder, *KEEPING))
        first, *others = self.peers
        await first.server.start_again()
        for each in others:
            await each.server.start_again("--replicaof", *each.follow(first))
        self._sentinel = sentinel_of(
            valkey_binary(),
            first.link.port,
            1,
            f"bind-source-addr {self.SENTINEL}",
            down_after_ms=DOWN_AFTER_MS,
        )
        await self._sentinel.start_again()
        await until(self.is_whole)

    @property
    def sentinel(self) -> Server:
        assert self._sentinel is not None
        return self._sentinel

    def environment(self) -> Mapping[str, str]:
        url = f"valkey+sentinel://127.0.0.1:{self.sentinel.port}/shop"
        return settings(url=url, durability="replicated", replicas=str(self.replicas))

    def witness(self) -> Witness:
        return RemoteWitness([each.server.port for each in self.peers])

    async def master(self) -> Peer:
        """Whom the Sentinel names."""
        command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shop")
        _, port = await asyncio.to_thread(self.sentinel.run, *command)
        return next(each for each in self.peers if each.link.port == int(port))

    async def is_whole(self) -> bool:
        master = await self.master()
        told = await master.ask("INFO", "replication")
        if (told["role"], told["connected_slaves"]) != ("master", self.replicas):
            return False
        known = await asyncio.to_thread(self.sentinel.run, "SENTINEL", "REPLICAS", "shop")
        others = [each for each in self.peers if each is not master]
        followed = [await each.follows(master) for each in others]
        return len(known) == self.replicas and all(followed)

    async def another_than(self, old: Peer) -> Peer:
        async def is_another() -> bool:
            return await self.master() is not old

        await until(is_another)
        return await self.master()

    async def strike(self, chance: random.Random) -> str:
        blow = chance.choice((self.kill, self.freeze, self.part))
        await blow(await self.master())
        await until(self.is_whole)
        return blow.__name__

    async def kill(self, old: Peer) -> None:
        """It starts again as a replica, as the scripts of the trade do."""
        await self.end(old)
        new = await self.another_than(old)
        await old.server.start_again("--replicaof", *old.follow(new))

    async def end(self, old: Peer) -> None:
        old.server.kill()

    async def freeze(self, old: Peer) -> None:
        """It wakes up as a master who was replaced."""
        old.server.send(signal.SIGSTOP)
        new = await self.another_than(old)
        old.server.send(signal.SIGCONT)
        await self._depose(old, new)

    async def part(self, old: Peer) -> None:
        """It is cut off from all but the gateways."""
        others = [each.address for each in self.peers if each is not old]
        await old.link.cut(self.SENTINEL, *others)
        new = await self.another_than(old)
        await asyncio.sleep(ZOMBIE_S)
        await old.link.cut()
        await self._depose(old, new)

    async def _depose(self, old: Peer, new: Peer) -> None:
        """Sentinel does it too, after ten seconds."""
        await asyncio.sleep(ZOMBIE_S)
        await old.ask("REPLICAOF", *old.follow(new))

    async def close(self) -> None:
        for server in (*(each.server for each in self.peers), self._sentinel):
            if server is not None:
                server.close()
        await asyncio.gather(*(each.close() for each in self._links))


class Clustered:
    """Three masters with a replica each."""

    MASTERS = 3

    def __init__(self, folder: Path) -> None:
        self._nodes: Sequence[Server] = ()
        self._url = ""

    async def start(self) -> None:
        group = await asyncio.to_thread(cluster, valkey_binary(), self.MASTERS, *KEEPING)
        self._nodes, self._url = group.servers, group.url
        await asyncio.to_thread(with_replicas, group, valkey_binary(), *KEEPING)
        self._nodes = group.servers
        await until(self._is_whole)

    def environment(self) -> Mapping[str, str]:
        return settings(url=self._url, durability="replicated", replicas="1")

    def witness(self) -> Witness:
        return RemoteWitness([each.port for each in self._nodes])

    async def _is_whole(self) -> bool:
        for node in self._nodes:
            told = await asyncio.to_thread(node.run, "INFO", "replication")
            if told["role"] == "slave" and told["master_link_status"] != "up":
                return False
            if list((await asyncio.to_thread(node.replicas)).values()) != [1] * self.MASTERS:
                return False
        return True

    async def strike(self, chance: random.Random) -> str:
        masters = await asyncio.to_thread(self._nodes[0].replicas)
        port = chance.choice(sorted(masters))
        old = next(each for each in self._nodes if each.port == port)
        blow = chance.choice((self._kill, self._freeze))
        await blow(old, next(each for each in self._nodes if each is not old))
        await until(self._is_whole)
        return blow.__name__.strip("_")

    async def _kill(self, old: Server, asked: Server) -> None:
        old.kill()
        await until(partial(self._is_replaced, old, asked))
        await old.start_again()

    async def _freeze(self, old: Server, asked: Server) -> None:
        old.send(signal.SIGSTOP)
        await until(partial(self._is_replaced, old, asked))
        old.send(signal.SIGCONT)

    async def _is_replaced(self, old: Server, asked: Server) -> bool:
        masters = await asyncio.to_thread(asked.replicas)
        return len(masters) == self.MASTERS and old.port not in masters

    async def close(self) -> None:
        for node in self._nodes:
            node.close()
