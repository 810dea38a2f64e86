"""What the layers of an order cost, in CPU: ``./run bench order_layers``, one JSON line a layer.

In one process, without sockets: submissions, so many at once, against an upstream that answers in
the next turn of the loop. ``claim request`` makes keys, digests and fields; ``store`` claims and
settles; ``placement`` is all of an order behind the handler. CPU microseconds an order: all
threads, user and system; ``user_us`` and ``loop_us`` (the event loop's thread) are parts of it.
``by_yardstick`` is the same by what a fixed piece of Python took, run in between: on a busy machine
only this may be compared.
"""

import argparse
import asyncio
import json
import os
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import structlog
import uvloop

from gateway.api.orders import Arrival, OrderRoute, OrdersApi
from gateway.api.proxies import Peer
from gateway.api.quota import Quota, QuotaLimits
from gateway.ids import new_id
from gateway.ledger import Ledger
from gateway.orders import life
from gateway.orders.attempts import Answer, Answered, AttemptEnd
from gateway.orders.claiming import ClaimRequest
from gateway.orders.promise import Capability, LookupPlan, Promise
from gateway.placement import Placement, Settled
from gateway.sending import Sender
from gateway.stores.memory import MemoryLedger, MemoryState
from gateway.stores.sqlite import SqliteLedger
from gateway.telemetry import Telemetry
from gateway.upstream import HopLimits
from middleware.clock import SystemClock
from middleware.idempotency.gate import SUBMISSION, GatePolicy, ScopeSource, submission_of
from middleware.tasks import Tasks

BODY = b'{"customer":"anna","items":[' + b'{"sku":"4711","quantity":1,"note":"xxxxxxxxxxxx"},' * 19
BODY += b'{"sku":"4712","quantity":2,"note":"yyyyyyyyyyyy"}]}'
ANSWER = b'{"id":"o-12345","status":"confirmed"}'
WHO = "bench/1"
PEER = Peer("127.0.0.1")
PROMISE = Promise(
    route="place-order",
    upstream="backend",
    capabilities=frozenset({Capability.LOOKUP}),
    lookup=LookupPlan("GET", "/orders?idempotency_key={key}"),
)
ROUTE = OrderRoute(PROMISE)
POLICY = GatePolicy("attach", (ScopeSource.parse("header:Authorization"),), 1_048_576, 10.0)
END = Answered(Answer(201, b"Created", ((b"Content-Type", b"application/json"),), ANSWER), 1500)


class _Request(dict[Any, Any]):
    """What gate and handler read of a request."""

    method = "POST"
    transport = SimpleNamespace(is_closing=lambda: False)
    raw_path = "/orders"
    content_length = len(BODY)

    def __init__(self, number: int) -> None:
        super().__init__()
        self.raw_headers = (
            (b"Host", b"shop"),
            (b"Authorization", b"Bearer c%d" % (number % 32)),
            (b"Idempotency-Key", secrets.token_urlsafe(18).encode()),
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(BODY)),
        )
        self.content = SimpleNamespace(
            is_eof=lambda: True, exception=lambda: None, read_nowait=lambda: BODY
        )


class _Exchange:
    """Answered at the next turn."""

    ended = False

    async def wait(self, _timeout_s: float) -> AttemptEnd:
        await asyncio.sleep(0)
        self.ended = True
        return END


class _Pool:
    limits = HopLimits()

    def sticky(self, _headers: object) -> None:
        return None

    def take_idle(self, _sticky: object) -> "_Pool":
        return self

    def ended(self, connection: object, **told: object) -> None: ...

    def put_back(self, connection: object) -> None: ...

    def send(self, _request: object, **_limits: object) -> _Exchange:
        return _Exchange()


class _NoHandOver:
    def adopt(self, leased: object, listening: object) -> None:
        raise AssertionError((leased, listening))


