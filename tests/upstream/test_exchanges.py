"""Order attempts against an upstream that does wrong: FAULTS' first table, for this hop."""

import asyncio
import gzip
import hashlib
from contextlib import suppress

import pytest

from gateway.orders.attempts import (
    Answered,
    AttemptEnd,
    Lost,
    LostReason,
    NotSentReason,
)
from gateway.upstream import ConnectFailed, Origin, Pool, Progress, UpstreamRequest
from tests.upstream.asking import (
    CREATED,
    HOST,
    OK,
    ORDER,
    SOON_S,
    answered_body,
    attempt,
    begin,
    eventually,
    lost_reason,
)
from tests.upstream.conftest import Stage
from tests.upstream.faulty import Wire, always, answering, hang


async def test_order_is_answered_and_its_connection_used_again(stage: Stage) -> None:
    upstream = await stage.upstream(always(CREATED))
    pool = stage.pool(upstream)
    for _ in range(3):
        end = await attempt(pool)
        assert isinstance(end, Answered)
        assert (end.answer.status, end.answer.phrase) == (201, b"Created")
        assert end.answer.headers == ((b"Content-Length", b"8"),)
        assert end.answer.body == b'{"id":1}'
        assert end.answer.framed
        assert not end.answer.oversize
    assert len(upstream.wires) == 1
    assert [seen.body for seen in upstream.requests] == [ORDER.body] * 3
    assert (b"idempotency-key", b'"k"') in upstream.requests[0].headers


async def refused_origin() -> Origin:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return Origin("127.0.0.1", port)


async def failed_connect(pool: Pool, timeout_s: float = SOON_S) -> NotSentReason:
    with pytest.raises(ConnectFailed) as failed:
        await pool.connect(timeout_s)
    assert failed.value.repeat_is_safe
    await pool.close()
    assert pool.stats.places == 0
    return failed.value.reason


async def test_refused_connect_is_not_sent() -> None:
    pool = Pool(await refused_origin())
    assert await failed_connect(pool) is NotSentReason.CONNECT_REFUSED


@pytest.mark.parametrize("name", ["nowhere.invalid", "a" * 64 + ".invalid"])
async def test_name_that_does_not_resolve_is_not_sent(name: str) -> None:
    reason = await failed_connect(Pool(Origin(name, 9000)))
    assert reason is NotSentReason.NAME_NOT_RESOLVED


async def test_connect_that_takes_too_long_is_not_sent(unanswered: Origin) -> None:
    assert await failed_connect(Pool(unanswered), 0.1) is NotSentReason.CONNECT_TIMEOUT


async def test_full_pool_is_not_sent(stage: Stage) -> None:
    upstream = await stage.upstream(hang)
    pool = stage.pool(upstream, connections_max=1)
    await begin(pool)
    with pytest.raises(ConnectFailed) as failed:
        await pool.connect(0.05)
    assert failed.value.reason is NotSentReason.POOL_EXHAUSTED
    assert pool.stats.waiting == 0


async def test_hang_is_no_answer_and_listening_goes_on(stage: Stage) -> None:
    go_on = asyncio.Event()

    async def late(wire: Wire) -> None:
        await wire.request()
        await go_on.wait()
        await wire.send(CREATED)
        await wire.until_closed()

    pool = stage.pool(await stage.upstream(late))
    exchange = await begin(pool)
    told: asyncio.Future[AttemptEnd] = asyncio.get_running_loop().create_future()
    exchange.on_end(told.set_result)
    assert await exchange.wait(0.02) is None
    assert not exchange.ended
    assert exchange.progress is Progress.WRITTEN
    go_on.set()
    assert answered_body(await asyncio.wait_for(told, SOON_S)) == b'{"id":1}'
    assert answered_body(await exchange.wait(0)) == b'{"id":1}'
    assert pool.stats.idle == 1


async def test_cancelled_wait_does_not_disturb_the_exchange(stage: Stage) -> None:
    go_on = asyncio.Event()

    async def late(wire: Wire) -> None:
        await wire.request()
        await go_on.wait()
        await wire.send(CREATED)

    exchange = await begin(stage.pool(await stage.upstream(late)))
    waiting = asyncio.create_task(exchange.wait(SOON_S))
    await asyncio.sleep(0)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    go_on.set()
    assert answered_body(await exchange.wait(SOON_S)) == b'{"id":1}'


async def test_stopped_listening_is_lost_and_closes_the_connection(stage: Stage) -> None:
    gone = asyncio.Event()

    async def silent(wire: Wire) -> None:
        await wire.until_closed()
        gone.set()

    pool = stage.pool(await stage.upstream(silent))
    exchange = await begin(pool)
    exchange.stop_listening()
    total = exchange.written_bytes
    assert await exchange.wait(0) == Lost(LostReason.TIMEOUT, total)
    assert total == len(ORDER.head(length=len(ORDER.body)) + ORDER.body)
    exchange.stop_listening()
    await asyncio.wait_for(gone.wait(), SOON_S)


