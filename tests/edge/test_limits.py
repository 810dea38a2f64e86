"""Every row of docs/limits.md: the default it states, and what lies beyond the limit."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from gateway.settings.limits import LimitsSettings
from gateway.settings.models import ListenSettings
from gateway.settings.routes import RouteSettings
from gateway.settings.upstreams import UpstreamSettings
from gateway.storefront import server_limits
from tests.edge.judge import Answer, answers_in
from tests.edge.stage import (
    CREATED,
    KEY,
    OK,
    ORDER,
    Line,
    Serve,
    Stage,
    eventually,
    get,
    post,
    staged,
    well_behaved,
)
from tests.edge.test_web_sockets import ASK, echoing, tunnel

PAGE = Path(__file__).resolve().parents[2] / "docs" / "limits.md"
ROW = re.compile(r"^\| `(\w+)\.(\w+)` \| (\S+) \| [^|]* \| ([^|]*) \|$", re.MULTILINE)
TOLD = re.compile(r"`(\d{3})` \[([a-z-]+)\]")
MODELS: dict[str, type[BaseModel]] = {
    "limits": LimitsSettings,
    "routes": RouteSettings,
    "upstreams": UpstreamSettings,
}
ROWS = {
    f"{section}.{name}": (default, beyond)
    for section, name, default, beyond in ROW.findall(PAGE.read_text(encoding="utf-8"))
}
ME = b"Authorization: me"


@dataclass(frozen=True)
class Case:
    """``beyond`` goes beyond the limit that ``sections`` (of the configuration) set; it returns the
    answer where the page names a status, and judges by itself where it doesn't."""

    beyond: Callable[[Stage], Awaitable[Answer | None]]
    sections: Mapping[str, Any]
    serve: Serve = well_behaved


def says(request: bytes, method: bytes = b"GET") -> Callable[[Stage], Awaitable[Answer]]:
    """The answer to ``request``; the client goes on listening, as one does in the middle of it."""

    async def beyond(stage: Stage) -> Answer:
        async with stage.connect() as client:
            await client.send(request)
            head = await client.head()
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            raw = head + await client.reader.readexactly(length)
            return answers_in(raw, [method], ended=False)[0]

    return beyond


async def one_more_connection(stage: Stage) -> Answer:
    async with stage.connect() as first:
        await first.send(get(b"/"))
        await first.head()
        return await says(get(b"/"))(stage)


async def two_requests(stage: Stage) -> None:
    async with stage.connect() as client:
        await client.send(get(b"/1") + get(b"/2") + get(b"/3"))
        first, second = await client.answers(b"GET", b"GET")
    assert (first.status, second.status) == (200, 200)
    assert second.values(b"connection") == [b"close"]
    assert [each.target for each in stage.backend.requests] == [b"/1", b"/2"]


async def silence(stage: Stage) -> None:
    async with stage.connect() as client:
        assert await client.rest() == (b"", True)


async def hang(line: Line) -> None:
    if await line.request() is not None:
        await line.until_closed()


async def hang_in_the_answer(line: Line) -> None:
    await line.request()
    await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun")
    await line.until_closed()


async def large(line: Line) -> None:
    while await line.request() is not None:
        await line.send(CREATED.replace(b": 8", b": 20") + b" " * 12)


async def cut_off(stage: Stage) -> None:
    (answer,) = await stage.says(get(b"/"))
    assert (answer.status, answer.whole) == (200, False)


async def while_one_is_at_work(stage: Stage) -> Answer:
    async with stage.connect() as first:
        await first.send(get(b"/first"))
        await until_asked(stage)
        return await says(get(b"/second"))(stage)


def while_a_body_comes(begun: bytes) -> Callable[[Stage], Awaitable[Answer]]:
    """The second of two clients in the middle of such a request."""

    async def beyond(stage: Stage) -> Answer:
        async with stage.connect() as first:
            await first.send(begun)
            await eventually(lambda: stage.gateway.admission.bodies + len(stage.backend.lines))
            return await says(begun, b"POST")(stage)

    return beyond


async def until_asked(stage: Stage) -> None:
    async with asyncio.timeout(20):
        while not stage.backend.requests:  # noqa: ASYNC110 - the backend's own event
            await asyncio.sleep(0.001)


