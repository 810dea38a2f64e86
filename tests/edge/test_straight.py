"""Requests that go straight are sent and answered as the handler would."""

import asyncio
import contextlib
import re
from pathlib import Path

import pytest

from gateway.api.straight_lines import BYTES_MAX
from tests.edge.hostile.answers import cases
from tests.edge.judge import Answer
from tests.edge.stage import (
    OK,
    Line,
    Stage,
    eventually,
    get,
    post,
    staged,
)
from tests.edge.straight import (
    CAME,
    READ,
    STRAIGHT,
    WENT_ON,
    Fates,
    at_work,
    one,
    warm,
)
from tests.edge.test_hostile_answers import Misbehaving, flaws_of
from tests.edge.ways import Way, paved

REQUESTS = {
    "a read": READ,
    "a body": post(b"x" * 1000, b"Content-Type: a/b", target=b"/x"),
    "no body": post(b"", target=b"/x"),
    "a method of its own": b"FROBNICATE /x HTTP/1.1\r\nhost: shop\r\n\r\n",
    "a body where none is usual": post(b"hi", target=b"/x").replace(b"POST", b"DELETE"),
    "fields that are ours to write": get(
        b"/x",
        b"X-Forwarded-For: 6.6.6.6",
        b"x-real-ip: 6.6.6.6",
        b"Via: 1.0 fred",
        b"Request-Id: mine",
        b"TE: trailers",
        b"Keep-Alive: 5",
        b"Connection: keep-alive",
        b"X-Percent%: 100%b %d %%",
        b"X-Empty:",
        b"X-Space: \t a  b \t ",
        b"X-Bytes: \xe9\xff",
    ),
    "forwarded": get(b"/x", b"Forwarded: for=6.6.6.6"),
}
ANSWERS = {
    "an ordinary one": OK,
    "without a phrase": OK.replace(b" OK", b" "),
    "an odd phrase": OK.replace(b"200 OK", b"299 Oh %b \xe9"),
    "a failure": OK.replace(b"200 OK", b"500 No"),
    "nothing in it": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "fields that are not for clients": (
        b"HTTP/1.1 201 Created\r\nserver: s\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nRequest-Id: theirs\r\n"
        b"Gateway-Source: gateway\r\nIdempotent-Replayed: true\r\nX-Percent%: %b %d\r\n"
        b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Space: \t a  b \t \r\nX-Empty:\r\n"
        b"Upgrade: h2c\r\nContent-Length: 2\r\n\r\nhi"
    ),
    "a field that its connection names": OK.replace(
        b"\r\n", b"\r\nConnection: X-A\r\nX-A: 1\r\n", 1
    ),
    "two connection fields": OK.replace(
        b"\r\n", b"\r\nConnection: keep-alive\r\nConnection: X-A\r\nX-A: 1\r\n", 1
    ),
    "in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "its last": OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1),
    "no content": b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
    "no content, of length 0": b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    "not modified": b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n',
    "not modified, of some length": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1013\r\n\r\n",
    "large": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (4 * BYTES_MAX)
    + bytes(4 * BYTES_MAX),
}


HANDLED = {
    ANSWERS[name]
    for name in ("a field that its connection names", "two connection fields", "large")
}


@pytest.mark.parametrize(
    ("listen", "upstream"),
    [
        ("", ""),
        ('trusted_proxies = ["127.0.0.1"]', ""),
        ("trust_request_id = true", 'deadline_header = "X-Deadline"'),
    ],
    ids=["", "trusted", "more"],
)
@pytest.mark.parametrize("ask", REQUESTS.values(), ids=REQUESTS.keys())
async def test_the_upstream_sees_the_request_that_the_handler_would_send(
    tmp_path: Path, fates: Fates, ask: bytes, listen: str, upstream: str
) -> None:
    seen: list[bytes] = []

    async def serve(line: Line) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await line.reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"\r\nContent-Length: ([0-9]+)", head)
                body = await line.reader.readexactly(int(length[1]) if length else 0)
                seen.append(_without_id(head) + body)
                await line.send(OK)

    async with (
        staged(tmp_path, serve, listen=listen, upstream=upstream) as stage,
        stage.connect() as client,
    ):
        await client.send(get(b"/warm"))
        await one(client)
        for _ in range(2):
            await client.send(ask)
            await one(client)
            stage.gateway.storefront.go_straight = None
    assert fates[WENT_ON] == 0
    # A trusted proxy's fields may be appended to in ways that their values decide.
    by_value = b"Forwarded:" in ask or b":\r\n" in ask
    assert fates[CAME] == (0 if "proxies" in listen and by_value else 1)
    assert seen[1] == seen[2]


