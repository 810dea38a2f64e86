"""What open long-polls cost: ``./run bench long_polls``, one JSON object on stdout.

One gateway (one worker, on one core) holds ``--polls`` open requests with ``Prefer: wait=30`` on
the status of ``--orders`` orders in doubt. Memory and CPU are read from /proc: before, while they
are opened, while nothing happens, and while half of the orders are settled by this gateway and
half by another process on the same ledger file. ``woken_ms`` is from the settling's answer (0 if
the poll was first) to the poll's.
"""

import argparse
import asyncio
import contextlib
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.pinned import SERVER_CORE, cpu_s, free_ports, running, wait_for

OTHERS_CORE = 1
WAIT_S = 30
OPENERS = 50
IDLE_S = 5.0

CONFIG = """
[listen]
address = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
drain_s = 1
[ledger]
url = "sqlite:///ledger.db"
[[upstreams]]
name = "backend"
urls = ["http://127.0.0.1:{backend}"]
[[routes]]
name = "place-order"
match = "POST /orders"
kind = "order"
upstream = "backend"
capability = "lookup"
lookup = "GET /orders?idempotency_key={{key}}"
scope = ["header:Authorization"]
scope_is_static = true
answer_within_s = 0.5
[limits]
waits_max = 20000
connections_max = 20000
connections_per_address_max = 20000
[log]
level = "error"
"""


async def backend(port: int) -> asyncio.Server:
    """Takes an order and closes without a word; lookups of it get 500, so it stays in doubt."""
    known: set[bytes] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET"):
                key = head.split(b" ", 2)[1].rpartition(b"=")[2]
                status = b"500" if key in known else b"404"
                fields = b"Content-Length: 0\r\nConnection: close"
                writer.write(b"HTTP/1.1 %s X\r\n%s\r\n\r\n" % (status, fields))
                await writer.drain()
            else:
                known.add(head.lower().partition(b"idempotency-key: ")[2].split(b"\r\n")[0])
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", port)


def rss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


async def ask(port: int, method: str, path: str, body: bytes = b"", *fields: str) -> Any:
    """One request on a connection of its own; the parsed JSON body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"{method} {path} HTTP/1.1", "Host: shop", f"Content-Length: {len(body)}"]
    lines += ["Content-Type: application/json", "Connection: close", *fields]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    try:
        raw = await reader.read()
    finally:
        writer.close()
    return json.loads(raw.partition(b"\r\n\r\n")[2])


class Poll(asyncio.Protocol):
    """One open long-poll, with as little of our own around it as can be."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.answered_at = 0.0
        self.status = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        head = f"GET /_gateway/orders/{self.order} HTTP/1.1\r\nHost: shop\r\n"
        transport.write(f"{head}Prefer: wait={WAIT_S}\r\nConnection: close\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        if not self.answered_at:
            self.answered_at = time.monotonic()
            self.status = data.split(b" ", 2)[1]

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def in_batches(count: int, make: Any) -> list[Any]:
    """``make(number)`` for each number, so many at once as a busy shop has."""
    turns = asyncio.Semaphore(OPENERS)

    async def one(number: int) -> Any:
        async with turns:
            return await make(number)

    return list(await asyncio.gather(*(one(number) for number in range(count))))


class Measure:
    """CPU seconds and resident memory of the gateway, by phase."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.phases: dict[str, dict[str, float]] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began, cpu = time.monotonic(), cpu_s(self._pid)
        yield
        self.phases[name] = {
            "seconds": round(time.monotonic() - began, 2),
            "cpu_s": round(cpu_s(self._pid) - cpu, 2),
            "rss_mib": round(rss_kib(self._pid) / 1024, 1),
        }


async def measure(
    options: argparse.Namespace, pid: int, own: tuple[int, int], other: tuple[int, int], token: str
) -> dict[str, Any]:
    (port, admin), (_, other_admin) = own, other
    bearer = f"Authorization: Bearer {token}"
    figures = Measure(pid)
    loop = asyncio.get_running_loop()

    async def place(number: int) -> str:
        fields = (f"Idempotency-Key: k-{number:030}", "Authorization: Bearer ann")
        told = await ask(port, "POST", "/orders", b'{"sku": 1}', *fields)
        return str(told["id"])

    with figures.phase("orders placed"):
        orders = await in_batches(options.orders, place)
    with figures.phase("idle without polls"):
        await asyncio.sleep(IDLE_S)

    async def open_poll(number: int) -> Poll:
        poll = Poll(orders[number % len(orders)])
        await loop.create_connection(lambda: poll, "127.0.0.1", port)
        return poll

    with figures.phase("polls opened"):
        polls = await in_batches(options.polls, open_poll)
        await ask(port, "GET", f"/_gateway/orders/{orders[0]}")  # behind all of them
    with figures.phase("idle with polls"):
        await asyncio.sleep(IDLE_S)
    early = sum(poll.done.done() for poll in polls)

    settled_at: dict[str, float] = {}

    async def settle(number: int) -> None:
        word = {"operator": "bench", "nonce": "n", "reason": "bench", "outcome": "confirmed"}
        path = f"/admin/orders/{orders[number]}/resolve"
        to = admin if number % 2 else other_admin
        await ask(to, "POST", path, json.dumps(word).encode(), bearer)
        settled_at[orders[number]] = time.monotonic()

    with figures.phase("settled and woken"):
        await in_batches(len(orders), settle)
        await asyncio.wait_for(asyncio.gather(*(poll.done for poll in polls)), WAIT_S)
    by_other = set(orders[::2])
    late: dict[bool, list[float]] = {True: [], False: []}
    for poll in polls:
        waited = max(0.0, poll.answered_at - settled_at[poll.order]) * 1000
        late[poll.order in by_other].append(waited)
    open_kib = figures.phases["idle with polls"]["rss_mib"]
    before_kib = figures.phases["idle without polls"]["rss_mib"]
    return {
        "polls": len(polls),
        "orders": len(orders),
        "answered_early": early,
        "answered_200": sum(poll.status == b"200" for poll in polls),
        "kib_per_poll": round((open_kib - before_kib) * 1024 / len(polls), 1),
        "phases": figures.phases,
        "woken_ms": {
            name: {"p50": round(statistics.median(ms), 1), "max": round(max(ms), 1)}
            for name, ms in (("by this process", late[False]), ("by another", late[True]))
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polls", type=int, default=10_000)
    parser.add_argument("--orders", type=int, default=1_000)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the gateways inherit it
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
        ports = free_ports(5)
        commands = []
        for number, (port, admin) in enumerate((ports[0:2], ports[2:4])):
            file = Path(folder) / f"{number}.toml"
            file.write_text(CONFIG.format(port=port, admin=admin, backend=ports[4]))
            commands.append([sys.executable, "-m", "gateway", "serve", "--config", str(file)])
        with running(commands[0], SERVER_CORE) as gateway:
            wait_for(ports[1])
            token = (Path(folder) / "ledger.db.admin-token").read_text().strip()
            with running(commands[1], OTHERS_CORE):
                wait_for(ports[3])
                figures = asyncio.run(_run(options, gateway.pid, ports, token))
    print(json.dumps(figures))


async def _run(
    options: argparse.Namespace, pid: int, ports: list[int], token: str
) -> dict[str, Any]:
    server = await backend(ports[4])
    own, other = (ports[0], ports[1]), (ports[2], ports[3])
    try:
        return await measure(options, pid, own, other, token)
    finally:
        server.close()


if __name__ == "__main__":
    main()
