"""Heads from templates: byte for byte what the rules and writers make of the same fields."""

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from gateway.api.forwarding import client_fields, upstream_fields, with_deadline
from gateway.api.proxies import Peer
from gateway.api.templates import client_head, passes, upstream_lines
from gateway.server.answers import RawResponse
from gateway.upstream import AnswerHead, Framing, UpstreamRequest
from middleware.messages import RawHeaders
from middleware.problems import STAMP

NAMES = (
    b"accept",
    b"connection",
    b"content-length",
    b"content-type",
    b"date",
    b"forwarded",
    b"gateway-order",
    b"gateway-source",
    b"idempotency-key",
    b"keep-alive",
    b"request-id",
    b"set-cookie",
    b"te",
    b"via",
    b"x-%-y",
    b"x-a",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-real-ip",
)
VALUES = (b"", b"1", b"close", b"Keep-Alive", b"x-a, te", b"100%b %d %%", b"a: b", b"\xff\t\xe9")
names = st.sampled_from(NAMES).flatmap(lambda name: st.sampled_from((name, name.title())))
fields = st.lists(st.tuples(names, st.sampled_from(VALUES)), max_size=8).map(tuple)
ID, DATE = "0" * 32, b"Thu, 01 Jan 1970 00:00:00 GMT"


@given(
    fields,
    st.integers(0, 8),
    st.sampled_from(("127.0.0.1", "2001:db8::1")),
    st.booleans(),
    st.sampled_from((None, (b"X-A", 1.5), (b"Deadline", 30.0))),
)
def test_requests_are_written_alike(
    drawn: RawHeaders,
    at: int,
    address: str,
    trusted: bool,
    deadline: tuple[bytes, float] | None,
) -> None:
    headers = (*drawn[:at], (b"Host", b"shop"), *drawn[at:])
    peer = Peer(address, trusted)
    written = upstream_lines(headers, peer, ID.encode(), deadline)
    ruled = upstream_fields(headers, peer=peer, request_id=ID)
    if deadline is not None:
        ruled = with_deadline(ruled, *deadline)
    assert written in (None, UpstreamRequest(b"GET", b"/a?b", ruled).lines)
    connected = [v.lower() for n, v in headers if n.lower() == b"connection"]
    names_fields = not set(connected) <= {b"close", b"keep-alive"}
    values = [value for _, value in headers]
    by_value = b"" in values or any(name.lower() == b"forwarded" for name, _ in headers)
    assert written is not None or names_fields or (trusted and by_value)


ANSWERS = (
    (201, Framing.LENGTH, 5, b"hello"),
    (201, Framing.LENGTH, 0, b""),
    (201, Framing.CHUNKED, None, b"hello"),
    (201, Framing.NO_BODY, None, b""),  # to a HEAD
    (204, Framing.NO_BODY, None, b""),
    (304, Framing.NO_BODY, None, b""),
)


@given(
    fields,
    st.sampled_from((b"OK", b"", b"%b \xe9")),
    st.sampled_from(ANSWERS),
)
def test_answers_are_written_alike(
    headers: RawHeaders, phrase: bytes, drawn: tuple[int, Framing, int | None, bytes]
) -> None:
    status, framing, length, body = drawn
    if not passes(headers):
        assert any(n.lower() == b"connection" for n, _ in headers)
        return
    head = AnswerHead(status, phrase, headers, framing, length, True)
    kept = client_fields(headers, (b"Gateway-Source", b"upstream"))
    method = "HEAD" if framing is Framing.NO_BODY else "GET"
    wire = SimpleNamespace(persists=lambda _: True, date=lambda: DATE)
    stamps = {STAMP: {"Request-Id": ID}}
    request = cast("Any", SimpleNamespace(method=method, wire=wire, get=stamps.get, head=None))
    answer = RawResponse(status, kept, body, phrase=phrase)
    expected = answer._head(request, answer._framing(request))
    assert client_head(head, ID.encode(), DATE, len(body)) == expected
