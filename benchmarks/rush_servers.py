"""An upstream's servers with one set of books, in a process of their own.

Reads one JSON plan from standard input and prints ``ready``; after that each line is a command
(``at``: the monotonic time at which it is done), or asks for the books: they are written to a
file, and what each server has taken is printed.
"""

import asyncio
import json
import os
import re
import sys
import time
from collections import Counter, deque
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvloop

from benchmarks.messages import cut

_KEY = re.compile(rb"\r\nidempotency-key: *([^\r]+)", re.IGNORECASE)
_HEAD = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


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
        if not self.transport.is_closing():
            self.transport.write(_HEAD % (status, len(body)) + body)


def apply(servers: list[Server], command: dict[str, Any]) -> None:
    for number in command.get("servers", range(len(servers))):
        servers[number].apply(command)


async def main() -> None:
    plan = json.loads(sys.stdin.readline())
    books = Books()
    servers = [Server(books) for _ in plan["backends"]]
    loop = asyncio.get_running_loop()
    for server, port in zip(servers, plan["backends"], strict=True):
        server.apply(plan.get("server", {}))
        await loop.create_server(partial(Served, server), "127.0.0.1", port, backlog=4096)
    say("ready")
    while (line := await loop.run_in_executor(None, sys.stdin.readline)).strip():
        told = json.loads(line)
        if "books" in told:
            write(told["books"], books.made)
            say(json.dumps({"taken": [server.taken for server in servers]}))
        else:
            loop.call_later(max(0.0, told["at"] - time.monotonic()), apply, servers, told)
    os._exit(0)  # thousands of connections are open: nobody waits for them


def write(file: str, words: Any) -> None:
    Path(file).write_text(json.dumps(words))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
