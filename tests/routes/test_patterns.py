"""What a pattern takes, refuses to be, and covers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routes import Pattern, PatternInvalid


def takes(pattern: str, method: bytes, path: bytes) -> bool:
    return Pattern.parse(pattern).takes(method, path[1:].split(b"/"))


@pytest.mark.parametrize(
    ("pattern", "method", "path", "taken"),
    [
        ("POST /orders", b"POST", b"/orders", True),
        ("POST /orders", b"PUT", b"/orders", False),
        ("POST /orders", b"post", b"/orders", False),
        ("POST /orders", b"POST", b"/orders/", False),
        ("POST /orders", b"POST", b"/Orders", False),
        ("POST /orders", b"POST", b"/orders/7", False),
        ("POST /orders", b"POST", b"/%6frders", False),
        ("POST /orders/", b"POST", b"/orders/", True),
        ("POST /", b"POST", b"/", True),
        ("POST /orders/*/cancel", b"POST", b"/orders/7/cancel", True),
        ("POST /orders/*/cancel", b"POST", b"/orders//cancel", False),
        ("POST /orders/*/cancel", b"POST", b"/orders/7/8/cancel", False),
        ("POST /orders/*", b"POST", b"/orders/", False),
        ("GET /catalog/**", b"GET", b"/catalog", True),
        ("GET /catalog/**", b"GET", b"/catalog/", True),
        ("GET /catalog/**", b"GET", b"/catalog/a/b/c", True),
        ("GET /catalog/**", b"HEAD", b"/catalog/a", True),
        ("GET /catalog/**", b"OPTIONS", b"/catalog/a", False),
        ("GET /catalog/**", b"GET", b"/catalogue", False),
        ("HEAD /catalog", b"GET", b"/catalog", False),
        ("* /**", b"PURGE", b"/", True),
        ("* /**", b"GET", b"/a//b/", True),
        ("* /**/orders", b"POST", b"/orders", True),
        ("* /**/orders", b"POST", b"/eu/de/orders", True),
        ("* /**/orders", b"POST", b"/eu/orders/7", False),
        ("* /**/a/**/b", b"GET", b"/a/a/x/b/b", True),
        ("* /**/a/**/b", b"GET", b"/b/a", False),
        ("* /a/**/*", b"GET", b"/a", False),
        ("* /a/**/*", b"GET", b"/a/b", True),
    ],
)
def test_a_pattern_takes_what_it_says(
    pattern: str, method: bytes, path: bytes, taken: bool
) -> None:
    assert takes(pattern, method, path) is taken


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "write a method in capitals"),
        ("/orders", "write a method in capitals"),
        ("post /orders", "write a method in capitals"),
        ("POST", 'comes a path with "/" in front'),
        ("POST orders", 'comes a path with "/" in front'),
        ("POST  /orders", 'comes a path with "/" in front'),
        ("POST /orders?x=1", "the query is not matched"),
        ("POST /orders#x", "the query is not matched"),
        ("POST /a//b", "no empty, . or .. segments"),
        ("POST /a/../b", "no empty, . or .. segments"),
        ("POST /orders*", "* stands for a whole segment"),
        ("POST /***", "* stands for a whole segment"),
        ("POST /a;b", "must percent-encode"),
        ("POST /caf\u00e9", "must percent-encode"),
        ("POST /a%zz", "must percent-encode"),
        ("POST /a b", "must percent-encode"),
        ("POST /" + "a/" * 40, "at most 32 segments"),
    ],
)
def test_what_is_no_pattern_is_refused_with_advice(text: str, what: str) -> None:
    with pytest.raises(PatternInvalid) as refusal:
        Pattern.parse(text)
    assert what in str(refusal.value)


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        ("* /**", "POST /orders", True),
        ("POST /orders", "POST /orders", True),
        ("POST /orders", "* /orders", False),
        ("GET /a", "HEAD /a", True),
        ("* /*", "POST /orders", True),
        ("* /*", "POST /", False),
        ("* /*", "POST /**", False),
        ("* /a/**", "POST /a", True),
        ("* /a/**", "POST /a/**/b", True),
        ("* /**/b", "POST /a/**/b", True),
        ("* /**/b", "POST /b/**", False),
        ("* /a/*/b", "POST /a/c/b", True),
        ("* /a/c/b", "POST /a/*/b", False),
    ],
)
def test_covering_is_seen(wide: str, narrow: str, covered: bool) -> None:
    assert Pattern.parse(wide).covers(Pattern.parse(narrow)) is covered


segments = st.sampled_from(["a", "b", "*", "**"])
patterns = st.lists(segments, min_size=1, max_size=5).map(
    lambda parts: Pattern.parse("* /" + "/".join(parts))
)
paths = st.lists(st.sampled_from([b"a", b"b", b"c", b""]), min_size=1, max_size=6)


@given(wide=patterns, narrow=patterns, path=paths)
def test_a_covering_pattern_takes_all_that_the_covered_one_takes(
    wide: Pattern, narrow: Pattern, path: list[bytes]
) -> None:
    if wide.covers(narrow) and narrow.takes(b"POST", path):
        assert wide.takes(b"POST", path)


@given(one=patterns, other=patterns, path=paths)
def test_patterns_that_take_the_same_path_are_seen_to_meet(
    one: Pattern, other: Pattern, path: list[bytes]
) -> None:
    assert one.meets(other) is other.meets(one)
    if one.takes(b"POST", path) and other.takes(b"POST", path):
        assert one.meets(other)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("POST /orders/**", "POST /orders", True),
        ("POST /orders/**", "POST /orders/", True),
        ("POST /orders/*", "POST /orders/", False),
        ("POST /**/a", "POST /b/**", True),
        ("POST /**/a", "POST /**/b", False),
        ("POST /a/*", "POST /*/b/**", True),
        ("POST /a/*", "POST /a/*/**", True),
        ("POST /a", "* /a", True),
        ("GET /a", "HEAD /a", True),
        ("POST /a", "PUT /a", False),
    ],
)
def test_meeting_is_seen(one: str, other: str, meet: bool) -> None:
    assert Pattern.parse(one).meets(Pattern.parse(other)) is meet


@given(pattern=patterns, path=paths)
def test_matching_agrees_with_the_plain_recursive_definition(
    pattern: Pattern, path: list[bytes]
) -> None:
    def defined(wanted: tuple[bytes, ...], rest: list[bytes]) -> bool:
        match wanted:
            case ():
                return not rest
            case (b"**", *others):
                return any(defined(tuple(others), rest[n:]) for n in range(len(rest) + 1))
            case (first, *others):
                here = bool(rest) and (first == rest[0] or (first == b"*" and rest[0] != b""))
                return here and defined(tuple(others), rest[1:])
        raise AssertionError

    assert pattern.takes(b"POST", path) is defined(pattern.segments, path)
