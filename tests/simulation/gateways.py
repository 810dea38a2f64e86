"""The real gateway as a simulated process: one replica a host, each life a new ``Gateway``.

Nothing of the gateway is replaced but what it takes as arguments: its ledger (over the simulated
network, or on an SQLite file committed inline), the clock, chance, ids, and the looks at a socket
(``network.readable``, ``network.ended``). It is told to measure the lag of its loop less often, and
to put no lines together that nobody reads.
"""

import asyncio
import logging
import os
import random
import sys
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import structlog

from gateway.app import Gateway
from gateway.demo.wire import Address
from gateway.ledger import Ledger, LedgerUnavailable
from gateway.orders.promise import Capability
from gateway.settings import Settings, load_document
from gateway.stores.sqlite import SqliteLedger
from gateway.telemetry import LogPart
from middleware.caching.changes import ChangeLog

from .caches import RemoteChangeLog
from .network import ended, readable
from .remote import RemoteLedger
from .store import Store
from .upstream import PORT as UPSTREAM_PORT
from .world import World

DOOR = "gateway"
PORT = 8080

LEASE_S = 2.0
SETTLE_S = 3.5
"""Longer than the upstream's longest work of 2 s, and its lookups' lag: its side of the bargain."""

CLOCK_RATES = 0.96, 1.04
"""The slowest and the fastest clock: a hundred times what a machine's would be off."""

DEDUP_FOR_S = 45.0
"""Shorter than an order is placed and than doubt may last, so that re-sending must stop in time."""

RETENTION_S = 20.0
"""Of a route that forgets its answers while its customers still remember them."""

DOUBT_WITHIN_S = 120.0

ROUTE: dict[str, object] = {
    "name": "place-order",
    "match": "POST /orders",
    "kind": "order",
    "upstream": "backend",
    "key": "attach",
    "scope": ["header:Authorization"],
    "answer_within_s": 3.0,
    "attempt_timeout_s": 1.0,
    "settle_s": SETTLE_S,
    "place_within_s": 60.0,
    "doubt_within_s": DOUBT_WITHIN_S,
    "attach_window_s": 3600.0,  # longer than any customer here goes on asking
}

LISTS = {"name": "lists", "match": "GET /orders", "kind": "cached", "upstream": "backend"}

WAL_HEADER_BYTES = 32
WAL_TORN_BYTES_MAX = 9_000
"""SQLite's log: its header, and two frames of 4 KiB pages, or a part of them."""

LAG_SAMPLE_S = 0.5
"""A loop on virtual time is never late, but for a pause, and one late sample of several counts for
nothing: fifty samples a second are half of all that a history does, and always say zero."""

START_PAUSE_S = 0.3
"""How soon a supervisor starts a gateway again that could not open its ledger."""


@dataclass(frozen=True, slots=True)
class Route:
    """How a storefront's orders are served. ``names_refusals``: only a 422 refuses; ``forgets``:
    answers are kept for ``RETENTION_S`` only."""

    capabilities: frozenset[Capability]
    names_refusals: bool = False
    forgets: bool = False
    caches: bool = False


@cache
def settings(served: Route) -> Settings:
    """A storefront for orders of this kind, with short times."""
    capabilities = served.capabilities
    route = {**ROUTE, "capability": sorted(item.value for item in capabilities) or "none"}
    if served.names_refusals:
        route["rejected_when"] = ["422"]
    if served.forgets:
        route |= {"retention_s": RETENTION_S, "attach_window_s": RETENTION_S}
    if Capability.LOOKUP in capabilities:
        route["lookup"] = "GET /orders?idempotency_key={key}"
    if Capability.DEDUP in capabilities:
        route["dedup_for_s"] = DEDUP_FOR_S
    urls = [f"http://upstream:{UPSTREAM_PORT}"]
    document = {
        "listen": {"address": f"0.0.0.0:{PORT}", "admin": "127.0.0.1:8081"},
        "ledger": {"lease_s": LEASE_S},
        "upstreams": [{"name": "backend", "urls": urls, "connect_timeout_s": 0.5}],
        "routes": [
            route,
            *([LISTS] if served.caches else ()),
            {"name": "rest", "match": "* /**", "kind": "plain", "upstream": "backend"},
        ],
    }
    return load_document(document, {}, origin="simulation").settings


LedgerOf = Callable[["Replica", random.Random], Ledger]
"""Makes the ledger of one life, in that life."""


