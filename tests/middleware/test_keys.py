"""Idempotency keys: one key in every spelling, and a reason for every refusal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.idempotency.rules import (
    KEY_CHARS_MAX,
    Key,
    KeyRefusal,
    KeyRefused,
    key_field,
    parse_key,
    unguessable,
)

ACCEPTED = [
    (b"k", "k"),
    (b'"k"', "k"),
    (b' "k"\t', "k"),
    (b"8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
    (b'"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
    (rb'"a\"b\\c"', 'a"b\\c'),
    (b'"a,b;c"', "a,b;c"),
    (b"?/+=:@!", "?/+=:@!"),
    (b"K", "K"),
    (b"x" * 255, "x" * 255),
    (b'"' + b'\\"' * 255 + b'"', '"' * 255),
]

REFUSED = [
    ([b"a", b"a"], KeyRefused.REPEATED),
    ([b"a", b"b"], KeyRefused.REPEATED),
    ([b""], KeyRefused.EMPTY),
    ([b"  "], KeyRefused.EMPTY),
    ([b'""'], KeyRefused.EMPTY),
    ([b"x" * 256], KeyRefused.TOO_LONG),
    ([b'"' + b"x" * 256 + b'"'], KeyRefused.TOO_LONG),
    ([b"x" * 100_000], KeyRefused.TOO_LONG),
    ([b"a\x00b"], KeyRefused.CONTROL),
    ([b"a\x7fb"], KeyRefused.CONTROL),
    (["ä".encode()], KeyRefused.NOT_ASCII),
    ([b"\xff"], KeyRefused.NOT_ASCII),
    ([b"a b"], KeyRefused.WHITESPACE),
    ([b"a\tb"], KeyRefused.WHITESPACE),
    ([b'"a b"'], KeyRefused.WHITESPACE),
    ([b'" "'], KeyRefused.WHITESPACE),
    ([b'"a";v=1'], KeyRefused.PARAMETERS),
    ([b'"a" ;v=1'], KeyRefused.PARAMETERS),
    ([b"a;v=1"], KeyRefused.PARAMETERS),
    ([b'"a'], KeyRefused.UNTERMINATED),
    ([b'"'], KeyRefused.UNTERMINATED),
    ([b'"a\\'], KeyRefused.UNTERMINATED),
    ([b'"a\\"'], KeyRefused.UNTERMINATED),
    ([rb'"a\n"'], KeyRefused.BAD_ESCAPE),
    ([b'"a", "b"'], KeyRefused.BAD_CHARACTER),
    ([b'"a"b'], KeyRefused.BAD_CHARACTER),
    ([b"a,b"], KeyRefused.BAD_CHARACTER),
    ([b'a"b'], KeyRefused.BAD_CHARACTER),
    ([b"a\\b"], KeyRefused.BAD_CHARACTER),
]


@pytest.mark.parametrize(("value", "key"), ACCEPTED)
def test_an_acceptable_key_is_normalised(value: bytes, key: str) -> None:
    assert parse_key([value]) == Key(key)


@pytest.mark.parametrize(("values", "reason"), REFUSED)
def test_an_unacceptable_key_is_refused_with_its_reason(
    values: list[bytes], reason: KeyRefused
) -> None:
    refusal = parse_key(values)
    assert refusal == KeyRefusal(reason)
    assert isinstance(refusal, KeyRefusal)
    assert refusal.message


def test_no_field_is_no_key() -> None:
    assert parse_key([]) is None


def test_every_reason_says_what_to_do() -> None:
    assert all(KeyRefusal(reason).message for reason in KeyRefused)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255))
def test_a_key_survives_its_own_field_form(key: str) -> None:
    assert parse_key([key_field(key).encode("ascii")]) == Key(key)


@given(st.binary(max_size=600))
def test_any_bytes_are_a_key_within_bounds_or_a_refusal(value: bytes) -> None:
    parsed = parse_key([value])
    assert isinstance(parsed, Key | KeyRefusal)
    if isinstance(parsed, Key):
        assert 1 <= len(parsed.text) <= KEY_CHARS_MAX
        assert all("!" <= character <= "~" for character in parsed.text)


def test_a_uuid_and_128_random_bits_are_unguessable_but_an_order_number_is_not() -> None:
    assert unguessable("8e03978e-40d5-43dd-bc93-6894a57f9324")
    assert unguessable("x" * 22)
    assert not unguessable("order-2026-000017")
