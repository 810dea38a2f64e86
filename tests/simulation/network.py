"""A simulated network: hosts with one address each, listeners, links with delays and cuts.

Names and addresses both work; ``localhost`` is the calling host; an *alias* is several hosts, one
drawn for each connection, as DNS or a plain load balancer would. Every pair of hosts has a link
in each direction with a chance of its own (drawn from the seed and the two names), so that what
happens between two hosts does not depend on how much others talk.

- A segment takes ``latency_s`` (drawn), sometimes a spike; connections keep their order.
- A *cut* link loses nothing and delivers nothing: segments are held and come after the heal, as
  TCP would repeat them. A sender that has heard nothing for ``give_up_s`` gets ETIMEDOUT.
- Connecting: refused where nobody listens or the process is dead; unanswered (ETIMEDOUT after
  ``connect_give_up_s``) where the link is cut or the host has no power. A paused host's kernel
  accepts.
"""

import asyncio
import errno
import random
import socket
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

from .lives import Life, here
from .loop import SimulatedLoop
from .transport import SimulatedTransport

FIRST_FREE_PORT = 49_152
"""Port 0 asks for one from here on (RFC 6335's dynamic range), counted and never reused."""

SWEEP_EVERY = 64
"""Ended connections are forgotten at every so many new ones: memory, not truth."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the network behaves; times in seconds, shares between 0 and 1."""

    latency_s: tuple[float, float] = (0.0002, 0.002)
    spike_share: float = 0.01
    spike_s: float = 0.05
    split_share: float = 0.2
    unread_lost_share: float = 0.5
    loopback_s: float = 0.00002
    give_up_s: float = 924.0  # Linux, tcp_retries2 = 15
    connect_give_up_s: float = 127.0  # Linux, tcp_syn_retries = 6


class NetworkLink:
    """One direction between two hosts."""

    def __init__(
        self, loop: SimulatedLoop, chance: random.Random, conditions: Conditions, *, loopback: bool
    ) -> None:
        self._loop = loop
        self._draw = chance.random
        self._chance = chance
        self._conditions = conditions
        self._fastest_s, slowest_s = conditions.latency_s
        self._spread_s = slowest_s - self._fastest_s
        self._loopback = loopback
        self._context = Context()  # the wire belongs to no process
        self._held: list[Callable[[], None]] = []
        self._cut = False

    def carry(self, arrive: Callable[[], None], stalled: Callable[[], None]) -> None:
        """Call ``arrive`` after a delay; while the link is cut call ``stalled`` and keep it."""
        self._loop.after(self._delay_s(), self._come, (arrive, stalled), self._context)

    def cut_at(self, size_bytes: int) -> int:
        """How many of so many bytes travel in the next segment."""
        if size_bytes > 1 and self._chance.random() < self._conditions.split_share:
            return self._chance.randrange(1, size_bytes)
        return size_bytes

    def loses_unread(self) -> bool:
        return self._chance.random() < self._conditions.unread_lost_share

    def cut(self) -> None:
        self._cut = not self._loopback

    def heal(self) -> None:
        self._cut = False
        held, self._held = self._held, []
        for arrive in held:
            self.carry(arrive, _nothing)

    def _come(self, arrive: Callable[[], None], stalled: Callable[[], None]) -> None:
        if not self._cut:
            arrive()
            return
        self._held.append(arrive)
        stalled()

    def _delay_s(self) -> float:
        if self._loopback:
            return self._conditions.loopback_s
        delay_s = self._fastest_s + self._spread_s * self._draw()
        if self._draw() < self._conditions.spike_share:
            delay_s += self._conditions.spike_s * self._draw()
        return delay_s


class SimulatedServer(asyncio.AbstractServer):
    """A listening socket. ``sockets`` know their name and nothing else."""

    def __init__(
        self,
        network: "Network",
        life: Life,
        factory: Callable[[], asyncio.BaseProtocol],
        address: tuple[str, int],
    ) -> None:
        self.life = life
        self.factory = factory
        self.address = address
        self.context = copy_context()
        self._network = network
        self._closed: asyncio.Future[None] = network.loop.create_future()

    @property
    def sockets(self) -> tuple["ListeningSocket", ...]:
        return () if self._closed.done() else (ListeningSocket(self.address),)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._network.loop

    def is_serving(self) -> bool:
        return not self._closed.done()

    async def start_serving(self) -> None:
        """It serves from its creation."""

    async def serve_forever(self) -> None:
        try:
            await asyncio.shield(self._closed)
        finally:
            self.close()

    def close(self) -> None:
        self._network.stop_listening(self)
        if not self._closed.done():
            self._closed.set_result(None)

    async def wait_closed(self) -> None:
        """As in Python 3.11: the listener is closed; its connections are not waited for."""
        await asyncio.shield(self._closed)


