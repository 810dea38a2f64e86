"""Request ids, access log and admission around a request."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from middleware.access_log import ORDER_ID, access_log
from middleware.admission import Admission, AdmissionPolicy, Priority, Shed
from middleware.problems import problems
from middleware.request_id import request_id
from tests.middleware.applications import application, got


async def ok(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text="ok")


def ignore(request: web.BaseRequest, error: BaseException) -> None: ...


async def id_of(*given: str, trust: bool) -> str:
    headers = [("Request-Id", value) for value in given]
    async with got(ok, request_id(lambda: "made", trust_incoming=trust), headers=headers) as answer:
        [identity] = answer.headers.getall("Request-Id")
        return str(identity)


async def test_a_request_id_is_made_where_nobody_trusted_gave_one() -> None:
    assert await id_of(trust=False) == "made"
    assert await id_of("theirs", trust=False) == "made"
    assert await id_of("theirs", trust=True) == "theirs"


@pytest.mark.parametrize("given", [("a", "b"), ("a b",), ("",), ("x" * 129,), ("ä",)])
async def test_a_malformed_request_id_is_replaced(given: tuple[str, ...]) -> None:
    assert await id_of(*given, trust=True) == "made"


async def test_the_access_log_has_one_line_a_request_without_query_or_key() -> None:
    lines: list[tuple[str, dict[str, Any]]] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        request[ORDER_ID] = "o1"
        return web.Response(text="hello")

    def log(event: str, **fields: Any) -> None:
        lines.append((event, fields))

    middlewares = (request_id(lambda: "id-1"), access_log(log, client=lambda _: "192.0.2.7"))
    async with application(handler, *middlewares) as (session, base):
        key = {"Idempotency-Key": "secret-key"}
        async with session.post(f"{base}/there?token=secret", data=b"secret", headers=key):
            pass
    [(event, fields)] = lines
    assert event == "request"
    assert fields.pop("duration_ms") >= 0
    assert fields == {
        "method": "POST",
        "path": "/there",
        "status": 200,
        "bytes": 5,
        "request_id": "id-1",
        "client": "192.0.2.7",
        "order": "o1",
    }


async def test_the_access_log_also_speaks_of_requests_that_were_never_answered() -> None:
    lines: list[dict[str, Any]] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        raise web.HTTPNotFound

    async with got(handler, access_log(lambda event, **fields: lines.append(fields))):
        pass
    assert [line["status"] for line in lines] == [None]


async def test_one_request_too_many_is_shed_at_once_and_a_place_comes_free() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        entered.set()
        await leave.wait()
        return web.Response()

    admission = Admission(AdmissionPolicy(1, queue_max=0), retry_after_s=7)
    middlewares = (problems(on_failure=ignore), admission.middleware())
    async with application(handler, *middlewares) as (session, base):
        first = asyncio.create_task(session.get(f"{base}/there"))
        await entered.wait()
        async with session.get(f"{base}/there") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
        assert (admission.running, admission.shed[Priority.READ, Shed.FULL]) == (1, 1)
        leave.set()
        async with await first as answer:
            assert answer.status == 200
        async with session.get(f"{base}/there") as answer:
            assert answer.status == 200
        assert (admission.running, admission.waiting) == (0, 0)


def test_admission_without_room_is_an_error() -> None:
    with pytest.raises(ValueError, match="room"):
        Admission(AdmissionPolicy(0))
