"""What is sent once more, what never is, and how much load that may add."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from middleware.errors import CannotGoOn
from middleware.retrying.budget import BURST_MAX, RetryBudget
from middleware.retrying.rules import RetryPolicy, pause_s, retry_after_s
from middleware.retrying.runner import retried
from tests.edge.stage import OK, ORDER, Line, Serve, Stage, eventually, get, post, staged

TENTH = 0.1
"""What retries may add to an upstream's load."""

BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n%bbusy"


def failing(times: int, how: Callable[[Line], object] | bytes) -> Serve:
    """The first ``times`` requests get ``how`` (an answer, or a closed connection), then OK."""
    left = times

    async def serve(line: Line) -> None:
        nonlocal left
        while await line.request() is not None:
            if not left:
                await line.send(OK)
                continue
            left -= 1
            if not isinstance(how, bytes):
                return
            await line.send(how)

    return serve


def close(_line: Line) -> None: ...


async def told(stage: Stage, request: bytes, method: bytes = b"GET") -> int:
    (answer,) = await stage.says(request, method)
    return answer.status


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
async def test_a_safe_request_whose_connection_dies_is_sent_once_more(
    tmp_path: Path, method: bytes
) -> None:
    async def serve(line: Line) -> None:
        while await line.request() is not None:
            if len(stage.backend.requests) == 1:
                return
            await line.send(OK if method != b"HEAD" else OK[:-2])

    async with staged(tmp_path, serve) as stage:
        assert await told(stage, get(b"/").replace(b"GET", method), method) == 200
        assert len(stage.backend.requests) == 2


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"PATCH"])
async def test_an_unsafe_request_that_may_have_arrived_is_never_sent_twice(
    tmp_path: Path, method: bytes
) -> None:
    async with staged(tmp_path, failing(1, close)) as stage:
        request = post(b"x", target=b"/thing").replace(b"POST", method)
        assert await told(stage, request, method) == 502
        assert len(stage.backend.requests) == 1


async def test_an_order_in_doubt_is_never_sent_again(tmp_path: Path) -> None:
    async with staged(tmp_path, failing(1, close)) as stage:
        assert await told(stage, post(b"{}"), b"POST") == 202
        assert len(stage.backend.requests) == 1


async def test_what_was_not_sent_is_tried_again_whatever_it_is(tmp_path: Path) -> None:
    """The upstream restarts: its port refuses, then serves."""
    async with staged(tmp_path) as stage:
        port = stage.backend.port
        await stage.backend.stop()
        asking = asyncio.create_task(told(stage, post(b"x", target=b"/thing"), b"POST"))
        await eventually(lambda: _count(stage, "ordergate_retries_total"))
        await stage.backend.start(port)
        assert await asking == 200


def _count(stage: Stage, name: str) -> float:
    labels = {"upstream": "backend"}
    return stage.gateway.telemetry.registry.get_sample_value(name, labels) or 0.0


async def test_retry_after_is_honoured_for_a_safe_request(tmp_path: Path) -> None:
    busy = BUSY % b"Retry-After: 1\r\n\r\n"
    async with staged(tmp_path, failing(1, busy)) as stage:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await told(stage, get(b"/")) == 200
        assert loop.time() - began >= 1.0
        assert len(stage.backend.requests) == 2


@pytest.mark.parametrize(
    ("busy", "request_bytes", "method"),
    [
        (BUSY % b"Retry-After: 60\r\n\r\n", get(b"/"), b"GET"),
        (BUSY % b"Retry-After: soon\r\n\r\n", get(b"/"), b"GET"),
        (BUSY % b"\r\n", get(b"/"), b"GET"),
        (BUSY % b"Retry-After: 0\r\n\r\n", post(b"x", target=b"/thing"), b"POST"),
    ],
    ids=["too long", "no time", "not asked for", "unsafe"],
)
async def test_another_503_is_the_clients_to_see(
    tmp_path: Path, busy: bytes, request_bytes: bytes, method: bytes
) -> None:
    async with staged(tmp_path, failing(1, busy)) as stage:
        (answer,) = await stage.says(request_bytes, method)
        assert (answer.status, answer.body) == (503, b"busy")
        assert len(stage.backend.requests) == 1


