"""The other core, open loop: requests come at a rate, whatever becomes of those before them.

Backends with one set of books, and customers who leave after their patience. Reads one JSON plan
from standard input, prints ``ready``, and for each further line one JSON result: what happened in
each second, and what the books say against what the customers were told.
"""

import asyncio
import json
import os
import re
import sys
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import uvloop

BODY = b'{"customer":"anna","items":[{"sku":"4711","quantity":1}],"note":"' + b"x" * 400 + b'"}'
CONNECTIONS_MAX = 4000
FATES = {200: "ok", 201: "ok", 202: "pending", 503: "refused"}
ADDRESSES = tuple(f"127.0.0.{number}" for number in range(2, 10))
"""Customers come from several, as they do: the gateway bounds the connections of each."""

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_KEY = re.compile(rb"\r\nidempotency-key: *([^\r]+)", re.IGNORECASE)


def cut(data: bytes) -> tuple[bytes, bytes] | None:
    """The first whole message, and what comes after it."""
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        return None
    length = _LENGTH.search(data, 0, end)
    end += int(length[1]) if length else 0
    return None if len(data) < end else (data[:end], data[end:])


class Books:
    """All servers' own: how many orders each key has made."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()


class Server:
    """One server: ``workers`` requests at a time, each ``work_s`` long; the others queue."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.work_s = 0.005
        self.workers = 32
        self.busy = 0
        self.queue: deque[tuple[Served, bytes]] = deque()
        self.is_dead = False
        self.taken = 0
        self.connections: set[Served] = set()

    def take(self, served: "Served", message: bytes) -> None:
        self.taken += 1
        line = message[: message.index(b"\r\n")].decode()
        if "idempotency_key=" in line:
            key = line.split("idempotency_key=")[1].split(" ")[0]
            served.say(200, json.dumps([{"key": key}] * self.books.made[key]).encode())
            return
        self.queue.append((served, message))
        self._work()

    def _work(self) -> None:
        while self.queue and self.busy < self.workers:
            self.busy += 1
            asyncio.get_running_loop().call_later(self.work_s, self._done, *self.queue.popleft())

    def _done(self, served: "Served", message: bytes) -> None:
        self.busy -= 1
        if message.startswith(b"POST"):
            key = _KEY.search(message)
            self.books.made[key[1].decode() if key else ""] += 1
            served.say(201, b'{"id":"o"}')
        else:
            served.say(200, b'{"sku":"4711"}')
        self._work()

    def apply(self, command: dict[str, Any]) -> None:
        self.work_s = command.get("work_s", self.work_s)
        self.workers = command.get("workers", self.workers)
        self.is_dead = command.get("dead", self.is_dead)
        if self.is_dead:
            for served in list(self.connections):
                served.transport.abort()


