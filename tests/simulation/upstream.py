"""The demo's order backend as a simulated upstream, with worse manners: its books survive, its
process may die.

``gateway.demo.backend`` runs on a simulated host. A restart is a new process over the same books,
the same stored answers (``dedup``) and the same count of what each reference has met; work that a
crashed process had in hand is gone with it, uncommitted.

On top of the demo's faults it breaks the wire in all ways of FAULTS.md's rows B1 to B14, answers
lookups from a replica that lags, and forgets a key after the time that the route was told.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import orjson

from gateway.demo.backend import Backend, Observed, bare
from gateway.demo.books import Books, Decision, Submitted
from gateway.demo.faults import STORM, Course, Ending, Fault, LookupFault, Ordeal, draw
from gateway.demo.faults import draw_lookup as draw_demo_lookup
from gateway.demo.oracle import Held
from gateway.demo.wire import encode_reply, reset
from gateway.orders.promise import Capability
from middleware.messages import RawHeaders

from .world import Host, World

PORT = 9000

LAG_S_MAX = 0.4
"""How old a lookup's answer may be: it, too, must fit into the route's ``settle_s``."""

REMEMBERS_S_MORE = 20.0
"""The upstream remembers a key for longer than it promises: what was sent in time may lie in a cut
link for some seconds."""

DRIP_S, DRIPS = 0.2, 9

BROWN_OUT_S = (1.2, 1.8)
"""The work on each order while everything is slow: beyond the gateway's attempt timeout of 1 s."""


class Manner(StrEnum):
    """How an answer goes wrong on its way. The order was made before all but the last three."""

    DRIPS = "answer_drips"
    RESET_INSIDE = "reset_inside_the_answer"
    TRAILING = "bytes_beyond_the_length"
    TWO_LENGTHS = "two_lengths"
    LENGTH_AND_CHUNKS = "length_and_chunks"
    BAD_CHUNK = "bad_chunk"
    SWITCHES = "101_switching"
    UNFRAMED = "cut_short_without_a_length"
    GARBAGE = "no_http"
    TWICE = "answers_twice"
    INTERIM = "103_before_the_answer"
    HANGS_UP = "closes_after_the_answer"
    ACCEPTED = "202_accepted"
    REDIRECTS = "303_see_other"
    BOOTING = "404_while_it_starts"
    NOT_ADMITTED = "401_not_admitted"
    EARLY = "425_too_early"


NOT_DONE = frozenset({Manner.BOOTING, Manner.NOT_ADMITTED, Manner.EARLY})
"""Nothing was made before these."""

ILL_MANNERED = 0.12
"""The share of submissions that meet one of them, where the demo's own faults spare them."""


class Glimpse(StrEnum):
    """What goes wrong with a lookup beside the demo's faults: it may be late, it never lies."""

    LAGS = "lookup_lags"
    NOT_FOUND = "lookup_404_for_absent"
    PAGE = "lookup_shows_a_page"
    SLOW = "lookup_slow"


GLIMPSES: Mapping[Glimpse | None, int] = {
    None: 60,
    Glimpse.LAGS: 15,
    Glimpse.NOT_FOUND: 15,
    Glimpse.PAGE: 5,
    Glimpse.SLOW: 5,
}


@dataclass(frozen=True, slots=True)
class Trial(Ordeal):
    """An ordeal, and how its answer goes wrong."""

    manner: Manner | None = None

    @property
    def course(self) -> Course:
        if self.manner is None:
            return super(Trial, self).course
        return Course(self.manner not in NOT_DONE, Ending.ANSWER)


