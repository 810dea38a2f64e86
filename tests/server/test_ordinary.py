"""What is called ordinary is read once: aiohttp's parser must have nothing to say against it."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.http import HttpVersion
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import StreamReader
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.server import RawResponse
from gateway.server.heads import METHODS, Head, read_head
from gateway.server.limits import ServerLimits
from gateway.server.whole import Whole, WholeRequest
from tests.server.serving import Storefront, get, post, serving

LIMITS = ServerLimits(encoded_slashes_pass=True)
BODY = b"0123456789"

TOKEN_BYTES = b"!#$%&'*+.^`|~-09azAZ"
NAMES = [
    b"Host", b"Content-Length", b"Connection", b"Keep-Alive", b"Proxy-Connection", b"TE",
    b"Trailer", b"Upgrade", b"Expect", b"Transfer-Encoding", b"Cookie", b"Content-Type",
    b"Content-Encoding", b"User-Agent", b"Max-Forwards", b"Sec-WebSocket-Key",
    b"Sec-WebSocket-Key1", b"Accept", b"Content-Range", b"Server", b"ETag", b"Date",
    b"Idempotency-Key", b"Proxy-Authorization",
]  # fmt: skip
VALUES = [
    b"a", b"", b"10", b"close", b"keep-alive", b"keep-alive, close", b"Close,te",
    b"proxy-connection", b"upgrade", b"gzip", b"chunked", b"websocket", b"h2c", b"100-continue",
    b"0", b"[::1]:80",
]  # fmt: skip
names = st.one_of(
    st.sampled_from(NAMES),
    st.lists(st.sampled_from(TOKEN_BYTES), min_size=1, max_size=8).map(bytes),
)
values = st.one_of(
    st.sampled_from(VALUES),
    st.lists(st.sampled_from([9, *range(32, 127), *range(128, 256)]), max_size=12).map(bytes),
)
targets = st.lists(st.sampled_from(range(33, 127)), max_size=20).map(
    lambda rest: b"/" + bytes(rest)
)
heads = st.builds(
    lambda method, target, minor, fields: (
        b"%b %b HTTP/1.%d\r\n" % (method, target, minor)
        + b"".join(b"%b:%b\r\n" % field for field in fields)
    ),
    st.sampled_from([*sorted(METHODS), b"FOO", b"X-mine_1.0"]),
    targets,
    st.sampled_from([0, 1]),
    st.lists(st.tuples(names, values), max_size=6).map(lambda more: [(b"Host", b" a"), *more]),
)


class Protocol:
    """As much of a connection as a parser wants."""

    ssl_context = peername = sockname = None
    _reading_paused = False

    def pause_reading(self) -> None:
        raise AssertionError

    def resume_reading(self, resume_parser: bool = True) -> None: ...


def parsed(raw: bytes) -> tuple[RawRequestMessage, StreamReader]:
    """The one message in ``raw``, as the parser of every connection is set up."""
    loop: Any = object()
    protocol: Any = Protocol()
    parser = HttpRequestParser(
        protocol,
        loop,
        LIMITS.read_buffer_bytes,
        max_line_size=LIMITS.head_bytes_max,
        max_field_size=LIMITS.head_bytes_max,
        max_headers=LIMITS.fields_max,
        auto_decompress=False,
    )
    messages, upgraded, rest = parser.feed_data(raw)
    assert (len(messages), upgraded, rest) == (1, False, b"")
    return messages[0]


@settings(max_examples=1_000)
@given(heads)
@example(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n")
@example(b"POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length:10\t \r\n")
def test_the_parser_reads_what_is_ordinary_as_we_do(raw: bytes) -> None:
    head = read_head(raw, LIMITS)
    if not isinstance(head, Head) or not head.ordinary or head.body_bytes not in (0, len(BODY)):
        return
    message, payload = parsed(head.for_parser(raw + b"\r\n" + BODY[: head.body_bytes]))
    assert (message.method.encode(), message.path.encode()) == (head.parsed_as, head.target)
    assert message.raw_headers == head.fields
    assert (
        head.closes or not message.should_close
    )  # of "keep-alive, close" on 1.0 we hear the close
    assert message.version == HttpVersion(1, head.minor)
    assert not message.chunked
    assert not message.upgrade
    assert payload.is_eof()
    assert payload.read_nowait() == BODY[: head.body_bytes]


@pytest.mark.parametrize(
    "field",
    [
        b"Sec-WebSocket-Key1: x",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"Connection: upgrade\r\nUpgrade: h2c",
        b"User-Agent: a\r\nuser-agent: b",
    ],
)
def test_what_the_parser_has_more_to_say_about_is_not_ordinary(field: bytes) -> None:
    head = read_head(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % field, LIMITS)
    assert isinstance(head, Head)
    assert not head.ordinary


async def everything(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
    """Asks for what a handler of any aiohttp application may."""
    told = [request.method, request.path, request.query["q"], request.headers["x-a"], request.host]
    told += [str(request.version), str(request.keep_alive), str(request.content_length)]
    told += [str(request.can_read_body), (await request.read()).decode(), str(request.url)]
    told += [str(request.can_read_body), str(request.remote), request.content_type]
    return RawResponse(200, (), "|".join(told).encode())


async def test_a_request_that_came_whole_says_the_same_as_one_in_pieces() -> None:
    raw = post(b"hello", b"X-A: b", target=b"/a%2Fb?q=1")
    async with serving(everything, encoded_slashes_pass=True) as front:
        whole = await front.says(raw)
        assert b"|hello|" in whole.body
        async with front.connect() as client:
            await client.send(raw[:-3])
            await asyncio.sleep(0.02)
            await client.send(raw[-3:])
            assert (await client.answer()).body == whole.body


async def test_aiohttps_own_answers_serve_a_request_that_came_whole() -> None:
    async def handle(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        return web.json_response(
            {"method": request.method}, headers={"X-Whole": str(_whole(request))}
        )

    async with serving(handle) as front:
        for raw in (get(b"/"), post(b"x")):
            answer = await front.says(raw)
            assert (answer.status, answer.field(b"x-whole")) == (200, b"True")


def _whole(request: web.BaseRequest) -> bool:
    return isinstance(request, WholeRequest)


def test_nothing_of_the_second_reading_is_made_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WholeRequest, "_read", lambda self: pytest.fail("it was read again"))
    head = read_head(b"POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n", LIMITS)
    assert isinstance(head, Head)
    anything: Any = Protocol()
    request = WholeRequest(Whole(head, b"...hi"), anything, anything, anything)
    assert (request.method, request.raw_path, request.whole_body) == ("POST", "/a?b", b"hi")
    assert (request.raw_headers, request.keep_alive) == (head.fields, True)
    assert (request.can_read_body, request.body_arrived) == (True, True)
