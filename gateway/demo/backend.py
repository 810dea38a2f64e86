"""The flaky order backend: a server of its own on bare streams, with books that never lie.

What it promises is what the route's capability says, and no more:

- ``dedup``: one order for one key of one account, also for simultaneous requests; the key is
  looked at before every other rule, and the stored answer is given again.
- ``lookup``: ``GET /orders?idempotency_key=K`` lists the orders that carry K, at once after the
  commit.
- neither: keys are ignored, and every submission that it processes is one more order.

Work goes on when the connection is gone, but never longer than ``WORK_S_MAX``.
"""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never
from urllib.parse import parse_qs, urlsplit

import orjson

from gateway.demo.books import Books, Decision, Submitted
from gateway.demo.faults import WORK_S_MAX, Ending, Fault, LookupFault, Ordeal
from gateway.demo.wire import (
    Address,
    Malformed,
    Request,
    close,
    encode_reply,
    read_request,
    reset,
)
from gateway.orders.promise import Capability
from middleware.messages import RawHeaders, first
from middleware.tasks import Tasks

IDLE_S_MAX = 15.0
"""A connection without a request is closed after this long, as a server of the trade would."""

HANG_S_MAX = 20.0
"""A hanging request is let go after this long: beyond every timeout of the demo's gateway."""

CONNECTIONS_MAX = 1_000
"""Above what the demo's traffic can open; beyond it, connections are closed at once."""

STOP_S_MAX = 5.0
"""For dropping the connections at the end: nothing waits for anybody then."""

RETRY_AFTER_S = 1
"""What a 429 asks for."""

_JSON: RawHeaders = ((b"Content-Type", b"application/json"),)


class Overworked(Exception):
    """The work would end after WORK_S_MAX (a stalled machine): it was dropped uncommitted."""


