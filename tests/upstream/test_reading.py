"""Which bytes count as an answer."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orders.attempts import LostReason
from gateway.upstream.heads import Broken
from gateway.upstream.limits import HopLimits
from gateway.upstream.reading import AnswerReader

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

Reading = tuple[str, int | None, bytes, bool]
"""How it ended (an end or a reason), the status, the body, whether the connection may be reused."""


def read(
    raw: bytes, *, method: bytes = b"POST", piece: int = 1 << 20, fin: bool = False
) -> Reading:
    reader = AnswerReader(method, HopLimits())
    body = bytearray()
    try:
        for start in range(0, len(raw), piece):
            body += reader.feed(raw[start : start + piece])
        if fin:
            reader.end(clean=True)
    except Broken as broken:
        return broken.reason.value, reader.status, bytes(body), False
    return "done" if reader.done else "open", reader.status, bytes(body), reader.reusable


WHOLE: dict[str, tuple[bytes, Reading]] = {
    "length": (OK + b"Content-Length: 2\r\n\r\nhi", ("done", 200, b"hi", True)),
    "empty length": (OK + b"Content-Length: 0\r\n\r\n", ("done", 200, b"", True)),
    "chunks": (CHUNKED + b"2\r\nhi\r\n1;x=y\r\n!\r\n0\r\n\r\n", ("done", 200, b"hi!", True)),
    "Chunked": (
        OK + b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
        ("done", 200, b"", True),
    ),
    "trailers dropped": (CHUNKED + b"2\r\nhi\r\n0\r\nA: b\r\n\r\n", ("done", 200, b"hi", True)),
    "no phrase": (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", ("done", 200, b"", True)),
    "connection close": (
        OK + b"Connection: x, Close\r\nContent-Length: 0\r\n\r\n",
        ("done", 200, b"", False),
    ),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", ("done", 200, b"", False)),
    "1.0 keep-alive": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
        ("done", 200, b"", True),
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", ("done", 204, b"", True)),
    "304 with a length": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        ("done", 304, b"", True),
    ),
    "100 and 103 first": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        + OK
        + b"Content-Length: 2\r\n\r\nhi",
        ("done", 200, b"hi", True),
    ),
    "upgrade offered": (
        OK + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi",
        ("done", 200, b"hi", True),
    ),
    "until close": (OK + b'\r\n{"id":1', ("open", 200, b'{"id":1', False)),
    "bytes after a length": (OK + b"Content-Length: 2\r\n\r\nhi!", ("done", 200, b"hi", False)),
    "bytes after chunks": (CHUNKED + b"2\r\nhi\r\n0\r\n\r\n!", ("done", 200, b"hi", False)),
    "empty line after chunks": (CHUNKED + b"0\r\n\r\n\r\n", ("done", 200, b"", False)),
    "line feed after chunks": (CHUNKED + b"0\r\n\r\n\n", ("done", 200, b"", False)),
    "empty line after trailers": (CHUNKED + b"0\r\nA: b\r\n\r\n\r\n", ("done", 200, b"", False)),
    "body after 204": (b"HTTP/1.1 204 No\r\n\r\nhi", ("done", 204, b"", False)),
    "second chunked answer": (
        (CHUNKED + b"2\r\nhi\r\n0\r\n\r\n") * 2,
        ("done", 200, b"hi", False),
    ),
    "second answer after Connection: close": (
        OK + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + OK,
        ("done", 200, b"", False),
    ),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("piece", [1 << 20, 7, 1])
def test_whole_answer_is_read_the_same_in_any_pieces(name: str, piece: int) -> None:
    raw, expected = WHOLE[name]
    assert read(raw, piece=piece) == expected


M, T, L = LostReason.MALFORMED, LostReason.TRUNCATED, LostReason.TOO_LARGE
BAD: dict[str, tuple[bytes, LostReason, int | None]] = {
    "garbage": (b"SSH-2.0-OpenSSH_9.2\r\n", M, None),
    "HTTP/0.9": (b"<html>hello</html>", M, None),
    "HTTP/2.0": (b"HTTP/2.0 200 OK\r\n\r\n", M, None),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\n\r\n", M, None),
    "RTSP": (b"RTSP/1.0 200 OK\r\n\r\n", M, None),
    "leading CRLF": (b"\r\n" + OK + b"Content-Length: 0\r\n\r\n", M, None),
    "status 600": (b"HTTP/1.1 600 x\r\nContent-Length: 0\r\n\r\n", M, None),
    "status 099": (b"HTTP/1.1 099 x\r\nContent-Length: 0\r\n\r\n", M, None),
    "status 2000": (b"HTTP/1.1 2000 x\r\nContent-Length: 0\r\n\r\n", M, None),
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", M, None),
    "one bare line feed": (OK + b"A: b\nContent-Length: 0\r\n\r\n", M, 200),
    "bare CR": (OK + b"A: b\rc\r\nContent-Length: 0\r\n\r\n", M, 200),
    "obs-fold": (OK + b"A: b\r\n c\r\nContent-Length: 0\r\n\r\n", M, 200),
    "obs-fold at once": (OK[:-2] + b"\r\n A: b\r\nContent-Length: 0\r\n\r\n", M, 200),
    "NUL in a value": (OK + b"A: \x00\r\nContent-Length: 0\r\n\r\n", M, 200),
    "control character in a value": (OK + b"A: \x1b\r\nContent-Length: 0\r\n\r\n", M, 200),
    "DEL in a value": (OK + b"A: \x7f\r\nContent-Length: 0\r\n\r\n", M, 200),
    "space before the colon": (OK + b"A : b\r\nContent-Length: 0\r\n\r\n", M, 200),
    "no colon": (OK + b"nonsense\r\nContent-Length: 0\r\n\r\n", M, 200),
    "empty name": (OK + b": b\r\nContent-Length: 0\r\n\r\n", M, 200),
    "differing lengths": (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi", M, 200),
    "listed lengths": (OK + b"Content-Length: 2, 2\r\n\r\nhi", M, 200),
    "signed length": (OK + b"Content-Length: +2\r\n\r\nhi", M, 200),
    "length and chunks": (OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", M, 200),
    "chunks and length": (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n", M, 200),
    "gzip, chunked": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", M, 200),
    "chunked twice": (
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        M,
        200,
    ),
    "identity": (OK + b"Transfer-Encoding: identity\r\n\r\n", M, 200),
    "empty transfer coding": (OK + b"Transfer-Encoding: \r\n\r\n", M, 200),
    "chunks on 1.0": (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", M, 200),
    "204 with a length": (b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nhi", M, 204),
    "204 with chunks": (b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", M, 204),
    "bad chunk size": (CHUNKED + b"x\r\nhi\r\n0\r\n\r\n", M, 200),
    "negative chunk size": (CHUNKED + b"-2\r\nhi\r\n0\r\n\r\n", M, 200),
    "overflowing chunk size": (CHUNKED + b"1" + b"0" * 16 + b"\r\nhi", M, 200),
    "space after a chunk size": (CHUNKED + b"2 \r\nhi\r\n0\r\n\r\n", M, 200),
    "line feed after a chunk size": (CHUNKED + b"2\nhi\r\n0\r\n\r\n", M, 200),
    "chunk longer than it says": (CHUNKED + b"1\r\nhi\r\n0\r\n\r\n", M, 200),
    "length among trailers": (CHUNKED + b"0\r\nContent-Length: 2\r\n\r\n", M, 200),
    "101": (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", LostReason.UPGRADED, 101),
    "too many fields": (OK + b"A: b\r\n" * 200 + b"\r\n", L, 200),
    "huge field": (OK + b"A: " + b"b" * 40_000 + b"\r\n\r\n", L, 200),
    "endless head": (OK + b"A: " + b"b" * 40_000, L, 200),
    "endless 103s": (b"HTTP/1.1 103 Early\r\n\r\n" * 20, L, 103),
    "too many trailers": (CHUNKED + b"0\r\n" + b"A: b\r\n" * 200 + b"\r\n", L, 200),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("piece", [1 << 20, 7, 1])
def test_bad_answer_is_no_answer(name: str, piece: int) -> None:
    raw, reason, status = BAD[name]
    end = read(raw, piece=piece)
    assert end[:2] == (reason.value, status)
    assert not end[3]


def test_endless_trailer_or_extension_in_pieces_is_cut_off() -> None:
    for raw in (CHUNKED + b"0\r\nA: " + b"b" * 50_000, CHUNKED + b"1;" + b"x" * 50_000):
        assert read(raw, piece=100)[0] == L.value


@pytest.mark.parametrize(
    ("raw", "end"),
    [
        (b"", (LostReason.CLOSED.value, None)),
        (b"H", (T.value, None)),
        (OK, (T.value, None)),
        (b"HTTP/1.1 100 Continue\r\n\r\n", (T.value, 100)),
        (OK + b"Content-Length: 5\r\n\r\nhi", (T.value, 200)),
        (OK + b"Content-Length: 5\r\n\r\n", (T.value, 200)),
        (CHUNKED + b"5\r\nhi", (T.value, 200)),
        (CHUNKED + b"2\r\nhi\r\n", (T.value, 200)),
        (CHUNKED + b"2\r\nhi\r\n0\r\n", (T.value, 200)),
        (OK + b'\r\n{"id":1', ("done", 200)),
        (OK + b"Content-Length: 2\r\n\r\nhi", ("done", 200)),
    ],
)
def test_end_of_input_completes_only_what_it_frames(
    raw: bytes, end: tuple[str, int | None]
) -> None:
    assert read(raw, fin=True)[:2] == end


def test_answer_that_only_the_end_ends_leaves_nothing_to_reuse() -> None:
    assert read(OK + b"\r\nhi", fin=True) == ("done", 200, b"hi", False)


def test_reset_completes_nothing_that_it_would_have_framed() -> None:
    reader = AnswerReader(b"POST", HopLimits())
    reader.feed(OK + b"\r\nhi")
    with pytest.raises(Broken, match=T.value):
        reader.end(clean=False)


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n", b""]
)
def test_answer_to_head_has_no_body_whatever_it_says(framing: bytes) -> None:
    assert read(OK + framing + b"\r\n", method=b"HEAD") == ("done", 200, b"", True)


@given(st.sampled_from(sorted(WHOLE) + sorted(BAD)), st.lists(st.integers(1, 30), max_size=40))
def test_pieces_never_change_what_an_answer_means(name: str, sizes: list[int]) -> None:
    raw = WHOLE[name][0] if name in WHOLE else BAD[name][0]
    reader = AnswerReader(b"POST", HopLimits())
    body, start = bytearray(), 0
    end = None
    try:
        for size in [*sizes, len(raw)]:
            body += reader.feed(raw[start : start + size])
            start += size
    except Broken as broken:
        end = broken.reason.value
    if name in WHOLE:
        assert (end, bytes(body), reader.reusable) == (None, *WHOLE[name][1][2:])
    else:
        assert end == BAD[name][1].value


@given(st.binary(max_size=200))
def test_no_garbage_makes_the_reader_fail_in_other_ways(tail: bytes) -> None:
    for start in (b"", OK, CHUNKED, OK + b"Content-Length: 5\r\n\r\n"):
        read(start + tail, fin=True)


def _seconds_in_single_bytes(raw: bytes) -> float:
    started = time.perf_counter()
    reader = AnswerReader(b"POST", HopLimits(head_bytes_max=1_000_000))
    for index in range(len(raw)):
        reader.feed(raw[index : index + 1])
    assert reader.done
    return time.perf_counter() - started


def _long_head(size: int) -> bytes:
    return OK + b"A: " + b"b" * size + b"\r\nContent-Length: 0\r\n\r\n"


def _long_chunk(size: int) -> bytes:
    return CHUNKED + b"%x\r\n" % size + b"c" * size + b"\r\n0\r\nT: t\r\n\r\n"


@pytest.mark.parametrize("answer", [_long_head, _long_chunk])
def test_tiny_pieces_cost_linear_time(answer: Callable[[int], bytes]) -> None:
    """Four times the answer in single bytes costs about four times, nowhere near sixteen."""
    small = min(_seconds_in_single_bytes(answer(50_000)) for _ in range(3))
    large = min(_seconds_in_single_bytes(answer(200_000)) for _ in range(3))
    assert large < small * 9
