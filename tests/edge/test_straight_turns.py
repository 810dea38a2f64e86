"""Requests that go straight are safely handed to the handler where they take another turn."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from gateway.api.straight import Course
from gateway.api.straight_lines import BYTES_MAX
from gateway.server.connection import StorefrontConnection
from gateway.settings import load
from gateway.upstream.brief import Interims
from gateway.upstream.streaming import StreamExchange
from tests.edge.stage import (
    OK,
    PATIENCE_S,
    Line,
    eventually,
    get,
    post,
    staged,
)
from tests.edge.straight import (
    CAME,
    READ,
    WENT_ON,
    Fates,
    Held,
    answered,
    at_work,
    keep,
    nothing_in_use,
    one,
    reset,
    status_of,
    warm,
)


async def test_an_answer_that_comes_in_pieces_is_passed_on_as_it_comes(
    tmp_path: Path, fates: Fates
) -> None:
    go = asyncio.Event()

    async def serve(line: Line) -> None:
        while await line.request() is not None:
            await line.send(OK[:-2])
            await go.wait()
            await line.send(b"ok")

    async with warm(tmp_path, serve) as stage, stage.connect() as client:
        await client.send(READ)
        assert status_of(await client.head()) == 200  # before the body is there
        assert at_work(stage) == (1, 0)  # what is passed on at a client's pace has no place at work
        go.set()
        assert await client.reader.readexactly(2) == b"ok"
        await client.send(READ)
        assert await one(client)
        await eventually(lambda: at_work(stage) == (0, 0))
        assert len(stage.backend.lines) == 1
        assert answered(stage, "2xx") == 3
    assert sum(fates.values()) == 2
    assert fates[WENT_ON] >= 1


@pytest.mark.parametrize(("method", "status"), [(b"GET", 200), (b"POST", 502), (b"DELETE", 502)])
async def test_only_a_safe_request_is_sent_again_where_its_connection_dies(
    tmp_path: Path, fates: Fates, method: bytes, status: int
) -> None:
    async def serve(line: Line) -> None:
        await line.request()
        if len(stage.backend.lines) > 1:
            await line.send(OK)

    async with warm(tmp_path, serve) as stage, stage.connect() as client:
        await client.send(get(b"/x").replace(b"GET", method))
        assert status_of((await one(client))[0]) == status
        assert len(stage.backend.requests) == 1 + (2 if status == 200 else 1)
        assert at_work(stage) == (0, 0)
    assert fates == {WENT_ON: 1}


async def test_a_busy_upstream_is_asked_again_when_it_says_so(tmp_path: Path, fates: Fates) -> None:
    busy = b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"

    async def serve(line: Line) -> None:
        await line.request()
        await line.send(busy)
        await keep(line)

    async with warm(tmp_path, serve) as stage, stage.connect() as client:
        await client.send(READ)
        assert status_of((await one(client))[0]) == 200
    assert fates == {WENT_ON: 1}


async def test_an_upstream_that_says_nothing_is_waited_for_in_all_as_long_as_ever(
    tmp_path: Path, fates: Fates
) -> None:
    held = Held()
    async with warm(tmp_path, held, limits="plain_head_s = 0.4") as stage:
        began = asyncio.get_running_loop().time()
        async with stage.connect() as client:
            await client.send(post(b"x", target=b"/x"))
            head, body = await one(client)
        assert (status_of(head), b"upstream-timeout" in body) == (504, True)
        assert asyncio.get_running_loop().time() - began >= 0.35
        assert at_work(stage) == (0, 0)
        assert answered(stage, "5xx") == 1
    assert fates == {WENT_ON: 1}


async def test_what_is_asked_meanwhile_waits_for_its_turn(tmp_path: Path, fates: Fates) -> None:
    held = Held()
    async with warm(tmp_path, held) as stage, stage.connect() as client:
        await client.send(READ)
        await held.asked.wait()
        await client.send(get(b"/_gateway/") + get(b"/second") + b"NONSENSE\r\n\r\n")
        await asyncio.sleep(0.05)
        held.go.set()
        told = [status_of((await one(client))[0]) for _ in range(4)]
        assert told == [200, 404, 200, 400]
        assert await client.rest() == (b"", True)
    assert fates == {CAME: 1}


async def test_a_client_that_closes_its_half_gets_its_answer(tmp_path: Path, fates: Fates) -> None:
    held = Held()
    async with warm(tmp_path, held) as stage, stage.connect() as client:
        await client.send(READ)
        await held.asked.wait()
        client.writer.write_eof()
        await asyncio.sleep(0.05)
        held.go.set()
        (answer,) = await client.answers(b"GET")
        assert (answer.body, answer.values(b"connection")) == (b"ok", [b"close"])
    assert fates == {WENT_ON: 1}


@pytest.mark.parametrize("answer", [OK, OK[:-2], b"", b"HTTP/1.1 500 No\r\n"])
async def test_a_client_that_leaves_takes_nothing_with_it(
    tmp_path: Path, fates: Fates, answer: bytes
) -> None:
    """The upstream is listened to as long as ever: what it does still speaks for or against it."""
    held = Held(answer)
    async with warm(tmp_path, held, limits="plain_head_s = 0.5") as stage:
        async with stage.connect() as client:
            await client.send(READ)
            await held.asked.wait()
            reset(client)
        await eventually(lambda: stage.gateway.storefront.connections == 0)
        assert at_work(stage) == (1, 1)
        held.go.set()
        await eventually(lambda: at_work(stage) == (0, 0))
        assert answered(stage, "2xx") + answered(stage, "5xx") == 2
        await eventually(lambda: nothing_in_use(stage))
    assert fates == {CAME if answer is OK else WENT_ON: 1}


async def test_the_last_request_of_a_connection_is_told_that_it_is(
    tmp_path: Path, fates: Fates
) -> None:
    limits = "requests_per_connection_max = 3"
    async with warm(tmp_path, limits=limits) as stage, stage.connect() as client:
        for last in (False, False, True):
            await client.send(READ)
            head, _ = await one(client)
            assert (b"\r\nConnection: close\r\n" in head) is last
        assert await client.rest() == (b"", True)
    assert fates == {CAME: 2}


async def test_a_drain_lets_it_finish_and_says_so(tmp_path: Path, fates: Fates) -> None:
    held = Held()
    async with warm(tmp_path, held) as stage, stage.connect() as client:
        await client.send(READ)
        await held.asked.wait()
        draining = asyncio.create_task(stage.gateway.storefront.drain(PATIENCE_S))
        await asyncio.sleep(0.05)
        assert not draining.done()
        held.go.set()
        (answer,) = await client.answers(b"GET")
        assert (answer.body, answer.values(b"connection")) == (b"ok", [b"close"])
        await draining
    assert fates == {WENT_ON: 1}


@pytest.mark.parametrize("left", [False, True], ids=["client waits", "client has left"])
@pytest.mark.parametrize("answer", [b"", OK[:-2]], ids=["nothing said", "head said"])
async def test_the_end_of_a_drain_ends_it(
    tmp_path: Path, fates: Fates, answer: bytes, left: bool
) -> None:
    held = Held(answer)
    held.go.set()
    async with warm(tmp_path, held) as stage, stage.connect() as client:
        await client.send(READ)
        await held.asked.wait()
        if left:
            reset(client)
        await asyncio.sleep(0.05)
        await stage.gateway.storefront.drain(0.05)
        await eventually(lambda: at_work(stage) == (0, 0) and nothing_in_use(stage))


async def test_a_handler_that_is_ended_before_it_had_it_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    went_on = Course.goes_on

    def goes_on(self: Course, exchange: StreamExchange, interims: Interims) -> None:
        went_on(self, exchange, interims)
        connection = self._back
        assert isinstance(connection, StorefrontConnection)
        assert connection._task_handler is not None
        connection._task_handler.cancel()

    monkeypatch.setattr(Course, "goes_on", goes_on)
    held = Held(OK[:-2])
    held.go.set()
    async with warm(tmp_path, held) as stage, stage.connect() as client:
        await client.send(READ)
        assert await client.rest() == (b"", True)
        await eventually(lambda: at_work(stage) == (0, 0) and nothing_in_use(stage))


async def test_what_nobody_foresaw_resets_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fates: Fates
) -> None:
    held = Held()
    async with warm(tmp_path, held) as stage, stage.connect() as client:
        await client.send(READ)
        await held.asked.wait()
        monkeypatch.setattr("gateway.api.straight.client_head", None)
        held.go.set()
        assert await client.rest() == (b"", False)
        assert at_work(stage) == (0, 0)
        monkeypatch.undo()
        assert [told.status for told in await stage.says(READ)] == [200]
    assert fates[CAME] == 1


async def test_a_connection_is_not_idle_while_its_request_is_away(
    tmp_path: Path, fates: Fates
) -> None:
    held = Held()
    async with warm(tmp_path, held, limits="idle_s = 0.2") as stage, stage.connect() as client:
        await client.send(READ)
        await asyncio.sleep(0.6)
        held.go.set()
        assert status_of((await one(client))[0]) == 200
        began = asyncio.get_running_loop().time()
        assert await client.rest() == (b"", True)
        assert asyncio.get_running_loop().time() - began >= 0.15
    assert fates == {CAME: 1}


async def test_what_was_begun_under_one_configuration_ends_under_it(
    tmp_path: Path, fates: Fates
) -> None:
    """The path has become an order's meanwhile: what was sent once as something else is not sent
    again as an order."""
    held = Held(OK[:-2])
    async with warm(tmp_path, held) as stage, stage.connect() as client:
        await client.send(post(b"{}", b"Authorization: me", target=b"/buy"))
        await held.asked.wait()
        file = tmp_path / "gateway.toml"
        file.write_text(file.read_text().replace("POST /orders", "POST /buy"))
        stage.gateway.reload(load(file, {}))
        held.go.set()
        head = await client.head()
        assert status_of(head) == 200
        assert b"Gateway-Order" not in head
        assert len(stage.backend.requests) == 2
    assert fates == {WENT_ON: 1}


async def test_failures_open_the_breaker(tmp_path: Path, fates: Fates) -> None:
    failing = OK.replace(b"200 OK", b"500 No")

    async def serve(line: Line) -> None:
        while await line.request() is not None:
            await line.send(failing)

    async with staged(tmp_path, serve) as stage:
        upstream = stage.gateway.upstreams["backend"]
        upstream.breaker.policy = type(upstream.breaker.policy)(calls_min=3)
        async with stage.connect() as client:
            told = []
            for _ in range(5):
                await client.send(READ)
                told.append(status_of((await one(client))[0]))
        assert told == [500, 500, 500, 503, 503]
        assert len(stage.backend.requests) == 3
    assert fates == {CAME: 2}


@pytest.mark.parametrize("asks_on", [True, False], ids=["asks on", "says no more"])
async def test_a_client_that_reads_nothing_is_given_up(
    tmp_path: Path, fates: Fates, asks_on: bool
) -> None:
    """Its answers are not piled up, and the buffer that is full has a deadline, whoever wrote."""
    size = BYTES_MAX - 1000
    large = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)

    async def serve(line: Line) -> None:
        while await line.request() is not None:
            await line.send(large)

    async with warm(tmp_path, serve, limits="write_s = 0.3") as stage:
        async with stage.connect(limit=1024) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            with contextlib.suppress(ConnectionError):
                for _ in range(400):
                    client.writer.write(READ)
                    await asyncio.sleep(0.002)
                    if stage.gateway.storefront.connections == 0:
                        break
                    (connection,) = stage.gateway.storefront._connections
                    if connection.writing_paused and not asks_on:
                        break
            await eventually(lambda: stage.gateway.storefront.connections == 0)
        assert len(stage.backend.requests) < 390
        assert at_work(stage) == (0, 0)


async def test_interim_answers_are_passed_on_at_once(tmp_path: Path, fates: Fates) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    said, more = asyncio.Event(), asyncio.Event()

    async def serve(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 100 Continue\r\n\r\n" + hint)
        await said.wait()
        await line.send(hint)
        await more.wait()
        await line.send(OK)

    async with warm(tmp_path, serve) as stage, stage.connect() as client:
        await client.send(READ)
        assert await client.head() == hint
        said.set()
        assert await client.head() == hint
        more.set()
        assert status_of((await one(client))[0]) == 200
    assert fates == {WENT_ON: 1}


async def test_what_may_change_others_caches_does_not_go_straight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fates: Fates
) -> None:
    async with warm(tmp_path) as stage, stage.connect() as client:
        monkeypatch.setattr(stage.gateway.cache.changes, "told_elsewhere", lambda: True)
        for request in (post(b"{}", target=b"/x"), READ):
            await client.send(request)
            assert status_of((await one(client))[0]) == 200
    assert fates == {CAME: 1}


async def test_what_was_begun_is_not_sent_again_because_somebody_began_to_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fates: Fates
) -> None:
    held = Held(OK[:-2])
    async with warm(tmp_path, held) as stage, stage.connect() as client:
        await client.send(post(b"{}", target=b"/x"))
        await held.asked.wait()
        monkeypatch.setattr(stage.gateway.cache.changes, "told_elsewhere", lambda: True)
        held.go.set()
        assert status_of(await client.head()) == 200
        assert len(stage.backend.requests) == 2
    assert fates == {WENT_ON: 1}
