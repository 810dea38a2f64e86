"""A whole gateway in front of a backend that is slow, drips, loses replies or is not there."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from tests.edge.judge import Answer
from tests.edge.stage import (
    CREATED,
    KEY,
    OK,
    Line,
    Stage,
    eventually,
    get,
    post,
    staged,
)
from tests.upstream.faulty import full_listener

ME = b"Authorization: me"


async def order(stage: Stage, key: bytes = b"k-1") -> Answer:
    (answer,) = await stage.says(post(b"{}", ME, KEY + key), b"POST")
    return answer


async def status_of(stage: Stage, told: Answer) -> str:
    place = orjson.loads(told.body)["status_url"].encode()
    (answer,) = await stage.says(get(place, b"Prefer: wait=5"))
    return str(orjson.loads(answer.body)["status"])


async def test_a_brown_out_sheds_reads_before_orders_records_nothing_it_refuses_and_repeats_nothing(
    tmp_path: Path,
) -> None:
    """Row B2: twenty times slower than it was, and more is asked than it can do."""

    async def slow(line: Line) -> None:
        while (request := await line.request()) is not None:
            await asyncio.sleep(0.2)
            await line.send(CREATED if request.method == b"POST" else OK)

    limits = "requests_max = 4\nrequests_min = 4\nqueue_max = 8\nqueue_s = 2"
    async with staged(tmp_path, slow, limits=limits) as stage:

        async def read() -> tuple[str, int]:
            return "read", (await stage.says(get(b"/")))[0].status

        async def buy(number: int) -> tuple[str, int]:
            answer = await order(stage, b"k-%d" % number)
            if answer.status == 503:
                assert orjson.loads(answer.body)["order"] is None
            return "order", answer.status

        reads = [asyncio.create_task(read()) for _ in range(24)]
        await eventually(lambda: len(stage.backend.requests) >= 4)
        orders = [asyncio.create_task(buy(number)) for number in range(8)]
        told = Counter(await asyncio.gather(*reads, *orders))
        assert set(told) <= {("read", 200), ("read", 503), ("order", 201), ("order", 503)}
        assert told["read", 503] > told["order", 503]
        assert told["order", 201]
        assert (await stage.gateway.ledger.counts()).made == told["order", 201]
        asked = Counter(request.method for request in stage.backend.requests)
        assert asked == {b"GET": told["read", 200], b"POST": told["order", 201]}


async def test_an_answer_that_drips_past_its_timeout_is_202_and_then_the_orders_end(
    tmp_path: Path,
) -> None:
    """Row B3."""

    async def drip(line: Line) -> None:
        await line.request()
        for byte in CREATED:
            await line.send(bytes((byte,)))
            await asyncio.sleep(0.01)

    times = "answer_within_s = 0.2\nattempt_timeout_s = 0.2\nsettle_s = 20"
    async with staged(tmp_path, drip, order=times) as stage:
        told = await order(stage)
        assert told.status == 202
        assert await status_of(stage, told) == "confirmed"
        assert len(stage.backend.requests) == 1


@contextmanager
def nobody(kind: str) -> Iterator[str]:
    """Where there is no backend."""
    match kind:
        case "refused":
            yield "http://127.0.0.1:1"
        case "no name":
            yield "http://backend.invalid:80"
        case _:
            with full_listener() as origin:
                yield f"http://{origin.host}:{origin.port}"


NOBODY = {
    "refused": b"connect_refused",
    "no name": b"name_not_resolved",
    "no answer to a SYN": b"connect_timeout",
}


@pytest.mark.parametrize("kind", NOBODY)
async def test_where_there_is_no_backend_reads_are_503_and_orders_wait(
    tmp_path: Path, kind: str
) -> None:
    """Row B13: nothing was sent, and the order is in nobody's hands but ours."""
    with nobody(kind) as url:
        async with staged(tmp_path, url=url, connect_s="0.3", order="answer_within_s = 1") as stage:
            (read,) = await stage.says(get(b"/"))
            assert (read.status, NOBODY[kind] in read.body) == (503, True)
            told = await order(stage)
            assert (told.status, b'"received"' in told.body) == (202, True)
            again = await order(stage)
            assert orjson.loads(again.body)["id"] == orjson.loads(told.body)["id"]


async def test_an_order_whose_reply_is_lost_is_asked_for_and_never_sent_again(
    tmp_path: Path,
) -> None:
    """Row B8, over raw sockets: the backend commits, and the connection dies."""
    committed = False

    async def forgetful(line: Line) -> None:
        nonlocal committed
        while (request := await line.request()) is not None:
            if request.method == b"POST":
                committed = True
                return
            asked = request.target.rpartition(b"=")[2]
            found = b'[{"id":1,"key":"%b"}]' % asked if committed and asked == key() else b"[]"
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            await line.send(head + b"Content-Length: %d\r\n\r\n" % len(found) + found)

    def key() -> bytes:
        (sent,) = [each for each in stage.backend.requests if each.method == b"POST"]
        return sent.values(b"idempotency-key")[0]

    times = "answer_within_s = 0.3\nattempt_timeout_s = 0.3\nsettle_s = 0.5"
    asked = 'lookup = "GET /orders?key={key}"\nlookup_echo = "/key"'
    async with staged(
        tmp_path, forgetful, order=times + "\n" + asked, capability='"lookup"'
    ) as stage:
        async with asyncio.timeout(20):
            while (told := await order(stage)).status == 202:
                pass  # each waits for answer_within_s
        assert (told.status, b'"id":1' in told.body) == (201, True)
        assert [each.method for each in stage.backend.requests].count(b"POST") == 1