@pytest.mark.parametrize("told", ANSWERS.values(), ids=ANSWERS.keys())
async def test_the_client_sees_the_answer_that_the_handler_would_give(
    tmp_path: Path, fates: Fates, told: bytes
) -> None:
    async def serve(line: Line) -> None:
        while await line.request() is not None:
            await line.send(told)

    got: list[bytes] = []
    async with warm(tmp_path, serve) as stage:
        for _ in range(2):
            async with stage.connect() as client:
                await client.send(READ + get(b"/_gateway/problems/", b"Connection: close"))
                raw, _ = await client.rest()
                got.append(_without_id(_without_date(raw)))
            stage.gateway.storefront.go_straight = None
            await stage.says(get(b"/warm"))
    assert fates == {WENT_ON if told in HANDLED else CAME: 1}
    assert got[0] == got[1]


@pytest.mark.parametrize("length", [b"", b"Content-Length: 1013\r\n", b"Content-Length: 0\r\n"])
async def test_the_answer_to_a_head_request_is_the_same(
    tmp_path: Path, fates: Fates, length: bytes
) -> None:
    async def serve(line: Line) -> None:
        while await line.request() is not None:
            await line.send(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n%b\r\n" % length)

    got: list[bytes] = []
    async with warm(tmp_path, serve) as stage, stage.connect() as client:
        for _ in range(2):
            await client.send(READ.replace(b"GET", b"HEAD"))
            got.append(_without_id(_without_date(await client.head())))
            stage.gateway.storefront.go_straight = None
    assert fates == {CAME: 1}
    assert got[0] == got[1]


def _without_id(raw: bytes) -> bytes:
    kept, count = re.subn(rb"[0-9a-f]{32}", b"-", raw)
    assert count or b"Request-Id: mine" in raw, raw
    return kept


def _without_date(head: bytes) -> bytes:
    return re.sub(rb"\r\nDate: \w{3}, \d\d \w{3} 20\d\d [\d:]{8} GMT\r\n", b"\r\nDate: -\r\n", head)


class _Staying(Stage):
    """Asks on connections that the client keeps open, so that answers need not go on."""

    async def says(self, request: bytes, *methods: bytes) -> list[Answer]:
        last, before = get(b"/_gateway/", b"Connection: close"), len(self.backend.requests)
        async with self.connect() as client:
            if methods == (b"POST",):  # a body that something follows would not go straight
                await client.send(self.begins + request)
                await eventually(lambda: len(self.backend.requests) > before)
                await client.send(last)
            else:
                await client.send(self.begins + request + last)
            answers = await client.answers(*(methods or (b"GET",)), b"GET")
        assert len(answers) == 2 or not answers[0].whole or answers[0].values(b"connection"), (
            answers
        )
        return answers[:1]


@pytest.mark.parametrize("way", [Way.PLAIN, Way.TLS])
async def test_no_hostile_answer_is_believed_on_the_straight_way(
    tmp_path: Path, fates: Fates, ways: Fates, way: Way
) -> None:
    corpus = [case for case in cases() if case.method == b"GET"]
    backend = Misbehaving(1 << 30)
    flaws: list[str] = []
    how = paved(way, tmp_path)
    async with staged(tmp_path, backend, **how.options) as staged_:
        stage = _Staying(staged_.gateway, staged_.backend, how.begins)
        await stage.still_serves()
        for number, case in enumerate(corpus):
            flaws += await flaws_of(stage, backend, case, number)
        assert stage.backend.ill_formed == []
        assert at_work(stage) == (0, 0)
    print(f"hostile answers to what went straight, {way}: {len(corpus)} cases, {fates}, {ways}")
    assert not flaws, "\n" + "\n".join(flaws)
    assert fates[WENT_ON] > len(corpus) / 2
    assert fates[CAME] > 0
    assert ways[STRAIGHT] > 10
    assert ways.total() == len(corpus) + 1
