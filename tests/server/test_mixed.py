"""All ways to an answer, mixed on one connection and cut anywhere: each request gets its own."""

import asyncio
import random

import pytest
from aiohttp import web

from gateway.server import RawResponse, raw_target, read_body
from tests.server.serving import Client, Storefront, get, post, serving

REQUESTS = 60
CONNECTIONS = 4
SIZES = (1, 3_000, 150_000)
CUTS = (1, 7, 40, 5_000, 100_000)


async def echo(request: web.BaseRequest, _front: Storefront) -> web.StreamResponse:
    body = await read_body(request, body_bytes_max=1_000_000, deadline_s=5)
    return RawResponse(200, (), raw_target(request) + body)


def at_once(target: bytes, _head: bytes, _address: str) -> bytes | None:
    """Only where nothing is under way; otherwise ``echo`` says the same."""
    if not target.startswith(b"/at-once"):
        return None
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target)


def in_chunks(target: bytes, body: bytes) -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % target
    pieces = [body[at : at + 700] for at in range(0, len(body), 700)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces) + b"0\r\n\r\n"


def drawn(chance: random.Random, name: bytes) -> tuple[bytes, bytes]:
    """A request and what is to be said to it."""
    body = name[-1:] * chance.choice(SIZES)
    match chance.randrange(5):
        case 0 | 1:
            target = b"/at-once%d" % chance.randrange(5)
            return get(target), target
        case 2:
            return get(name, b"X-A: 1", b"X-A: 2"), name  # read by aiohttp's parser
        case 3:
            return post(body, target=name), name + body
        case _:
            return in_chunks(name, body), name + body


async def talk(chance: random.Random, client: Client, number: int) -> None:
    pairs = [drawn(chance, b"/%d/%d" % (number, each)) for each in range(REQUESTS)]
    raw = b"".join(request for request, _ in pairs)

    async def send() -> None:
        at = 0
        while at < len(raw):
            end = at + chance.choice(CUTS)
            await client.send(raw[at:end])
            at = end

    async with asyncio.TaskGroup() as group:
        group.create_task(send())
        for _, told in pairs:
            assert (await client.answer()).body == told


@pytest.mark.parametrize("put_off", [False, True])
@pytest.mark.parametrize("pipelined_max", [2, 32])
async def test_every_request_gets_its_own_answer(pipelined_max: int, put_off: bool) -> None:
    async with serving(echo, pipelined_max=pipelined_max) as front:
        front.server.quick = at_once
        front.server.sluice.shut = lambda: put_off

        async def one(number: int) -> None:
            async with front.connect() as client:
                await talk(random.Random(number), client, number)

        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(one(number))
