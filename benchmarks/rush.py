"""Customers in a process of their own, open loop: they come at a rate, whatever becomes of those
before them, and leave after their patience.

Reads one JSON plan from standard input, prints ``ready``, and for each further line one JSON
result: what happened in each second. What each order's customer was told goes to a file.
"""

import asyncio
import gc
import json
import os
import sys
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any, cast

import uvloop

from benchmarks.messages import cut
from benchmarks.rush_servers import say, write

BODY = b'{"customer":"anna","items":[{"sku":"4711","quantity":1}],"note":"' + b"x" * 400 + b'"}'
CONNECTIONS_MAX = 4000
FATES = {200: "ok", 201: "ok", 202: "pending", 429: "refused", 503: "refused"}
ADDRESSES = tuple(f"127.0.0.{number}" for number in range(2, 10))
"""Customers come from several, as they do: the gateway bounds the connections of each."""

TICK_S = 0.001
_READ = b"GET /catalog HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer c%d\r\n%b\r\n"
_ORDER = (
    b"POST /orders HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer c%d\r\n"
    b"Idempotency-Key: %b\r\n%bContent-Length: %d\r\n\r\n%b"
)


@dataclass(slots=True)
class Asked:
    """One request of a customer; ``fate`` once it is known."""

    kind: str
    key: str
    at: float
    text: bytes
    by: "Customer | None" = None
    fate: str | None = None


class Customer(asyncio.Protocol):
    """One connection to the gateway: one request at a time."""

    transport: asyncio.Transport

    def __init__(self, customers: "Customers") -> None:
        self.customers = customers
        self.data = b""
        self.asked: Asked | None = None
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def ask(self, asked: Asked) -> None:
        self.asked, asked.by = asked, self
        self.transport.write(asked.text)

    def data_received(self, data: bytes) -> None:
        self.data += data
        found = cut(self.data)
        if found is None or self.asked is None:
            return
        asked, self.asked = self.asked, None
        message, self.data = found
        self.customers.told_of(asked, int(message[9:12]))
        if self.customers.fresh or b"onnection: close" in message:
            self.transport.close()
        elif not self.is_lost:
            self.customers.idle.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.is_lost = True
        self.customers.open -= 1
        if self.asked is not None:
            self.customers.told_of(self.asked, 0)


