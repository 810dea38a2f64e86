"""The server in the deterministic simulation: virtual time, simulated sockets."""

import asyncio
from typing import Any

from aiohttp import web

from gateway.server import RawResponse, ServerLimits, StorefrontServer, read_body
from tests.simulation.world import World

ORDER = b"POST /orders HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"


def test_orders_and_slow_headers_are_answered_in_virtual_time() -> None:
    world = World(seed=7)
    gateway, client = world.host("gateway"), world.host("client")

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        body = await read_body(request, body_bytes_max=10, deadline_s=60.0)
        return RawResponse(201, ((b"X-Raw", b"\xff"),), body)

    async def serve(ready: asyncio.Event) -> None:
        server = StorefrontServer(
            handler,
            limits=ServerLimits(),
            make_id=lambda: "id",
            clock=gateway.clock,
            event=lambda name, **fields: None,
        )
        await server.start("gateway", 80)
        ready.set()
        await asyncio.sleep(100)
        await server.drain(5.0)

    async def ask(data: bytes) -> tuple[bytes, float]:
        reader, writer = await asyncio.open_connection("gateway", 80)
        writer.write(data)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return head, asyncio.get_running_loop().time()

    async def story() -> Any:
        ready = asyncio.Event()
        serving = world.spawn(gateway, serve(ready))
        await ready.wait()
        answer, _ = await world.spawn(client, ask(ORDER + b"hello"))
        late, at = await world.spawn(client, ask(ORDER[:20]))
        await serving
        return answer, late, at

    answer, late, at = world.run(story())
    assert answer.startswith(b"HTTP/1.1 201 Created\r\nX-Raw: \xff\r\nDate: ")
    assert late.startswith(b"HTTP/1.1 408 ")
    assert 10.0 < at < 12.0