class RudeBackend(Backend):
    """The demo's backend with this module's faults."""

    def __init__(self, upstream: "Upstream", capabilities: frozenset[Capability]) -> None:
        super().__init__(capabilities, upstream.draw, upstream.draw_lookup)
        self._upstream = upstream

    async def _decide_once(self, submitted: Submitted, work_s: float) -> Decision:
        account = (submitted.who, submitted.key or "")
        self._upstream.note_key(account, asyncio.get_running_loop().time())
        return await super()._decide_once(submitted, work_s)

    async def _end(
        self,
        ending: Ending,
        ordeal: Ordeal,
        decision: Decision | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        manner = ordeal.manner if isinstance(ordeal, Trial) else None
        if manner is None or ending is Ending.ERROR:
            return await super()._end(ending, ordeal, decision, reader, writer)
        if manner is Manner.DRIPS:
            await _drip(_reply(decision)[2], writer)
            return True
        writer.write(_mangled(manner, decision))
        if manner is Manner.RESET_INSIDE:
            await writer.drain()
            await asyncio.sleep(DRIP_S / 10)
            reset(writer)
        return manner in (Manner.INTERIM, Manner.ACCEPTED, *NOT_DONE)

    async def _look_up(self, query: dict[str, list[str]], writer: asyncio.StreamWriter) -> bool:
        if "of" in query:
            await self._list(query["of"][0], writer)
            return True
        key = bare(query.get("idempotency_key", [""])[0])
        match self._upstream.draw_glimpse(key):
            case Glimpse.PAGE:
                writer.write(encode_reply(200, b"<h1>Please log in</h1>", _HTML))
            case Glimpse.SLOW:
                await asyncio.sleep(BROWN_OUT_S[0])
                return await super()._look_up(query, writer)
            case Glimpse.LAGS:
                self._show(key, LAG_S_MAX, writer)
            case Glimpse.NOT_FOUND:
                self._show(key, 0.0, writer)
            case None:
                return await super()._look_up(query, writer)
        return True

    async def _list(self, reference: str, writer: asyncio.StreamWriter) -> None:
        """The orders of one customer as they are now; the answer may come a while later."""
        held = [order for order in self.books.orders if order.reference == reference]
        found = orjson.dumps([orjson.Fragment(order.json()) for order in held])
        await asyncio.sleep(self._upstream.list_late_s())
        writer.write(encode_reply(200, found, (*_JSON, (b"Cache-Control", b"public, max-age=600"))))

    def _show(self, key: str, age_s: float, writer: asyncio.StreamWriter) -> None:
        """The orders with this key as the books were so long ago; 404 where there were none."""
        self.observed.lookups += 1
        known_by = asyncio.get_running_loop().time() - age_s
        held = [order for order in self.books.with_key(key) if order.at_s <= known_by]
        if not held or Capability.LOOKUP not in self._capabilities:
            writer.write(encode_reply(404, b'{"error":"no such order"}', _JSON))
            return
        found = [orjson.Fragment(order.json()) for order in held]
        writer.write(encode_reply(200, orjson.dumps(found), _JSON))


class Upstream:
    """``mix`` weighs the demo's faults; ``rude`` adds this module's; ``names_refusals``: the route
    says which answers refuse, so that others may come while it starts. ``calm`` ends them all.
    ``remembers_s``: how long a key counts (None: for ever). Serve it on its own host."""

    def __init__(
        self,
        world: World,
        host: Host,
        capabilities: frozenset[Capability],
        *,
        mix: Mapping[Fault, int] = STORM,
        rude: bool = False,
        names_refusals: bool = False,
        remembers_s: float | None = None,
    ) -> None:
        self.host = host
        self.capabilities = capabilities
        self.books = Books()
        self.observed = Observed()
        self.met: Counter[Manner | Glimpse] = Counter()
        self.browned_out = False
        self.first_seen: dict[tuple[str, str], float] = {}
        self._world = world
        self._mix = mix
        self._rude = rude
        self._manners = [each for each in Manner if names_refusals or each is not Manner.BOOTING]
        self._remembers_s = remembers_s
        self._backend: RudeBackend | None = None
        self._stormy = True
        self._lists = world.chance("lists")
        self._seed = world.chance("upstream").getrandbits(32)
        self._seen: Counter[str] = Counter()
        self._decided: dict[tuple[str, str], Decision] = {}

    def start(self, port: int = PORT) -> "asyncio.Future[None]":
        """Start a process (again) on the host. Listens before anything else there runs."""
        return self._world.spawn(self.host, self._serve(port), name="upstream")

    def calm(self) -> None:
        """No more faults from here on: submissions are answered, lookups work."""
        self._stormy = self.browned_out = False

    def better(self) -> None:
        """From now on it deduplicates; of the keys that it met before it knows nothing."""
        self.capabilities |= {Capability.DEDUP}
        if self._backend is not None:
            self._backend._capabilities = self.capabilities

    def held(self) -> list[Held]:
        """The books, for the oracle."""
        return [
            Held(order.order_id, order.reference, order.who, order.body_digest)
            for order in self.books.orders
        ]

    async def _serve(self, port: int) -> None:
        backend = self._backend = RudeBackend(self, self.capabilities)
        backend.books = self.books
        backend.observed = self.observed
        backend._decided = self._decided
        backend._seen = self._seen
        self.observed.in_flight = 0
        await backend.start("0.0.0.0", port)
        await asyncio.get_running_loop().create_future()

    # --- what goes wrong ---------------------------------------------------------------------

    def draw(self, reference: str, nth: int) -> Ordeal:
        """What the ``nth`` submission of this order meets."""
        ordeal = self._draw_ordeal(reference, nth) if self._stormy else Ordeal()
        told = ordeal.manner if isinstance(ordeal, Trial) else ordeal.fault
        self._world.record(f"{reference} submission {nth}: {told}")
        return ordeal

    def _draw_ordeal(self, reference: str, nth: int) -> Ordeal:
        ordeal = draw(self._seed, reference, nth, self._mix)
        chance = random.Random(f"manners:{self._seed}:{reference}:{nth}")
        work_s = chance.uniform(*BROWN_OUT_S) if self.browned_out else ordeal.work_s
        if not self._rude or ordeal.course.leaves_doubt or chance.random() >= ILL_MANNERED:
            return replace(ordeal, work_s=work_s)
        manner = chance.choice(self._manners)
        self.met[manner] += 1
        return Trial(Fault.NONE, work_s, ordeal.error_status, manner)

    def draw_lookup(self, key: str, nth: int) -> LookupFault:
        """What the ``nth`` lookup of this key meets."""
        fault = draw_demo_lookup(self._seed, key, nth) if self._stormy else LookupFault.NONE
        self._world.record(f"lookup {nth} of a key: {fault}")
        return fault

    def draw_glimpse(self, key: str) -> Glimpse | None:
        """What the next lookup of this key meets beside."""
        if not (self._stormy and self._rude):
            return None
        self._seen[f"glimpse {key}"] += 1
        chance = random.Random(f"glimpses:{self._seed}:{key}:{self._seen[f'glimpse {key}']}")
        glimpse = chance.choices(list(GLIMPSES), list(GLIMPSES.values()))[0]
        if glimpse is not None:
            self.met[glimpse] += 1
            self._world.record(f"a lookup: {glimpse}")
        return glimpse

    def list_late_s(self) -> float:
        """How long a list of orders is on its way."""
        return self._lists.choice((0.0, 0.05, 0.5)) * self._lists.random()

    def note_key(self, account: tuple[str, str], now: float) -> None:
        """A key is submitted; those past their time count no more."""
        self.first_seen.setdefault(account, now)
        if self._remembers_s is None:
            return
        for known, since in list(self.first_seen.items()):
            if since + self._remembers_s < now:
                del self.first_seen[known]
                self._decided.pop(known, None)


# --- bytes -------------------------------------------------------------------------------------

_JSON: RawHeaders = ((b"Content-Type", b"application/json"),)
_HTML: RawHeaders = ((b"Content-Type", b"text/html"),)


def _reply(decision: Decision | None) -> tuple[bytes, bytes, bytes]:
    """Start line, body, and the whole, of the answer in order."""
    assert decision is not None
    whole = encode_reply(decision.status, decision.body, _JSON)
    return whole.split(b"\r\n")[0], decision.body, whole


def _mangled(manner: Manner, decision: Decision | None) -> bytes:
    """The answer's bytes, as this manner makes them."""
    match manner:
        case Manner.BOOTING:
            return encode_reply(404, b'{"error":"no such page"}', _JSON)
        case Manner.NOT_ADMITTED:
            return encode_reply(401, b'{"error":"who are you"}', _JSON)
        case Manner.EARLY:
            return encode_reply(425, b'{"error":"too early"}', _JSON)
        case Manner.ACCEPTED:
            return encode_reply(202, b'{"status":"queued"}', _JSON)
        case Manner.REDIRECTS:
            return encode_reply(303, b"", ((b"Location", b"/somewhere"),))
        case Manner.SWITCHES:
            return b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
        case Manner.GARBAGE:
            return b"\x16\x03\x01 this is no HTTP\r\n\r\n"
        case _:
            return _misframed(manner, decision)


def _misframed(manner: Manner, decision: Decision | None) -> bytes:
    start, body, whole = _reply(decision)
    head = start + b"\r\nContent-Type: application/json\r\n"
    length = b"Content-Length: %d\r\n"
    match manner:
        case Manner.RESET_INSIDE:
            return whole[:-9]
        case Manner.TRAILING:
            return head + length % (len(body) - 5) + b"\r\n" + body
        case Manner.TWO_LENGTHS:
            return head + length % len(body) + length % (len(body) - 5) + b"\r\n" + body
        case Manner.LENGTH_AND_CHUNKS:
            chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            return head + length % len(body) + b"Transfer-Encoding: chunked\r\n\r\n" + chunk
        case Manner.BAD_CHUNK:
            return head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body + b"\r\n0\r\n\r\n"
        case Manner.UNFRAMED:
            return head + b"\r\n" + body[:-4]
        case Manner.TWICE:
            return whole + whole
        case Manner.INTERIM:
            return b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + whole
        case _:
            return whole


async def _drip(whole: bytes, writer: asyncio.StreamWriter) -> None:
    """In some two seconds: beyond the attempt's timeout, within ``settle_s``."""
    step = max(1, len(whole) // DRIPS)
    for at in range(0, len(whole), step):
        writer.write(whole[at : at + step])
        await writer.drain()
        await asyncio.sleep(DRIP_S)
