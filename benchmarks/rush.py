"""The other core, open loop: requests come at a rate, whatever becomes of those before them.

Backends with one set of books, and customers who leave after their patience. Reads one JSON plan
from standard input, prints ``ready``, and for each further line one JSON result: what happened in
each second, and what the books say against what the customers were told.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter, defaultdict, deque
from typing import Any

BODY = b'{"customer":"anna","items":[{"sku":"4711","quantity":1}],"note":"' + b"x" * 400 + b'"}'
CONNECTIONS_MAX = 4000
FATES = {0: "left", 200: "ok", 201: "ok", 202: "pending", 429: "refused", 503: "refused"}


class Books:
    """All servers' own: how many orders each key has made."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()


class Server:
    """One server: ``workers`` requests at a time, each ``work_s`` long; the others queue."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.work_s = 0.005
        self.turns = asyncio.Semaphore(32)
        self.is_dead = False
        self.taken = 0
        self.connections: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        try:
            while not self.is_dead:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = _fields(head)
                body = await reader.readexactly(int(fields.get("content-length", "0")))
                self.taken += 1
                writer.write(await self._answer(head, fields, body))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.connections.discard(writer)
            writer.transport.abort()

    async def _answer(self, head: bytes, fields: dict[str, str], _body: bytes) -> bytes:
        line = head.split(b"\r\n", 1)[0].decode()
        if "idempotency_key=" in line:
            key = line.split("idempotency_key=")[1].split(" ")[0]
            return _reply(200, json.dumps([{"key": key}] * self.books.made[key]).encode())
        async with self.turns:
            await asyncio.sleep(self.work_s)
        if line.startswith("POST"):
            self.books.made[fields.get("idempotency-key", "")] += 1
            return _reply(201, b'{"id":"o"}')
        return _reply(200, b'{"sku":"4711"}')

    def apply(self, command: dict[str, Any]) -> None:
        self.work_s = command.get("work_s", self.work_s)
        if "workers" in command:
            self.turns = asyncio.Semaphore(command["workers"])
        self.is_dead = command.get("dead", self.is_dead)
        if self.is_dead:
            for writer in list(self.connections):
                writer.transport.abort()


def _fields(head: bytes) -> dict[str, str]:
    found = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        found[name.lower()] = value.strip()
    return found


def _reply(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


class Customers:
    """Who comes, and what became of them."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.port = plan["port"]
        self.rate = plan["rate"]
        self.reads = plan.get("reads", 0.0)
        self.patience_s = plan.get("patience_s", 2.0)
        self.idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()
        self.open = 0
        self.told: dict[str, int] = {}
        self.late_s = 0.0
        self.seconds: defaultdict[int, dict[str, list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )

    async def run(self, seconds: float, began: float) -> None:
        tasks: set[asyncio.Task[None]] = set()
        number = 0
        while (now := time.perf_counter() - began) < seconds:
            while number < now * self.rate:
                number += 1
                task = asyncio.ensure_future(self._one(number, began))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(0.002)
            self.late_s = max(self.late_s, time.perf_counter() - began - now)
        await asyncio.gather(*tasks)
        for _, writer in self.idle:
            writer.close()

    async def _one(self, number: int, began: float) -> None:
        is_read = (number * 7919 % 100) < self.reads * 100
        kind, at = ("read" if is_read else "order"), time.perf_counter()
        key = f"rush-{began:.0f}-{number}-of-many-customers"
        status = 0
        try:
            async with asyncio.timeout(self.patience_s):
                status = await self._ask(number, None if is_read else key)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        if not is_read:
            self.told[key] = status
        fate = {0: "left", 200: "ok", 201: "ok", 202: "pending", 503: "refused"}.get(
            status, "other"
        )
        self.seconds[int(at - began)][f"{kind} {fate}"].append(time.perf_counter() - at)

    async def _ask(self, number: int, key: str | None) -> int:
        reader, writer = await self._connection()
        try:
            common = b"Host: shop\r\nAuthorization: Bearer c%d\r\n" % number
            if key is None:
                writer.write(b"GET /catalog HTTP/1.1\r\n" + common + b"\r\n")
            else:
                head = b"POST /orders HTTP/1.1\r\n%bIdempotency-Key: %b\r\nContent-Length: %d\r\n"
                writer.write(head % (common, key.encode(), len(BODY)) + b"\r\n" + BODY)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(_fields(head).get("content-length", "0")))
        except BaseException:
            self.open -= 1
            writer.transport.abort()
            raise
        if b"connection: close" in head.lower():
            self.open -= 1
            writer.close()
        else:
            self.idle.append((reader, writer))
        return int(head.split(b" ", 2)[1])

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self.idle:
            reader, writer = self.idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            self.open -= 1
        if self.open >= CONNECTIONS_MAX:
            raise OSError("no customer more fits in here")
        self.open += 1
        try:
            return await asyncio.open_connection("127.0.0.1", self.port)
        except BaseException:
            self.open -= 1
            raise


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
        await asyncio.start_server(server.serve, "127.0.0.1", port, backlog=4096)
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
    asyncio.run(main())
