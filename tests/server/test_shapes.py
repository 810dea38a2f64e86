"""What is read in one look is what the usual judgement makes of it, or it is not read so."""

import asyncio
import re

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.server.heads import Head, read_head
from gateway.server.limits import ServerLimits
from gateway.server.shapes import SEEN_MIN, Shape, shape_of
from middleware.messages import RawHeaders, first
from tests.server.serving import Storefront, echo, get, post, serving
from tests.server.test_ordinary import values

LIMITS = ServerLimits(fields_max=8)
KEY = b"Idempotency-Key: key-%d-of-a-customer"
NAMES = [
    b"Host", b"host", b"Content-Length", b"content-length", b"Connection", b"Cookie",
    b"Content-Type", b"Idempotency-Key", b"idempotency-key", b"Authorization", b"X.Y",
    b"Keep-Alive", b"Expect", b"Upgrade", b"Transfer-Encoding",
]  # fmt: skip
said = st.one_of(
    values,
    st.sampled_from([
        b" 12", b"\t0", b"12 ", b"+1", b"9" * 18, b"9" * 19, b" shop", b" shop:80",
        b"shop:", b"a b", b" Keep-Alive", b"keep-alive ", b" close",
        b" key-1", b' "key-1"', b"key 1", b"k" * 256,
    ]),
)  # fmt: skip


def learnt(fields: RawHeaders) -> Shape | None:
    shape = None
    for _ in range(SEEN_MIN):
        shape = shape_of(fields)
    return shape


@settings(max_examples=600)
@given(
    st.permutations(NAMES).flatmap(
        lambda names: st.lists(st.sampled_from(names), max_size=7, unique=True)
    ),
    st.lists(said, min_size=7, max_size=7),
    st.sampled_from([b"POST", b"GET", b"post", b"P-OST"]),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"http/1.1"]),
    st.sampled_from([b"\r\n", b"\n", b"\r", b""]),
)
def test_a_look_finds_nothing_that_the_usual_judgement_does_not(
    names: list[bytes], said: list[bytes], method: bytes, version: bytes, end: bytes
) -> None:
    shape = learnt(tuple((name, b"1") for name in names))
    lines = b"".join(b"%b:%b\r\n" % line for line in zip(names, said, strict=False))
    head = b"%b /orders?a=1 %b\r\n%b" % (method, version, lines)
    if shape is None or (found := shape.look(head + end + b"body")) is None:
        return
    assert end == b"\r\n"
    judged = read_head(head, LIMITS)
    assert isinstance(judged, Head)
    assert judged[5:] == (False, False, True, False)  # ordinary, and nothing else is asked
    told = found.group(1, 2, shape.key, shape.length)
    sent = first(judged.fields, b"idempotency-key") or b""
    assert told[:3] == (judged.method, judged.target, sent)
    assert int(told[3] or b"0") == judged.body_bytes
    assert found.end() == len(head + end)


@pytest.mark.parametrize(
    "more", [(), (b"Connection: keep-alive", b"Cookie: a=1; b=2"), (KEY % 1,), (b"X-A:",)]
)
def test_what_shops_send_is_read_in_one_look_once_it_was_seen_often(
    more: tuple[bytes, ...],
) -> None:
    raw = post(b"x" * 40, *more)
    head = read_head(raw[: raw.index(b"\r\n\r\n") + 2], LIMITS)
    assert isinstance(head, Head)
    shape = shape_of(head.fields)
    assert shape is not None
    assert learnt(head.fields) is shape
    found = shape.look(raw)
    assert found is not None
    assert found.end() == len(raw) - 40
    assert not any(shape.look(raw[:end]) for end in range(len(raw) - 40))


def of_own(number: int, size: int, count: int) -> RawHeaders:
    """The fields of a client that has names of his own."""
    names = [b"X-%d-%d-%b" % (number, each, b"a" * size) for each in range(count)]
    return tuple((name, b"1") for name in (b"Host", b"Content-Length", *names))


@pytest.mark.parametrize(("size", "count"), [(300, 90), (30_000, 1)])
def test_large_names_are_worth_no_expression(size: int, count: int) -> None:
    assert learnt(of_own(0, size, count)) is None


