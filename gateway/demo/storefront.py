"""The storefront's traffic: customers arrive, shop, and at closing time are seen to the door."""

import asyncio
import contextlib
import random

from gateway.demo.customer import Customer, Door
from gateway.demo.gateway_process import ATTACH_WINDOW_S
from gateway.demo.intents import Intent, arrivals
from gateway.demo.journal import Journal
from gateway.orders.states import FINAL, Status
from middleware.tasks import Tasks

INTENTS_MAX = 100_000
"""An endless demo stops taking in here: at 15 a second after two hours, at some 200 MB."""

AUDIT_AT_ONCE = 16
"""Customers who come back at the same time after closing: a queue, not a storm."""

AUDIT_S_MAX = 20.0
"""For all of them together; who isn't answered by then is counted as unanswered."""

STOP_S_MAX = 5.0
"""For sending people away: they only close their connections."""


class Storefront:
    """Seeded customers at one door, all writing one journal."""

    def __init__(self, seed: int, orders_per_second: float, door: Door, journal: Journal) -> None:
        self.journal = journal
        self.audited = 0
        self.audit_unanswered = 0
        self.bugs: list[str] = []
        self._inside = Tasks(self._fell)
        self._seed = seed
        self._orders_per_second = orders_per_second
        self._door = door

    async def trade(self, closing: asyncio.Event, drain_s: float) -> None:
        """Take customers in until ``closing``; then give those inside ``drain_s`` seconds more.

        Whoever has no definite answer by then leaves without one.
        """
        for number, arrival in enumerate(arrivals(self._seed, self._orders_per_second)):
            if number == INTENTS_MAX or await within(closing, arrival.after_s):
                break
            customer = self._customer(arrival.intent)
            self._inside.start(customer.shop(), name=arrival.intent.reference)
        await self._inside.finish(drain_s)
        await self._inside.close(STOP_S_MAX)

    async def audit(self) -> None:
        """Everybody with a final answer, or one that waits for a person, comes back and asks
        again: the answer must be the same bytes, and no order the more.

        Left out are repeats that the gateway rightly takes for a new order: without a key of
        one's own, after a rejection, or so late that the attach window may be over.
        """
        gate = asyncio.Semaphore(AUDIT_AT_ONCE)
        returning = Tasks(self._fell)
        for intent in [i for i in self.journal.intents.values() if self._returns(i)]:
            self.audited += 1
            self.audit_unanswered += 1
            returning.start(self._return(intent, gate), name=f"return-{intent.reference}")
        await returning.finish(AUDIT_S_MAX)
        await returning.close(STOP_S_MAX)

    async def _return(self, intent: Intent, gate: asyncio.Semaphore) -> None:
        async with gate:
            answered = await self._customer(intent).ask_once_more()
        self.audit_unanswered -= answered

    def _fell(self, name: str, error: BaseException) -> None:
        self.bugs.append(f"{name}: {error!r}")

    def _returns(self, intent: Intent) -> bool:
        end = self.journal.ends.get(intent.reference)
        if intent.key is None:
            waited_s = self.journal.since_first_asked_s(intent.reference)
            if waited_s + AUDIT_S_MAX + STOP_S_MAX >= ATTACH_WINDOW_S:
                return False
            return end is Status.CONFIRMED or end is Status.DEAD_LETTER
        return end in FINAL or end is Status.DEAD_LETTER

    def _customer(self, intent: Intent) -> Customer:
        chance = random.Random(f"customer:{self._seed}:{intent.reference}")
        return Customer(intent, self._door, self.journal, chance)


async def within(event: asyncio.Event, seconds: float) -> bool:
    """Whether ``event`` is set within so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
