"""What the hop writes: read back by h11, an independent strict parser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream import IllFormedRequest, UpstreamRequest
from middleware.messages import RawHeaders
from tests.upstream.faulty import parse_request

HOST = (b"Host", b"backend:9000")


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        (b"", b"/", (HOST,)),
        (b"PO ST", b"/", (HOST,)),
        (b"POST\r\n", b"/", (HOST,)),
        (b"CONNECT", b"/", (HOST,)),
        (b"GET", b"", (HOST,)),
        (b"GET", b"*", (HOST,)),
        (b"GET", b"/a b", (HOST,)),
        (b"GET", b"/a\r\nX: y", (HOST,)),
        (b"GET", b"/a\x00", (HOST,)),
        (b"GET", b"/a#b", (HOST,)),
        (b"GET", b"http://backend/", (HOST,)),
        (b"GET", b"/\xe9", (HOST,)),
        (b"GET", b"/", ()),
        (b"GET", b"/", (HOST, (b"host", b"other"))),
        (b"GET", b"/", (HOST, (b"A", b"b\r\nC: d"))),
        (b"GET", b"/", (HOST, (b"A", b"b\nC: d"))),
        (b"GET", b"/", (HOST, (b"A", b"b\x00"))),
        (b"GET", b"/", (HOST, (b"A", b"b\x7f"))),
        (b"GET", b"/", (HOST, (b"A b", b"c"))),
        (b"GET", b"/", (HOST, (b"A:", b"c"))),
        (b"GET", b"/", (HOST, (b"", b"c"))),
        (b"POST", b"/", (HOST, (b"Content-Length", b"5"))),
        (b"POST", b"/", (HOST, (b"transfer-encoding", b"chunked"))),
        (b"POST", b"/", (HOST, (b"Connection", b"close"))),
        (b"POST", b"/", (HOST, (b"Upgrade", b"h2c"))),
        (b"POST", b"/", (HOST, (b"TE", b"trailers"))),
    ],
)
def test_ill_formed_request_is_refused_before_anything_is_sent(
    method: bytes, target: bytes, headers: RawHeaders
) -> None:
    with pytest.raises(IllFormedRequest):
        UpstreamRequest(method, target, headers)


def test_empty_post_announces_its_empty_body_and_a_get_does_not() -> None:
    assert b"Content-Length: 0\r\n" in UpstreamRequest(b"POST", b"/", (HOST,)).head(length=0)
    assert b"Content-Length" not in UpstreamRequest(b"GET", b"/", (HOST,)).head(length=0)


def test_options_may_ask_about_the_whole_server() -> None:
    assert UpstreamRequest(b"OPTIONS", b"*", (HOST,)).head(length=0).startswith(b"OPTIONS * ")


TOKENS = st.text(st.sampled_from("!#$%&'*+-.^_`|~09azAZ"), min_size=1, max_size=12).map(
    lambda name: b"x" + name.encode()
)
VALUES = st.binary(max_size=40)
TARGETS = st.binary(max_size=40).map(lambda rest: b"/" + rest)


@given(TOKENS, TARGETS, st.lists(st.tuples(TOKENS, VALUES), max_size=5), st.binary(max_size=100))
def test_what_is_written_is_read_the_same_by_a_strict_parser(
    method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], body: bytes
) -> None:
    try:
        request = UpstreamRequest(method, target, (HOST, *fields), body)
    except IllFormedRequest:
        return
    raw = request.head(length=len(body)) + body
    seen, used = parse_request(raw + b"GET / HTTP/1.1\r\n")
    assert seen is not None
    assert used == len(raw)
    assert (seen.method, seen.target, seen.body) == (method, target, body)
    stripped = [(name.lower(), value.strip(b" \t")) for name, value in fields]
    assert [field for field in seen.headers if field in stripped] == stripped
