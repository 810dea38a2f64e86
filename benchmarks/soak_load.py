"""The soak's other core: a backend, and clients that order, read, leave and come back.

Prints one JSON line every two seconds: requests, requests/s and failures since the last.
"""

import asyncio
import json
import random
import sys
import time

from benchmarks.load import BODY, Backend

EVERY_S = 2.0


class Tally:
    def __init__(self) -> None:
        self.requests = self.failed = 0

    def line(self, took_s: float) -> str:
        told = {"requests": self.requests, "failed": self.failed}
        told["per_s"] = round(self.requests / took_s, 1)  # type: ignore[assignment]
        self.requests = self.failed = 0
        return json.dumps(told) + "\n"


async def one(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random, client: int
) -> bool:
    """A read or an order; whether it was answered as it should be."""
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
    await reader.readexactly(length)
    return head.startswith(b"http/1.1 201")


async def client(port: int, number: int, ends: float, tally: Tally) -> None:
    """Some requests on one connection, then another; one in twenty leaves in the middle."""
    draw = random.Random(number)
    while time.monotonic() < ends:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(draw.randrange(1, 60)):
            if time.monotonic() >= ends:
                break
            tally.failed += not await one(reader, writer, draw, number)
            tally.requests += 1
        if draw.random() < 0.05:
            writer.write(b"POST /orders HTTP/1.1\r\nHost: shop\r\nContent-Length: 99\r\n\r\n{")
            await asyncio.sleep(0)
            writer.transport.abort()
        else:
            writer.close()


async def report(ends: float, tally: Tally) -> None:
    last = time.monotonic()
    while last < ends:
        await asyncio.sleep(EVERY_S)
        now = time.monotonic()
        sys.stdout.write(tally.line(now - last))
        sys.stdout.flush()
        last = now


async def main(port: int, backend_port: int, clients: int, seconds: float) -> None:
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", backend_port)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    ends, tally = time.monotonic() + seconds, Tally()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(report(ends, tally))
        for each in range(clients):
            tasks.create_task(client(port, each, ends, tally))
    server.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