async def it_waits(stage: Stage) -> None:
    async with stage.connect() as first, stage.connect() as second:
        await first.send(get(b"/first"))
        await until_asked(stage)
        await second.send(get(b"/second"))
        assert len(stage.backend.requests) == 1
        await first.head()
        await second.head()


def held(seconds: float) -> Serve:
    async def serve(line: Line) -> None:
        while await line.request() is not None:
            await asyncio.sleep(seconds)
            await line.send(OK)

    return serve


async def a_third_order(stage: Stage) -> Answer:
    for number in (1, 2):
        (made,) = await stage.says(post(b"{}", ME, KEY + b"k-%d" % number), b"POST")
        assert made.status == 201
    (refused,) = await stage.says(post(b"{}", ME, KEY + b"k-3"), b"POST")
    (repeat,) = await stage.says(post(b"{}", ME, KEY + b"k-1"), b"POST")
    assert repeat.status == 201
    return refused


async def a_second_order(stage: Stage) -> Answer:
    await stage.says(post(b"{}", ME, KEY + b"k-1"), b"POST")
    return (await stage.says(post(b"{}", ME, KEY + b"k-2"), b"POST"))[0]


async def a_second_read(stage: Stage) -> Answer:
    await stage.says(get(b"/"))
    return (await stage.says(get(b"/")))[0]


async def another_tunnel(stage: Stage) -> Answer:
    async with tunnel(stage):
        return await says(get(b"/chat", *ASK))(stage)


async def a_quiet_tunnel(stage: Stage) -> None:
    async with tunnel(stage) as client:
        assert (await client.rest())[0] == b""


async def two_waits(stage: Stage) -> None:
    """An order in doubt, whose status two clients wait for."""
    (told,) = await stage.says(post(b"{}", ME, KEY + b"k-1"), b"POST")
    place = orjson.loads(told.body)["status_url"].encode()
    wait = get(place, b"Prefer: wait=20")
    async with stage.connect() as first, stage.connect() as second:
        for client in (first, second):
            await client.send(wait)
        heads = {asyncio.create_task(client.head()) for client in (first, second)}
        done, waiting = await asyncio.wait(heads, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result()[:13] for task in done] == [b"HTTP/1.1 200 "]
        for task in waiting:
            task.cancel()


async def an_order_that_takes_too_long(stage: Stage) -> None:
    (told,) = await stage.says(post(b"{}", ME), b"POST")
    assert told.status == 202


async def an_answer_that_is_too_large(stage: Stage) -> None:
    (told,) = await stage.says(post(b"{}", ME), b"POST")
    assert told.status == 201
    assert len(orjson.loads(told.body)["digest"]) == 64


def limits(line: str) -> dict[str, str]:
    return {"limits": line}


