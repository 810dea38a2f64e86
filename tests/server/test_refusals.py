"""Hostile and malformed requests over real sockets: refused in our words, nothing forwarded."""

import asyncio

import pytest

from gateway.server import ServerLimits
from tests.server.serving import Client, get, post, serving

H = b"Host: a\r\n"

REFUSED = [
    ("http_0_9", b"GET /\r\n", 505),
    ("http_version", b"GET / HTTP/0.9\r\n" + H + b"\r\n", 505),
    ("http_version", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("http_version", b"GET / HTTP/1.2\r\n" + H + b"\r\n", 505),
    ("bad_request_line", b"GET / RTSP/1.0\r\n" + H + b"\r\n", 400),
    ("bad_request_line", b"GET  / HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("bad_request_line", b"GET /a b HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("not_http", b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
    ("bare_line_feed", b"GET / HTTP/1.1\nHost: a\n\n", 400),
    ("target_not_origin_form", get(b"http://a/"), 400),
    ("target_not_origin_form", b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("method_not_implemented", b"CONNECT a:443 HTTP/1.1\r\n" + H + b"\r\n", 501),
    ("method_not_implemented", b"TRACE / HTTP/1.1\r\n" + H + b"\r\n", 501),
    ("method_unknown", b"B|REW /pot HTTP/1.1\r\n" + H + b"\r\n", 501),
    ("method_unknown", b"get / HTTP/1.1\r\n" + H + b"\r\n", 501),
    ("method_unknown", b"Post / HTTP/1.1\r\n" + H + b"\r\n", 501),
    ("method_unknown", b"trace / HTTP/1.1\r\n" + H + b"\r\n", 501),
    ("method_unknown", b"M-Search / HTTP/1.1\r\n" + H + b"\r\n", 501),
    ("method_unknown", b"F" * 33 + b" / HTTP/1.1\r\n" + H + b"\r\n", 501),
    ("host_missing", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("host_missing", b"GET / HTTP/1.0\r\n\r\n", 400),
    ("host_repeated", get(b"/", b"Host: a"), 400),
    ("host_invalid", b"GET / HTTP/1.1\r\nHost: \r\n\r\n", 400),
    ("host_invalid", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("host_invalid", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    ("host_invalid", b"GET / HTTP/1.1\r\nHost: u@a:80\r\n\r\n", 400),
    ("target_characters", get(b"/a#b"), 400),
    ("target_characters", get(b"/a\x01"), 400),
    ("target_characters", get(b"/a\xc3\xa9"), 400),
    ("target_characters", get(b"/a\\b"), 400),
    ("target_dot_segment", get(b"/a/../b"), 400),
    ("target_dot_segment", get(b"/a%2f..%2Fb"), 400),
    ("target_encoded_slash", get(b"/a%2Fb"), 400),
    ("target_encoded_slash", get(b"/a%2fb?c"), 400),
    ("target_encoded_slash", get(b"/a%5Cb"), 400),
    ("target_encoded_slash", get(b"/a%5c"), 400),
    ("target_encoded_slash", post(b"{}", target=b"/%2Fa"), 400),
    ("target_encoded_slash", b"GET /a%2Fb HTTP/1.1\r\n", 400),
    ("target_percent_encoding", get(b"/%zz"), 400),
    ("target_percent_encoding", get(b"/a?b=%2"), 400),
    ("target_too_long", get(b"/" + b"a" * 9_000), 414),
    ("target_too_long", b"GET /" + b"a" * 9_000, 414),
    ("head_too_large", get(b"/", b"X: " + b"a" * 33_000), 431),
    ("too_many_fields", get(b"/", *[b"X: 1"] * 101), 431),
    (
        "content_length_and_transfer_encoding",
        post(b"", b"Transfer-Encoding: chunked"),
        400,
    ),
    ("content_length_repeated", post(b"", b"Content-Length: 0"), 400),
    ("content_length_invalid", get(b"/", b"Content-Length: +1"), 400),
    ("content_length_invalid", get(b"/", b"Content-Length: 1, 1"), 400),
    ("content_length_invalid", get(b"/", b"Content-Length: "), 400),
    ("content_length_invalid", get(b"/", b"Content-Length: 0x10"), 400),
    ("transfer_encoding_unknown", get(b"/", b"Transfer-Encoding: gzip, chunked"), 501),
    ("transfer_encoding_invalid", get(b"/", b"Transfer-Encoding: chunked, chunked"), 400),
    ("transfer_encoding_invalid", get(b"/", b"Transfer-Encoding: gzip"), 400),
    ("transfer_encoding_invalid", get(b"/", b"Transfer-Encoding: identity"), 400),
    ("bad_field_line", get(b"/", b"Transfer-Encoding: \x0bchunked"), 400),
    (
        "transfer_encoding_invalid",
        get(b"/", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        400,
    ),
    (
        "transfer_encoding_on_http_1_0",
        b"POST / HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("folded_field_line", get(b"/", b"X: a", b" b"), 400),
    ("folded_field_line", get(b"/", b"X: a", b"\tb"), 400),
    ("bad_field_line", get(b"/", b"X: a\x00b"), 400),
    ("bad_field_line", get(b"/", b"X: a\x01b"), 400),
    ("bad_field_line", get(b"/", b"X: a\x7fb"), 400),
    ("bad_field_line", get(b"/", b"X: a\rb"), 400),
    ("bad_field_line", get(b"/", b"X : a"), 400),
    ("bad_field_line", get(b"/", b": a"), 400),
    ("bad_field_line", get(b"/", b"no colon"), 400),
    ("underscore_in_field_name", get(b"/", b"X_Forwarded_For: 1.2.3.4"), 400),
    ("connection_names_end_to_end_field", get(b"/", b"Connection: Idempotency-Key"), 400),
    ("connection_names_end_to_end_field", get(b"/", b"Connection: close, cookie"), 400),
    ("upgrade", get(b"/", b"Connection: Upgrade", b"Upgrade: TLS/1.0"), 501),
    ("expectation", get(b"/", b"Expect: 200-ok"), 417),
    ("expectation", get(b"/", b"Expect: 100-continue, x"), 417),
]


@pytest.mark.parametrize(("reason", "request_bytes", "status"), REFUSED)
async def test_what_is_refused_reaches_no_handler_and_is_explained(
    reason: str, request_bytes: bytes, status: int
) -> None:
    async with serving() as front:
        async with front.connect() as client:
            await client.send(request_bytes)
            answer = await client.answer()
            assert (answer.status, answer.problem["reason"]) == (status, reason)
            assert answer.field(b"connection") == b"close"
            assert await client.closed() == b""
        assert front.seen == []
        assert [fields["reason"] for name, fields in front.events] == [reason]
        await front.still_serves()


@pytest.mark.parametrize(("reason", "request_bytes", "status"), REFUSED[::6])
async def test_a_refused_request_does_not_take_the_one_before_it_along(
    reason: str, request_bytes: bytes, status: int
) -> None:
    async with serving() as front, front.connect() as client:
        await client.send(post(b"first") + request_bytes)
        assert (await client.answer()).body == b"/orders|first"
        assert (await client.answer()).problem["reason"] == reason
        assert await client.closed() == b""
        assert len(front.seen) == 1


SLASHES = [b"/a%2Fb", b"/%2f", b"/a%5cb%5C", b"//a%2F%2Fb?c"]


@pytest.mark.parametrize("target", SLASHES)
async def test_encoded_slashes_pass_as_they_are_where_that_is_wanted(target: bytes) -> None:
    async with serving(encoded_slashes_pass=True) as front:
        assert (await front.says(get(target))).body == target + b"|"
        for beside in (b"/..%2f", b"%5c.%5cx"):
            answer = await front.says(get(target.partition(b"?")[0] + beside))
            assert answer.problem["reason"] == "target_dot_segment"


@pytest.mark.parametrize("target", [b"/a?b=%2F&c=%5C", b"/?%2f", b"/a%252Fb", b"/a%2Eb%255c"])
async def test_what_is_no_encoded_slash_of_a_path_passes(target: bytes) -> None:
    async with serving() as front:
        assert (await front.says(get(target))).body == target + b"|"


async def test_what_an_older_connection_may_ask_is_no_newer_ones_for_that() -> None:
    async with serving(encoded_slashes_pass=True) as front, front.connect() as older:
        front.server.quick = lambda target, raw, address: b"HTTP/1.1 204 No Content\r\n\r\n"
        await older.send(get(b"/"))
        assert (await older.answer()).status == 204
        front.server.reload(front.server._handler, ServerLimits())
        await older.send(get(b"/a%2Fb"))
        assert (await older.answer()).status == 204
        assert (await front.says(get(b"/a%2Fb"))).problem["reason"] == "target_encoded_slash"


async def test_a_head_in_single_bytes_is_judged_the_same() -> None:
    async with serving() as front:
        async with front.connect() as client:
            for byte in get(b"/a%3Fb?%2F"):
                await client.send(bytes((byte,)))
                await asyncio.sleep(0)
            assert (await client.answer()).body == b"/a%3Fb?%2F|"
        async with front.connect() as client:
            for byte in b"GET / HTTP/1.1\r\nHost: a\n":
                await client.send(bytes((byte,)))
                await asyncio.sleep(0)
            assert (await client.answer()).problem["reason"] == "bare_line_feed"


async def test_an_oversize_header_in_many_segments_is_refused_before_it_ends() -> None:
    async with serving() as front:
        async with front.connect() as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
            await push(client, b"a" * 1_000, 60)
            assert (await client.answer()).status == 431
        await front.still_serves()


async def test_an_oversize_target_in_many_segments_is_refused_before_it_ends() -> None:
    async with serving() as front:
        async with front.connect() as client:
            await client.send(b"GET /")
            await push(client, b"a" * 1_000, 12)
            assert (await client.answer()).status == 414
        await front.still_serves()


async def test_a_refused_client_that_sends_on_can_still_read_why() -> None:
    """Closing with unread bytes would reset the connection and take the answer along."""
    async with serving(linger_s=2.0) as front, front.connect() as client:
        await client.send(get(b"/%zz"))
        await asyncio.sleep(0.05)  # the refusal is out; an early close would be too
        for _ in range(5):
            await client.send(b"x" * 1_000)
            await asyncio.sleep(0.01)
        assert (await client.answer()).problem["reason"] == "target_percent_encoding"
        assert client.reader.exception() is None
        assert await client.closed() == b""


async def push(client: Client, data: bytes, times: int) -> None:
    """Send on, whether or not the server still listens."""
    try:
        for _ in range(times):
            await client.send(data)
    except ConnectionError:
        pass


async def test_an_upgrade_to_h2c_is_ignored_and_the_connection_lives_on() -> None:
    offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AA")
    async with serving() as front, front.connect() as client:
        await client.send(post(b"one", *offer) + post(b"two"))
        assert (await client.answer()).body == b"/orders|one"
        assert (await client.answer()).body == b"/orders|two"


async def test_empty_lines_before_a_request_are_forgiven() -> None:
    async with serving() as front:
        assert (await front.says(b"\r\n\r\n" + get(b"/x"))).body == b"/x|"


async def test_a_slow_header_is_answered_408() -> None:
    async with serving(header_s=0.1) as front:
        async with front.connect() as client:
            await client.send(b"GET / HTTP/1.1\r\nHost:")
            answer = await client.answer()
            assert (answer.status, answer.problem["reason"]) == (408, "header_timeout")
        await front.still_serves()


async def test_an_idle_connection_closes_silently_and_later_than_a_slow_header() -> None:
    async with serving(header_s=0.1, idle_s=0.4) as front, front.connect() as client:
        await client.send(get())
        assert (await client.answer()).status == 200
        began = asyncio.get_running_loop().time()
        assert await client.closed() == b""
        assert asyncio.get_running_loop().time() - began > 0.3


async def test_a_header_that_began_is_not_cut_by_the_idle_limit() -> None:
    async with serving(header_s=2.0, idle_s=0.1) as front, front.connect() as client:
        await client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n")
        await asyncio.sleep(0.25)
        await client.send(b"\r\n")
        assert (await client.answer()).body == b"/slow|"


async def test_too_many_connections_of_one_address_are_not_taken() -> None:
    async with serving(connections_per_address_max=1) as front:
        async with front.connect() as client:
            await client.send(get())
            assert (await client.answer()).status == 200
            async with front.connect() as other:
                refused = await other.answer()
                assert (refused.status, refused.field(b"retry-after")) == (429, b"1")
                assert refused.problem["safe_new_key"] is False
                assert await other.closed() == b""
        await front.server.quiet()
        async with front.connect() as again:
            await again.send(get())
            assert (await again.answer()).status == 200


async def test_too_many_connections_are_not_taken() -> None:
    async with serving(connections_max=1) as front, front.connect() as client:
        await client.send(get())
        assert (await client.answer()).status == 200
        async with front.connect() as other:
            refused = await other.answer()
            assert (refused.status, refused.problem["reason"]) == (503, "too_many_connections")
            assert await other.closed() == b""
        await client.send(get())
        assert (await client.answer()).status == 200
