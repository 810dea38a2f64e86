"""The soak's other core: a backend, and clients that order, read, leave and come back.

Reads lines ``CLIENTS SECONDS``; for each, prints a JSON line every two seconds (what was answered,
a second too, refused for load with 503, and failed since the last), then an empty object.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter

import uvloop

from benchmarks.load import BODY, Backend

EVERY_S = 2.0


class Tally:
    def __init__(self) -> None:
        self.counts = Counter[str]()

    def line(self, took_s: float) -> str:
        told = {fate: self.counts[fate] for fate in ("answered", "refused", "failed")}
        per_s = round(self.counts["answered"] / took_s, 1)
        self.counts.clear()
        return json.dumps({**told, "per_s": per_s}) + "\n"


async def one(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random, client: int
) -> str:
    """What becomes of a read or an order."""
    if draw.random() < 0.5:
        writer.write(b"GET /catalog/%d HTTP/1.1\r\nHost: shop\r\n\r\n" % draw.randrange(1_000))
    else:
        writer.write(
            b"POST /orders HTTP/1.1\r\nHost: shop\r\nAuthorization: c%d-%d\r\n"
            b"Idempotency-Key: %032x\r\nContent-Length: %d\r\n\r\n%b"
            % (client, draw.randrange(50), draw.getrandbits(128), len(BODY), BODY)
        )
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    if head.startswith(b"http/1.1 201"):
        return "answered"
    return "refused" if head.startswith(b"http/1.1 503") and b"/overloaded" in body else "failed"


async def client(port: int, seed: int, ends: float, tally: Tally) -> None:
    """Some requests on one connection, then another; one in twenty leaves in the middle."""
    draw = random.Random(seed)
    while time.monotonic() < ends:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(draw.randrange(1, 60)):
            if time.monotonic() >= ends:
                break
            tally.counts[await one(reader, writer, draw, seed % 1_000)] += 1
        if draw.random() < 0.05:
            writer.write(b"POST /orders HTTP/1.1\r\nHost: shop\r\nContent-Length: 99\r\n\r\n{")
            await asyncio.sleep(0)
            writer.transport.abort()
        else:
            writer.close()


async def report(ends: float, tally: Tally) -> None:
    last = time.monotonic()
    while ends - last > EVERY_S / 2:
        await asyncio.sleep(EVERY_S)
        now = time.monotonic()
        say(tally.line(now - last))
        last = now


def say(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


async def main(port: int, backend_port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", backend_port)
    say("ready\n")
    round_nr = 0
    while line := await asyncio.to_thread(sys.stdin.readline):
        clients, seconds = int(line.split()[0]), float(line.split()[1])
        ends, tally = time.monotonic() + seconds, Tally()
        round_nr += 1
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(report(ends, tally))
            for each in range(clients):
                tasks.create_task(client(port, round_nr * 1_000 + each, ends, tally))
        say("{}\n")
    server.close()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