ONE_AT_WORK = "requests_max = 1\nrequests_min = 1\n"
CASES: dict[str, Case] = {
    "limits.connections_max": Case(one_more_connection, limits("connections_max = 1")),
    "limits.connections_per_address_max": Case(
        one_more_connection, limits("connections_per_address_max = 1")
    ),
    "limits.requests_per_connection_max": Case(
        two_requests, limits("requests_per_connection_max = 2")
    ),
    "limits.idle_s": Case(silence, limits("idle_s = 0.2")),
    "limits.header_s": Case(says(b"GET / HTTP/1.1\r\nHost:"), limits("header_s = 0.2")),
    "limits.target_bytes_max": Case(says(get(b"/" + b"a" * 100)), limits("target_bytes_max = 100")),
    "limits.head_bytes_max": Case(
        says(get(b"/", b"X: " + b"a" * 1_000)), limits("head_bytes_max = 1000")
    ),
    "limits.fields_max": Case(says(get(b"/", *[b"X: 1"] * 5)), limits("fields_max = 5")),
    "routes.body_bytes_max": Case(
        says(post(b"12345"), b"POST"), {"order": ORDER + "body_bytes_max = 4"}
    ),
    "limits.body_s": Case(says(post(b"12345")[:-1], b"POST"), limits("body_s = 0.2")),
    "limits.plain_body_bytes_max": Case(
        says(post(b"12345", target=b"/up"), b"POST"), limits("plain_body_bytes_max = 4")
    ),
    "limits.plain_body_idle_s": Case(
        says(post(b"12345", target=b"/up")[:-1], b"POST"), limits("plain_body_idle_s = 0.2")
    ),
    "limits.plain_total_s": Case(says(get(b"/")), limits("plain_total_s = 0.2"), hang),
    "limits.requests_max": Case(it_waits, limits(ONE_AT_WORK + "queue_s = 20"), held(0.2)),
    "limits.queue_max": Case(while_one_is_at_work, limits(ONE_AT_WORK + "queue_max = 0"), hang),
    "limits.queue_s": Case(while_one_is_at_work, limits(ONE_AT_WORK + "queue_s = 0.1"), hang),
    "limits.orders_per_client_max": Case(a_third_order, limits("orders_per_client_max = 2")),
    "routes.rate_per_client": Case(
        a_second_order, {"order": ORDER + 'rate_per_client = "1/minute"'}
    ),
    "routes.rate_per_address": Case(a_second_read, {"plain": 'rate_per_address = "1/minute"'}),
    "limits.waits_max": Case(
        two_waits, {"order": "answer_within_s = 0.2", **limits("waits_max = 1")}, hang
    ),
    "limits.bodies_max": Case(
        while_a_body_comes(post(b"12345")[:-1]),
        limits("bodies_max = 1"),
    ),
    "limits.uploads_max": Case(
        while_a_body_comes(post(bytes(65_537), target=b"/up")[:-1]),
        limits("uploads_max = 1"),
    ),
    "limits.tunnels_max": Case(another_tunnel, limits("tunnels_max = 1"), echoing),
    "limits.tunnel_idle_s": Case(a_quiet_tunnel, limits("tunnel_idle_s = 0.2"), echoing),
    "upstreams.connections_max": Case(
        while_one_is_at_work, {"upstream": "connections_max = 1"}, hang
    ),
    "upstreams.plain_connections_max": Case(
        while_one_is_at_work, {"upstream": "plain_connections_max = 1"}, hang
    ),
    "limits.plain_head_s": Case(says(get(b"/")), limits("plain_head_s = 0.2"), hang),
    "limits.plain_quiet_s": Case(cut_off, limits("plain_quiet_s = 0.2"), hang_in_the_answer),
    "routes.answer_within_s": Case(
        an_order_that_takes_too_long, {"order": "answer_within_s = 0.2"}, hang
    ),
    "routes.answer_bytes_max": Case(
        an_answer_that_is_too_large, {"order": ORDER + "answer_bytes_max = 10"}, large
    ),
}
ELSEWHERE = {
    "limits.pipelined_max": "test_pipelining_without_reading_is_held_back",
    "limits.write_s": "test_a_client_that_never_reads_is_cut_off_and_its_upstream_freed",
    "upstreams.connect_timeout_s": "test_connect_that_takes_too_long_is_not_sent",
}


def test_every_row_is_tried() -> None:
    assert ROWS.keys() == CASES.keys() | ELSEWHERE.keys()
    files = (PAGE.parents[1] / "tests").rglob("test_*.py")
    tests = "".join(path.read_text(encoding="utf-8") for path in files)
    assert all(f"def {name}(" in tests for name in ELSEWHERE.values())


@pytest.mark.parametrize("name", ROWS)
def test_the_default_is_what_the_page_says(name: str) -> None:
    section, field = name.split(".")
    default = MODELS[section].model_fields[field].default
    said = ROWS[name][0]
    assert (None if said == "none" else float(said)) == default


@pytest.mark.parametrize("name", CASES)
async def test_what_lies_beyond_the_limit_is_what_the_page_says(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    told = TOLD.search(ROWS[name][1])
    async with staged(tmp_path, case.serve, **case.sections) as stage:
        answer = await case.beyond(stage)
        assert (answer is None) is (told is None)
        if answer is None or told is None:
            return
        problem = orjson.loads(answer.body)
        assert answer.values(b"content-type") == [b"application/problem+json"]
        assert (str(answer.status), problem["type"].rpartition("/")[2]) == told.groups()
        assert problem["status"] == answer.status
        if answer.status in (429, 503):
            assert answer.values(b"retry-after")


def test_workers_share_the_connections_of_the_gateway() -> None:
    limits = LimitsSettings(connections_max=10, connections_per_address_max=4)
    shares = server_limits(limits, ListenSettings(workers=4))
    assert (shares.connections_max, shares.connections_per_address_max) == (3, 1)
