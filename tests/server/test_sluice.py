"""What waits for the next turn of the loop, and that nothing of it is lost."""

import asyncio
import socket
import struct

import pytest
from aiohttp import web

from gateway.server import RawResponse, raw_target
from gateway.server.sluice import READS_MAX, Sluice
from middleware.messages import RawHeaders
from tests.edge.stage import eventually
from tests.server.serving import Storefront, get, post, serving


class Reader:
    """A connection that notes in which turn of the loop it was read, and has more at once."""

    def __init__(self, sluice: Sluice, turns: list[int], *, again: bool = False) -> None:
        self.sluice = sluice
        self.turns = turns
        self.again = again

    def read_on(self) -> None:
        self.turns[-1] += 1
        if self.again:
            self.sluice.holds(self)


def nothing_fails(error: Exception) -> None:
    raise error


async def turn(turns: list[int]) -> None:
    turns.append(0)
    await asyncio.sleep(0)


async def test_in_one_turn_only_so_many_are_read_however_many_are_readable() -> None:
    sluice = Sluice(lambda: False, nothing_fails)
    turns = [0]
    readers = [Reader(sluice, turns) for _ in range(3 * READS_MAX)]
    held = [each for each in readers if sluice.holds(each)]
    assert len(held) == 2 * READS_MAX
    for _ in range(4):
        await turn(turns)
    assert max(turns) <= READS_MAX
    assert sum(turns) == len(held)


async def test_who_asks_again_at_once_goes_behind_the_others_and_the_loop_goes_on() -> None:
    sluice = Sluice(lambda: True, nothing_fails)
    turns = [0]
    for _ in range(2 * READS_MAX):
        assert sluice.holds(Reader(sluice, turns, again=True))
    for _ in range(10):
        await turn(turns)  # would never end where all were read until nothing is left
    assert turns[3:10] == [READS_MAX] * 7


async def test_one_that_breaks_our_code_keeps_nobody_else_from_being_read() -> None:
    class Broken:
        def read_on(self) -> None:
            raise ValueError("broken")

    failed: list[Exception] = []
    sluice = Sluice(lambda: True, failed.append)
    turns = [0]
    for each in (Reader(sluice, turns), Broken(), Reader(sluice, turns)):
        sluice.holds(each)
    await turn(turns)
    assert sum(turns) == 2
    assert [str(error) for error in failed] == ["broken"]


def refuse(_method: bytes, target: bytes, _fields: RawHeaders, _date: object) -> bytes | None:
    if not target.startswith(b"/refused"):
        return None
    return b"HTTP/1.1 503 X\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target)


async def test_a_client_that_ends_its_side_is_still_answered() -> None:
    async with serving() as front, front.connect() as client:
        front.server.sluice.shut = lambda: True
        front.server.turn_off = refuse
        client.writer.write(get(b"/first"))
        client.writer.write_eof()
        assert (await client.answer()).body == b"/first|"
        assert await client.closed() == b""


async def test_a_client_that_ends_in_the_middle_of_a_head_is_let_go() -> None:
    async with serving() as front, front.connect() as client:
        front.server.sluice.shut = lambda: True
        client.writer.write(b"GET /half HTTP/1.1\r\nHo")
        client.writer.write_eof()
        assert await client.closed() == b""


@pytest.mark.parametrize("gone_at", ["before", "while"])
async def test_a_client_that_goes_leaves_nothing_behind(gone_at: str) -> None:
    async with serving() as front:
        front.server.sluice.shut = lambda: True
        front.server.turn_off = refuse
        async with front.connect() as client:
            client.writer.write(get(b"/refused"))
            if gone_at == "while":
                await client.writer.drain()
            client.writer.transport.abort()
        await front.still_serves()


async def test_those_who_leave_before_they_are_looked_at_are_no_failures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.server.sluice.READS_MAX", 1)
    async with serving() as front:
        front.server.sluice.shut = lambda: True
        clients = [await asyncio.open_connection(front.host, front.port) for _ in range(40)]
        await eventually(lambda: front.server.connections == len(clients))
        for _, writer in clients:
            writer.write(post(b"x" * 40))
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        await eventually(lambda: not front.server.connections)
        await front.still_serves()
        assert front.events == []


async def test_refusals_of_many_and_answers_to_others_reach_who_asked() -> None:
    async with serving() as front:
        front.server.sluice.shut = lambda: True
        front.server.turn_off = refuse

        async def one(number: int) -> None:
            async with front.connect() as client:
                for each in range(5):
                    target = b"/refused/%d/%d" % (number, each)
                    await client.send(post(b"x" * 40, target=target))
                    answer = await client.answer()
                    assert (answer.status, answer.body) == (503, target)
                    await client.send(get(b"/served/%d" % number))
                    assert (await client.answer()).body == b"/served/%d|" % number

        await asyncio.gather(*(one(number) for number in range(50)))


LARGE = b"x" * 60_000
FIT_MAX = 16_000_000 // len(LARGE)
"""Answers that the kernel's buffers may take without anybody reading, and some more."""


async def large(request: web.BaseRequest, _front: Storefront) -> web.StreamResponse:
    return RawResponse(200, (), raw_target(request) + LARGE)


async def test_answers_at_hand_to_a_client_that_takes_none_do_not_pile_up() -> None:
    made = 0

    def at_hand(target: bytes, _head: bytes, _address: str) -> bytes | None:
        nonlocal made
        made += 1
        size = len(target) + len(LARGE)
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b%b" % (size, target, LARGE)

    async with serving(large) as front, front.connect() as client:
        front.server.sluice.shut = lambda: True
        front.server.quick = at_hand
        targets = [b"/large/%d" % number for number in range(4 * FIT_MAX)]
        client.writer.write(b"".join(map(get, targets)))
        await client.writer.drain()
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await front.still_serves()
        await front.still_serves()
        assert 0 < made < FIT_MAX
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        for target in targets:
            assert (await client.answer()).body == target + LARGE
