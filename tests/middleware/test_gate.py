"""The gate: what it hands on, what it refuses, and what it leaves alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from middleware.idempotency.gate import (
    SUBMISSION,
    GatePolicy,
    KeyMode,
    ScopeSource,
    Submission,
    idempotency_gate,
)
from middleware.idempotency.rules import raw_fingerprint, scope_digest
from middleware.problems import problems
from tests.middleware.applications import application

UUID = "8e03978e-40d5-43dd-bc93-6894a57f9324"
ALICE = ("Authorization", "Bearer alice")
SOURCES = tuple(
    ScopeSource.parse(text) for text in ("header:Authorization", "cookie:session", "header:X-Who")
)


class Gated:
    """An application behind the gate; keeps the submissions that came through."""

    def __init__(self, key: KeyMode) -> None:
        self.policy = GatePolicy(key, SOURCES, body_bytes_max=50, body_deadline_s=5.0)
        self.through: list[Submission | None] = []
        self.ask: Any = None

    async def handler(self, request: web.Request) -> web.StreamResponse:
        self.through.append(request.get(SUBMISSION))
        return web.Response()

    def policy_of(self, request: web.BaseRequest) -> GatePolicy | None:
        return self.policy if request.method == "POST" else None

    async def submit(self, *headers: tuple[str, str], body: bytes = b"{}") -> tuple[int, Any]:
        session, base = self.ask
        async with session.post(f"{base}/there/%2Fx?a=1", headers=headers, data=body) as answer:
            problem = await answer.json(content_type=None) if answer.status >= 400 else None
            return answer.status, problem

    async def accepted(self, *headers: tuple[str, str], body: bytes = b"{}") -> Submission:
        status, problem = await self.submit(*headers, body=body)
        assert status == 200, problem
        submission = self.through.pop()
        assert submission is not None
        return submission

    async def refused(self, *headers: tuple[str, str], body: bytes = b"{}") -> dict[str, Any]:
        status, problem = await self.submit(*headers, body=body)
        assert status >= 400
        assert self.through == []
        assert isinstance(problem, dict)
        return problem


def unforeseen(request: web.BaseRequest, error: BaseException) -> None:
    raise AssertionError(error)


@asynccontextmanager
async def gated(key: KeyMode = "attach") -> AsyncIterator[Gated]:
    gate = Gated(key)
    middlewares = (problems(on_failure=unforeseen), idempotency_gate(gate.policy_of))
    async with application(gate.handler, *middlewares) as ask:
        gate.ask = ask
        yield gate


async def test_a_submission_with_key_and_scope_is_handed_on_whole() -> None:
    async with gated() as gate:
        submission = await gate.accepted(ALICE, ("Idempotency-Key", '"k"'), body=b'{"n": 1}')
        assert submission == Submission(
            scope=scope_digest("header:authorization", b"Bearer alice"),
            key="k",
            key_kind="given",
            fingerprint=raw_fingerprint("POST", b"/there/%2Fx", b"a=1", b'{"n": 1}'),
            method="POST",
            target=b"/there/%2Fx?a=1",
            body=b'{"n": 1}',
        )


async def test_k_and_quoted_k_are_one_key() -> None:
    async with gated() as gate:
        bare = await gate.accepted(ALICE, ("Idempotency-Key", "k"))
        quoted = await gate.accepted(ALICE, ("Idempotency-Key", '"k"'))
        assert bare == quoted


async def test_without_a_key_a_known_client_gets_one_attached() -> None:
    async with gated() as gate:
        submission = await gate.accepted(ALICE)
        assert (submission.key, submission.key_kind) == (None, "attached")


async def test_without_key_and_scope_a_submission_is_anonymous() -> None:
    async with gated() as gate:
        submission = await gate.accepted()
        assert (submission.scope, submission.key_kind) == (None, "anonymous")


async def test_an_anonymous_key_counts_only_if_it_can_not_be_guessed() -> None:
    async with gated() as gate:
        submission = await gate.accepted(("Idempotency-Key", UUID))
        assert (submission.scope, submission.key, submission.key_kind) == (None, UUID, "given")
        problem = await gate.refused(("Idempotency-Key", "order-17"))
        assert (problem["status"], problem["reason"]) == (400, "guessable")


async def test_where_no_two_clients_may_choose_one_key_it_must_not_be_guessed_either() -> None:
    async with gated() as gate:
        gate.policy = replace(gate.policy, unguessable_keys=True)
        problem = await gate.refused(ALICE, ("Idempotency-Key", "order-17"))
        assert (problem["status"], problem["reason"]) == (400, "guessable")
        assert (await gate.accepted(ALICE, ("Idempotency-Key", UUID))).key == UUID
        assert (await gate.accepted(ALICE)).key_kind == "attached"


@pytest.mark.parametrize(
    ("twice", "once"),
    [
        (("Cookie", "session=a; x=1; session=a"), ("Cookie", "session=a")),
        (("Cookie", "session=a; session="), ("Cookie", "session=a")),
    ],
)
async def test_one_identity_that_is_shown_twice_is_one(twice: Any, once: Any) -> None:
    """As browsers do after a change of a cookie's Domain or Path."""
    async with gated() as gate:
        assert (await gate.accepted(twice)).scope == (await gate.accepted(once)).scope is not None