def test_expressions_are_made_no_faster_than_what_they_spare(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Shape] = []
    expression = Shape._expression

    def counted(shape: Shape) -> re.Pattern[bytes]:
        made.append(shape)
        return expression(shape)

    monkeypatch.setattr(Shape, "_expression", counted)
    clients = 8 * SEEN_MIN
    everyone = [of_own(number, 1, 5) for number in range(1, clients // 2)]
    for _ in range(SEEN_MIN - 1):
        for fields in everyone:
            shape_of(fields)
    assert not made
    for fields in everyone:
        shape_of(fields)
    assert 0 < len(made) <= len(everyone) // SEEN_MIN + 1
    for _ in range(2 * SEEN_MIN):
        for fields in everyone:
            shape_of(fields)
    assert set(made) == {shape_of(fields) for fields in everyone}
    assert len(made) == len(everyone)


class Refusing:
    """Turns off every POST to /refused, and says which were read in one look."""

    def __init__(self) -> None:
        self.again: list[bytes] = []
        self.judged: list[bytes] = []

    def __call__(
        self, method: bytes, target: bytes, fields: RawHeaders, _date: object
    ) -> bytes | None:
        if method != b"POST" or target != b"/refused":
            return None
        self.judged.append(first(fields, b"idempotency-key") or b"")
        return self._said(self.judged[-1])

    def look(self, method: bytes, target: bytes, key: bytes) -> bytes | None:
        if method != b"POST" or target != b"/refused":
            return None
        self.again.append(key)
        return self._said(key)

    def _said(self, key: bytes) -> bytes:
        return b"HTTP/1.1 503 X\r\nContent-Length: %d\r\n\r\n%b" % (len(key), key)


def turns_off(front: Storefront) -> Refusing:
    refusing = Refusing()
    front.server.sluice.shut = lambda: True
    front.server.turn_off = refusing
    front.server.turn_off_again = refusing.look
    return refusing


def order(number: int, target: bytes = b"/refused", *more: bytes) -> bytes:
    return post(b"x" * 40, KEY % number, *more, target=target)


async def test_who_is_refused_again_is_told_of_his_own_key_and_others_are_served() -> None:
    async with serving() as front:
        refusing = turns_off(front)

        async def one(number: int) -> None:
            async with front.connect() as client:
                for each in range(3 * SEEN_MIN):
                    number += 100_000
                    await client.send(order(number))
                    answer = await client.answer()
                    assert answer.status == 503
                    assert answer.body == (KEY % number).partition(b" ")[2]
                    if each % 16 == 0:
                        await client.send(order(number, b"/served"))
                        assert (await client.answer()).status == 200

        await asyncio.gather(*(one(number) for number in range(20)))
        assert len(refusing.judged) + len(refusing.again) == 20 * 3 * SEEN_MIN
        assert len(refusing.again) > len(refusing.judged)
        assert {seen.target for seen in front.seen} == {b"/served"}


# Only one that comes alone and may be followed is turned off; here the others are served.
OTHERS = {
    "another target": (order(1, b"/served"), [200]),
    "another method": (get(b"/refused"), [200]),
    "two at once": (order(1) + order(2), [200, 200]),
    "one that is served behind it": (order(1) + order(2, b"/served"), [200, 200]),
    "a last one": (order(1, b"/refused", b"Connection: close"), [200]),
    "no host": (order(1).replace(b"Host: a\r\n", b""), [400]),
    "a bad host": (order(1).replace(b"Host: a\r\n", b"Host: a b\r\n"), [400]),
    "a length of letters": (order(1).replace(b"40", b"4O"), [400]),
    "a second length": (order(1, b"/refused", b"Content-Length: 40"), [400]),
    "a dot segment": (order(1, b"/x/../refused"), [400]),
}


@pytest.mark.parametrize("name", OTHERS)
async def test_what_is_not_the_like_is_judged(name: str) -> None:
    raw, statuses = OTHERS[name]
    async with serving() as front, front.connect() as client:
        turns_off(front)
        for number in range(2 * SEEN_MIN):
            await client.send(order(number))
            assert (await client.answer()).status == 503
        await client.send(raw)
        assert [(await client.answer()).status for _ in statuses] == statuses


@pytest.mark.parametrize("cut", [10, 60, -50, -40, -1])
async def test_what_comes_in_pieces_is_put_together(cut: int) -> None:
    async with serving() as front, front.connect() as client:
        refusing = turns_off(front)
        for number in range(2 * SEEN_MIN):
            await client.send(order(number))
            await client.answer()
        assert refusing.again
        raw = order(77, b"/served")
        await client.send(raw[:cut])
        await front.still_serves()
        await client.send(raw[cut:])
        assert (await client.answer()).body == b"/served|" + b"x" * 40
        await client.send(order(78))
        assert (await client.answer()).status == 503


async def test_the_last_request_of_a_connection_closes_it_and_a_large_head_is_refused() -> None:
    async with serving(requests_per_connection_max=2 * SEEN_MIN, head_bytes_max=400) as front:
        refusing = turns_off(front)
        async with front.connect() as client:
            for number in range(2 * SEEN_MIN - 1):
                await client.send(order(number))
                assert (await client.answer()).status == 503
            assert refusing.again
            await client.send(order(5, b"/served"))
            assert (await client.answer()).field(b"connection") == b"close"
            assert await client.closed() == b""
        async with front.connect() as client:
            for number in range(2):
                await client.send(order(number, b"/refused", b"X-Large: " + b"a" * 100))
                assert (await client.answer()).status == 503
            again = len(refusing.again)
            await client.send(order(2, b"/refused", b"X-Large: " + b"a" * 400))
            assert (await client.answer()).status == 431
            assert len(refusing.again) == again


async def test_a_refusal_does_not_overtake_the_answer_to_what_was_asked_before() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def held(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
        begun.set()
        await go.wait()
        return await echo(request, front)

    async with serving(held) as front, front.connect() as client:
        turns_off(front)
        for number in range(2 * SEEN_MIN):
            await client.send(order(number))
            await client.answer()
        await client.send(order(1, b"/served"))
        await begun.wait()
        await client.send(order(2))
        async with front.connect() as other:  # it was read: what came later is refused
            await other.send(order(3))
            assert (await other.answer()).status == 503
        go.set()
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]


async def test_what_is_at_hand_is_given_however_many_were_refused() -> None:
    def asked(body: bytes) -> bytes:
        return b"GET /kept HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    refusal = b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"
    async with serving() as front, front.connect() as client:
        front.server.sluice.shut = lambda: True
        front.server.quick = lambda *_: b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkept"
        front.server.turn_off = lambda *_: refusal
        front.server.turn_off_again = lambda *_: refusal
        for _ in range(2 * SEEN_MIN):
            await client.send(asked(b"x"))
            assert (await client.answer()).status == 503
        await client.send(asked(b""))
        assert (await client.answer()).body == b"kept"