class Replica:
    """One host's gateway through all its lives."""

    def __init__(
        self,
        world: World,
        name: str,
        settings: Settings,
        ledger_of: LedgerOf,
        later: Settings | None = None,
    ) -> None:
        self.world = world
        self.host = world.host(name)
        self.gateway: Gateway | None = None
        self._settings = settings
        self._later = later
        self._ledger_of = ledger_of

    def reload(self) -> None:
        """Take the later settings, now and in each life to come."""
        if self._later is None:
            return
        self._settings = self._later
        if self.gateway is not None and self.host.life is not None and self.host.alive:
            self.host.life.context.copy().run(self.gateway.reload, self._later)

    def start(self) -> "asyncio.Future[NoReturn]":
        """Start a process (again); it runs until the host crashes."""
        self.gateway = None
        return self.world.spawn(self.host, self._serve(), name="gateway")

    def _changes(self, ledger: Ledger) -> ChangeLog | None:
        """Where nobody caches, nobody is told."""
        caches = any(route.kind == "cached" for route in self._settings.routes)
        return RemoteChangeLog(ledger) if caches and isinstance(ledger, RemoteLedger) else None

    async def _serve(self) -> NoReturn:
        chance = self.world.chance(f"{self.host.name} life {self.host.lives}")
        while True:
            ledger = self._ledger_of(self, chance)
            gateway = Gateway(
                self._settings,
                ledger=ledger,
                changes=self._changes(ledger),
                clock=self.host.clock,
                draw=chance.random,
                make_id=ids(chance),
                make_request_id=ids(chance),
                who=self.host.name,
                admin=False,
                readable=readable,
                ended=ended,
            )
            gateway.admission.sample_s = LAG_SAMPLE_S
            gateway.telemetry.is_silent = _only_warnings
            try:
                await gateway.start()
            except LedgerUnavailable:
                await asyncio.sleep(START_PAUSE_S)
                continue
            self.gateway = gateway
            await asyncio.get_running_loop().create_future()


def ids(chance: random.Random) -> Callable[[], str]:
    """What ``gateway.ids.new_id`` makes, by the seed."""
    return lambda: f"{chance.getrandbits(144):036x}"


def remote(store: Store) -> LedgerOf:
    """Replicas that share a store over the network."""

    def ledger_of(replica: Replica, chance: random.Random) -> Ledger:
        return RemoteLedger(
            store,
            replica.host,
            who=replica.host.name,
            lease_s=LEASE_S,
            new_holder=ids(chance),
        )

    return ledger_of


def embedded(world: World, path: Path, torn: random.Random | None) -> LedgerOf:
    """Replicas on an SQLite file of their host, committed inline, closed by a crash. What was not
    yet synced is then ``torn`` (where no other process uses the file): the log ends in some bytes
    of a commit that never was."""

    def tear() -> None:
        log = path.with_name(path.name + "-wal")
        if torn is not None and log.exists() and torn.random() < 0.5:
            with log.open("r+b") as file:
                frames = file.read()[WAL_HEADER_BYTES:][:WAL_TORN_BYTES_MAX]
                file.seek(0, os.SEEK_END)
                world.record("the end of its log is torn", path.name)
                file.write(frames[: torn.randint(0, len(frames))])

    def ledger_of(replica: Replica, chance: random.Random) -> Ledger:
        ledger = SqliteLedger(
            path,
            clock=replica.host.clock,
            who=replica.host.name,
            lease_s=LEASE_S,
            new_holder=ids(chance),
            inline=True,
        )
        replica.host.at_crash(tear)
        replica.host.at_crash(ledger.crash)  # first, as the last to be named
        return ledger

    return ledger_of


def replicas(
    world: World,
    names: Sequence[str],
    settings: Settings,
    ledger_of: LedgerOf,
    later: Settings | None = None,
) -> list[Replica]:
    """So many replicas behind one door, each request to any of them."""
    world.network.alias(DOOR, names)
    return [Replica(world, name, settings, ledger_of, later) for name in names]


def door() -> Address:
    return Address(DOOR, PORT)


@contextmanager
def heard(world: World, bugs: list[str]) -> Iterator[None]:
    """Gateways log into the world's trace; what they call an error of their own is a bug.

    Moves are left out (the ledger's timeline has them), and so is what the network did.
    """

    def hear(_: Any, method: str, event: MutableMapping[str, Any]) -> NoReturn:
        if method in ("error", "exception", "critical") and event["event"] not in EXPECTED:
            bugs.append(f"{event['event']}: {_shown(event)}")
        world.record(f"logs {event['event']} {event.get('reason', event.get('order', ''))}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[hear],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def _only_warnings(_part: LogPart, level: str) -> bool:
    """What ``heard`` would drop need not be put together."""
    return level in ("debug", "info")


EXPECTED = frozenset(
    {
        "order refused",  # the ledger was away
        "lookup does not prove itself: a random key must be absent",  # so was the upstream
    }
)
"""Errors to an operator that the simulated faults are meant to cause."""


def _shown(event: MutableMapping[str, Any]) -> str:
    error = event.get("exc_info")
    if error is True:  # ``log.exception``
        error = sys.exception()
    return f"{error!r} {event.get('order', event.get('task', ''))}"
