"""Shoppers who order without a pause through one door, and keep a journal for the oracle."""

import asyncio
import itertools
import json

import aiohttp

from gateway.demo.answers import Definite, conclude
from gateway.demo.backend import Backend
from gateway.demo.intents import Behaviour, Intent
from gateway.demo.journal import Journal
from gateway.demo.oracle import Held, Verdict, judge
from gateway.demo.wire import (
    Address,
    Outcome,
    Reply,
    Request,
    Silence,
    SilenceReason,
    exchange,
)
from gateway.orders.states import FINAL

SHOPPERS = 8

PAUSE_S = 0.02
"""Between two of a shopper's requests: two cores also carry the gateways."""

PATIENCE_S = 10.0
"""Above the route's answer_within_s."""


class Crowd:
    """``insistent`` shoppers repeat an order with its key until they know what became of it;
    the others submit once. ``failures`` are the requests without the answer that was due."""

    def __init__(self, port: int, *, insistent: bool) -> None:
        self.journal = Journal(asyncio.get_running_loop().time)
        self.failures: list[str] = []
        self._door = Address("127.0.0.1", port)
        self._insistent = insistent
        self._numbers = itertools.count(1)
        self._closing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> None:
        for number in range(SHOPPERS):
            work = self._shop(f"Bearer shopper-{number}")
            self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def close(self) -> None:
        """Let everybody finish what they have begun. Raises what a shopper raised."""
        self._closing.set()
        async with asyncio.timeout(30):
            await asyncio.gather(*self._tasks)

    async def send_away(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ordered(self, more: int) -> None:
        """Wait until so many more orders have their answer."""
        enough = len(self.journal.ends) + more
        async with asyncio.timeout(20):
            while len(self.journal.ends) < enough:  # noqa: ASYNC110 - the journal tells nobody
                await asyncio.sleep(0.01)

    async def come_back(self) -> None:
        """Everybody submits every order once more, and notes what they are told."""
        intents = list(self.journal.intents.values())
        async with aiohttp.ClientSession() as session:
            for batch in range(0, len(intents), SHOPPERS):
                some = intents[batch : batch + SHOPPERS]
                await asyncio.gather(*(self._submit(session, intent) for intent in some))

    def judge(self, backend: Backend, kills: int = 0) -> Verdict:
        orders = backend.books.orders
        held = [Held(o.order_id, o.reference, o.who, o.body_digest) for o in orders]
        return judge(self.journal.case(held, kills=kills))

    async def _shop(self, who: str) -> None:
        """One kept-alive connection for orders, as a storefront's server has; reads come on
        connections of their own."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
            while not self._closing.is_set():
                intent = self._intent(who)
                self.journal.mean(intent)
                await self._order(session, intent)
                await self._read()
                await asyncio.sleep(PAUSE_S)

    async def _order(self, session: aiohttp.ClientSession, intent: Intent) -> None:
        known = await self._submit(session, intent)
        while self._insistent and not known:
            await asyncio.sleep(PAUSE_S)
            known = await self._submit(session, intent)

    def _intent(self, who: str) -> Intent:
        reference = f"r-{next(self._numbers):05d}"
        body = json.dumps({"reference": reference, "sku": "tea", "quantity": 1}).encode()
        return Intent(reference, who, f"cart-{reference}", body, Behaviour.PATIENT, True)

    async def _submit(self, session: aiohttp.ClientSession, intent: Intent) -> bool:
        """Whether the order's final answer came."""
        number = self.journal.begin(intent.reference)
        outcome = await self._post(session, intent)
        self.journal.end(number, outcome)
        said = conclude(outcome)
        if isinstance(said, Definite):
            self.journal.tell(intent.reference, said)
            if said.status in FINAL:
                return True
        self.failures.append(f"POST {intent.reference}: {outcome}")
        return False

    async def _post(self, session: aiohttp.ClientSession, intent: Intent) -> Outcome:
        """aiohttp never repeats a POST by itself."""
        headers = {
            "Authorization": intent.who,
            "Idempotency-Key": intent.key or "",
            "Content-Type": "application/json",
        }
        limit = aiohttp.ClientTimeout(total=PATIENCE_S)
        url = f"http://{self._door}/orders"
        try:
            async with session.post(
                url, data=intent.body, headers=headers, timeout=limit
            ) as response:
                return Reply(response.status, response.raw_headers, await response.read())
        except TimeoutError:
            return Silence(SilenceReason.OUT_OF_PATIENCE)
        except aiohttp.ClientError:
            return Silence(SilenceReason.CLOSED)

    async def _read(self) -> None:
        outcome = await exchange(self._door, Request("GET", "/catalog"), PATIENCE_S)
        if not isinstance(outcome, Reply) or outcome.status != 200:
            self.failures.append(f"GET /catalog: {outcome}")
