"""An order's body on its way to the backend is copied once: when it is taken out of what came."""

import asyncio
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import uvloop

from gateway.app import Gateway
from gateway.server.connection import StorefrontConnection
from gateway.settings import load
from tests.edge.stage import CREATED, DEFAULTS, ORDER, PATIENCE_S, TEMPLATE, post

LARGE = 4 * 1024 * 1024
BESIDES_MAX = 0.2
"""What else a body needs, by its size."""


class TakesOrders(asyncio.BufferedProtocol):
    """Keeps nothing of what comes, makes no bytes of it, and answers."""

    buffer = bytearray(65_536)

    def __init__(self) -> None:
        self.left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self.left:
            end = self.buffer.index(b"\r\n\r\n") + 4
            length = self.buffer[:end].lower().split(b"content-length: ")[1].split(b"\r\n")[0]
            self.left = end + int(length)
        self.left -= nbytes
        if not self.left:
            self.transport.write(CREATED)


async def ordered(port: int, request: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(4 * PATIENCE_S):
        writer.write(request)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201 ")
    writer.close()


async def held_by_an_order(port: int, request: bytes) -> int:
    """The most memory that was held at once while it was placed, beyond what was held before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        await ordered(port, request)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def in_chunks(body: bytes, *fields: bytes) -> bytes:
    head = post(b"", *fields).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    pieces = [body[at : at + 8_192] for at in range(0, len(body), 8_192)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces) + b"0\r\n\r\n"


async def copies_of_a_body(
    folder: Path, framed: Callable[..., bytes], size: int, came: list[bytes]
) -> float:
    backend = await asyncio.get_running_loop().create_server(TakesOrders, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{backend.sockets[0].getsockname()[1]}"
    sections = {**DEFAULTS, "order": f"{ORDER}\nbody_bytes_max = {LARGE}"}
    file = folder / "gateway.toml"
    file.write_text(TEMPLATE.format(url=url, **sections))
    order, another, small = [
        framed(byte * each, b"Authorization: me")
        for byte, each in ((b"\xff", size), (b"\xfe", size), (b"x", 1))
    ]
    gateway = Gateway(load(file, {}))
    await gateway.start()
    try:
        port = gateway.storefront_address[1]
        await ordered(port, another)  # what is made once for all orders
        without_body = await held_by_an_order(port, small)
        came.clear()
        held = await held_by_an_order(port, order)
    finally:
        await gateway.stop(0.2)
        backend.close()
    assert sum(map(len, came)) == len(order)
    return (held - without_body - len(order)) / size


@pytest.mark.parametrize("size", [60_000, 200_000, 1_048_576, LARGE])
@pytest.mark.parametrize(("framed", "times"), [(post, 1), (in_chunks, 2)], ids=["length", "chunks"])
def test_the_body_of_an_order_is_copied_once_and_chunks_are_decoded_before(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    framed: Callable[..., bytes],
    times: int,
    size: int,
) -> None:
    """What came from the socket is kept here, so that every copy of it is beside it, and the first
    copy is beside every further one, since the order's entry holds it. On uvloop: asyncio's own
    loop copies what it is given to write (Python 3.11)."""
    came: list[bytes] = []
    receive = StorefrontConnection.data_received

    def keep(self: StorefrontConnection, data: bytes) -> None:
        came.append(data)
        receive(self, data)

    monkeypatch.setattr(StorefrontConnection, "data_received", keep)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        copies = runner.run(copies_of_a_body(tmp_path, framed, size, came))
    print(f"{size} bytes in {len(came)} pieces: {copies:.2f} copies")
    assert copies < times + BESIDES_MAX
