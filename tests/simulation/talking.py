"""Who talks to whom, in tests of the simulated network."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from .network import Conditions
from .world import Host, World

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CALM = Conditions(spike_share=0.0, split_share=0.0)
RUDE = Conditions(split_share=0.9, unread_lost_share=1.0)


async def serve(handler: Handler, port: int = 80) -> None:
    server = await asyncio.start_server(handler, None, port)
    await server.serve_forever()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionResetError):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    writer.close()


async def ask(host: str, text: bytes, port: int = 80) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(text)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()


def pair(world: World) -> tuple[Host, Host]:
    return world.host("client"), world.host("server")


async def until_listening(world: World) -> None:
    while not any("listens" in text for _, _, text in world.trace):  # noqa: ASYNC110 - turns
        await asyncio.sleep(0)