class Bench:
    """The parts of an order on one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.telemetry = Telemetry()
        tasks = Tasks(on_failure=lambda name, error: print(name, repr(error)))
        sender = Sender(
            ledger=ledger,
            pools=cast("Any", {"backend": _Pool()}),
            tasks=tasks,
            clock=SystemClock(),
            telemetry=self.telemetry,
            draw=lambda: 0.5,
            who=WHO,
        )
        self.placement = Placement(
            ledger=ledger,
            sender=sender,
            hand_over=_NoHandOver(),
            tasks=tasks,
            telemetry=self.telemetry,
        )
        self.api = OrdersApi(
            placement=self.placement,
            replay_check=cast("Any", None),
            quota=Quota(QuotaLimits(1_000_000_000, 60.0)),
            client=lambda _peer, _fields: "127.0.0.1",
            ledger=ledger,
            telemetry=self.telemetry,
            new_id=new_id,
            who=WHO,
            respond=cast("Any", lambda told: told),
            peer=lambda _: PEER,
            ended=lambda _: bool,
        )

    async def nothing(self, number: int) -> None:
        _Request(number)

    async def request(self, number: int) -> ClaimRequest:
        request = cast("Any", _Request(number))
        submission = await submission_of(request, POLICY)
        arrival = Arrival(request.raw_headers, PEER, "", request.transport)
        return self.api.claim_request(submission, ROUTE, arrival)

    async def store(self, number: int) -> None:
        request = cast("Any", await self.request(number))
        claim = await self.ledger.claim(replace(request, dispatch=True))
        assert claim.lease is not None
        entry = claim.claimed.entry
        after = life.end_attempt(entry, END, self.ledger.now(), WHO)
        await self.ledger.write(claim.lease, entry, after)

    async def place(self, number: int) -> None:
        request = await self.request(number)
        by = asyncio.get_running_loop().time() + 10.0
        placed = await self.placement.placed(self.placement.begin(request), answer_by=by)
        assert isinstance(placed, Settled), placed

    async def handle(self, number: int) -> None:
        request = cast("Any", _Request(number))
        request[SUBMISSION] = await submission_of(request, POLICY)
        await self.api.submit(request, ROUTE)


def yardstick() -> float:
    """Thread seconds of a fixed piece of Python: calls, attributes, a tree of objects, a digest."""
    began = time.thread_time()
    for number in range(12):
        told = json.loads(json.dumps({"number": number, "items": [str(number)] * 8}))
        replace(PROMISE, route=str(told["number"]))
    return time.thread_time() - began


async def cost_us(
    one: Callable[[int], Awaitable[object]], clients: int, seconds: float
) -> dict[str, float]:
    """CPU microseconds a call, with so many at once."""
    done = 0
    measures: list[float] = []

    async def client(number: int, ends: float) -> None:
        nonlocal done
        while time.perf_counter() < ends:
            await one(number)
            done += 1
            if done % 16 == 0:
                measures.append(yardstick())
                await asyncio.sleep(0)

    figures: dict[str, float] = {}
    for phase_s in (seconds / 4, seconds):
        done = 0
        measures.clear()
        began, spent = time.perf_counter(), time.process_time()
        user, main = os.times().user, time.thread_time()
        await asyncio.gather(*(client(each, began + phase_s) for each in range(clients)))
        took = time.perf_counter() - began
        measured = sum(measures)
        cpu = time.process_time() - spent - measured
        on_loop = time.thread_time() - main - measured
        mean = measured / len(measures)
        figures = {
            "by_yardstick": round(cpu / done / mean, 3),
            "loop_by_yardstick": round(on_loop / done / mean, 3),
            "cpu_us": round(cpu / done * 1e6, 1),
            "user_us": round((os.times().user - user - measured) / done * 1e6, 1),
            "loop_us": round(on_loop / done * 1e6, 1),
            "yardstick_us": round(mean * 1e6, 1),
            "per_s": round(done / took),
        }
    return figures


async def run(options: argparse.Namespace) -> None:
    clock = SystemClock()
    with tempfile.TemporaryDirectory(dir=options.folder or Path(__file__).parent) as folder:
        ledgers: dict[str, Any] = {
            "memory": MemoryLedger(
                MemoryState(clock), clock=clock, who=WHO, lease_s=3600.0, new_holder=new_id
            ),
            "sqlite": SqliteLedger(
                Path(folder) / "ledger.db",
                clock=clock,
                who=WHO,
                lease_s=3600.0,
                new_holder=new_id,
                inline=options.inline,
            ),
        }
        for name, ledger in ledgers.items():
            await ledger.open()
            bench = Bench(ledger)
            layers = {
                "nothing": bench.nothing,
                "claim request": bench.request,
                "store": bench.store,
                "placement": bench.place,
                "handler": bench.handle,
            }
            for layer, one in layers.items():
                if options.only and f"{name} {layer}" not in options.only:
                    continue
                figures = await cost_us(one, options.clients, options.seconds)
                print(json.dumps({"ledger": name, "layer": layer} | figures), flush=True)
            await ledger.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--inline", action="store_true", help="commit on the event loop")
    parser.add_argument("--only", action="append", help='such as "sqlite store"')
    parser.add_argument("--folder", help="of the ledger; beside the benchmarks unless given")
    options = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30), cache_logger_on_first_use=True
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(options))


if __name__ == "__main__":
    main()
