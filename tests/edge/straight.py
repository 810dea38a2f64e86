"""A gateway with an idle connection to its backend, and what goes straight over it."""

import asyncio
import contextlib
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.api.straight import Course
from gateway.api.straight_orders import HandedOver, OrderCourse
from tests.edge.stage import (
    OK,
    PATIENCE_S,
    Client,
    Line,
    Serve,
    Stage,
    get,
    post,
    staged,
)

Fates = Counter[str]

CAME, WENT_ON = "came", "goes_on"
STRAIGHT, ORDER_WENT_ON, HANDED = "straight", "went on", "handed over"
READ = get(b"/catalog?page=1", b"Accept: */*")


def watch_fates(monkeypatch: pytest.MonkeyPatch) -> Fates:
    """How the requests that went straight ended: with their answer, or in the handler."""
    counts: Fates = Counter()

    def watch(fate: str) -> None:
        was: Callable[..., None] = getattr(Course, fate)

        def noted(self: Course, *told: object) -> None:
            counts[fate] += 1
            was(self, *told)

        monkeypatch.setattr(Course, fate, noted)

    watch(CAME)
    watch(WENT_ON)
    return counts


def watch_orders(monkeypatch: pytest.MonkeyPatch) -> Fates:
    """The same of submissions to order routes."""
    counts: Fates = Counter()

    def watch(course: type[Any], method: str, way: str) -> None:
        was = getattr(course, method)

        def noted(self: object, *told: Any) -> None:
            counts[way] += 1
            was(self, *told)

        monkeypatch.setattr(course, method, noted)

    watch(OrderCourse, "_came", STRAIGHT)
    watch(OrderCourse, "_go_on", ORDER_WENT_ON)
    watch(HandedOver, "_go_on", HANDED)
    return counts


async def keep(line: Line) -> None:
    while await line.request() is not None:
        await line.send(OK)


@dataclass
class Held:
    """A backend that answers when it is told to."""

    answer: bytes = OK
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, line: Line) -> None:
        while await line.request() is not None:
            self.asked.set()
            await self.go.wait()
            await line.send(self.answer)


@contextlib.asynccontextmanager
async def warm(folder: Path, serve: Serve = keep, *, limits: str = "") -> AsyncIterator[Stage]:
    """A gateway with an idle connection, whose next request is the first that ``serve`` has."""

    async def begun(line: Line) -> None:
        if stage.backend.lines[0] is line:
            await line.request()
            await line.send(OK)
        await serve(line)

    async with staged(folder, begun, limits=limits) as stage:
        await stage.says(get(b"/warm"))
        yield stage


async def one(client: Client) -> tuple[bytes, bytes]:
    """One answer's head and body."""
    async with asyncio.timeout(PATIENCE_S):
        head = await client.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\n[Cc]ontent-[Ll]ength: ([0-9]+)\r\n", head)
        return head, await client.reader.readexactly(int(length[1]) if length else 0)


def status_of(head: bytes) -> int:
    return int(head.split(b" ")[1])


def reset(client: Client) -> None:
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


def at_work(stage: Stage) -> tuple[int, int]:
    return stage.gateway.storefront.requests, stage.gateway.admission.running


def nothing_in_use(stage: Stage) -> bool:
    return stage.gateway.upstreams["backend"].stats.in_use == 0


def answered(stage: Stage, code: str) -> float:
    labels = {"kind": "plain", "code": code}
    registry = stage.gateway.telemetry.registry
    return registry.get_sample_value("ordergate_requests_total", labels) or 0.0


# --- orders ----------------------------------------------------------------------------------

PLACED = "ordergate_submissions_total [('fate', 'settled')]"
REFUSED = "ordergate_submissions_total [('fate', 'refused_by_ledger')]"
TOLD_5XX = "ordergate_requests_total [('code', '5xx'), ('kind', 'order')]"
SETTLED = "ordergate_attempts_total [('result', 'answered')]"

ME = b"Authorization: me"
BODY = b'{"sku":1}'


def order(number: int, *fields: bytes, body: bytes = BODY) -> bytes:
    return post(body, ME, b"Idempotency-Key: key-%d" % number, *fields)


async def place(stage: Stage, ask: bytes, ways: int = 2) -> list[bytes]:
    """What is told, with what differs each time left out: straight, then by the handler."""
    told = []
    for _ in range(ways):
        async with stage.connect() as client:
            await client.send(ask)
            told.append(plain(b"".join(await one(client))))
            await client.send(get(b"/_gateway/problems/", b"Connection: close"))
            assert status_of((await client.rest())[0]) == 404
        stage.gateway.storefront.go_straight = None
        ask = re.sub(rb"(?<=Key: key)-", b"-other-", ask)
    return told


def plain(raw: bytes) -> bytes:
    names = rb"(Request-Id|Date|Idempotency-Key|Idempotency-Expires|Gateway-Order|Location)"
    raw = re.sub(names + rb": [^\r]*", rb"\1: *", raw)
    return re.sub(rb"[0-9a-f]{32}|(?<![\w-])[\w-]{28}(?![\w-])", b"*", raw)


def counted(stage: Stage) -> Counter[str]:
    """Every counter that speaks of requests, orders and attempts."""
    found: Counter[str] = Counter()
    for metric in stage.gateway.telemetry.registry.collect():
        for sample in metric.samples:
            if sample.name.endswith(("_total", "_count")):
                found[f"{sample.name} {sorted(sample.labels.items())}"] = int(sample.value)
    return found
