"""Orders that go straight are placed, answered and counted as by the handler, which takes over
whatever is out of the ordinary."""

import asyncio
import contextlib
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.api.straight_lines import BYTES_MAX
from gateway.api.straight_orders import HandedOver, OrderCourse
from gateway.ledger import LedgerUnavailable
from gateway.orders.claiming import ClaimRequest
from gateway.placement import Placement
from gateway.server.connection import StorefrontConnection
from gateway.settings import load
from tests.edge.stage import (
    CREATED,
    PATIENCE_S,
    Line,
    Stage,
    eventually,
    get,
    post,
    staged,
)
from tests.edge.straight import (
    BODY,
    HANDED,
    ME,
    PLACED,
    REFUSED,
    SETTLED,
    STRAIGHT,
    TOLD_5XX,
    Fates,
    Held,
    at_work,
    counted,
    one,
    order,
    place,
    plain,
    reset,
    status_of,
)
from tests.edge.straight import ORDER_WENT_ON as WENT_ON
from tests.edge.test_straight import ANSWERS, REQUESTS


def _large(size: int) -> bytes:
    return b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)


@pytest.mark.parametrize("told", ANSWERS.values(), ids=ANSWERS.keys())
async def test_the_client_is_told_and_everything_counted_as_by_the_handler(
    tmp_path: Path, ways: Fates, told: bytes
) -> None:
    async def serve(line: Line) -> None:
        while await line.request() is not None:
            await line.send(told)

    async with staged(tmp_path, serve, order="answer_within_s = 0.5") as stage:
        began = counted(stage)
        straight, handled = await place(stage, order(1))
        middle = counted(stage)
        again = (await place(stage, order(2), ways=1))[0]
        after = counted(stage)
    assert straight == handled
    assert again == handled
    assert ways.total() == 1
    by_half = Counter({name: 2 * count for name, count in (after - middle).items()})
    assert middle - began == by_half


@pytest.mark.parametrize(
    ("told", "way"),
    [
        (CREATED, STRAIGHT),
        (CREATED.replace(b"201 Created", b"422 No"), STRAIGHT),
        (CREATED.replace(b"201 Created", b"503 Not now"), WENT_ON),
        (b"HTTP/1.1 204 No Content\r\n\r\n", WENT_ON),
        (_large(BYTES_MAX), STRAIGHT),
        (_large(BYTES_MAX + 1), WENT_ON),
        (CREATED.replace(b"\r\n", b"\r\nConnection: X-A\r\nX-A: 1\r\n", 1), WENT_ON),
    ],
    ids=[
        "confirmed",
        "rejected",
        "in doubt",
        "of no length",
        "large",
        "larger",
        "a connection's own field",
    ],
)
async def test_only_a_whole_answer_that_settles_the_order_is_written_straight_back(
    tmp_path: Path, ways: Fates, told: bytes, way: str
) -> None:
    async def serve(line: Line) -> None:
        while await line.request() is not None:
            await line.send(told)

    async with staged(tmp_path, serve, order="answer_within_s = 0.5") as stage:
        await place(stage, order(1), ways=1)
    assert ways == {way: 1}


@pytest.mark.parametrize(
    ("listen", "upstream"),
    [
        ("", ""),
        ('trusted_proxies = ["127.0.0.1"]', ""),
        ("trust_request_id = true", 'deadline_header = "X-Deadline"'),
    ],
    ids=["", "trusted", "more"],
)
@pytest.mark.parametrize("fields", REQUESTS.values(), ids=REQUESTS.keys())
async def test_the_upstream_sees_the_order_that_the_handler_would_send(
    tmp_path: Path, ways: Fates, fields: bytes, listen: str, upstream: str
) -> None:
    more = [
        line for line in fields.split(b"\r\n\r\n")[0].split(b"\r\n")[2:] if b"ength" not in line
    ]
    seen: list[bytes] = []

    async def serve(line: Line) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await line.reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"\r\nContent-Length: ([0-9]+)", head)
                body = await line.reader.readexactly(int(length[1]) if length else 0)
                seen.append(plain(head) + body)
                await line.send(CREATED)

    async with staged(tmp_path, serve, listen=listen, upstream=upstream) as stage:
        straight, handled = await place(stage, order(1, *more))
    assert (len(seen), ways) == (2, {STRAIGHT: 1})
    assert seen[0] == seen[1]
    assert straight == handled


ODD = {
    "a bad key": post(BODY, ME, b"Idempotency-Key: \x80"),
    "an empty key": post(BODY, ME, b"Idempotency-Key:"),
    "a coding": order(1, b"Content-Encoding: gzip"),
    "too large": order(1, body=b"x" * 2000),
    "a guessable key of nobody": post(BODY, b"Idempotency-Key: 1"),
}


