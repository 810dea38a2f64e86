"""An upstream in a process of its own that closes idle connections when it likes."""

import asyncio
import random
import sys

ANSWER = b'HTTP/1.1 201 Created\r\nContent-Length: 8\r\n\r\n{"id":1}'


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            async with asyncio.timeout(random.uniform(0.05, 0.6)):
                await reader.readuntil(b"}")
            writer.write(ANSWER)
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
