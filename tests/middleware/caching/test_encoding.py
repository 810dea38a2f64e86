"""A kept answer as bytes: read back it is the same, and what is no answer is nothing."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.caching.encoding import VERSION, decoded, encoded
from middleware.caching.entries import Entry, Span
from middleware.caching.storing import StoringPolicy

POLICY = StoringPolicy()
texts = st.binary(max_size=20)
lists = st.lists(texts, max_size=3).map(tuple)
seconds = st.floats(min_value=0, max_value=1e9)
entries = st.builds(
    Entry,
    host=texts,
    target=texts,
    head_only=st.just(False),
    vary=lists,
    values=lists,
    status=st.integers(200, 599),
    phrase=texts,
    lines=texts,
    body=st.binary(max_size=200),
    span=st.none() | st.builds(Span, *[st.integers(0, 2**40)] * 3),
    since=st.just(7.0),
    initial_age_s=seconds,
    lifetime_s=seconds,
    no_cache=st.booleans(),
    never_stale=st.booleans(),
    immutable=st.booleans(),
    public=st.booleans(),
    stale_while_revalidate_s=st.integers(0, 2**31),
    stale_if_error_s=st.none() | st.integers(0, 2**31),
    etag=st.none() | texts,
    last_modified=st.none() | texts,
    groups=lists,
    position=st.just(-1),
    strict=st.booleans(),
    storing=st.just(POLICY),
)


def read(data: bytes, *, strict: bool = False) -> tuple[bytes, Entry] | None:
    return decoded(data, since=7.0, storing=POLICY, strict=strict)


@given(entries, texts)
def test_what_is_read_is_what_was_written(entry: Entry, stamp: bytes) -> None:
    data = encoded(entry, age_s=entry.initial_age_s, stamp=stamp)
    found = read(data, strict=entry.strict)
    assert found is not None
    assert found[0] == stamp
    for each in fields(Entry):
        assert getattr(found[1], each.name) == getattr(entry, each.name), each.name


@given(entries, st.data())
def test_a_part_is_no_answer(entry: Entry, data: st.DataObject) -> None:
    """But where only the body is shorter, which no store does."""
    whole = encoded(entry, age_s=0.0, stamp=b"s")
    end = len(whole) - len(entry.body)
    assert read(whole[: data.draw(st.integers(0, end - 1))]) is None


@pytest.mark.parametrize(
    "data", [b"", b"x", bytes([VERSION]), bytes([VERSION + 1]) * 999, b"\xff" * 999]
)
def test_what_is_none_is_nothing(data: bytes) -> None:
    assert read(data) is None


@given(st.binary(max_size=400))
def test_bytes_of_anybody_harm_nobody(data: bytes) -> None:
    read(data)
    read(bytes([VERSION]) + data)
