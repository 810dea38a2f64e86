"""One customer with one intent: clicks once or twice, loses patience, comes back, and remembers."""

import asyncio
import random
from dataclasses import dataclass
from typing import assert_never

from gateway.demo.answers import (
    AGAIN_S,
    Again,
    Conclusion,
    Definite,
    Watch,
    conclude,
    conclude_bare,
    conclude_status,
)
from gateway.demo.intents import Behaviour, Intent
from gateway.demo.journal import Journal
from gateway.demo.wire import Address, Outcome, Reply, Request, exchange
from gateway.orders.states import Status
from middleware.messages import RawHeaders, first

PATIENCE_S = 8.0
"""A customer of the gateway waits longer than the route's ``answer_within_s``: it promised."""

SHORT_PATIENCE_S = (0.05, 0.6)
"""An impatient one hangs up early, the first times, and asks again."""

BARE_PATIENCE_S = 1.5
"""The timeout of an ordinary client straight at the backend."""

BARE_TRIES_MAX = 4
"""What retrying clients do by habit; then they tell their customer that it didn't work."""

IMPATIENT_TRIES = 2
"""After so many hang-ups even the impatient wait for their answer."""

ADOPTS_SHARE = 0.5
"""Of those without a key of their own, who repeat with the one that they were told."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where the customers go: the gateway's, or the backend's own."""

    address: Address
    guarded: bool


class Customer:
    """Shops for one intent. ``chance`` is the customer's own, seeded; ``wait_s`` is how long a
    status page is asked to wait for news (0: it answers at once)."""

    def __init__(
        self,
        intent: Intent,
        door: Door,
        journal: Journal,
        chance: random.Random,
        *,
        wait_s: int = 0,
    ) -> None:
        self._intent = intent
        self._door = door
        self._journal = journal
        self._chance = chance
        self._adopts = intent.key is None and chance.random() < ADOPTS_SHARE
        self._adopted: bytes | None = None
        self._prefer: RawHeaders = ((b"Prefer", b"wait=%d" % wait_s),) if wait_s else ()

    async def shop(self) -> None:
        """Return when every click has its definite answer; never of its own accord before."""
        self._journal.mean(self._intent)
        clicks = 2 if self._intent.behaviour is Behaviour.DOUBLE_CLICK else 1
        await asyncio.gather(*(self._click() for _ in range(clicks)))

    async def ask_once_more(self) -> bool:
        """Repeat the submission, as a customer who comes back later. Whether it was answered
        with something definite, which is then in the journal."""
        said = conclude(await self._submit(PATIENCE_S))
        if isinstance(said, Definite):
            self._journal.tell(self._intent.reference, said)
            return True
        return False

    async def _click(self) -> None:
        if self._door.guarded:
            await self._pursue()
        else:
            await self._retry_as_clients_do()

    async def _pursue(self) -> None:
        """Through the gateway: submit until it is known, watch the status page meanwhile."""
        tries = 0
        while True:
            tries += 1
            said: Conclusion = conclude(await self._submit(self._patience_s(tries)))
            if isinstance(said, Watch):
                self._journal.tell(self._intent.reference, said)
                said = await self._watch(said)
            match said:
                case Definite():
                    self._journal.tell(self._intent.reference, said)
                    return
                case Again(after_s=after_s):
                    await self._pause(after_s)
                case _:
                    assert_never(said)

    async def _watch(self, said: Watch) -> Definite | Again:
        """Read the status page until it says something definite, or is gone."""
        while True:
            await self._pause(min(said.after_s, AGAIN_S))
            page = Request("GET", said.target, (*self._headers(), *self._prefer))
            outcome = await exchange(self._door.address, page, PATIENCE_S)
            read = conclude_status(outcome, said.target)
            if not isinstance(read, Watch):
                return read
            said = read

    async def _retry_as_clients_do(self) -> None:
        """Straight at the backend: the same request again after a timeout, an error or a 5xx."""
        for number in range(1, BARE_TRIES_MAX + 1):
            patience_s = min(self._patience_s(number), BARE_PATIENCE_S)
            said = conclude_bare(await self._submit(patience_s))
            match said:
                case Definite():
                    self._journal.tell(self._intent.reference, said)
                    return
                case Again(after_s=after_s):
                    await self._pause(after_s)
                case _:
                    assert_never(said)
        self._journal.tell(self._intent.reference, Definite(Status.FAILED))

    async def _submit(self, patience_s: float) -> Outcome:
        number = self._journal.begin(self._intent.reference)
        headers = (*self._headers(), (b"Content-Type", b"application/json"), *self._key())
        request = Request("POST", "/orders", headers, self._intent.body)
        outcome = await exchange(self._door.address, request, patience_s)
        self._journal.end(number, outcome)
        if self._adopts and isinstance(outcome, Reply):
            self._adopted = first(outcome.headers, b"idempotency-key") or self._adopted
        return outcome

    def _headers(self) -> RawHeaders:
        return ((b"Authorization", self._intent.who.encode()),)

    def _key(self) -> RawHeaders:
        """The customer's own key, as a structured-field string or bare: they are one key. Or the
        one that the gateway made, as it was told."""
        key = self._intent.key
        if key is None:
            return () if self._adopted is None else ((b"Idempotency-Key", self._adopted),)
        written = f'"{key}"' if self._chance.random() < 0.5 else key
        return ((b"Idempotency-Key", written.encode()),)

    def _patience_s(self, tries: int) -> float:
        if self._intent.behaviour is Behaviour.IMPATIENT and tries <= IMPATIENT_TRIES:
            return self._chance.uniform(*SHORT_PATIENCE_S)
        return PATIENCE_S

    async def _pause(self, about_s: float) -> None:
        await asyncio.sleep(about_s * self._chance.uniform(0.6, 1.2))