async def test_callback_after_the_end_is_called_once_and_soon(stage: Stage) -> None:
    exchange = await begin(stage.pool(await stage.upstream(always(CREATED))))
    end = await exchange.wait(SOON_S)
    told: list[AttemptEnd] = []
    exchange.on_end(told.append)
    assert told == []
    await asyncio.sleep(0)
    assert told == [end]


async def test_drip_is_read_to_its_end(stage: Stage) -> None:
    async def drip(wire: Wire) -> None:
        await wire.request()
        await wire.drip(CREATED)

    assert answered_body(await attempt(stage.pool(await stage.upstream(drip)))) == b'{"id":1}'


async def test_progress_tells_how_far_an_attempt_got(stage: Stage) -> None:
    rest = asyncio.Event()

    async def in_two(wire: Wire) -> None:
        await wire.request()
        await wire.send(CREATED[:30])
        await rest.wait()
        await wire.send(CREATED[30:])

    exchange = await begin(stage.pool(await stage.upstream(in_two)))
    seen = [exchange.progress]
    await eventually(lambda: exchange.progress is not Progress.WRITTEN)
    seen.append(exchange.progress)
    rest.set()
    await exchange.wait(SOON_S)
    seen.append(exchange.progress)
    assert seen == [Progress.WRITTEN, Progress.ANSWER_BEGUN, Progress.ANSWER_WHOLE]


@pytest.mark.parametrize(
    ("before", "reset", "expected", "status"),
    [
        (b"", False, LostReason.CLOSED, None),
        (b"", True, LostReason.RESET, None),
        (b"HTTP/1.1 2", False, LostReason.TRUNCATED, None),
        (b"HTTP/1.1 100 Continue\r\n\r\n", False, LostReason.TRUNCATED, 100),
        (CREATED[:-3], False, LostReason.TRUNCATED, 201),
        (CREATED[:-3], True, LostReason.TRUNCATED, 201),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel", False, LostReason.TRUNCATED, 200),
        (OK + b"\r\n" + b'{"id":1', True, LostReason.TRUNCATED, 200),
    ],
    ids=[
        "FIN before any byte",
        "RST before any byte",
        "FIN within the status line",
        "FIN after 100",
        "short body",
        "RST in the body",
        "short chunk",
        "RST in a body without framing",
    ],
)
async def test_connection_that_ends_early_is_lost(
    stage: Stage, before: bytes, reset: bool, expected: LostReason, status: int | None
) -> None:
    seen = asyncio.Event()

    async def break_off(wire: Wire) -> None:
        await wire.request()
        await wire.send(before)
        if reset:
            await seen.wait()
            wire.reset()

    exchange = await begin(stage.pool(await stage.upstream(break_off)))
    if reset and before:
        await eventually(lambda: exchange.progress is Progress.ANSWER_BEGUN)
    seen.set()
    end = await exchange.wait(SOON_S)
    assert isinstance(end, Lost)
    assert (end.reason, end.status) == (expected, status)
    assert end.written_bytes > len(ORDER.body)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", LostReason.MALFORMED),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", LostReason.MALFORMED),
        (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi", LostReason.MALFORMED),
        (b"\x16\x03\x01 not HTTP at all\r\n\r\n", LostReason.MALFORMED),
        (b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nhi", LostReason.MALFORMED),
        (OK + b"A: b\r\n" * 500 + b"\r\n", LostReason.TOO_LARGE),
        (OK + b"A: " + b"b" * 100_000 + b"\r\n\r\n", LostReason.TOO_LARGE),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", LostReason.UPGRADED),
    ],
    ids=[
        "length and chunks",
        "bad chunk",
        "two lengths",
        "garbage",
        "204 with a body",
        "many fields",
        "huge field",
        "101",
    ],
)
async def test_answer_that_cannot_count_is_lost_and_its_connection_closed(
    stage: Stage, answer: bytes, expected: LostReason
) -> None:
    pool = stage.pool(await stage.upstream(answering(answer, then=hang)))
    assert lost_reason(await attempt(pool)) is expected
    assert pool.stats.idle == 0


@pytest.mark.parametrize("surplus", [b"!", b"\r\n", CREATED], ids=["bytes", "CRLF", "an answer"])
async def test_surplus_bytes_leave_the_answer_and_close_the_connection(
    stage: Stage, surplus: bytes
) -> None:
    upstream = await stage.upstream(always(CREATED + surplus))
    pool = stage.pool(upstream)
    for _ in range(2):
        assert answered_body(await attempt(pool)) == b'{"id":1}'
    assert len(upstream.wires) == 2