@pytest.mark.parametrize("ask", ODD.values(), ids=ODD.keys())
async def test_a_refusal_is_the_handlers_and_nothing_is_placed(
    tmp_path: Path, ways: Fates, ask: bytes
) -> None:
    options = "body_bytes_max = 1000"
    async with staged(tmp_path, order=options) as stage:
        straight, handled = await place(stage, ask)
        assert straight == handled
        assert 400 <= status_of(straight) < 500
        assert stage.backend.requests == []
        assert at_work(stage) == (0, 0)
    assert ways == {HANDED: 1}


async def test_repeats_go_on_in_the_handler(tmp_path: Path, ways: Fates) -> None:
    held = Held(CREATED)
    async with staged(tmp_path, held) as stage, stage.connect() as first, stage.connect() as client:
        await first.send(order(1))
        await held.asked.wait()
        await client.send(order(1, body=b"{}"))
        assert status_of((await one(client))[0]) == 422
        await client.send(order(1))  # waits with the first
        await eventually(lambda: stage.gateway.admission.running == 1)
        held.go.set()
        heads = [(await one(each))[0] for each in (first, client)]
        assert [status_of(head) for head in heads] == [201, 201]
        assert [b"Idempotent-Replayed: true" in head for head in heads] == [False, True]
        await client.send(order(1))
        head, body = await one(client)
        assert (status_of(head), body) == (201, b'{"id":1}')
        assert b"\r\nIdempotent-Replayed: true\r\n" in head
        assert len(stage.backend.requests) == 1
        await eventually(lambda: at_work(stage) == (0, 0))
    assert ways == {STRAIGHT: 1, WENT_ON: 3}


async def test_when_its_time_is_up_the_client_is_told_where_to_ask(
    tmp_path: Path, ways: Fates
) -> None:
    held = Held(CREATED)
    options = "answer_within_s = 0.3\nattempt_timeout_s = 2"
    async with staged(tmp_path, held, order=options) as stage, stage.connect() as client:
        await client.send(order(1))
        head, _ = await one(client)
        assert status_of(head) == 202
        assert at_work(stage) == (0, 0)
        held.go.set()
        await client.send(order(1))
        assert status_of((await one(client))[0]) in (201, 202)
        assert len(stage.backend.requests) == 1
    assert ways[WENT_ON] == 2


