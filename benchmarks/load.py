"""The other core: an order backend and as many clients as wanted, on bare asyncio protocols.

Prints one JSON line: requests/s, and the latencies in milliseconds.
"""

import asyncio
import json
import sys
import time
from typing import cast

BODY = b'{"customer":"anna","items":[' + b'{"sku":"4711","quantity":1,"note":"xxxxxxxxxxxx"},' * 19
BODY += b'{"sku":"4712","quantity":2,"note":"yyyyyyyyyyyy"}]}'
ANSWER = b'{"id":"o-12345","status":"confirmed"}'
REPLY = (
    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    % len(ANSWER)
) + ANSWER


class Backend(asyncio.Protocol):
    """Answers each request at once; reads no more of it than its length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            mark = head.find(b"content-length:")
            length = int(head[mark + 15 :].split(b"\r\n", 1)[0]) if mark >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._transport.write(REPLY)


async def client(port: int, number: int, ends: float, took: list[float]) -> None:
    """One order after the other on one connection, each under a key of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    nth = 0
    while (began := time.perf_counter()) < ends:
        nth += 1
        writer.write(
            b"POST /orders HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer c%d\r\n"
            b"Idempotency-Key: %d-%d-%d\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (number, time.time_ns(), number, nth, len(BODY), BODY)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 201"):
            raise SystemExit(f"not taken: {head!r}")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        took.append(time.perf_counter() - began)
    writer.close()


async def main(port: int, backend_port: int, clients: int, seconds: float) -> None:
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", backend_port)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in iter(sys.stdin.readline, ""):
        if line.strip() != "go":
            break
        took: list[float] = []
        began = time.perf_counter()
        ends = began + seconds
        await asyncio.gather(*(client(port, each, ends, took) for each in range(clients)))
        took.sort()
        result = {
            "requests": len(took),
            "per_s": round(len(took) / (time.perf_counter() - began), 1),
            "p50_ms": round(took[len(took) // 2] * 1000, 2),
            "p99_ms": round(took[len(took) * 99 // 100] * 1000, 2),
        }
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
    server.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
