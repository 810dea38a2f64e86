"""lookups.py: what an upstream's answer to a lookup says."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orders.attempts import Answer
from gateway.orders.lookups import (
    FOUND_STATUS,
    Absent,
    Found,
    LookupResult,
    NoEvidence,
    NoEvidenceReason,
    lookup_target,
    read_lookup,
)
from gateway.orders.promise import LookupPlan
from tests.orders.making import BY_KEY, KEY, answer

ECHO = LookupPlan("GET", "/orders?k={key}", echo="/ref/key")
HUGE = b'{ "id" : 123456789012345678901234567890 ,\t"total": 1.10, "f": 1e400, "u":"\\u00e9" }'


def read(body: bytes, status: int = 200, plan: LookupPlan = BY_KEY) -> LookupResult:
    return read_lookup(answer(status, body), plan, KEY)


def kept(result: LookupResult) -> bytes:
    assert isinstance(result, Found)
    assert result.answer.body is not None
    return result.answer.body


def test_an_object_is_the_order_and_is_kept_as_created() -> None:
    result = read(b'{"id": 7}')
    assert isinstance(result, Found)
    assert not result.several
    assert result.answer.status == FOUND_STATUS == 201
    assert result.answer.source == "lookup"
    assert result.answer.body == b'{"id": 7}'
    assert result.answer.digest == hashlib.sha256(b'{"id": 7}').hexdigest()
    assert (b"Content-Type", b"application/json") in result.answer.headers


def test_a_byte_order_mark_is_passed_over() -> None:
    assert read(b"\xef\xbb\xbf[]") == Absent()


@pytest.mark.parametrize("body", [HUGE, b" \r\n" + HUGE + b"\n", b"\xef\xbb\xbf" + HUGE])
def test_the_raw_text_is_kept_byte_for_byte(body: bytes) -> None:
    assert kept(read(body)) == HUGE


@pytest.mark.parametrize(
    "body", [b"[" + HUGE + b"]", b"\n[ \r\n\t" + HUGE + b" ]\n", b"[" + HUGE + b" , {}]"]
)
def test_the_first_of_a_list_is_kept_byte_for_byte(body: bytes) -> None:
    assert kept(read(body)) == HUGE


def test_more_than_one_match_is_told() -> None:
    one, two = read(b'[{"id":1}]'), read(b'[{"id":1},{"id":2}]')
    assert isinstance(one, Found)
    assert not one.several
    assert isinstance(two, Found)
    assert two.several


@pytest.mark.parametrize(("status", "body"), [(404, b""), (404, b'{"e":1}'), (200, b"[]")])
def test_404_and_an_empty_list_say_absent(status: int, body: bytes) -> None:
    assert read(body, status) == Absent()
    assert read(b" [ \n] ") == Absent()


@given(st.integers(100, 599).filter(lambda s: s not in (200, 404)), st.sampled_from([b"[]", b"{}"]))
def test_every_other_status_proves_nothing(status: int, body: bytes) -> None:
    assert read(body, status) == NoEvidence(NoEvidenceReason.STATUS, str(status))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"<html>",
        b'{"id":1',
        b'[{"id":1}',
        b'{"id":1}{"id":2}',
        b"null",
        b"42",
        b'"x"',
        b"[null]",
        b"[[]]",
        b'[{"id":1}, 2]',
        b"\xff\xfe[\x00]\x00",
        b"[" * 100_000,
        b"[" + b"9" * 5000 + b"]",
    ],
)
def test_garbage_proves_nothing(body: bytes) -> None:
    result = read(body)
    assert isinstance(result, NoEvidence)
    assert result.reason is NoEvidenceReason.UNREADABLE


@pytest.mark.parametrize("body", [b"[]", b'{"id":1}'])
def test_an_answer_that_is_not_whole_proves_nothing(body: bytes) -> None:
    cut = answer(200, body, framed=False)
    large = Answer(200, b"OK", (), b"", oversize=True)
    for given_answer in (cut, large):
        result = read_lookup(given_answer, BY_KEY, KEY)
        assert isinstance(result, NoEvidence)
        assert result.reason is NoEvidenceReason.UNREADABLE


@pytest.mark.parametrize(
    "body",
    [b'{"id":1}', b'{"ref":{"key":"strangers"}}', b'[{"ref":{"key":null}}]', b'{"ref":{"key":1}}'],
)
def test_an_order_that_does_not_echo_the_key_is_a_strangers(body: bytes) -> None:
    assert read(body, plan=ECHO) == NoEvidence(NoEvidenceReason.ECHO_DIFFERS)


def test_an_order_that_echoes_the_key_is_found() -> None:
    body = b'{"ref":{"key":"%b"}}' % KEY.encode()
    assert kept(read(body, plan=ECHO)) == body
    assert kept(read(b"[" + body + b"]", plan=ECHO)) == body
    assert read(b"[]", plan=ECHO) == Absent()


@pytest.mark.parametrize(
    ("key", "target"),
    [("abc-_1", b"/orders?k=abc-_1"), ("a b&c=/?#é", b"/orders?k=a%20b%26c%3D%2F%3F%23%C3%A9")],
)
def test_the_key_is_percent_encoded_into_the_target(key: str, target: bytes) -> None:
    assert lookup_target(ECHO, key) == target


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
SPACE = st.text(" \t\r\n", max_size=3)


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=4), SPACE, SPACE, SPACE)
def test_whatever_the_spacing_the_first_order_is_kept_as_it_stood(
    orders: list[dict[str, object]], before: str, between: str, after: str
) -> None:
    texts = [json.dumps(order, ensure_ascii=False) for order in orders]
    text = f"{before}[{between}" + f"{after},{between}".join(texts) + f"{after}]{after}"
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    result = read(body)
    if not orders:
        assert result == Absent()
        return
    assert isinstance(result, Found)
    assert result.answer.body == texts[0].encode()
    assert result.several == (len(orders) > 1)


@given(st.binary(max_size=60))
def test_reading_a_lookup_never_raises_and_garbage_is_never_absence(body: bytes) -> None:
    result = read(body)
    if isinstance(result, Absent):
        assert json.loads(body) == []
