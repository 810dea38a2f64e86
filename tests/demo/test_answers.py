"""What customers conclude: from the gateway's answers, its status page, and the bare backend."""

import base64
import json

import pytest

from gateway.demo.answers import (
    AGAIN_S_MAX,
    Again,
    Conclusion,
    Definite,
    Watch,
    conclude,
    conclude_bare,
    conclude_status,
)
from gateway.demo.wire import Reply, Silence, SilenceReason
from gateway.orders.states import Status

PAGE = "/_gateway/orders/e-1"
ORDER = b'{"id":"o-1","reference":"i-1"}'
MADE = Definite(Status.CONFIRMED, 201, ORDER, "o-1", "i-1")


def reply(status: int, body: bytes = b"", **fields: str) -> Reply:
    headers = tuple((n.replace("_", "-").encode(), v.encode()) for n, v in fields.items())
    return Reply(status, headers, body)


def problem(status: int, **members: object) -> Reply:
    return reply(status, json.dumps(members).encode(), Content_Type="application/problem+json")


def page(status: str, answer: object = None, code: int = 200) -> Reply:
    return reply(code, json.dumps({"id": "e-1", "status": status, "answer": answer}).encode())


def test_a_2xx_confirms_and_shows_the_order() -> None:
    assert conclude(reply(201, ORDER)) == MADE


def test_what_a_lookup_found_is_read_from_its_list() -> None:
    said = conclude(reply(201, b"[" + ORDER + b"]"))
    assert isinstance(said, Definite)
    assert said.order_id == "o-1"


def test_a_4xx_of_the_backend_rejects() -> None:
    assert conclude(reply(422, b'{"error":"out of stock"}')) == Definite(
        Status.REJECTED, 422, b'{"error":"out of stock"}'
    )


@pytest.mark.parametrize("status", [401, 403, 407])
def test_who_was_not_admitted_has_failed(status: int) -> None:
    said = conclude(reply(status))
    assert isinstance(said, Definite)
    assert said.status is Status.FAILED


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
def test_what_proves_nothing_is_asked_again(status: int) -> None:
    assert isinstance(conclude(reply(status)), Again)
    assert isinstance(conclude_bare(reply(status)), Again)


@pytest.mark.parametrize("reason", list(SilenceReason))
def test_silence_is_asked_again(reason: SilenceReason) -> None:
    assert isinstance(conclude(Silence(reason)), Again)
    assert isinstance(conclude_bare(Silence(reason)), Again)


@pytest.mark.parametrize(
    "accepted",
    [
        reply(202, b'{"id":"e-1","status":"in_doubt"}', Location=PAGE),
        reply(202, b'{"id":"e-1","status":"in_doubt"}', Location=f"http://shop.test{PAGE}"),
        reply(202, b'{"id":"e-1","status":"in_doubt","status_url":"/_gateway/orders/e-1"}'),
        reply(202, b'{"id":"e-1","status":"in_doubt"}'),
    ],
)
def test_a_202_is_watched_at_its_status_page(accepted: Reply) -> None:
    assert conclude(accepted) == Watch(PAGE, Status.IN_DOUBT)


def test_a_202_about_a_dead_letter_is_the_end_for_now() -> None:
    said = conclude(reply(202, b'{"id":"e-1","status":"dead_letter"}', Location=PAGE))
    assert said == Definite(Status.DEAD_LETTER)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            problem(503, order="e-1", order_status="failed", safe_new_key=True),
            Definite(Status.FAILED, 503),
        ),
        (problem(503, order="e-1", order_status="failed", safe_new_key=False), Again()),
        (
            problem(504, order="e-1", order_status="in_doubt", safe_new_key=False),
            Watch(PAGE, Status.IN_DOUBT),
        ),
        (problem(503, order=None, order_status=None, safe_new_key=False), Again()),
        (problem(503, order=None, order_status=None, safe_new_key=True), Again()),
        (problem(400, title="A key is needed"), Again()),
        (problem(422, title="Another order has this key", safe_new_key=False), Again()),
    ],
)
def test_an_error_of_the_gateway_is_never_an_answer_to_the_order(
    said: Reply, expected: Conclusion
) -> None:
    assert conclude(said) == expected


@pytest.mark.parametrize("status", ["confirmed", "rejected"])
def test_an_answer_that_is_past_its_time_still_says_how_the_order_ended(status: str) -> None:
    told = problem(410, order="e-1", order_status=status, safe_new_key=False)
    assert conclude(told) == Definite(Status(status), gone=True)


def test_retry_after_is_honoured_within_a_customers_patience() -> None:
    assert conclude(reply(503, Retry_After="1")) == Again(1.0)
    assert conclude(reply(503, Retry_After="3600")) == Again(AGAIN_S_MAX)


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 201, "headers": [], "body": ORDER.decode()},
        {"status": 201, "headers": [], "body_base64": base64.b64encode(ORDER).decode()},
    ],
)
def test_the_status_page_gives_the_same_answer_as_the_order_route(answer: object) -> None:
    assert conclude_status(page("confirmed", answer), PAGE) == MADE


@pytest.mark.parametrize("status", ["failed", "dead_letter"])
def test_the_status_page_can_end_without_an_answer(status: str) -> None:
    assert conclude_status(page(status), PAGE) == Definite(Status(status))


@pytest.mark.parametrize("status", ["received", "dispatched", "in_doubt"])
def test_a_pending_order_is_watched_on(status: str) -> None:
    assert conclude_status(page(status), PAGE) == Watch(PAGE, Status(status))


def test_a_page_that_is_gone_is_submitted_again_and_one_that_fails_is_watched_on() -> None:
    assert isinstance(conclude_status(page("confirmed", code=404), PAGE), Again)
    assert isinstance(conclude_status(page("confirmed"), PAGE), Again)
    assert isinstance(conclude_status(reply(503, b"oh"), PAGE), Watch)
    assert isinstance(conclude_status(Silence(SilenceReason.NOT_CONNECTED), PAGE), Watch)
