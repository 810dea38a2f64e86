"""Errors leave as problem details, and tell nothing they should not."""

from typing import Any

import orjson
import pytest
from aiohttp import web

from middleware.errors import Fault
from middleware.problems import (
    _GENERIC,
    Problem,
    ProblemType,
    problems,
    stamp,
    stamp_on_prepare,
)
from middleware.request_id import request_id
from tests.middleware.applications import application, got


def ignore(request: web.BaseRequest, error: BaseException) -> None: ...


def raising(error: BaseException) -> Any:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        raise error

    return handler


async def told(error: BaseException, on_failure: Any = ignore) -> tuple[Any, Any, Any]:
    middlewares = (request_id(lambda: "id-1"), problems(on_failure=on_failure))
    async with got(raising(error), *middlewares) as answer:
        return answer.status, answer.headers, orjson.loads(await answer.read())


async def test_a_problem_becomes_its_answer() -> None:
    problem = Problem(
        422,
        "key-reused",
        "The key belongs to another order",
        "Use a new key.",
        members={"order": "o1", "status": "not ours"},
        headers={"Retry-After": "3"},
    )
    status, headers, document = await told(problem)
    assert status == 422
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Gateway-Source"] == "gateway"
    assert (headers["Retry-After"], headers["Request-Id"]) == ("3", "id-1")
    assert document == {
        "type": "/_gateway/problems/key-reused",
        "title": "The key belongs to another order",
        "status": 422,
        "detail": "Use a new key.",
        "instance": "id-1",
        "order": "o1",
    }


async def test_an_unforeseen_exception_is_a_500_that_tells_nothing() -> None:
    heard: list[BaseException] = []
    error = LookupError("secret")
    status, _, document = await told(error, lambda request, error: heard.append(error))
    assert (status, heard) == (500, [error])
    assert "secret" not in str(document)


async def test_aiohttps_refusals_become_problems_too() -> None:
    middlewares = (problems(on_failure=ignore),)
    async with application(raising(web.HTTPForbidden()), *middlewares) as (session, base):
        async with session.get(f"{base}/nowhere") as answer:
            assert (answer.status, answer.content_type) == (404, "application/problem+json")
        async with session.get(f"{base}/there") as answer:
            assert (answer.status, answer.content_type) == (403, "application/problem+json")


async def test_a_method_that_is_not_allowed_says_which_are() -> None:
    status, headers, _ = await told(web.HTTPMethodNotAllowed("PUT", ["GET"]))
    assert (status, headers["Allow"]) == (405, "GET")


async def test_a_redirect_is_no_problem() -> None:
    handler = raising(web.HTTPFound("/there/else"))
    async with got(handler, problems(on_failure=ignore), allow_redirects=False) as answer:
        assert answer.status == 302


async def test_a_stamp_reaches_streamed_answers() -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        stamp(request, "X-Stamp", "1")
        response = web.StreamResponse()
        await response.prepare(request)
        return response

    async with got(handler, request_id(lambda: "id-1"), prepare=stamp_on_prepare) as answer:
        assert (answer.headers["X-Stamp"], answer.headers["Request-Id"]) == ("1", "id-1")


def test_every_generic_problem_has_a_status_and_a_title() -> None:
    assert set(_GENERIC) == set(ProblemType) - {ProblemType.HTTP_ERROR}
    for kind, (status, title) in _GENERIC.items():
        problem = Problem.of(kind)
        assert (problem.status, problem.title, problem.slug) == (status, title, kind.value)


@pytest.mark.parametrize(
    ("status", "fault"), [(400, Fault.CLIENT), (499, Fault.CLIENT), (500, Fault.GATEWAY)]
)
def test_a_problem_says_whose_fault_it_is_and_promises_no_safe_repeat(
    status: int, fault: Fault
) -> None:
    problem = Problem(status, "x", "X")
    assert (problem.fault, problem.repeat_is_safe) == (fault, False)