@dataclass(frozen=True, slots=True)
class ListeningSocket:
    """What a server's caller may ask of its socket."""

    name: tuple[str, int]
    family: int = socket.AF_INET

    def getsockname(self) -> tuple[str, int]:
        return self.name


class Network:
    """All hosts' sockets and the links between them. ``note(host, text)`` tells the trace."""

    def __init__(
        self,
        loop: SimulatedLoop,
        seed: int | str,
        conditions: Conditions,
        note: Callable[[str, str], None],
    ) -> None:
        self.loop = loop
        self._seed = seed
        self._conditions = conditions
        self._note = note
        self._lives: dict[str, Life | None] = {}
        self._powered: dict[str, bool] = {}
        self._addresses: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._ports: dict[str, int] = {}
        self._aliases: dict[str, tuple[str, ...]] = {}
        self._nameless: set[str] = set()
        self._balancer = random.Random(f"{seed} aliases")
        self._links: dict[tuple[str, str], NetworkLink] = {}
        self._listeners: dict[tuple[str, int], SimulatedServer] = {}
        self._transports: dict[str, list[SimulatedTransport]] = {}
        self._connections = 0

    # Hosts

    def add(self, host: str) -> str:
        """A new host, powered, without a process; returns its address."""
        number = len(self._addresses) + 1
        address = f"10.0.{number // 250}.{number % 250 + 1}"
        self._addresses[host] = address
        self._names[address] = self._names[host] = host
        self._lives[host] = None
        self._powered[host] = True
        self._transports[host] = []
        return address

    def alias(self, name: str, hosts: Sequence[str]) -> None:
        """From now on ``name`` is one of ``hosts``, dead ones too: nobody checks their health."""
        self._aliases[name] = tuple(hosts)

    def power_on(self, life: Life) -> None:
        """A process starts on the life's host; connections of earlier lives are forgotten."""
        self._lives[life.host] = life
        self._powered[life.host] = True
        earlier, self._transports[life.host] = self._transports[life.host], []
        for transport in earlier:
            transport.forget()

    def process_ends(self, life: Life, *, without_power: bool) -> None:
        """The life's sockets go: closed by the kernel, or silent where the power went too."""
        self._powered[life.host] = not without_power
        for address, server in list(self._listeners.items()):
            if server.life is life:
                del self._listeners[address]
        for transport in self._transports[life.host]:
            transport.vanish(without_power=without_power)

    def cut(self, source: str, target: str) -> None:
        """Deliver nothing from source to target (one direction) until the heal."""
        self._link(source, target).cut()

    def heal(self, source: str, target: str) -> None:
        self._link(source, target).heal()

    def forget_name(self, host: str) -> None:
        """From now on nobody finds ``host`` by its name; connections go on."""
        self._nameless.add(host)

    def name_again(self) -> None:
        self._nameless.clear()

    def address_of(self, host: str) -> str:
        return self._addresses[self._resolve(host)]

    # Listening

    def listen(self, factory: Callable[[], asyncio.BaseProtocol], port: int) -> SimulatedServer:
        life = _caller()
        port = port or self._free_port(life.host)
        if (life.host, port) in self._listeners:
            raise OSError(errno.EADDRINUSE, f"port {port} of {life.host} is in use")
        server = SimulatedServer(self, life, factory, (self._addresses[life.host], port))
        self._listeners[life.host, port] = server
        self._note(life.host, f"listens on {port}")
        return server

    def stop_listening(self, server: SimulatedServer) -> None:
        key = (server.life.host, server.address[1])
        if self._listeners.get(key) is server:
            del self._listeners[key]

    # Connecting

    async def connect(
        self, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        life = _caller()
        target = self._resolve(host)
        own = (self._addresses[life.host], self._free_port(life.host))
        client = self._end(life, target, copy_context(), own, (self._addresses[target], port))
        answered = self.loop.create_future()
        syn = partial(self._arrive, client, life.host, target, port, answered)
        self._link(life.host, target).carry(syn, _nothing)
        late = self.loop.call_later(self._conditions.connect_give_up_s, _no_answer, answered)
        try:
            await answered
        except BaseException:
            client.refuse()
            raise
        finally:
            late.cancel()
        protocol = factory()
        client.begin(protocol)
        return client, protocol

    def _arrive(
        self,
        client: SimulatedTransport,
        source: str,
        target: str,
        port: int,
        answered: "asyncio.Future[None]",
    ) -> None:
        """The SYN has reached the target's kernel."""
        if not self._powered[target]:
            return
        back = self._link(target, source)
        server = self._listeners.get((target, port))
        if server is None:
            self._note(target, f"refuses {source} at {port}")
            back.carry(partial(_refuse, answered), _nothing)
            return
        own, peer = client.get_extra_info("peername"), client.get_extra_info("sockname")
        context = server.context.copy()
        accepted = self._end(server.life, source, context, own, peer)
        accepted.peer, client.peer = client, accepted
        self._note(target, f"accepts {source} at {port}")
        self.loop.call_soon(_accept, accepted, server, context=context)
        back.carry(partial(_established, client, answered), _nothing)

    # Inside

    def _end(
        self,
        life: Life,
        other: str,
        context: Context,
        own: tuple[str, int],
        peer: tuple[str, int],
    ) -> SimulatedTransport:
        self._connections += 1
        label = f"{other} #{self._connections}"
        extra: dict[str, Any] = {"sockname": own, "peername": peer}
        transport = SimulatedTransport(
            self.loop,
            life,
            context,
            self._link(life.host, other),
            extra,
            label,
            self._note,
            self._conditions.give_up_s,
        )
        transports = self._transports[life.host]
        if self._connections % SWEEP_EVERY == 0:
            transports[:] = [item for item in transports if not item.is_over()]
        transports.append(transport)
        return transport

    def _link(self, source: str, target: str) -> NetworkLink:
        link = self._links.get((source, target))
        if link is None:
            chance = random.Random(f"{self._seed} {source} {target}")
            loopback = source == target
            link = NetworkLink(self.loop, chance, self._conditions, loopback=loopback)
            self._links[source, target] = link
        return link

    def _resolve(self, host: str) -> str:
        if host in ("localhost", "127.0.0.1"):
            return _caller().host
        if host in self._aliases:
            return self._balancer.choice(self._aliases[host])
        if host not in self._names or host in self._nameless:
            raise socket.gaierror(socket.EAI_NONAME, f"no simulated host {host}")
        return self._names[host]

    def _free_port(self, host: str) -> int:
        self._ports[host] = self._ports.get(host, FIRST_FREE_PORT - 1) + 1
        return self._ports[host]


def readable(transport: asyncio.BaseTransport) -> Callable[[], bool]:
    """Whether this end has input, an end or an error that its process has not seen yet: what a
    real process asks its kernel by poll()."""
    return transport.has_input if isinstance(transport, SimulatedTransport) else bool


def ended(transport: asyncio.BaseTransport) -> Callable[[], bool]:
    """The same for an end or an error alone."""
    return transport.has_ended if isinstance(transport, SimulatedTransport) else bool


def _caller() -> Life:
    life = here()
    if life is None:
        raise RuntimeError("no simulated host calls here: spawn the coroutine on one")
    return life


def _accept(transport: SimulatedTransport, server: SimulatedServer) -> None:
    if not transport.is_closing():
        transport.begin(server.factory())


def _established(client: SimulatedTransport, answered: "asyncio.Future[None]") -> None:
    if client.is_closing():
        client.refuse()
    elif not answered.done():
        answered.set_result(None)


def _refuse(answered: "asyncio.Future[None]") -> None:
    if not answered.done():
        answered.set_exception(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"))


def _no_answer(answered: "asyncio.Future[None]") -> None:
    if not answered.done():
        answered.set_exception(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))


def _nothing() -> None:
    pass
