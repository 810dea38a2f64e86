"""Fingerprints: the same submission is known again, a different one never passes for it."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.idempotency.rules import (
    CANONICAL_BYTES_MAX,
    Sameness,
    canonical_fingerprint,
    raw_fingerprint,
    same_submission,
    scope_digest,
    split_target,
    upstream_key,
)


def canonical(body: bytes) -> str | None:
    return canonical_fingerprint("POST", b"/orders", None, body)


def test_the_raw_fingerprint_of_a_known_order_never_changes() -> None:
    """Entries live for weeks and across versions: this value is stored."""
    assert raw_fingerprint("POST", b"/orders", b"a=1", b'{"n":1}') == (
        "r1:88db0efdac1f96de835ea1ebcd24781cae7b98129a39c67b0ce605920c3bc938"
    )


def test_the_parts_of_a_request_can_not_be_shifted_into_each_other() -> None:
    prints = {
        raw_fingerprint("POST", b"/a", None, b"b"),
        raw_fingerprint("POST", b"/ab", None, b""),
        raw_fingerprint("POST", b"/a", b"", b"b"),
        raw_fingerprint("POST", b"/a", b"b", b""),
        raw_fingerprint("POST", b"/a?", None, b"b"),
        raw_fingerprint("POS", b"T/a", None, b"b"),
        raw_fingerprint("PUT", b"/a", None, b"b"),
    }
    assert len(prints) == 7


SAME = [
    (b'{"a":1,"b":2}', b'{ "b" : 2,\n"a":1 }'),
    (b'{"a":{"x":1,"y":[1,2]}}', b'{"a":{"y":[1,2],"x":1}}'),
    (b"[1.10]", b"[1.1]"),
    (b"[1e2]", b"[100.0]"),
    (b'["\\u00e9"]', '["é"]'.encode()),
]
DIFFERENT = [
    (b'{"a":1}', b'{"a":2}'),
    (b'{"a":1}', b'{"a":"1"}'),
    (b"[1]", b"[1.0]"),
    (b"[1,2]", b"[2,1]"),
    (b'{"a":null}', b"{}"),
    (b"[0.1]", b"[0.2]"),
]
NO_FORM = [
    b"",
    b"name=value",
    b"{",
    b'{"a":1,"a":2}',
    b'{"x":[{"a":1,"a":1}]}',
    b"[NaN]",
    b"[Infinity]",
    b"[1e999]",
    b"[18446744073709551616]",
    b"[-9223372036854775809]",
    b"[" + b"9" * 5_000 + b"]",
    b"[0.10000000000000000001]",
    b"[9007199254740993.0]",
    b'["\\ud800"]',
    b'"\xff"',
    b"\xef\xbb\xbf[1]",
    "[1]".encode("utf-16"),
    b"[" * 100_000 + b"]" * 100_000,
    b"[" * 300 + b"]" * 300,
    b"[" + b" " * CANONICAL_BYTES_MAX + b"]",
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_json_has_the_same_canonical_fingerprint(one: bytes, other: bytes) -> None:
    assert canonical(one) is not None
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_json_has_different_canonical_fingerprints(one: bytes, other: bytes) -> None:
    assert canonical(one) is not None
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize("body", NO_FORM)
def test_json_that_may_be_read_in_two_ways_has_no_canonical_fingerprint(body: bytes) -> None:
    assert canonical(body) is None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_spelling_does_not_matter_to_the_canonical_fingerprint(value: object) -> None:
    compact = orjson.dumps(value)
    spaced = json.dumps(value, indent=2, ensure_ascii=True).encode()
    assert canonical(compact) is not None
    assert canonical(compact) == canonical(spaced)


@given(JSON, JSON)
def test_only_equal_documents_share_a_canonical_fingerprint(one: object, other: object) -> None:
    option = orjson.OPT_SORT_KEYS
    equal = orjson.dumps(one, option=option) == orjson.dumps(other, option=option)
    assert (canonical(orjson.dumps(one)) == canonical(orjson.dumps(other))) == equal


@given(st.binary(max_size=64))
def test_any_bytes_have_a_canonical_fingerprint_or_none(body: bytes) -> None:
    fingerprint = canonical(body)
    assert fingerprint is None or fingerprint.startswith("c1:")


def never() -> str | None:
    raise AssertionError("not needed")


@pytest.mark.parametrize(
    ("stored_raw", "stored_canonical", "raw", "late", "verdict"),
    [
        ("r1:a", "c1:x", "r1:a", None, Sameness.SAME),
        ("r1:a", "c1:x", "r1:b", "c1:x", Sameness.SAME),
        ("r1:a", "c1:x", "r1:b", "c1:y", Sameness.DIFFERENT),
        ("r1:a", "c1:x", "r1:b", None, Sameness.DIFFERENT),
        ("r1:a", None, "r1:b", "c1:x", Sameness.DIFFERENT),
        ("r2:a", "c1:x", "r1:a", "c1:x", Sameness.UNKNOWN_TAG),
        ("r1:a", "c2:x", "r1:b", "c1:x", Sameness.UNKNOWN_TAG),
        ("r1:a", "c2:x", "r1:a", None, Sameness.SAME),
        ("", None, "r1:a", None, Sameness.UNKNOWN_TAG),
    ],
)
def test_submissions_are_compared_raw_first_then_canonical(
    stored_raw: str, stored_canonical: str | None, raw: str, late: str | None, verdict: Sameness
) -> None:
    assert same_submission(stored_raw, stored_canonical, raw, lambda: late) is verdict


def test_the_canonical_form_is_not_made_where_the_raw_bytes_settle_it() -> None:
    assert same_submission("r1:a", "c1:x", "r1:a", never) is Sameness.SAME
    assert same_submission("r1:a", None, "r1:b", never) is Sameness.DIFFERENT


def test_scopes_of_different_kinds_or_values_are_different_clients() -> None:
    scopes = {
        scope_digest("header:authorization", b"a"),
        scope_digest("cookie:authorization", b"a"),
        scope_digest("header:authorization", b"b"),
        scope_digest("header:authorizationa", b""),
    }
    assert len(scopes) == 4


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_an_upstream_key_stands_for_one_scope_and_key(a: str, b: str, c: str, d: str) -> None:
    one, other = upstream_key(a, b), upstream_key(c, d)
    assert (one == other) == ((a, b) == (c, d))
    assert upstream_key(None, b) != one
    assert len(one) <= 64
    assert one.replace("-", "").replace("_", "").isalnum()


def test_a_bare_question_mark_is_an_empty_query() -> None:
    assert split_target(b"/a?") == (b"/a", b"")
    assert split_target(b"/a") == (b"/a", None)
    assert split_target(b"/a?b?c") == (b"/a", b"b?c")