@pytest.mark.parametrize("first", ["_go_on", "cancel"])
async def test_it_ends_once_where_two_ends_come_in_one_turn_of_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Its time is up, or the drain over, when it is settled and has not been told of it yet."""
    placed = OrderCourse._placed

    def both(self: OrderCourse, task: object) -> None:
        if not ended:
            ended.append(self)
            getattr(self, first)()
            placed(self, task)

    ended: list[OrderCourse] = []
    monkeypatch.setattr(OrderCourse, "_placed", both)
    async with staged(tmp_path) as stage, stage.connect() as client:
        await client.send(order(1))
        await eventually(lambda: ended)
        if first == "_go_on":
            assert status_of((await one(client))[0]) == 201
            await client.send(get(b"/_gateway/", b"Connection: close"))
            assert status_of((await client.rest())[0]) == 404
        assert stage.gateway.admission.running == 0
        assert counted(stage)[PLACED] == (first == "_go_on")
        for course in list(stage.gateway.storefront._courses):
            stage.gateway.storefront.went_straight(course)


async def test_what_is_asked_meanwhile_waits_for_its_turn(tmp_path: Path, ways: Fates) -> None:
    held = Held(CREATED)
    async with staged(tmp_path, held) as stage, stage.connect() as client:
        await client.send(order(1))
        await held.asked.wait()
        await client.send(order(2) + get(b"/_gateway/") + b"NONSENSE\r\n\r\n")
        held.go.set()
        told = [status_of((await one(client))[0]) for _ in range(4)]
        assert told == [201, 201, 404, 400]
        assert await client.rest() == (b"", True)
    assert ways == {STRAIGHT: 1}


async def test_a_client_that_closes_its_half_gets_its_answer(tmp_path: Path, ways: Fates) -> None:
    held = Held(CREATED)
    async with staged(tmp_path, held) as stage, stage.connect() as client:
        await client.send(order(1))
        await held.asked.wait()
        client.writer.write_eof()
        await eventually(lambda: _only(stage)._half_closed)
        held.go.set()
        (answer,) = await client.answers(b"POST")
        assert (answer.status, answer.values(b"connection")) == (201, [b"close"])
    assert ways == {WENT_ON: 1}


@pytest.mark.parametrize("answer", [CREATED, b"", b"HTTP/1.1 503 No\r\n\r\n"])
async def test_a_client_that_leaves_changes_nothing(
    tmp_path: Path, ways: Fates, answer: bytes
) -> None:
    held = Held(answer)
    options = "answer_within_s = 0.6\nattempt_timeout_s = 0.4\nsettle_s = 1"
    async with staged(tmp_path, held, order=options) as stage:
        async with stage.connect() as client:
            await client.send(order(1))
            await held.asked.wait()
            reset(client)
        await eventually(lambda: stage.gateway.storefront.connections == 0)
        assert at_work(stage) == (1, 1)
        held.go.set()
        await eventually(lambda: at_work(stage) == (0, 0))
        if answer is CREATED:
            told = await place(stage, order(1), ways=1)
            assert told[0].startswith(b"HTTP/1.1 201 ")
            assert b"\r\nIdempotent-Replayed: true\r\n" in told[0]
        assert len(stage.backend.requests) == 1
    assert ways[STRAIGHT] == (answer is CREATED)


@pytest.mark.parametrize("way", ["straight", "handler"])
async def test_what_a_client_that_left_would_have_been_told_is_counted_and_logged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    way: str,
) -> None:
    """A repeat, whose order is another's, and one that the ledger did not take."""
    held, claiming, go = Held(CREATED), asyncio.Event(), asyncio.Event()
    place = Placement._place

    async def slow(self: Placement, request: ClaimRequest, progress: Any) -> Any:
        claiming.set()
        await go.wait()
        if b"refused" in request.request.body:
            raise LedgerUnavailable("away", written=False)
        return await place(self, request, progress)

    async with staged(tmp_path, held) as stage, stage.connect() as first:
        if way == "handler":
            stage.gateway.storefront.go_straight = None
        await first.send(order(1))
        await held.asked.wait()
        monkeypatch.setattr(Placement, "_place", slow)
        for ask in (order(1), order(2, body=b"refused")):
            claiming.clear()
            async with stage.connect() as client:
                await client.send(ask)
                await claiming.wait()
                reset(client)
            await eventually(lambda: stage.gateway.storefront.connections == 1)
        go.set()
        await eventually(lambda: counted(stage)[REFUSED] == 1)
        held.go.set()
        head, _ = await one(first)
        await eventually(lambda: at_work(stage) == (0, 0))
        assert (counted(stage)[PLACED], counted(stage)[TOLD_5XX]) == (2, 1)
    made = re.search(rb"\r\nGateway-Order: (\S+)", head)
    assert made is not None
    lines = [line for line in capsys.readouterr().out.splitlines() if "path=/orders" in line]
    told = sorted((_field(line, "status"), _field(line, "order")) for line in lines)
    assert told == [("201", made[1].decode()), ("201", made[1].decode()), ("503", "")]


def _field(line: str, name: str) -> str:
    found = re.search(rf" {name}=(\S+)", line)
    return found[1] if found else ""


async def test_the_end_of_a_drain_in_the_turn_in_which_it_is_abandoned_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandoned = OrderCourse.abandoned

    def ended(self: OrderCourse) -> None:
        abandoned(self)
        self.cancel()

    monkeypatch.setattr(OrderCourse, "abandoned", ended)
    held = Held(b"HTTP/1.1 204 No Content\r\n\r\n")
    async with staged(tmp_path, held) as stage:
        async with stage.connect() as client:
            await client.send(order(1))
            await held.asked.wait()
            reset(client)
        await eventually(lambda: stage.gateway.storefront.connections == 0)
        held.answer = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
        held.go.set()
        await eventually(lambda: at_work(stage) == (0, 0))


async def test_a_refused_client_that_has_left_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = HandedOver._go_on

    def after_it_left(self: HandedOver) -> None:
        connection = self._back
        assert isinstance(connection, StorefrontConnection)
        connection.abort()
        go_on(self)

    monkeypatch.setattr(HandedOver, "_go_on", after_it_left)
    async with staged(tmp_path) as stage, stage.connect() as client:
        await client.send(ODD["a bad key"])
        assert await client.rest() == (b"", False)
        await eventually(lambda: at_work(stage) == (0, 0))


