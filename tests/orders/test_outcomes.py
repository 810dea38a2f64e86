"""outcomes.py: which answers mean what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orders.attempts import Answer
from gateway.orders.outcomes import (
    RETRY_AFTER_S_MAX,
    Confirms,
    Inconclusive,
    NotAdmitted,
    NotProcessed,
    ProvesNothing,
    Refuses,
    Verdict,
    at_pointer,
    judge,
    retry_after_s,
)
from gateway.orders.promise import OutcomeTable
from tests.orders.making import answer

DEFAULTS = OutcomeTable()
LISTS = (
    "confirmed_when",
    "rejected_when",
    "not_admitted_when",
    "not_processed_when",
    "in_doubt_when",
)


def first(given_answer: Answer, table: OutcomeTable = DEFAULTS) -> Verdict:
    return judge(given_answer, table, resend=False)


def again(given_answer: Answer, table: OutcomeTable = DEFAULTS) -> Verdict:
    return judge(given_answer, table, resend=True)


def by_default(status: int) -> type[Verdict]:
    match status:
        case 401 | 403 | 407:
            return NotAdmitted
        case 425 | 429:
            return NotProcessed
        case 202 | 408:
            return ProvesNothing
        case _ if 200 <= status < 300:
            return Confirms
        case _ if 400 <= status < 500:
            return Refuses
        case _:
            return ProvesNothing


@pytest.mark.parametrize("status", range(100, 1000))
def test_every_status_means_by_default_what_the_table_says(status: int) -> None:
    assert type(first(answer(status))) is by_default(status)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (202, Inconclusive.ACCEPTED_ONLY),
        (302, Inconclusive.REDIRECT),
        (408, Inconclusive.REQUEST_TIMEOUT),
        (500, Inconclusive.SERVER_ERROR),
        (503, Inconclusive.SERVER_ERROR),
        (199, Inconclusive.UNKNOWN_STATUS),
        (600, Inconclusive.UNKNOWN_STATUS),
    ],
)
def test_an_answer_that_proves_nothing_says_why(status: int, reason: Inconclusive) -> None:
    assert first(answer(status)) == ProvesNothing(reason)


@pytest.mark.parametrize("status", [401, 403, 404, 407, 408, 409, 425, 429, 500, 502, 503, 504])
def test_on_a_resend_these_prove_nothing(status: int) -> None:
    assert isinstance(again(answer(status)), ProvesNothing)


@pytest.mark.parametrize("listing", ["rejected_when", "not_admitted_when", "not_processed_when"])
@pytest.mark.parametrize("status", [401, 403, 404, 407, 408, 409, 425, 429, 500, 503])
def test_on_a_resend_no_list_of_the_route_makes_them_prove_something(
    status: int, listing: str
) -> None:
    table = OutcomeTable(**{listing: (str(status),)})  # type: ignore[arg-type]
    assert again(answer(status), table) == ProvesNothing(Inconclusive.RESEND_PROVES_NOTHING)


@given(st.integers(100, 999), st.sampled_from(LISTS[:4]), st.booleans())
def test_on_a_resend_nothing_is_said_to_be_not_admitted_or_not_processed(
    status: int, listing: str, by_class: bool
) -> None:
    name = f"{status // 100}xx" if by_class else str(status)
    verdict = again(answer(status), OutcomeTable(**{listing: (name,)}))  # type: ignore[arg-type]
    assert not isinstance(verdict, NotAdmitted | NotProcessed)


@pytest.mark.parametrize("status", [200, 201, 204])
def test_a_success_of_a_resend_confirms(status: int) -> None:
    assert again(answer(status)) == Confirms()


@pytest.mark.parametrize("status", [400, 402, 410, 422, 451])
def test_a_refusal_of_a_resend_is_a_refusal(status: int) -> None:
    assert again(answer(status)) == Refuses()


@given(st.integers(100, 599), st.sampled_from(LISTS), st.booleans())
def test_a_list_of_the_route_overrides_the_default(
    status: int, listing: str, by_class: bool
) -> None:
    expected: dict[str, type[Verdict]] = {
        "confirmed_when": Confirms,
        "rejected_when": Refuses,
        "not_admitted_when": NotAdmitted,
        "not_processed_when": NotProcessed,
        "in_doubt_when": ProvesNothing,
    }
    name = f"{status // 100}xx" if by_class else str(status)
    table = OutcomeTable(**{listing: (name,)})  # type: ignore[arg-type]
    assert type(first(answer(status), table)) is expected[listing]


def test_a_code_counts_before_its_class() -> None:
    table = OutcomeTable(confirmed_when=("409",), in_doubt_when=("4xx",))
    assert first(answer(409), table) == Confirms()
    assert first(answer(410), table) == ProvesNothing(Inconclusive.LISTED)


@given(st.integers(100, 599), st.sets(st.sampled_from(LISTS), min_size=1))
def test_of_two_lists_with_the_same_status_the_more_careful_counts(
    status: int, listings: set[str]
) -> None:
    table = OutcomeTable(**dict.fromkeys(listings, (str(status),)))  # type: ignore[arg-type]
    if "in_doubt_when" in listings:
        assert first(answer(status), table) == ProvesNothing(Inconclusive.LISTED)
    elif listings != {"confirmed_when"}:
        assert first(answer(status), table) != Confirms()


def test_where_refusals_are_named_another_4xx_leaves_doubt() -> None:
    table = OutcomeTable(rejected_when=("422",))
    assert first(answer(422), table) == Refuses()
    for status in (400, 404, 409):
        assert first(answer(status), table) == ProvesNothing(Inconclusive.REFUSAL_NOT_LISTED)
    assert isinstance(first(answer(429), table), NotProcessed)


@pytest.mark.parametrize("status", [200, 201, 400, 422])
def test_an_answer_that_only_the_close_ended_proves_nothing(status: int) -> None:
    assert first(answer(status, framed=False)) == ProvesNothing(Inconclusive.UNFRAMED)


@pytest.mark.parametrize("body", [b'{"id":1', b'{"id":1}x', b"[1,", b'"', b"\xff", b'{"a":NaN}'])
@pytest.mark.parametrize(
    "kind",
    [b"application/json", b"Application/JSON; charset=utf-8", b"application/problem+json"],
)
def test_truncated_json_confirms_nothing(body: bytes, kind: bytes) -> None:
    assert first(answer(201, body, kind=kind)) == ProvesNothing(Inconclusive.NOT_WHOLE)


@pytest.mark.parametrize(
    "body", [b'{"id":1', b'{"id":1}x', b"[1,", b' {"a":NaN}', b"\xef\xbb\xbf["]
)
def test_a_refusal_whose_json_breaks_off_proves_nothing(body: bytes) -> None:
    assert first(answer(402, body)) == ProvesNothing(Inconclusive.NOT_WHOLE)
    assert first(answer(402, body, kind=b"text/plain")) == Refuses()


@pytest.mark.parametrize(
    "body", [b"card declined", b"<p>no</p>", b'"no" is no', b"\xff", b" ", b""]
)
def test_a_refusal_is_one_whatever_its_body(body: bytes) -> None:
    """In doubt, a declined card would be tried again and again."""
    assert first(answer(402, body)) == Refuses()
    assert first(answer(402, body, framed=False)) == ProvesNothing(Inconclusive.UNFRAMED)


@pytest.mark.parametrize(
    "body", [rb'{"name":"Ann\ud83d"}', b'{"x":1e400}', b" ", b"\r\n", b'{"x":' + b"9" * 400 + b"}"]
)
def test_json_that_strict_parsers_refuse_confirms(body: bytes) -> None:
    assert first(answer(201, body)) == Confirms()


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000])
def test_json_too_deep_to_read_confirms_nothing(body: bytes) -> None:
    assert first(answer(201, body)) == ProvesNothing(Inconclusive.NOT_WHOLE)


def test_a_byte_order_mark_is_passed_over() -> None:
    shown = OutcomeTable(answer_id="/id")
    assert first(answer(201, b'\xef\xbb\xbf{"id": 7}'), shown) == Confirms()
    twice = answer(201, b'\xef\xbb\xbf\xef\xbb\xbf{"id": 7}')
    assert first(twice) == ProvesNothing(Inconclusive.NOT_WHOLE)


def test_what_is_not_json_need_not_parse() -> None:
    assert first(answer(201, b"{ok", kind=b"text/plain")) == Confirms()
    assert first(answer(204, b"")) == Confirms()
    coded = answer(201, b"\x1f\x8b", extra=((b"Content-Encoding", b"gzip"),))
    assert first(coded) == Confirms()


@pytest.mark.parametrize("body", [b"null", b" null ", b"false", b"0", b'""', b"[]"])
def test_a_whole_json_document_is_whole_whatever_it_says(body: bytes) -> None:
    assert first(answer(201, body)) == Confirms()
    assert first(answer(422, body)) == Refuses()


@pytest.mark.parametrize(
    ("body", "confirms"),
    [
        (b'{"id": 42}', True),
        (b'{"id": 0}', True),
        (b'{"id": ""}', False),
        (b'{"id": null}', False),
        (b'{"ids": 1}', False),
        (b"[]", False),
        (b"null", False),
        (b"", False),
        (b"<html>", False),
    ],
)
@pytest.mark.parametrize("kind", [b"application/json", b"text/html"])
def test_a_confirming_answer_must_show_the_answer_id_where_the_route_names_one(
    body: bytes, confirms: bool, kind: bytes
) -> None:
    verdict = first(answer(201, body, kind=kind), OutcomeTable(answer_id="/id"))
    assert isinstance(verdict, Confirms if confirms else ProvesNothing)


def test_an_answer_too_large_to_look_into_cannot_show_its_id() -> None:
    large = Answer(201, b"", answer(201).headers, b"", oversize=True, digest="ab")
    assert first(large) == Confirms()
    assert isinstance(first(large, OutcomeTable(answer_id="/id")), ProvesNothing)


def test_a_refusal_need_not_show_the_answer_id() -> None:
    assert first(answer(422, b'{"error": 1}'), OutcomeTable(answer_id="/id")) == Refuses()


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", {"a": [{"b/c": 1, "m~n": 2}], "": 3, "0": 4}),
        ("/a/0/b~1c", 1),
        ("/a/0/m~0n", 2),
        ("/", 3),
        ("/0", 4),
        ("/a/1", None),
        ("/a/00", None),
        ("/a/-", None),
        ("/a/\u00b2", None),
        ("/a/" + "9" * 5000, None),
        ("/x", None),
        ("/a/0/b~1c/d", None),
        ("a", None),
        ("id", None),
    ],
)
def test_a_json_pointer_is_read_as_its_rfc_says(pointer: str, value: object) -> None:
    document = {"a": [{"b/c": 1, "m~n": 2}], "": 3, "0": 4}
    assert at_pointer(document, pointer) == value


def test_an_answer_id_that_is_no_pointer_confirms_nothing() -> None:
    verdict = first(answer(201), OutcomeTable(answer_id="id"))
    assert verdict == ProvesNothing(Inconclusive.ID_MISSING)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"7", 7.0),
        (b"86400", RETRY_AFTER_S_MAX),
        (b"9" * 400, RETRY_AFTER_S_MAX),
        (b"-1", None),
        (b"1.5", None),
        (b"", None),
        (b"Fri, 31 Dec 1999 23:59:59 GMT", None),
    ],
)
def test_retry_after_is_honoured_in_seconds_and_bounded(
    value: bytes, seconds: float | None
) -> None:
    told = answer(429, extra=((b"Retry-After", value),))
    assert retry_after_s(told) == seconds
    assert first(told) == NotProcessed(seconds)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        (b"Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        (b"Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
        (b"Sun Nov  6 08:50:37 1994", None),
        (b"Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
        (b"Wed, 01 Jan 9999 00:00:00 GMT", RETRY_AFTER_S_MAX),
        (b"soon", None),
    ],
)
def test_a_date_to_retry_after_counts_from_the_answers_own(
    value: bytes, seconds: float | None
) -> None:
    date = (b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT")
    assert retry_after_s(answer(429, extra=(date, (b"Retry-After", value)))) == seconds


@given(
    st.integers(100, 999),
    st.binary(max_size=40),
    st.sampled_from([b"application/json", b"text/plain", b""]),
    st.booleans(),
    st.booleans(),
)
def test_judging_never_raises_and_only_a_framed_answer_confirms(
    status: int, body: bytes, kind: bytes, framed: bool, resend: bool
) -> None:
    table = OutcomeTable(answer_id="/id")
    verdict = judge(answer(status, body, kind=kind, framed=framed), table, resend=resend)
    if isinstance(verdict, Confirms):
        assert framed
        assert 200 <= status < 300