async def test_interim_answers_are_passed_over(stage: Stage) -> None:
    interim = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    pool = stage.pool(await stage.upstream(always(interim + CREATED)))
    assert answered_body(await attempt(pool)) == b'{"id":1}'
    assert pool.stats.idle == 1


async def test_truncated_json_without_framing_is_marked_as_unframed(stage: Stage) -> None:
    pool = stage.pool(await stage.upstream(answering(OK + b'\r\n{"id":1')))
    end = await attempt(pool)
    assert isinstance(end, Answered)
    assert end.answer.body == b'{"id":1'
    assert not end.answer.framed


async def test_gzip_bomb_is_kept_as_it_came(stage: Stage) -> None:
    bomb = gzip.compress(bytes(20_000_000))
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    assert answered_body(await attempt(stage.pool(await stage.upstream(always(head + bomb))))) == (
        bomb
    )


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_oversize_answer_is_digested_and_its_connection_kept(
    stage: Stage, framing: str
) -> None:
    body = bytes(range(256)) * 1000
    answer = OK + b"Content-Length: %d\r\n\r\n" % len(body) + body
    if framing == "chunks":
        chunk = b"%x\r\n%b\r\n" % (len(body) // 2, body[: len(body) // 2])
        answer = OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 2 + b"0\r\n\r\n"
        body = body[: len(body) // 2] * 2
    pool = stage.pool(await stage.upstream(always(answer)))
    exchange = await begin(pool, bytes_max=1000)
    end = await exchange.wait(SOON_S)
    assert isinstance(end, Answered)
    assert end.answer.oversize
    assert end.answer.body == b""
    assert end.answer.digest == hashlib.sha256(body).hexdigest()
    assert pool.stats.idle == 1


async def test_endless_answer_is_lost(stage: Stage) -> None:
    async def endless(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK + b"\r\n")
        while True:
            await wire.send(bytes(65_536))

    pool = stage.pool(await stage.upstream(endless), answer_bytes_cap=1_000_000)
    exchange = await begin(pool, bytes_max=1000)
    end = await exchange.wait(SOON_S)
    assert isinstance(end, Lost)
    assert (end.reason, end.status) == (LostReason.BODY_TOO_LARGE, 200)


async def test_answer_that_overtakes_a_large_order_counts_and_ends_the_connection(
    stage: Stage,
) -> None:
    async def early(wire: Wire) -> None:
        await wire.head()
        await wire.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await asyncio.Event().wait()

    pool = stage.pool(await stage.upstream(early))
    exchange = await begin(pool, UpstreamRequest(b"POST", b"/orders", (HOST,), bytes(30_000_000)))
    end = await exchange.wait(SOON_S)
    assert isinstance(end, Answered)
    assert end.answer.status == 413
    assert exchange.written_bytes > 0
    assert pool.stats.idle == 0


async def test_end_of_input_is_told_while_the_order_is_still_being_written(stage: Stage) -> None:
    async def half_close(wire: Wire) -> None:
        await wire.head()
        wire.writer.write_eof()
        await asyncio.Event().wait()

    pool = stage.pool(await stage.upstream(half_close))
    exchange = await begin(pool, UpstreamRequest(b"POST", b"/orders", (HOST,), bytes(30_000_000)))
    assert lost_reason(await exchange.wait(SOON_S)) is LostReason.CLOSED


async def test_large_order_arrives_whole(stage: Stage) -> None:
    body = bytes(range(256)) * 8000
    upstream = await stage.upstream(always(CREATED))
    await attempt(stage.pool(upstream), UpstreamRequest(b"POST", b"/orders", (HOST,), body))
    assert upstream.requests[0].body == body


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE", b"POST"])
async def test_request_on_a_reused_connection_that_dies_is_never_sent_twice(
    stage: Stage, method: bytes
) -> None:
    async def dies_on_second(wire: Wire) -> None:
        await wire.request()
        await wire.send(CREATED)
        await wire.request()

    upstream = await stage.upstream(dies_on_second)
    pool = stage.pool(upstream)
    request = UpstreamRequest(method, b"/orders/1", (HOST,))
    assert answered_body(await attempt(pool, request)) == b'{"id":1}'
    assert lost_reason(await attempt(pool, request)) is LostReason.CLOSED
    assert len(upstream.requests) == 2
    assert len(upstream.wires) == 1


async def test_answer_to_head_ends_with_its_head(stage: Stage) -> None:
    pool = stage.pool(await stage.upstream(always(OK + b"Content-Length: 500\r\n\r\n")))
    for _ in range(2):
        end = await attempt(pool, UpstreamRequest(b"HEAD", b"/orders/1", (HOST,)))
        assert answered_body(end) == b""
    assert pool.stats.places == 1
