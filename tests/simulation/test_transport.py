"""Connections of the simulated network: how they end, what is unread, and who is held back."""

import asyncio

import pytest

from .network import Conditions, readable
from .talking import RUDE, ask, echo, pair, serve, until_listening
from .world import Crash, Crashed, World


def test_input_that_the_process_has_not_read_can_be_seen() -> None:
    world = World(1)
    client, server = pair(world)

    async def talk() -> list[bool]:
        reader, writer = await asyncio.open_connection("server", 80)
        seen = [readable(writer.transport)()]
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"x\n")
        await asyncio.sleep(1)
        seen.append(readable(writer.transport)())
        writer.close()
        return seen

    async def story() -> list[bool]:
        world.spawn(server, serve(echo))
        await until_listening(world)
        return await world.spawn(client, talk())

    assert world.run(story()) == [False, True]


def test_a_sender_gives_up_on_a_partition_that_never_heals() -> None:
    world = World(1, conditions=Conditions(give_up_s=60))
    client, server = pair(world)

    async def talk() -> None:
        reader, writer = await asyncio.open_connection("server", 80)
        world.partition(client, server)
        writer.write(b"one\n")
        try:
            await reader.readline()
        finally:
            writer.close()

    async def story() -> None:
        world.spawn(server, serve(echo))
        await until_listening(world)
        with pytest.raises(TimeoutError, match="Connection timed out"):
            await world.spawn(client, talk())
        assert 60 < world.loop.time() < 61

    world.run(story())


def test_abort_resets_the_peer_which_may_lose_what_it_has_not_read() -> None:
    world = World(1, conditions=RUDE)
    client, server = pair(world)

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"an answer that nobody reads in time\n")
        writer.transport.abort()

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection("server", 80)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"x\n")
        await asyncio.sleep(1)
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        try:
            return await reader.readline()
        finally:
            writer.close()

    async def story() -> None:
        world.spawn(server, serve(rude))
        await until_listening(world)
        with pytest.raises(ConnectionResetError):
            await world.spawn(client, talk())

    world.run(story())


def test_half_closing_leaves_the_other_direction_open() -> None:
    world = World(1)
    client, server = pair(world)

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.read()
        await asyncio.sleep(5)
        writer.write(question.upper())
        writer.close()

    async def story() -> bytes:
        world.spawn(server, serve(slow))
        await until_listening(world)
        return await world.spawn(client, ask("server", b"abc"))

    assert world.run(story()) == b"ABC"


def test_a_reader_that_stops_holds_the_writer_back() -> None:
    world = World(1)
    client, server = pair(world)
    size = 1_000_000
    sent: list[int] = []

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _chunk in range(size // 10_000):
            writer.write(b"x" * 10_000)
            sent.append(10_000)
            await writer.drain()
        writer.close()

    async def lazy() -> tuple[int, int]:
        reader, writer = await asyncio.open_connection("server", 80, limit=1000)
        await asyncio.sleep(100)
        before = sum(sent)
        received = 0
        while piece := await reader.read(5000):
            received += len(piece)
        writer.close()
        return before, received

    async def story() -> None:
        world.spawn(server, serve(flood))
        await until_listening(world)
        before, received = await world.spawn(client, lazy())
        assert before < 300_000
        assert received == size

    world.run(story())


@pytest.mark.parametrize("how", list(Crash))
def test_a_crash_in_the_middle_of_a_request_is_seen_by_the_client(how: Crash) -> None:
    world = World(1, conditions=Conditions(give_up_s=30))
    client, server = pair(world)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        world.record("request read")
        try:
            await asyncio.sleep(3600)
        finally:
            writer.write(b"from the dead\n")

    async def talk() -> str:
        reader, writer = await asyncio.open_connection("server", 80)
        writer.write(b"x\n")
        try:
            while True:
                async with asyncio.timeout(5):
                    if not await reader.readline():
                        return "end of input"
        except TimeoutError:
            writer.write(b"still there?\n")
            try:
                return (await reader.readline()).decode()
            except OSError as error:
                return type(error).__name__
        finally:
            writer.close()

    async def story() -> str:
        world.spawn(server, serve(hang))
        await until_listening(world)
        told = world.spawn(client, talk())
        await asyncio.sleep(1)
        world.crash(server, how)
        return await told

    expected = {Crash.KILLED: "end of input", Crash.POWER: "TimeoutError"}
    assert world.run(story()) == expected[how]


def test_a_restarted_host_resets_connections_of_its_earlier_life() -> None:
    world = World(1)
    client, server = pair(world)

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection("server", 80)
        writer.write(b"one\n")
        await reader.readline()
        await asyncio.sleep(10)
        writer.write(b"two\n")
        try:
            return await reader.readline()
        finally:
            writer.close()

    async def story() -> None:
        done = world.spawn(server, serve(echo))
        await until_listening(world)
        told = world.spawn(client, talk())
        await asyncio.sleep(5)
        world.crash(server, Crash.POWER)
        with pytest.raises(Crashed):
            await done
        world.restart(server, serve(echo))
        with pytest.raises(ConnectionResetError):
            await told
        assert await world.spawn(client, ask("server", b"three\n")) == b"three\n"

    world.run(story())


def test_a_pause_longer_than_a_timeout_still_answers_late() -> None:
    world = World(1)
    client, server = pair(world)

    async def talk() -> list[str]:
        reader, writer = await asyncio.open_connection("server", 80)
        writer.write(b"one\n")
        told = []
        try:
            async with asyncio.timeout(5):
                await reader.readline()
        except TimeoutError:
            told.append("timeout")
        told.append((await reader.readline()).decode())
        writer.close()
        return told

    async def story() -> list[str]:
        world.spawn(server, serve(echo))
        await until_listening(world)
        world.pause(server)
        told = world.spawn(client, talk())
        await asyncio.sleep(20)
        world.resume(server)
        return await told

    assert world.run(story()) == ["timeout", "one\n"]