@dataclass(slots=True)
class Observed:
    """What the backend saw and did, counted from the start."""

    faults: Counter[Fault] = field(default_factory=Counter)
    lookup_faults: Counter[LookupFault] = field(default_factory=Counter)
    doubts: int = 0
    doubted: set[str] = field(default_factory=set)
    submissions: int = 0
    lookups: int = 0
    replays: int = 0
    refusals: int = 0
    in_flight: int = 0
    bugs: list[str] = field(default_factory=list)
    events: defaultdict[str, list[tuple[float, str]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def doubt(self, reference: str) -> None:
        """A caller was left in doubt about this intent."""
        self.doubts += 1
        self.doubted.add(reference)


class Backend:
    """Serves from ``start`` to ``stop``. ``draw`` and ``draw_lookup`` decide what goes wrong, by
    the reference (or key) and how often it was seen before, counted from 1."""

    def __init__(
        self,
        capabilities: frozenset[Capability],
        draw: Callable[[str, int], Ordeal] = lambda _reference, _nth: Ordeal(),
        draw_lookup: Callable[[str, int], LookupFault] = lambda _key, _nth: LookupFault.NONE,
    ) -> None:
        self.books = Books()
        self.observed = Observed()
        self._capabilities = capabilities
        self._draw = draw
        self._draw_lookup = draw_lookup
        self._seen: Counter[str] = Counter()
        self._decided: dict[tuple[str, str], Decision] = {}
        self._processing: dict[tuple[str, str], asyncio.Future[Decision]] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._serving = Tasks(lambda name, error: self.observed.bugs.append(f"{name}: {error!r}"))
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Listen; a port of 0 takes a free one."""
        self._server = await asyncio.start_server(self._connected, host, port)
        bound = self._server.sockets[0].getsockname()
        return Address(bound[0], bound[1])

    async def stop(self) -> None:
        """Close the listener and drop every connection. Work in hand is dropped with it."""
        if self._server is not None:
            self._server.close()
        await self._serving.close(STOP_S_MAX)
        if self._server is not None:
            await self._server.wait_closed()

    async def quiet(self) -> None:
        """Return when no submission is being worked on: at most about WORK_S_MAX."""
        await self._idle.wait()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._serving) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._serving.start(self._serve(reader, writer), name="demo-backend-connection")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(IDLE_S_MAX):
                    request = await read_request(reader)
                if request is None or not await self._respond(request, reader, writer):
                    break
        except (OSError, Malformed, asyncio.IncompleteReadError):
            pass  # this connection is over, whoever ended it; the books are what counts
        finally:
            await close(writer)

    async def _respond(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer, or fail to. Returns whether the connection can serve another request."""
        target = urlsplit(request.target)
        if (request.method, target.path) == ("POST", "/orders"):
            kept = await self._take_order(request, reader, writer)
        elif (request.method, target.path) == ("GET", "/orders"):
            kept = await self._look_up(parse_qs(target.query), writer)
        else:
            writer.write(self._read_only(request.method, target.path))
            kept = True
        await writer.drain()
        return kept and (first(request.headers, b"connection") or b"").lower() != b"close"

    async def _take_order(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        submitted = _submitted(request)
        ordeal = self._meet(submitted)
        if ordeal.course.reset_first:
            reset(writer)
        decision = None
        if ordeal.course.processes:
            decision = await self._work(submitted, ordeal)
        ending = ordeal.course.ending
        if decision is None and ordeal.course.processes:
            ending = Ending.ERROR
        return await self._end(ending, ordeal, decision, reader, writer)

    def _meet(self, submitted: Submitted) -> Ordeal:
        reference = submitted.reference
        self._seen[reference] += 1
        ordeal = self._draw(reference, self._seen[reference])
        self.observed.submissions += 1
        self.observed.faults[ordeal.fault] += 1
        if ordeal.course.leaves_doubt:
            self.observed.doubt(reference)
        self._note(reference, f"submission {self._seen[reference]}: {ordeal.fault}")
        return ordeal

    async def _work(self, submitted: Submitted, ordeal: Ordeal) -> Decision | None:
        """The decision, or None where the work was dropped. Goes on without its connection."""
        self.observed.in_flight += 1
        self._idle.clear()
        try:
            return await self._decide_once(submitted, ordeal.work_s)
        except Overworked:
            if not ordeal.course.leaves_doubt:
                self.observed.doubt(submitted.reference)
            self._note(submitted.reference, "dropped: the work took too long")
            return None
        finally:
            self.observed.in_flight -= 1
            if not self.observed.in_flight:
                self._idle.set()

    async def _decide_once(self, submitted: Submitted, work_s: float) -> Decision:
        if Capability.DEDUP not in self._capabilities or submitted.key is None:
            return await self._decide(submitted, work_s)
        account = (submitted.who, submitted.key)
        if (decided := self._decided.get(account)) is not None:
            return self._replay(submitted, decided)
        if (processing := self._processing.get(account)) is not None:
            return self._replay(submitted, await asyncio.shield(processing))
        return await self._decide_first(account, submitted, work_s)

    async def _decide_first(
        self, account: tuple[str, str], submitted: Submitted, work_s: float
    ) -> Decision:
        processing = asyncio.get_running_loop().create_future()
        self._processing[account] = processing
        try:
            decision = await self._decide(submitted, work_s)
        except BaseException as error:
            processing.set_exception(Overworked() if isinstance(error, Overworked) else OSError())
            processing.exception()  # retrieved here: there may be nobody else waiting for it
            raise
        else:
            self._decided[account] = decision
            processing.set_result(decision)
            return decision
        finally:
            del self._processing[account]

    def _replay(self, submitted: Submitted, decision: Decision) -> Decision:
        self.observed.replays += 1
        self._note(submitted.reference, "repeat of a known key: the stored answer again")
        return decision

    async def _decide(self, submitted: Submitted, work_s: float) -> Decision:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await asyncio.sleep(work_s)
        if loop.time() - began_s > WORK_S_MAX:
            raise Overworked
        decision = self.books.process(submitted, loop.time())
        self.observed.refusals += decision.order is None
        made = decision.order.order_id if decision.order else f"refused {decision.status}"
        self._note(submitted.reference, f"decided: {made}")
        return decision

    async def _end(
        self,
        ending: Ending,
        ordeal: Ordeal,
        decision: Decision | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        match ending:
            case Ending.ANSWER:
                writer.write(_answer(decision))
                return True
            case Ending.TRUNCATE:
                writer.write(_answer(decision, missing=7))
            case Ending.NOT_PROCESSED:
                asked = ((b"Retry-After", b"%d" % RETRY_AFTER_S), *_JSON)
                writer.write(encode_reply(429, b'{"error":"not now"}', asked))
                return True
            case Ending.ERROR:
                writer.write(encode_reply(ordeal.error_status, b'{"error":"oh dear"}', _JSON))
                return True
            case Ending.CLOSE:
                pass
            case Ending.RESET:
                reset(writer)
            case Ending.HANG:
                await _hang(reader)
            case _:
                assert_never(ending)
        return False

    async def _look_up(self, query: dict[str, list[str]], writer: asyncio.StreamWriter) -> bool:
        key = bare(query.get("idempotency_key", [""])[0])
        self.observed.lookups += 1
        if Capability.LOOKUP not in self._capabilities or not key:
            writer.write(encode_reply(404, b'{"error":"no such page"}', _JSON))
            return True
        self._seen[f"lookup {key}"] += 1
        fault = self._draw_lookup(key, self._seen[f"lookup {key}"])
        self.observed.lookup_faults[fault] += 1
        match fault:
            case LookupFault.NONE:
                found = [orjson.Fragment(order.json()) for order in self.books.with_key(key)]
                writer.write(encode_reply(200, orjson.dumps(found), _JSON))
            case LookupFault.ERROR:
                writer.write(encode_reply(503, b'{"error":"oh dear"}', _JSON))
            case LookupFault.CLOSE:
                return False
            case _:
                assert_never(fault)
        return True

    def _read_only(self, method: str, path: str) -> bytes:
        order = self.books.find(path.removeprefix("/orders/"))
        if method == "GET" and path.startswith("/orders/") and order is not None:
            return encode_reply(200, order.json(), _JSON)
        if method == "GET" and path == "/catalog":
            return encode_reply(200, b'{"skus":["tea","cup","kettle","spoon","honey"]}', _JSON)
        return encode_reply(404, b'{"error":"no such page"}', _JSON)

    def _note(self, reference: str, text: str) -> None:
        self.observed.events[reference].append((asyncio.get_running_loop().time(), text))


def _submitted(request: Request) -> Submitted:
    who = first(request.headers, b"authorization") or b""
    key = first(request.headers, b"idempotency-key")
    text = None if key is None else bare(key.decode("latin-1"))
    return Submitted(who.decode("latin-1"), text, request.body)


def bare(key: str) -> str:
    """``k`` and ``"k"`` are one key: a structured-field string may come with its quotes."""
    return key[1:-1] if len(key) >= 2 and key[0] == key[-1] == '"' else key


def _answer(decision: Decision | None, missing: int = 0) -> bytes:
    if decision is None:
        raise ValueError("only a processed order has an answer")
    headers = _JSON
    if decision.order is not None:
        headers += ((b"Location", f"/orders/{decision.order.order_id}".encode()),)
    return encode_reply(decision.status, decision.body, headers, missing)


async def _hang(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HANG_S_MAX):
            await reader.read(1)
