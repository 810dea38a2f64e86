"""The demo's order backend as a simulated upstream: its books survive, its process may die.

``gateway.demo.backend`` runs unchanged on a simulated host. A restart is a new process over the
same books, the same stored answers (``dedup``) and the same count of what each reference has met;
work that a crashed process had in hand is gone with it, uncommitted.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping

from gateway.demo.backend import Backend, Observed
from gateway.demo.books import Books, Decision
from gateway.demo.faults import STORM, Fault, LookupFault, Ordeal, draw, draw_lookup
from gateway.demo.oracle import Held
from gateway.orders.promise import Capability

from .world import Host, World

PORT = 9000


class Upstream:
    """``mix`` weighs the faults; ``calm`` ends them all. Serve it on its own host."""

    def __init__(
        self,
        world: World,
        host: Host,
        capabilities: frozenset[Capability],
        *,
        mix: Mapping[Fault, int] = STORM,
    ) -> None:
        self.host = host
        self.books = Books()
        self.observed = Observed()
        self._world = world
        self._capabilities = capabilities
        self._mix = mix
        self._stormy = True
        self._seed = world.chance("upstream").getrandbits(32)
        self._seen: Counter[str] = Counter()
        self._decided: dict[tuple[str, str], Decision] = {}

    def start(self, port: int = PORT) -> "asyncio.Future[None]":
        """Start a process (again) on the host. Listens before anything else there runs."""
        return self._world.spawn(self.host, self._serve(port), name="upstream")

    def calm(self) -> None:
        """No more faults from here on: submissions are answered, lookups work."""
        self._stormy = False

    def held(self) -> list[Held]:
        """The books, for the oracle."""
        return [
            Held(order.order_id, order.reference, order.who, order.body_digest)
            for order in self.books.orders
        ]

    async def _serve(self, port: int) -> None:
        backend = Backend(self._capabilities, self._draw, self._draw_lookup)
        backend.books = self.books
        backend.observed = self.observed
        backend._decided = self._decided
        backend._seen = self._seen
        self.observed.in_flight = 0
        await backend.start("0.0.0.0", port)
        await asyncio.get_running_loop().create_future()

    def _draw(self, reference: str, nth: int) -> Ordeal:
        ordeal = draw(self._seed, reference, nth, self._mix) if self._stormy else Ordeal()
        self._world.record(f"{reference} submission {nth}: {ordeal.fault}")
        return ordeal

    def _draw_lookup(self, key: str, nth: int) -> LookupFault:
        fault = draw_lookup(self._seed, key, nth) if self._stormy else LookupFault.NONE
        self._world.record(f"lookup {nth} of a key: {fault}")
        return fault