async def test_an_upstream_that_stays_busy_has_the_last_word(tmp_path: Path) -> None:
    busy = BUSY % b"Retry-After: 0\r\n\r\n"
    async with staged(tmp_path, failing(99, busy)) as stage:
        (answer,) = await stage.says(get(b"/"))
        assert (answer.status, answer.body) == (503, b"busy")
        assert len(stage.backend.requests) == 3


async def test_retries_add_a_tenth_of_load_at_most(tmp_path: Path) -> None:
    """A brown-out: every connection dies. Row B2."""
    async with staged(tmp_path, failing(10_000, close)) as stage:
        first = 200
        for _ in range(first // 20):
            async with asyncio.TaskGroup() as tasks:
                for _ in range(20):
                    tasks.create_task(told(stage, get(b"/")))
        extra = len(stage.backend.requests) - first
        assert 0 < extra <= BURST_MAX + first * TENTH
        assert _count(stage, "ordergate_retries_total") == extra
        assert _count(stage, "ordergate_retries_refused_total") > 0


async def test_one_deadline_bounds_all_attempts(tmp_path: Path) -> None:
    async def hang(line: Line) -> None:
        await line.request()
        await line.until_closed()

    async with staged(tmp_path, hang, limits="plain_total_s = 0.3") as stage:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await told(stage, get(b"/")) == 504
        assert loop.time() - began < 2.0
        assert len(stage.backend.requests) == 1


async def test_what_would_come_too_late_is_not_waited_for(tmp_path: Path) -> None:
    busy = BUSY % b"Retry-After: 2\r\n\r\n"
    async with staged(tmp_path, failing(1, busy), limits="plain_total_s = 1.5") as stage:
        (answer,) = await stage.says(get(b"/"))
        assert (answer.status, answer.body) == (503, b"busy")
        assert len(stage.backend.requests) == 1


async def drip(line: Line) -> None:
    request = await line.request()
    kept = b"max-age=60" if request is not None and request.target == b"/kept/1" else b"no-store"
    await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nCache-Control: %b\r\n\r\n" % kept)
    while True:
        await line.send(b"x")
        await asyncio.sleep(0.02)


CACHED = """
[[routes]]
name = "cached"
match = "* /kept/**"
kind = "cached"
upstream = "backend"
"""


@pytest.mark.parametrize("target", [b"/", b"/kept/1", b"/kept/past"])
async def test_one_deadline_bounds_an_answer_that_drips(tmp_path: Path, target: bytes) -> None:
    limits = "plain_total_s = 0.3"
    async with staged(tmp_path, drip, limits=limits, order=ORDER + CACHED) as stage:
        (answer,) = await stage.says(get(target))
        assert (answer.status, answer.whole) == (200, False)
        await eventually(lambda: stage.gateway.upstreams["backend"].stats.in_use == 0)


@pytest.mark.parametrize("target", [b"/", b"/kept/1"])
async def test_one_deadline_bounds_the_answer_to_a_change_that_drips(
    tmp_path: Path, target: bytes
) -> None:
    limits = "plain_total_s = 0.3"
    async with staged(tmp_path, drip, limits=limits, order=ORDER + CACHED) as stage:
        (answer,) = await stage.says(post(b"{}", target=target), b"POST")
        assert (answer.status, answer.whole) == (200, False)
        await eventually(lambda: stage.gateway.upstreams["backend"].stats.in_use == 0)


async def test_the_deadline_is_told_where_that_is_wanted(tmp_path: Path) -> None:
    upstream = 'deadline_header = "X-Timeout-Ms"'
    theirs = b"x-timeout-ms: 999999"
    async with staged(tmp_path, upstream=upstream, limits="plain_head_s = 7") as stage:
        await told(stage, get(b"/", theirs))
        await told(stage, post(b"{}", theirs), b"POST")
        read, order = stage.backend.requests
        assert read.values(b"x-timeout-ms") == [b"7000"]
        assert order.values(b"x-timeout-ms") == [b"2000"]


async def test_a_repeat_is_told_what_is_left_of_the_deadline(tmp_path: Path) -> None:
    busy = BUSY % b"Retry-After: 1\r\n\r\n"
    upstream = 'deadline_header = "X-Timeout-Ms"'
    limits = "plain_total_s = 10"
    async with staged(tmp_path, failing(1, busy), upstream=upstream, limits=limits) as stage:
        assert await told(stage, get(b"/")) == 200
        first, second = (int(each.values(b"x-timeout-ms")[0]) for each in stage.backend.requests)
        assert first == 10_000
        assert 0 < second <= 9_000


# --- the rules --------------------------------------------------------------------------------


def test_the_pause_has_full_jitter_on_top_of_what_was_asked_for() -> None:
    policy = RetryPolicy(first_s=1.0, longest_s=4.0)
    assert [pause_s(policy, failures, 1.0) for failures in (1, 2, 3, 4)] == [1, 2, 4, 4]
    assert pause_s(policy, 3, 0.0) == 0.0
    assert pause_s(policy, 1, 0.5, at_least_s=3.0) == 3.5


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b" 120 ", 120.0),
        (b"Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        (b"Thu, 01 Jan 1970 00:00:05 GMT", 0.0),
        (b"-1", None),
        (b"1.5", None),
        (b"soon", None),
        (b"\xff", None),
        (b"", None),
        (b"9" * 40, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: bytes, seconds: float | None) -> None:
    assert retry_after_s(value, 10.0) == seconds


def test_the_budget_is_a_tenth_and_a_burst() -> None:
    draw = random.Random(3).random
    budget, made, attempts = RetryBudget(), 0, 10_000
    for _ in range(attempts):
        budget.attempted()
        while draw() < 0.7 and budget.take():
            made += 1
    assert attempts * TENTH * 0.95 < made <= attempts * TENTH + BURST_MAX


class _Busy(CannotGoOn):
    def __init__(self, after_s: float | None = None) -> None:
        super().__init__("busy")
        self.after_s = after_s


async def _tried(admitted: int | None, attempts_max: int | None = 4) -> tuple[int, list[float]]:
    """How often a call that always fails was made, and the pauses."""
    calls, pauses = 0, []

    async def call() -> None:
        nonlocal calls
        calls += 1
        raise _Busy(after_s=float(calls))

    async def sleep(pause: float) -> None:
        pauses.append(pause)

    def admit(_pause: float) -> bool:
        return admitted is None or len(pauses) < admitted

    with pytest.raises(_Busy):
        await retried(
            call,
            on=_Busy,
            policy=RetryPolicy(first_s=0.0, longest_s=0.0, attempts_max=attempts_max),
            draw=lambda: 0.0,
            sleep=sleep,
            admit=admit,
        )
    return calls, pauses


async def test_the_runner_stops_at_the_limit_and_pauses_as_it_was_asked() -> None:
    assert await _tried(None) == (4, [1.0, 2.0, 3.0])
    assert await _tried(None, attempts_max=1) == (1, [])


async def test_the_runner_draws_each_pause_anew_from_a_ceiling_that_doubles() -> None:
    pauses: list[float] = []
    draws = iter((0.25, 0.5, 0.75, 1.0))

    async def sleep(pause: float) -> None:
        pauses.append(pause)

    async def call() -> None:
        raise _Busy

    policy = RetryPolicy(first_s=1.0, longest_s=8.0, attempts_max=4)
    with pytest.raises(_Busy):
        await retried(call, on=_Busy, policy=policy, draw=lambda: next(draws), sleep=sleep)
    assert pauses == [0.25, 1.0, 3.0]


@pytest.mark.parametrize("admitted", [0, 1, 2])
async def test_the_runner_stops_when_nothing_more_is_admitted(admitted: int) -> None:
    calls, pauses = await _tried(admitted, attempts_max=None)
    assert (calls, len(pauses)) == (admitted + 1, admitted)
