"""Dates, lists, ranges and Vary, by properties."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.caching.dates import parse_date
from middleware.caching.directives import request_directives, response_directives
from middleware.caching.entries import Span
from middleware.caching.fields import SECONDS_MAX, delta_seconds, members
from middleware.caching.ranges import Piece, Unsatisfiable, cut, joined, multipart, wanted
from middleware.caching.varying import normalised, selecting_values

NOW = 1_800_000_000.0


@given(st.integers(0, 250_000_000_000))
def test_every_date_is_read_back(at: int) -> None:
    assert parse_date(formatdate(at, usegmt=True).encode(), NOW) == at


@given(st.binary(max_size=40))
def test_anything_is_a_date_or_none(value: bytes) -> None:
    parse_date(value, NOW)


@pytest.mark.parametrize(
    ("text", "year"), [("78", 1978), ("76", 2076), ("26", 2026), ("00", 2000), ("99", 1999)]
)
def test_a_year_of_two_digits_is_at_most_fifty_years_ahead(text: str, year: int) -> None:
    two = parse_date(f"Monday, 01-Jan-{text} 00:00:00 GMT".encode(), NOW)
    assert two == parse_date(f"Mon, 01 Jan {year} 00:00:00 GMT".encode(), NOW)


@given(st.integers(0, 10**30))
def test_seconds_have_a_ceiling(number: int) -> None:
    assert delta_seconds(b"%d" % number) == min(number, SECONDS_MAX)


@given(st.binary(max_size=60))
def test_any_cache_control_is_read(value: bytes) -> None:
    response_directives(
        {b"cache-control": value, b"cdn-cache-control": value}, (b"cdn-cache-control",)
    )
    request_directives({b"cache-control": value})


@given(st.lists(st.sampled_from([b"a", b'"b, c"', b'd="e\\"f,"', b"g=h"]), max_size=5))
def test_members_of_a_list_are_what_was_put_in(parts: list[bytes]) -> None:
    assert list(members(b" , ".join(parts))) == parts


@given(st.binary(min_size=1, max_size=50), st.data())
def test_a_range_is_cut_from_the_whole(body: bytes, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(body) - 1))
    last = data.draw(st.integers(first, len(body) + 5))
    pieces = wanted(b"bytes=%d-%d" % (first, last), len(body))
    assert pieces == (Piece(first, min(last, len(body) - 1)),)
    assert cut(body, pieces[0], None) == body[first : last + 1]


@given(st.binary(max_size=30), st.integers(0, 60))
def test_any_range_is_parts_of_it_or_none(value: bytes, total: int) -> None:
    pieces = wanted(b"bytes=" + value, total)
    if pieces is not None and not isinstance(pieces, Unsatisfiable):
        assert all(0 <= piece.first <= piece.last < total for piece in pieces)


@given(st.binary(min_size=2, max_size=40), st.data())
def test_parts_that_meet_are_joined_as_they_were(body: bytes, data: st.DataObject) -> None:
    ends = [data.draw(st.integers(0, len(body) - 1)) for _ in range(4)]
    (a, b), (c, d) = sorted(ends[:2]), sorted(ends[2:])
    total = len(body)
    both = joined(body[a : b + 1], Span(a, b, total), body[c : d + 1], Span(c, d, total))
    if both is None:
        assert c > b + 1 or a > d + 1
    else:
        run, span = both
        assert (span.first, span.last) == (min(a, c), max(b, d))
        assert run == body[span.first : span.last + 1]


def test_a_boundary_is_never_in_the_bytes() -> None:
    body = b"ordergate-part-0 and ordergate-part-1"
    assert b"\r\n--ordergate-part-2--" in multipart(body, (Piece(0, 3),), b"", len(body))


HEADERS = st.lists(
    st.sampled_from([b"en", b"de;q=0.5", b"fr;q=0.5", b"*;q=0.1", b"EN"]), max_size=4
)


@given(HEADERS, HEADERS)
def test_what_is_taken_for_equal_has_the_same_members_and_order_of_equals(
    one: list[bytes], other: list[bytes]
) -> None:
    name = b"accept-language"
    if normalised(name, b",".join(one)) != normalised(name, b", ".join(other)):
        return
    for weight in (b";q=0.5", b";q=0.1"):
        mine = [each.lower() for each in one if each.endswith(weight)]
        assert mine == [each.lower() for each in other if each.endswith(weight)]
    assert sorted(map(bytes.lower, one)) == sorted(map(bytes.lower, other))


@pytest.mark.parametrize("name", [b"cookie", b"authorization"])
@pytest.mark.parametrize(("one", "other"), [(b"sid=a,,b", b"sid=a,b"), (b"sid=a, b", b"sid=a,b")])
def test_who_a_client_is_is_compared_as_it_stands(name: bytes, one: bytes, other: bytes) -> None:
    """These are no lists: a comma or a space in them may be all that tells two clients apart."""
    shown = [selecting_values((name,), {name: value}) for value in (one, other)]
    assert shown[0] != shown[1]