@pytest.mark.parametrize("headers", [(), (ALICE,)])
async def test_a_required_key_that_is_missing_is_refused(headers: Any) -> None:
    async with gated("require") as gate:
        problem = await gate.refused(*headers)
        assert problem["status"] == 400
        assert problem["type"].endswith("/idempotency-key-missing")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (("k", "k"), "repeated"),
        (("",), "empty"),
        (("x" * 300,), "too_long"),
        (("a b",), "whitespace"),
        (("ä",), "not_ascii"),
    ],
)
async def test_a_bad_key_is_refused_with_its_reason(values: tuple[str, ...], reason: str) -> None:
    async with gated() as gate:
        keys = [("Idempotency-Key", value) for value in values]
        problem = await gate.refused(ALICE, *keys)
        assert (problem["status"], problem["reason"]) == (400, reason)
        assert problem["detail"]


async def test_the_first_scope_source_that_is_shown_counts() -> None:
    cookie, who = ("Cookie", "a=b; session=s1"), ("X-Who", "w")
    async with gated() as gate:
        assert (await gate.accepted(cookie, who, ALICE)).scope == scope_digest(
            "header:authorization", b"Bearer alice"
        )
        assert (await gate.accepted(who, cookie)).scope == scope_digest("cookie:session", b"s1")
        assert (await gate.accepted(who)).scope == scope_digest("header:x-who", b"w")
        assert (await gate.accepted(("X-Who", ""))).scope is None
        assert (await gate.accepted(("Cookie", "SESSION=s1; xsession=s1"))).scope is None


@pytest.mark.parametrize(
    "headers", [(ALICE, ("Authorization", "Bearer bob")), (("Cookie", "session=a; session=b"),)]
)
async def test_two_identities_in_one_request_are_refused(headers: Any) -> None:
    async with gated() as gate:
        problem = await gate.refused(*headers)
        assert problem["type"].endswith("scope-invalid")


async def test_a_compressed_order_is_refused() -> None:
    async with gated() as gate:
        assert (await gate.refused(ALICE, ("Content-Encoding", "gzip")))["status"] == 415
        assert (await gate.refused(ALICE, ("Content-Encoding", "x, gzip")))["status"] == 415
        await gate.accepted(ALICE, ("Content-Encoding", "identity"))


async def test_an_order_that_is_too_large_is_refused() -> None:
    async with gated() as gate:
        problem = await gate.refused(ALICE, body=b"x" * 51)
        assert (problem["status"], problem["body_bytes_max"]) == (413, 50)
        await gate.accepted(ALICE, body=b"x" * 50)


async def test_other_requests_pass_untouched() -> None:
    async with gated() as gate:
        session, base = gate.ask
        async with session.get(f"{base}/there", headers=[("Idempotency-Key", "")]) as answer:
            assert answer.status == 200
        assert gate.through == [None]


@pytest.mark.parametrize("text", ["", "header", "header:", "jwt:sub", "cookie: a", "header:ä"])
def test_a_scope_source_that_makes_no_sense_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"scope source|neither header"):
        ScopeSource.parse(text)
