"""The demo's customers on simulated hosts: they double-click, leave early, come back, remember.

Each customer submits one intent (with a key of its own, or without one) until it has a definite
answer, watching the status page after a ``202``; the journal keeps what it was told. With
several replicas the door is an alias: every request may reach another replica.
"""

import asyncio
from collections.abc import Sequence
from itertools import islice

from gateway.demo.customer import Customer, Door
from gateway.demo.intents import Intent, arrivals
from gateway.demo.journal import Journal
from gateway.demo.oracle import Case, Entry, Held
from gateway.demo.wire import Address
from gateway.orders.states import FINAL, Status

from .world import Host, World

LONG_POLL_S = 3
"""Most customers let the status page wait for news: it must wake them, whoever moved the order."""

CLIENT_HOSTS = 3
"""Enough to cut one off while others shop."""


class Clients:
    """So many customers at one door, arriving at random over a while.

    ``guarded`` False: the door is the upstream's own, and customers retry as clients do.
    ``keyed_only`` leaves out intents without a key of the customer's own; ``patient``: nobody asks
    the status page again and again, for that would take long where orders take minutes.
    """

    def __init__(
        self,
        world: World,
        door: Address,
        *,
        orders: int,
        orders_per_second: float = 5.0,
        guarded: bool = True,
        keyed_only: bool = False,
        patient: bool = False,
    ) -> None:
        self.journal = Journal(world.loop.time)
        self.hosts = [world.host(f"client-{number}") for number in range(1, CLIENT_HOSTS + 1)]
        self._world = world
        self._waits = (LONG_POLL_S,) if patient else (0, LONG_POLL_S, LONG_POLL_S)
        self._door = Door(door, guarded)
        self._chance = world.chance("clients")
        stream = arrivals(self._chance.getrandbits(32), orders_per_second)
        wanted = (item for item in stream if not keyed_only or item.intent.key is not None)
        self._arrivals = list(islice(wanted, orders))

    async def shop(self) -> None:
        """Every customer arrives and shops; returns when all have their definite answers."""
        shopping: list[asyncio.Future[None]] = []
        for arrival in self._arrivals:
            await asyncio.sleep(arrival.after_s)
            customer = self._customer(arrival.intent)
            shopping.append(
                self._world.spawn(self._some_host(), customer.shop(), name=arrival.intent.reference)
            )
        await asyncio.gather(*shopping)

    async def come_back(self, *, window_is_open: bool) -> list[Intent]:
        """Everybody whose repeat should be a replay asks once more; who got no answer to it.

        Left out are those whose repeat is rightly a new order: without a key of one's own
        anything but a dead letter; and that too unless ``window_is_open``, for a late answer may
        have confirmed it longer ago than ``attach_window_s``.
        """
        unanswered = []
        for intent in self.journal.intents.values():
            if self._returns(intent, window_is_open):
                again = self._customer(intent).ask_once_more()
                if not await self._world.spawn(self._some_host(), again):
                    unanswered.append(intent)
        return unanswered

    async def shop_again(self, intents: Sequence[Intent]) -> None:
        """They want it still: each shops as before, until there is a definite answer."""
        shopping = (self._customer(intent).shop() for intent in intents)
        hosts = (self._some_host() for _ in intents)
        await asyncio.gather(*map(self._world.spawn, hosts, shopping))

    def case(self, held: Sequence[Held], entries: Sequence[Entry] = (), kills: int = 0) -> Case:
        """The records of this history, for ``gateway.demo.oracle.judge``."""
        return self.journal.case(held, entries, kills)

    def record(self) -> None:
        """Write what every customer was told into the world's trace, for its digest."""
        for told in self.journal.told:
            said = f"{told.reference} told {told.status} {told.code} {told.order_id}"
            self._world.record(f"{said} at {told.at_s!r}")

    def _returns(self, intent: Intent, window_is_open: bool) -> bool:
        end = self.journal.ends.get(intent.reference)
        if intent.key is None:
            return end is Status.DEAD_LETTER and window_is_open
        return end is Status.DEAD_LETTER or end in FINAL

    def _customer(self, intent: Intent) -> Customer:
        chance = self._world.chance(f"customer {intent.reference}")
        wait_s = chance.choice(self._waits)
        return Customer(intent, self._door, self.journal, chance, wait_s=wait_s)

    def _some_host(self) -> Host:
        return self._chance.choice(self.hosts)