@pytest.mark.parametrize("course", [OrderCourse, HandedOver])
async def test_a_handler_that_is_ended_before_it_had_it_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, course: type[Any]
) -> None:
    went_on = course._go_on

    def go_on(self: Any) -> None:
        went_on(self)
        connection = self._back
        assert isinstance(connection, StorefrontConnection)
        assert connection._task_handler is not None
        connection._task_handler.cancel()

    monkeypatch.setattr(course, "_go_on", go_on)
    held = Held(b"HTTP/1.1 204 No Content\r\n\r\n")
    held.go.set()
    ask = order(1) if course is OrderCourse else ODD["a bad key"]
    async with staged(tmp_path, held) as stage, stage.connect() as client:
        await client.send(ask)
        assert await client.rest() == (b"", True)
        await eventually(lambda: at_work(stage) == (0, 0))


async def test_a_drain_lets_it_finish_and_says_so(tmp_path: Path, ways: Fates) -> None:
    held = Held(CREATED)
    async with staged(tmp_path, held) as stage, stage.connect() as client:
        await client.send(order(1))
        await held.asked.wait()
        draining = asyncio.create_task(stage.gateway.storefront.drain(PATIENCE_S))
        await eventually(lambda: stage.gateway.storefront.draining)
        held.go.set()
        (answer,) = await client.answers(b"POST")
        assert (answer.status, answer.values(b"connection")) == (201, [b"close"])
        await draining
    assert ways == {WENT_ON: 1}


@pytest.mark.parametrize("left", [False, True], ids=["client waits", "client has left"])
async def test_the_end_of_a_drain_ends_it_and_the_order_goes_on(
    tmp_path: Path, ways: Fates, left: bool
) -> None:
    held = Held(CREATED)
    async with staged(tmp_path, held) as stage, stage.connect() as client:
        await client.send(order(1))
        await held.asked.wait()
        if left:
            reset(client)
            await eventually(lambda: stage.gateway.storefront.connections == 0)
        await stage.gateway.storefront.drain(0.05)
        await eventually(lambda: at_work(stage) == (0, 0))
        held.go.set()
        await eventually(lambda: counted(stage)[SETTLED] == 1)
    assert ways == {}


async def test_what_nobody_foresaw_is_told_by_the_handler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: Fates
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("gateway.api.straight_orders.order_head", broken)
    async with staged(tmp_path) as stage:
        told = await place(stage, order(1), ways=1)
        assert told[0].startswith(b"HTTP/1.1 201 ")
        assert len(stage.backend.requests) == 1
        assert at_work(stage) == (0, 0)
    assert ways == {WENT_ON: 1}


async def test_an_answer_is_told_even_if_it_can_not_be_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(tmp_path) as stage, stage.connect() as client:
        monkeypatch.setattr(stage.gateway.telemetry, "order_took", None)
        await client.send(order(1))
        assert status_of((await one(client))[0]) == 201
        assert at_work(stage) == (0, 0)


async def test_what_was_begun_under_one_configuration_ends_under_it(
    tmp_path: Path, ways: Fates
) -> None:
    held = Held(b"HTTP/1.1 204 No Content\r\n\r\n")
    async with staged(tmp_path, held) as stage, stage.connect() as client:
        await client.send(order(1))
        await held.asked.wait()
        file = tmp_path / "gateway.toml"
        file.write_text(file.read_text().replace("POST /orders", "POST /buy"))
        stage.gateway.reload(load(file, {}))
        held.go.set()
        head = await client.head()
        assert status_of(head) == 204
        assert b"\r\nGateway-Order: " in head
        assert len(stage.backend.requests) == 1
    assert ways == {WENT_ON: 1}


@pytest.mark.parametrize(
    "more",
    [
        'cors_origins = ["https://shop.example"]',
        'rate_per_client = "60/minute"',
    ],
    ids=["another origin's pages", "counted"],
)
async def test_what_is_others_business_too_is_the_handlers(
    tmp_path: Path, ways: Fates, more: str
) -> None:
    async with staged(tmp_path, order=more) as stage:
        (told,) = await place(stage, order(1), ways=1)
        assert told.startswith(b"HTTP/1.1 201 ")
    assert ways == {}


async def test_its_line_in_the_log_is_the_handlers(
    tmp_path: Path, ways: Fates, capsys: pytest.CaptureFixture[str]
) -> None:
    async with staged(tmp_path) as stage:
        await place(stage, order(1))
    lines = [
        re.sub(r"(?<=duration_ms=)\S+|[\w-]{20,}", "*", line)
        for line in capsys.readouterr().out.splitlines()
        if "path=/orders" in line
    ]
    assert [line.partition("[")[2] for line in lines] == 2 * [lines[0].partition("[")[2]]
    assert " order=* " in lines[0]


def _only(stage: Stage) -> StorefrontConnection:
    (connection,) = stage.gateway.storefront._connections
    return connection
