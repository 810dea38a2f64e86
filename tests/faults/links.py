"""The ways to a server, so that some of those who use them can be cut off."""

import asyncio
from typing import Self

from middleware.tasks import Tasks

CLOSE_S = 5.0


class Link:
    """Passes bytes to a port and back. Whoever comes from an address that is cut is not heard and
    hears nothing, as where the network loses what is sent; once that is over, it arrives."""

    def __init__(self, target: int = 0) -> None:
        self.target = target
        self.port = 0
        self.failed: list[str] = []
        self._cut: set[str] = set()
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._ways = Tasks(self._failed)

    async def start(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def drop(self) -> None:
        """Every connection ends; new ones are passed on."""
        ways, self._ways = self._ways, Tasks(self._failed)
        await ways.close(CLOSE_S)

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        await self._ways.close(CLOSE_S)
        await self._server.wait_closed()

    async def cut(self, *addresses: str) -> None:
        """From now on, only these; none: all are heard again."""
        async with self._changed:
            self._cut = set(addresses)
            self._changed.notify_all()

    def _failed(self, name: str, error: BaseException) -> None:
        self.failed.append(f"{name}: {error!r}")

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ways.start(self._serve(reader, writer), name="way")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address: str = writer.get_extra_info("peername")[0]
        ends = [writer]
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self.target)
            ends.append(to_server)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(address, reader, to_server))
                both.create_task(self._pass(address, from_server, writer))
        except (OSError, ExceptionGroup):
            pass  # what one end lost, the other loses too
        finally:
            for each in ends:
                each.transport.abort()

    async def _pass(
        self, address: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        while data := await source.read(65536):
            async with self._changed:
                await self._changed.wait_for(lambda: address not in self._cut)
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError
