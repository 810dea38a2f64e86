"""Keep-alive clients that ask for one page as fast as it comes; prints answers a second."""

import asyncio
import sys
import time
from typing import cast

HEAD = (
    b"GET /page HTTP/1.1\r\nHost: shop.example\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.5\r\n"
    b"Connection: keep-alive\r\n\r\n"
)
BODY_BYTES = 4096


class Client(asyncio.Protocol):
    done = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._data = b""
        self._ask()

    def _ask(self) -> None:
        self._transport.write(HEAD)

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end >= 0 and len(self._data) >= end + 4 + BODY_BYTES:
            assert self._data.startswith(b"HTTP/1.1 200 "), self._data[:200]
            self._data = b""
            Client.done += 1
            self._ask()


async def main(port: int, clients: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(clients):
        await loop.create_connection(Client, "127.0.0.1", port)
    await asyncio.sleep(seconds / 3)
    began, before = time.monotonic(), Client.done
    await asyncio.sleep(seconds)
    print(round((Client.done - before) / (time.monotonic() - began), 1), Client.done)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