class Customers:
    """Who comes, and what became of them. ``fresh``: each on a connection of its own."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.port = plan["port"]
        self.rate = plan["rate"]
        self.reads = plan.get("reads", 0.0)
        self.fresh = plan.get("fresh", False)
        self.patience_s = plan.get("patience_s", 2.0)
        self.idle: list[Customer] = []
        self.open = 0
        self.most_open = 0
        self.offered = 0
        self.told: dict[str, int] = {}
        self.late_s: list[float] = []
        self.began = 0.0
        self.patient: deque[Asked] = deque()
        self.tasks: set[asyncio.Task[None]] = set()
        self.seconds: defaultdict[int, dict[str, list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )

    async def run(self, seconds: float, began: float) -> None:
        self.began = began
        await asyncio.sleep(began - time.monotonic())
        while (now := time.monotonic() - began) < seconds:
            while self.offered < now * self.rate:
                self._come(self.offered)
                self.offered += 1
            self.late_s.append(time.monotonic() - began - now)
            self._leave()
            await asyncio.sleep(TICK_S)
        while self.patient:
            self._leave()
            await asyncio.sleep(TICK_S)
        await asyncio.gather(*self.tasks)
        for customer in self.idle:
            customer.transport.close()

    def _come(self, number: int) -> None:
        is_read = (number * 7919 % 100) < self.reads * 100
        key = f"rush-{self.began:.0f}-{number}-of-many-customers"
        close = b"Connection: close\r\n" if self.fresh else b""
        if is_read:
            text = _READ % (number, close)
        else:
            text = _ORDER % (number, key.encode(), close, len(BODY), BODY)
        asked = Asked("read" if is_read else "order", key, time.monotonic(), text)
        self.patient.append(asked)
        while self.idle:
            customer = self.idle.pop()
            if not (customer.is_lost or customer.transport.is_closing()):
                customer.ask(asked)
                return
        task = asyncio.ensure_future(self._connect(asked, ADDRESSES[number % len(ADDRESSES)]))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _connect(self, asked: Asked, address: str) -> None:
        if self.open >= CONNECTIONS_MAX:
            self.told_of(asked, 0)
            return
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            _, customer = await asyncio.get_running_loop().create_connection(
                lambda: Customer(self), "127.0.0.1", self.port, local_addr=(address, 0)
            )
        except OSError:
            self.open -= 1
            self.told_of(asked, 0)
            return
        if asked.fate is not None:
            self.idle.append(customer)
        elif customer.is_lost:
            self.told_of(asked, 0)
        else:
            customer.ask(asked)

    def _leave(self) -> None:
        """Who has waited for too long goes, and so does who knows."""
        late = time.monotonic() - self.patience_s
        while self.patient and (self.patient[0].fate is not None or self.patient[0].at < late):
            asked = self.patient.popleft()
            if asked.fate is None:
                self.told_of(asked, 0)
                if asked.by is not None:
                    asked.by.asked = None
                    asked.by.transport.abort()

    def told_of(self, asked: Asked, status: int) -> None:
        """0: nothing was said in time."""
        if asked.fate is not None:
            return
        asked.fate = FATES.get(status, "other") if status else "left"
        if asked.kind == "order":
            self.told[asked.key] = status
        took = self.seconds[int(asked.at - self.began)]
        took[f"{asked.kind} {asked.fate}"].append(time.monotonic() - asked.at)
        if asked.fate == "refused":
            took[f"{status}"].append(0.0)


async def main() -> None:
    plan = json.loads(sys.stdin.readline())
    gc.disable()  # a look through all that is remembered would make everybody late
    say("ready")
    loop = asyncio.get_running_loop()
    while (line := await loop.run_in_executor(None, sys.stdin.readline)).strip():
        asked = plan | json.loads(line)
        customers = Customers(asked)
        await customers.run(asked["seconds"], asked["began"])
        if "told" in asked:
            write(asked["told"], customers.told)
        say(json.dumps(summary(customers, asked["seconds"])))
    os._exit(0)  # thousands of connections are open: nobody waits for them


def summary(customers: Customers, seconds: float) -> dict[str, Any]:
    """Counts of each second and of all, latencies in milliseconds. ``late_ms``: how late the
    customers themselves came, at the most in 99 of 100 turns, since this process was busy."""
    totals: defaultdict[str, list[float]] = defaultdict(list)
    each = []
    for second in range(int(seconds)):
        found = customers.seconds[second]
        for fate, took in found.items():
            totals[fate] += took
        counts: dict[str, Any] = {fate: len(took) for fate, took in found.items()}
        good = sorted(found.get("order ok", []) + found.get("read ok", []))
        refused = sorted(found.get("order refused", []) + found.get("read refused", []))
        counts["p99_ms"] = percentile(good, 0.99)
        counts["refused_p99_ms"] = percentile(refused, 0.99)
        each.append(counts)
    return {
        "seconds": each,
        "offered": customers.offered,
        "connections": customers.most_open,
        "late_ms": percentile(sorted(customers.late_s), 0.99),
        "totals": {fate: len(took) for fate, took in totals.items()},
        "p50_ms": {fate: percentile(sorted(took), 0.5) for fate, took in totals.items()},
        "p99_ms": {fate: percentile(sorted(took), 0.99) for fate, took in totals.items()},
    }


def percentile(took: list[float], share: float) -> float:
    return round(took[min(len(took) - 1, int(len(took) * share))] * 1000, 2) if took else 0.0


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
