"""The simulated network: names, order, partitions, aiohttp on top, and one seed one history."""

import asyncio
import gc

import pytest
from aiohttp import web

from .network import Conditions
from .talking import ask, echo, pair, serve, until_listening
from .world import Crash, World


@pytest.mark.parametrize("seed", range(20))
def test_bytes_keep_their_order_whatever_the_delays(seed: int) -> None:
    world = World(seed, conditions=Conditions((0, 1), 0.3, 5, 0.9))
    client, server = pair(world)
    text = b"".join(b"%d\n" % number for number in range(200))

    async def story() -> bytes:
        world.spawn(server, serve(echo))
        await until_listening(world)
        return await world.spawn(client, ask("server", text))

    assert world.run(story()) == text


def test_names_addresses_and_localhost_reach_the_same_server() -> None:
    world = World(1)
    _, server = pair(world)

    async def three() -> list[bytes]:
        return [await ask(name, b"x\n") for name in ("server", server.address, "localhost")]

    async def story() -> list[bytes]:
        world.spawn(server, serve(echo))
        await until_listening(world)
        return await world.spawn(server, three())

    assert world.run(story()) == [b"x\n"] * 3


def test_an_alias_is_one_of_its_hosts_dead_ones_too() -> None:
    world = World(1)
    client, server = pair(world)
    world.host("dead")
    world.network.alias("door", ["server", "dead"])
    told: list[str] = []

    async def knock() -> None:
        for _ in range(20):
            try:
                told.append((await ask("door", b"x\n")).decode())
            except ConnectionRefusedError:
                told.append("refused")

    async def story() -> None:
        world.spawn(server, serve(echo))
        await until_listening(world)
        await world.spawn(client, knock())

    world.run(story())
    assert set(told) == {"x\n", "refused"}


def test_nobody_listening_refuses_and_an_unknown_name_is_not_resolved() -> None:
    world = World(1)
    client, _ = pair(world)

    async def story() -> None:
        with pytest.raises(ConnectionRefusedError):
            await world.spawn(client, ask("server", b""))
        with pytest.raises(OSError, match="no simulated host"):
            await world.spawn(client, ask("nowhere", b""))

    world.run(story())


def test_a_port_in_use_cannot_be_taken_again() -> None:
    world = World(1)
    _, server = pair(world)

    async def twice() -> None:
        async with await asyncio.start_server(echo, None, 80):
            with pytest.raises(OSError, match="in use"):
                await asyncio.start_server(echo, None, 80)
        async with await asyncio.start_server(echo, None, 80) as again:
            assert again.sockets[0].getsockname() == (server.address, 80)

    async def story() -> None:
        await world.spawn(server, twice())

    world.run(story())


def test_a_connect_into_a_partition_waits_and_succeeds_after_the_heal() -> None:
    world = World(1)
    client, server = pair(world)

    async def impatient() -> str:
        try:
            async with asyncio.timeout(5):
                await ask("server", b"x\n")
        except TimeoutError:
            return "timeout"
        return "answer"

    async def story() -> None:
        world.spawn(server, serve(echo))
        await until_listening(world)
        world.partition(client, server)
        assert await world.spawn(client, impatient()) == "timeout"
        patient = world.spawn(client, ask("server", b"x\n"))
        await asyncio.sleep(20)
        world.heal(client, server)
        assert await patient == b"x\n"
        assert world.loop.time() < 26

    world.run(story())


def test_a_connect_without_any_answer_ends_as_the_kernel_would() -> None:
    world = World(1)
    client, server = pair(world)

    async def story() -> None:
        world.partition(client, server)
        with pytest.raises(TimeoutError, match="Connection timed out"):
            await world.spawn(client, ask("server", b""))
        assert world.loop.time() == 127

    world.run(story())


def test_a_partition_holds_bytes_and_the_heal_delivers_them() -> None:
    world = World(1)
    client, server = pair(world)

    async def talk() -> tuple[float, bytes]:
        reader, writer = await asyncio.open_connection("server", 80)
        world.cut(server, client)
        writer.write(b"one\n")
        answer = await reader.readline()
        writer.close()
        return world.loop.time(), answer

    async def story() -> None:
        world.spawn(server, serve(echo))
        await until_listening(world)
        told = world.spawn(client, talk())
        await asyncio.sleep(30)
        world.heal()
        at, answer = await told
        assert answer == b"one\n"
        assert 30 < at < 31

    world.run(story())


async def hello(request: web.BaseRequest) -> web.StreamResponse:
    body = await request.read()
    await asyncio.sleep(0.5)
    assert request.remote is not None
    return web.Response(text=f"{request.method} {request.path} {len(body)}")


async def aiohttp_server() -> None:
    server = web.Server(hello)
    listener = await asyncio.get_running_loop().create_server(server, "0.0.0.0", 80)
    await listener.serve_forever()


async def post(size: int) -> bytes:
    reader, writer = await asyncio.open_connection("server", 80)
    try:
        head = b"POST /orders HTTP/1.1\r\nHost: server\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % size + b"x" * size)
        await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in answer.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        return answer.split(b"\r\n")[0] + b" " + await reader.readexactly(length)
    finally:
        writer.close()


@pytest.mark.parametrize("size", [0, 10, 500_000])
def test_aiohttp_serves_on_the_simulated_network(size: int) -> None:
    world = World(1)
    client, server = pair(world)

    async def story() -> bytes:
        world.spawn(server, aiohttp_server())
        await until_listening(world)
        return await world.spawn(client, post(size))

    assert world.run(story()) == b"HTTP/1.1 200 OK POST /orders %d" % size
    gc.collect()


def storm(seed: int) -> str:
    """A small history with everything in it; returns its digest."""
    world = World(seed)
    server = world.host("server")
    clients = [world.host(f"client-{number}") for number in range(5)]
    chance = world.chance("storm")

    async def shop() -> None:
        for _ in range(5):
            await asyncio.sleep(chance.uniform(0, 1))
            try:
                async with asyncio.timeout(2):
                    world.record((await post(chance.randrange(10_000))).decode())
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                world.record(type(error).__name__)

    async def story() -> None:
        world.spawn(server, aiohttp_server())
        await until_listening(world)
        shopping = [world.spawn(client, shop()) for client in clients]
        await asyncio.sleep(chance.uniform(0, 2))
        world.partition(clients[0], server)
        await asyncio.sleep(chance.uniform(0, 2))
        world.crash(server, chance.choice(list(Crash)))
        await asyncio.sleep(chance.uniform(0, 2))
        world.spawn(server, aiohttp_server())
        world.heal()
        await asyncio.gather(*shopping)

    world.run(story())
    return world.digest()


def test_one_seed_is_one_history() -> None:
    first = [storm(seed) for seed in range(5)]
    assert [storm(seed) for seed in range(5)] == first
    assert len(set(first)) == 5
