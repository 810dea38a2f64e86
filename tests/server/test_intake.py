"""The strict reading alone: however the bytes are cut, it says the same."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.server import intake as intake_module
from gateway.server.heads import METHODS, Head, Refused, read_head
from gateway.server.intake import Beyond, BodyBroken, BodyPart, Intake, NewRequest, Refuse
from gateway.server.limits import ServerLimits
from gateway.server.refusals import problem
from tests.server.serving import Storefront, get, post, serving

LIMITS = ServerLimits(target_bytes_max=200, head_bytes_max=500, fields_max=10)
CHUNKED = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

MESSAGES = [
    get(b"/a%20?b%2F"),
    post(b""),
    post(b"x" * 40),
    CHUNKED + b"5;e=1\r\nhello\r\n1\r\n \r\n0\r\n\r\n",
    CHUNKED + b"0\r\nTrailer-Field: v\r\nOther: w\r\n\r\n",
    b"\r\n" + get(b"/after-an-empty-line"),
]
ENDS = [
    b"",
    get(b"/%zz"),
    get(b"/", b"X: " + b"y" * 600),
    CHUNKED + b"5\r\nhelloX\r\n",
    get(b"/last", b"Connection: close") + get(b"/never"),
    b"GET /partial HTTP/1.1\r\nHos",
    get(b"/a%2Fb"),
]

Story = list[tuple[str, bytes]]


def story(pieces: list[bytes]) -> Story:
    """What an intake makes of the pieces; parts of one body joined."""
    intake = Intake(LIMITS)
    told: Story = []
    for piece in pieces:
        for taken in intake.take(piece):
            match taken:
                case NewRequest(_, raw):
                    head, end, body = raw.partition(b"\r\n\r\n")
                    told.append(("head", head + end))
                    if body:
                        told.append(("body", body))
                case BodyPart(raw) if told[-1][0] == "body":
                    told[-1] = ("body", told[-1][1] + raw)
                case BodyPart(raw):
                    told.append(("body", bytes(raw)))
                case Refuse(reason):
                    told.append(("refused", reason.value.encode()))
                case BodyBroken():
                    told.append(("broken", b""))
    return told


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(marks)]


@given(
    st.lists(st.sampled_from(MESSAGES), max_size=5),
    st.sampled_from(ENDS),
    st.lists(st.integers(0, 10_000), max_size=30),
)
@example([MESSAGES[5]], b"", [1])
@example([MESSAGES[1], MESSAGES[5]], b"", list(range(200)))
def test_segments_do_not_change_what_is_read(
    messages: list[bytes], end: bytes, places: list[int]
) -> None:
    data = b"".join(messages) + end
    whole, parts = story([data]), story(cut(data, places))
    assert without_broken_body(parts) == without_broken_body(whole)


def without_broken_body(told: Story) -> Story:
    """How much of a broken body was handed on before it broke depends on the segments."""
    if told and told[-1][0] == "broken" and told[-2][0] == "body":
        return [*told[:-2], told[-1]]
    return told


@given(st.lists(st.binary(max_size=80), max_size=8))
def test_no_bytes_confuse_the_reading(pieces: list[bytes]) -> None:
    intake = Intake(LIMITS)
    for piece in pieces:
        for taken in intake.take(piece):
            if isinstance(taken, Refuse | BodyBroken):
                assert intake.stopped


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_no_bytes_confuse_the_chunks(pieces: list[bytes]) -> None:
    intake = Intake(LIMITS)
    list(intake.take(CHUNKED))
    for piece in pieces:
        broken = any(isinstance(taken, BodyBroken) for taken in intake.take(piece))
        assert intake.stopped >= broken


@pytest.mark.parametrize(
    "chunks",
    [
        b"5 ;a\r\nhello\r\n",
        b"5;a\nb\r\nhello\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"5\r\nhello!\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\nhello\r\n",
        b"0\r\nA : b\r\n",
    ],
)
def test_chunks_are_judged_before_the_parser_sees_them(chunks: bytes) -> None:
    """It would refuse them too: two are to agree before anything passes."""
    intake = Intake(LIMITS)
    taken = list(intake.take(CHUNKED + chunks))
    assert isinstance(taken[-1], BodyBroken)
    assert intake.stopped


def test_trailers_are_not_handed_on() -> None:
    assert story([MESSAGES[4]])[1] == ("body", b"0\r\n\r\n")


def test_nothing_is_read_after_a_request_that_says_it_is_the_last() -> None:
    assert [raw[:9] for _, raw in story([ENDS[4]])] == [b"GET /last"]
    old = b"GET /old HTTP/1.0\r\nHost: a\r\n\r\n"
    assert len(story([old + get()])) == 1


def test_every_refusal_has_words_and_a_status() -> None:
    for reason in Refused:
        told = problem(reason)
        assert 400 <= told.status <= 505
        assert told.detail


async def test_every_method_that_is_let_through_is_known_to_the_parser() -> None:
    async with serving() as front:
        for method in sorted(METHODS - {b"HEAD"}):
            answer = await front.says(method + get(b"/m")[3:])
            assert (answer.status, answer.body) == (200, b"/m|")
        assert {seen.method.encode() for seen in front.seen} == METHODS - {b"HEAD"}


@pytest.mark.parametrize("method", [b"BREW", b"X-mine_1.0", b"DESCRIBE", b"F" * 32, b"A"])
async def test_a_method_that_nobody_knows_is_read_as_any_other(method: bytes) -> None:
    """Whole, in chunks, and behind another request."""
    chunks = b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with serving() as front:
        answer = await front.says(method + post(b"abc", target=b"/m")[4:])
        assert (answer.status, answer.body) == (200, b"/m|abc")
        answer = await front.says(method + b" /m HTTP/1.1\r\nHost: a\r\n" + chunks)
        assert (answer.status, answer.body) == (200, b"/m|abc")
        async with front.connect() as client:
            await client.send(get(b"/1") + method + get(b"/2")[3:] + get(b"/3"))
            assert [(await client.answer()).body for _ in range(3)] == [b"/1|", b"/2|", b"/3|"]
        known = {seen.method.encode() for seen in front.seen}
    assert known == {method, b"GET"}


async def test_what_only_the_parser_objects_to_is_not_served_either() -> None:
    async with serving() as front:
        await refused_by_the_parser(front, b"Sec-WebSocket-Key1: x")
        await refused_by_the_parser(front, b"User-Agent: a", b"User-Agent: b")
        await front.still_serves()


async def test_two_readings_that_disagree_serve_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def misread(head: bytes, limits: ServerLimits) -> Head | Refused:
        right = read_head(head, limits)
        return right if isinstance(right, Refused) else right._replace(fields=(), ordinary=False)

    monkeypatch.setattr(intake_module, "read_head", misread)
    async with serving() as front:
        answer = await front.says(get())
        assert answer.problem["reason"] == "parser_disagrees"
        assert front.seen == []


async def refused_by_the_parser(front: Storefront, *fields: bytes) -> None:
    async with front.connect() as client:
        await client.send(post(b"before") + get(b"/odd", *fields) + get(b"/behind"))
        assert (await client.answer()).body == b"/orders|before"
        answer = await client.answer()
        assert (answer.status, answer.problem["reason"]) == (400, "parser_disagrees")
        assert await client.closed() == b""
    assert {seen.target for seen in front.seen} == {b"/orders"}


def test_nothing_after_an_upgrade_is_read_as_a_request() -> None:
    intake = Intake(ServerLimits())
    asking = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    request = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
    new, beyond = intake.take(asking + request)
    assert isinstance(new, NewRequest)
    assert new.head.upgrade
    assert beyond == Beyond(request)
    assert not intake.between
    assert list(intake.take(request)) == [Beyond(request)]
