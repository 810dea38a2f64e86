"""What handlers return, as it stands on the wire."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from gateway.server import (
    RawResponse,
    RawStream,
    address_of,
    compose,
    raw_headers,
    raw_response,
    raw_target,
)
from middleware.messages import RawHeaders
from middleware.problems import problems
from middleware.request_id import request_id
from tests.server.serving import PATIENCE_S, Handle, Storefront, get, post, serving

DATE = (b"date", b"Tue, 15 Nov 1994 08:12:31 GMT")


def answering(make: Callable[[], web.StreamResponse]) -> Handle:
    async def handle(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        return make()

    return handle


async def wire(make: Callable[[], web.StreamResponse], request: bytes) -> bytes:
    """Everything the client gets on a connection that it asks to be closed."""
    async with serving(answering(make)) as front, front.connect() as client:
        await client.send(request)
        return await client.closed()


CLOSING = get(b"/", b"Connection: close")
HEAD = b"HEAD" + CLOSING[3:]


async def test_request_bytes_pass_untouched() -> None:
    async def handle(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        headers = raw_headers(request)
        assert address_of(request) == "127.0.0.1"
        return RawResponse(200, headers[1:], raw_target(request))

    target = b"//a/...//b%2Fc;x=%e2?q=%2f&&a=/../b?|{}"
    fields = (b"X-bYtEs: \xff\xfe\x80 \xc3\xa9", b"x-BYTES: 2", b"X-Empty:")
    async with serving(handle, encoded_slashes_pass=True) as front:
        answer = await front.says(get(target, *fields))
        assert answer.body == target
        assert answer.headers[:3] == (
            (b"X-bYtEs", b"\xff\xfe\x80 \xc3\xa9"),
            (b"x-BYTES", b"2"),
            (b"X-Empty", b""),
        )


async def test_answer_bytes_pass_untouched() -> None:
    headers: RawHeaders = (
        (b"x-oNe", b"\xff\xfe"),
        (b"Set-Cookie", b"a=1"),
        DATE,
        (b"CONTENT-LENGTH", b"2"),
        (b"Set-Cookie", b"b=2"),
    )
    sent = await wire(lambda: RawResponse(299, headers, b"ok", phrase=b"F\xfcr dich"), CLOSING)
    assert sent == (
        b"HTTP/1.1 299 F\xfcr dich\r\nx-oNe: \xff\xfe\r\nSet-Cookie: a=1\r\n"
        b"date: Tue, 15 Nov 1994 08:12:31 GMT\r\nCONTENT-LENGTH: 2\r\nSet-Cookie: b=2\r\n"
        b"Connection: close\r\n\r\nok"
    )


async def test_only_what_is_missing_is_added() -> None:
    sent = await wire(lambda: RawResponse(200, (), b"ok"), CLOSING)
    head, _, body = sent.partition(b"\r\n\r\n")
    names = [line.split(b":")[0] for line in head.split(b"\r\n")[1:]]
    assert names == [b"Date", b"Content-Length", b"Connection"]
    assert body == b"ok"


@pytest.mark.parametrize(
    ("make", "request_bytes", "length"),
    [
        (lambda: RawResponse(200, ((b"Content-Length", b"77"), DATE)), HEAD, b"77"),
        (lambda: RawResponse(200, (DATE,), b"12345"), HEAD, b"5"),
        (lambda: RawResponse(200, (DATE,)), HEAD, None),
        (lambda: RawResponse(304, ((b"Content-Length", b"77"), DATE)), CLOSING, b"77"),
        (lambda: RawResponse(304, (DATE,)), CLOSING, None),
        (lambda: RawResponse(204, ((b"Content-Length", b"0"), DATE)), CLOSING, None),
        (lambda: RawResponse(200, (DATE,)), CLOSING, b"0"),
        (lambda: RawStream(200, ((b"Content-Length", b"77"), DATE)), HEAD, b"77"),
        (lambda: RawStream(304, (DATE,)), CLOSING, None),
    ],
)
async def test_bodiless_answers_keep_the_length_they_were_given(
    make: Callable[[], web.StreamResponse], request_bytes: bytes, length: bytes | None
) -> None:
    sent = await wire(make, request_bytes)
    head, end, body = sent.partition(b"\r\n\r\n")
    assert (end, body) == (b"\r\n\r\n", b"")
    lengths = [line[16:] for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
    assert lengths == ([] if length is None else [length])
    assert b"Transfer-Encoding" not in head


async def test_a_wrong_length_and_connection_fields_are_replaced_by_ours() -> None:
    headers = (
        (b"Content-Length", b"99"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Connection", b"keep-alive"),
        DATE,
    )
    sent = await wire(lambda: RawResponse(200, headers, b"ok"), CLOSING)
    assert sent == (
        b"HTTP/1.1 200 OK\r\ndate: Tue, 15 Nov 1994 08:12:31 GMT\r\n"
        b"Content-Length: 2\r\nConnection: close\r\n\r\nok"
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: RawResponse(200, ((b"X", b"a\r\nb: c"),)),
        lambda: RawResponse(200, ((b"X", b"a\nb: c"),)),
        lambda: RawResponse(200, ((b"X", b"a"), (b"X", b"\r\n"))),
        lambda: RawResponse(200, ((b"X y", b"a"),)),
        lambda: RawResponse(200, ((b"", b"a"),)),
        lambda: RawResponse(200, ((b"X: y", b"a"),)),
        lambda: RawResponse(200, ((b"X", b"\x00"),)),
        lambda: RawResponse(200, (), phrase=b"a\nb"),
        lambda: RawResponse(199, ()),
        lambda: RawResponse(600, ()),
    ],
)
def test_bytes_that_break_the_framing_can_not_be_sent(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"that can not be sent|control character|no final status"):
        make()


async def test_fields_of_middlewares_replace_those_of_the_upstream() -> None:
    async def handle(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        async def upstream(request: web.BaseRequest) -> web.StreamResponse:
            return RawResponse(200, ((b"request-ID", b"theirs"), (b"X", b"1")), b"")

        return await compose((request_id(lambda: "ours"),), upstream)(request)

    async with serving(handle) as front:
        answer = await front.says(get())
        assert [value for name, value in answer.headers if name.lower() == b"request-id"] == [
            b"ours"
        ]


def streaming(*pieces: bytes, headers: RawHeaders = (), fail: bool = False, **more: Any) -> Handle:
    async def handle(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        stream = RawStream(200, headers, **more)
        await stream.prepare(request)
        for piece in pieces:
            await stream.write(piece)
        if fail:
            raise LookupError("the upstream broke off")
        return stream

    return handle


async def test_a_stream_of_unknown_length_is_chunked_and_the_connection_lives() -> None:
    async with serving(streaming(b"ab", b"", b"c")) as front, front.connect() as client:
        for _ in range(2):
            await client.send(get())
            answer = await client.answer()
            assert (answer.field(b"transfer-encoding"), answer.body) == (b"chunked", b"abc")


async def test_a_stream_of_known_length_has_it() -> None:
    headers = ((b"Content-Length", b"3"),)
    async with serving(streaming(b"ab", b"c", headers=headers)) as front, front.connect() as client:
        for _ in range(2):
            await client.send(get())
            answer = await client.answer()
            assert (answer.field(b"content-length"), answer.body) == (b"3", b"abc")


async def test_an_old_client_gets_a_stream_ended_by_the_connection() -> None:
    request = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    async with serving(streaming(b"ab", b"c")) as front:
        answer = await front.says(request)
        assert (answer.field(b"transfer-encoding"), answer.body) == (None, b"abc")
        assert answer.field(b"connection") == b"close"


async def test_an_old_client_may_keep_its_connection_where_the_length_is_known() -> None:
    request = b"GET /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    async with serving() as front, front.connect() as client:
        for _ in range(2):
            await client.send(request)
            answer = await client.answer()
            assert (answer.body, answer.field(b"connection")) == (b"/x|", b"keep-alive")


@pytest.mark.parametrize(
    "handle",
    [
        streaming(b"ab", headers=((b"Content-Length", b"3"),)),
        streaming(b"abcd", headers=((b"Content-Length", b"3"),)),
        streaming(b"ab", headers=((b"Content-Length", b"3"),), fail=True),
        streaming(b"ab", fail=True),
    ],
)
async def test_a_stream_that_breaks_off_is_never_taken_for_whole(handle: Handle) -> None:
    async def guarded(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        async def inner(request: web.BaseRequest) -> web.StreamResponse:
            return await handle(request, front)

        on_failure: Callable[..., None] = lambda request, error: None  # noqa: E731
        return await compose((problems(raw_response, on_failure=on_failure),), inner)(request)

    for version in (b"1.1", b"1.0"):
        async with serving(guarded) as front, front.connect() as client:
            await client.send(b"GET / HTTP/%b\r\nHost: a\r\n\r\n" % version)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await client.answer()


async def test_a_client_that_never_reads_is_reset_and_its_memory_is_bounded() -> None:
    failed = asyncio.Event()
    handed_over = 0

    async def handle(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        nonlocal handed_over
        stream = RawStream(200, ())
        await stream.prepare(request)
        try:
            while True:
                await stream.write(b"x" * 65_536)
                handed_over += 65_536
        except ConnectionResetError:
            failed.set()
            raise

    async with serving(handle, write_s=0.2) as front:
        async with front.connect() as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(get())
            async with asyncio.timeout(PATIENCE_S):
                await failed.wait()
            assert handed_over < 16 * 1024 * 1024
        assert front.server.requests == 0


async def test_a_whole_answer_that_nobody_reads_does_not_hold_the_connection() -> None:
    answered = asyncio.Event()

    async def handle(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        answered.set()
        return RawResponse(200, (), b"x" * 8_000_000)

    async with serving(handle, write_s=0.2) as front, front.connect() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(get())
        async with asyncio.timeout(PATIENCE_S):
            await answered.wait()
            assert front.server.connections == 1
            await front.server.quiet()


async def test_a_failing_handler_is_a_500_without_internals() -> None:
    async def handle(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        raise LookupError("secret")

    async with serving(handle) as front:
        answer = await front.says(post(b"x"))
        assert answer.status == 500
        assert answer.problem["type"].endswith("internal-error")
        assert b"secret" not in answer.body
        assert front.events[0][0] == "handler_failed"


async def test_a_handler_that_times_out_is_a_500_of_ours() -> None:
    async def handle(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        raise TimeoutError

    async with serving(handle) as front:
        assert (await front.says(get())).status == 500


async def test_aiohttps_own_responses_work_and_name_no_server() -> None:
    async with serving(answering(lambda: web.Response(text="hi"))) as front:
        answer = await front.says(get())
        assert (answer.body, answer.field(b"server")) == (b"hi", None)