class Served(asyncio.Protocol):
    """One connection to a server."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.server.connections.add(self)
        if self.server.is_dead:
            self.transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self.server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (found := cut(self.data)) is not None:
            message, self.data = found
            self.server.take(self, message)

    def say(self, status: int, body: bytes) -> None:
        head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        if not self.transport.is_closing():
            self.transport.write(head % (status, len(body)) + body)


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
        if b"connection: close" in message.lower():
            self.transport.close()
        elif not self.is_lost:
            self.customers.idle.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.is_lost = True
        self.customers.open -= 1
        if self.asked is not None:
            self.customers.told_of(self.asked, 0)


class Customers:
    """Who comes, and what became of them."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.port = plan["port"]
        self.rate = plan["rate"]
        self.reads = plan.get("reads", 0.0)
        self.patience_s = plan.get("patience_s", 2.0)
        self.idle: list[Customer] = []
        self.open = 0
        self.offered = 0
        self.told: dict[str, int] = {}
        self.late_s = 0.0
        self.began = 0.0
        self.patient: deque[Asked] = deque()
        self.tasks: set[asyncio.Task[None]] = set()
        self.seconds: defaultdict[int, dict[str, list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )

    async def run(self, seconds: float, began: float) -> None:
        self.began = began
        while (now := time.perf_counter() - began) < seconds:
            while self.offered < now * self.rate:
                self.offered += 1
                self._come(self.offered)
            self._leave()
            await asyncio.sleep(0.002)
            self.late_s = max(self.late_s, time.perf_counter() - began - now)
        while self.patient:
            self._leave()
            await asyncio.sleep(0.002)
        await asyncio.gather(*self.tasks)
        for customer in self.idle:
            customer.transport.close()

    def _come(self, number: int) -> None:
        is_read = (number * 7919 % 100) < self.reads * 100
        key = f"rush-{self.began:.0f}-{number}-of-many-customers"
        common = b"Host: shop\r\nAuthorization: Bearer c%d\r\n" % number
        if is_read:
            text = b"GET /catalog HTTP/1.1\r\n" + common + b"\r\n"
        else:
            head = b"POST /orders HTTP/1.1\r\n%bIdempotency-Key: %b\r\nContent-Length: %d\r\n\r\n%b"
            text = head % (common, key.encode(), len(BODY), BODY)
        asked = Asked("read" if is_read else "order", key, time.perf_counter(), text)
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
        late = time.perf_counter() - self.patience_s
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
        took[f"{asked.kind} {asked.fate}"].append(time.perf_counter() - asked.at)


async def command_servers(plan: dict[str, Any], servers: list[Server], began: float) -> None:
    for command in plan.get("commands", []):
        await asyncio.sleep(max(0.0, began + command["at"] - time.perf_counter()))
        for number in command.get("servers", range(len(servers))):
            servers[number].apply(command)


async def main() -> None:
    plan = json.loads(sys.stdin.readline())
    books = Books()
    servers = [Server(books) for _ in plan["backends"]]
    for server, port in zip(servers, plan["backends"], strict=True):
        server.apply(plan.get("server", {}))
        await asyncio.get_running_loop().create_server(
            partial(Served, server), "127.0.0.1", port, backlog=4096
        )
    _say("ready")
    loop = asyncio.get_running_loop()
    while (line := await loop.run_in_executor(None, sys.stdin.readline)).strip():
        asked = plan | json.loads(line)
        customers = Customers(asked)
        before = [server.taken for server in servers]
        began = time.perf_counter()
        commands = asyncio.ensure_future(command_servers(asked, servers, began))
        await customers.run(asked["seconds"], began)
        await commands
        result = _summary(customers, asked["seconds"])
        result["taken"] = [
            server.taken - taken for server, taken in zip(servers, before, strict=True)
        ]
        result["offered"] = customers.offered
        result["rush_late_ms"] = round(customers.late_s * 1000)
        result["doubled"] = sum(count > 1 for count in books.made.values())
        result["in_books"] = sum(books.made.values())
        _say(json.dumps(result))
    os._exit(0)  # thousands of connections are open: nobody waits for them


def _summary(customers: Customers, seconds: float) -> dict[str, Any]:
    totals: defaultdict[str, list[float]] = defaultdict(list)
    each = []
    for second in range(int(seconds)):
        found = customers.seconds[second]
        for fate, took in found.items():
            totals[fate] += took
        counts = {fate: len(took) for fate, took in found.items()}
        good = sorted(found.get("order ok", []) + found.get("read ok", []))
        counts["p99_ms"] = _percentile(good, 0.99)
        each.append(counts)
    return {
        "seconds": each,
        "totals": {fate: len(took) for fate, took in totals.items()},
        "p50_ms": {fate: _percentile(sorted(took), 0.5) for fate, took in totals.items()},
        "p99_ms": {fate: _percentile(sorted(took), 0.99) for fate, took in totals.items()},
        "told_created": sum(status == 201 for status in customers.told.values()),
    }


def _percentile(took: list[float], share: float) -> float:
    return round(took[min(len(took) - 1, int(len(took) * share))] * 1000, 2) if took else 0.0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
