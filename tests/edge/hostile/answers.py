"""Answers that a careless proxy relays, joins, cuts or dies of, and what a client gets instead.

Each is sent in answer to a read and to an order, and the connection is then ended. ``read`` is
what the client of the read gets: a status, and whether the answer is whole; an order whose answer
does not count is ``202`` (it is in doubt, and its outcome is found out), never a ``502``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum, auto


class End(StrEnum):
    FIN = auto()
    RST = auto()
    OPEN = auto()
    """The upstream leaves the connection as it is."""


@dataclass(frozen=True)
class Case:
    group: str
    name: str
    sent: bytes
    read: int = 502
    order: int = 202
    whole: bool = True
    body: bytes | None = None
    end: End = End.FIN
    method: bytes = b"GET"


def fate(case: Case) -> str:
    """What becomes of it where a read asked."""
    return "cut short" if not case.whole else "502" if case.read == 502 else "passed on"


def cases() -> list[Case]:
    found = [
        *_status_lines(),
        *_fields(),
        *_lengths(),
        *_chunks(),
        *_interims(),
        *_bodiless(),
        *_surplus(),
        *_sizes(),
        *_cut(),
        *_passed(),
    ]
    names = [(case.group, case.name) for case in found]
    assert len(set(names)) == len(names), "two cases of one name"
    return found


def _taken(group: str, name: str, sent: bytes, end: End = End.FIN) -> Case:
    """Passed to the client of a read, and an order's outcome: 200 and ``ok``."""
    return Case(group, name, sent, read=200, order=200, body=b"ok", end=end)


OK = b"HTTP/1.1 200 OK\r\n"
TWO = b"Content-Length: 2\r\n\r\nok"


def _status_lines() -> Iterator[Case]:
    for name, line in {
        "garbage": b"garbage\r\n",
        "nothing": b"",
        "an empty line": b"\r\n",
        "an empty line in front": b"\r\nHTTP/1.1 200 OK\r\n",
        "HTTP/0.9": b"<html>hello</html>",
        "version 0.9": b"HTTP/0.9 200 OK\r\n",
        "version 1.2": b"HTTP/1.2 200 OK\r\n",
        "version 2.0": b"HTTP/2.0 200 OK\r\n",
        "version 2": b"HTTP/2 200\r\n",
        "another protocol": b"ICY 200 OK\r\n",
        "small letters": b"http/1.1 200 OK\r\n",
        "two spaces": b"HTTP/1.1  200 OK\r\n",
        "tab": b"HTTP/1.1\t200 OK\r\n",
        "two digits": b"HTTP/1.1 20 OK\r\n",
        "four digits": b"HTTP/1.1 2000 OK\r\n",
        "letters": b"HTTP/1.1 OK\r\n",
        "status 000": b"HTTP/1.1 000 OK\r\n",
        "status 099": b"HTTP/1.1 099 OK\r\n",
        "status 600": b"HTTP/1.1 600 OK\r\n",
        "status 999": b"HTTP/1.1 999 OK\r\n",
        "negative": b"HTTP/1.1 -200 OK\r\n",
        "NUL in the phrase": b"HTTP/1.1 200 O\0K\r\n",
        "CR in the phrase": b"HTTP/1.1 200 O\rK\r\n",
        "ESC in the phrase": b"HTTP/1.1 200 \x1b[31mOK\r\n",
        "bare line feed": b"HTTP/1.1 200 OK\n",
        "CR CR LF": b"HTTP/1.1 200 OK\r\r\n",
        "a request": b"GET / HTTP/1.1\r\n",
        "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
        "SSH": b"SSH-2.0-x\r\n",
        "HTTP/2 frames": b"\0\0\x12\x04\0\0\0\0\0",
    }.items():
        tail = TWO if line.endswith(b"\n") and line != b"\r\n" else b""
        yield Case("status line", name, line + tail)


def _fields() -> Iterator[Case]:
    for name, field in {
        "NUL in a value": b"X: a\0b\r\n",
        "SOH in a value": b"X: a\x01b\r\n",
        "ESC in a value": b"X: \x1b[2J\r\n",
        "DEL in a value": b"X: a\x7f\r\n",
        "CR in a value": b"X: a\rSet-Cookie: stolen=1\r\n",
        "LF in a value": b"X: a\nSet-Cookie: stolen=1\r\n",
        "folded by a space": b"X: a\r\n b\r\n",
        "folded by a tab": b"X: a\r\n\tb\r\n",
        "a folded line first": b" X: a\r\n",
        "space before the colon": b"X : a\r\n",
        "space in a name": b"X Y: a\r\n",
        "empty name": b": a\r\n",
        "no colon": b"nonsense\r\n",
        "NUL in a name": b"X\0: a\r\n",
        "a raw byte in a name": b"X\xe9: a\r\n",
        "a bare line feed": b"X: a\n",
    }.items():
        yield Case("field", name, OK + field + TWO)


def _lengths() -> Iterator[Case]:
    for name, fields in {
        "a list of equal ones": b"Content-Length: 2, 2\r\n",
        "a list of different ones": b"Content-Length: 2, 3\r\n",
        "repeated": b"Content-Length: 2\r\nContent-Length: 2\r\n",
        "repeated, different": b"Content-Length: 2\r\ncontent-length: 3\r\n",
        "signed": b"Content-Length: +2\r\n",
        "negative": b"Content-Length: -2\r\n",
        "hex": b"Content-Length: 0x2\r\n",
        "empty": b"Content-Length:\r\n",
        "words": b"Content-Length: two\r\n",
        "more than 64 bits": b"Content-Length: 18446744073709551618\r\n",
        "with a coding": b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "after a coding": b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        "a coding of gzip": b"Transfer-Encoding: gzip\r\n",
        "a coding of gzip, chunked": b"Transfer-Encoding: gzip, chunked\r\n",
        "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "chunked, identity": b"Transfer-Encoding: chunked, identity\r\n",
        "identity": b"Transfer-Encoding: identity\r\n",
        "an empty coding": b"Transfer-Encoding:\r\n",
        "xchunked": b"Transfer-Encoding: xchunked\r\n",
    }.items():
        yield Case("length", name, OK + fields + b"\r\nok")
    old = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    yield Case("length", "chunked on 1.0", old)


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def _chunks() -> Iterator[Case]:
    for name, body in {
        "letters": b"zz\r\nok\r\n0\r\n\r\n",
        "no size": b"\r\nok\r\n0\r\n\r\n",
        "signed": b"+2\r\nok\r\n0\r\n\r\n",
        "0x": b"0x2\r\nok\r\n0\r\n\r\n",
        "a space in front": b" 2\r\nok\r\n0\r\n\r\n",
        "a space behind": b"2 \r\nok\r\n0\r\n\r\n",
        "more than 64 bits": b"10000000000000002\r\nok\r\n0\r\n\r\n",
        "bare line feed after the size": b"2\nok\r\n0\r\n\r\n",
        "bare line feed after the data": b"2\r\nok\n0\r\n\r\n",
        "nothing after the data": b"2\r\nok0\r\n\r\n",
        "one byte too much": b"2\r\nok!\r\n0\r\n\r\n",
        "extension without end": b"2;" + b"e" * 100_000,
        "trailers without end": b"2\r\nok\r\n0\r\n" + b"A: b\r\n" * 20_000,
        "a trailer with a bare line feed": b"2\r\nok\r\n0\r\nA: b\n\r\n",
        "a trailer with a NUL": b"2\r\nok\r\n0\r\nA: \0\r\n\r\n",
        "a trailer that speaks of the framing": b"2\r\nok\r\n0\r\nContent-Length: 5\r\n\r\n",
        "cut in the size": b"2",
        "cut in the data": b"9\r\nok",
        "cut after the data": b"2\r\nok\r\n",
        "cut in the last line": b"2\r\nok\r\n0\r\n",
    }.items():
        # The head is out before the flaw shows: the client gets a cut answer, or a 502.
        yield Case("chunk", name, CHUNKED + body, read=200, whole=False)


def _interims() -> Iterator[Case]:
    final = OK + TWO
    for name, sent in {
        "100": b"HTTP/1.1 100 Continue\r\n\r\n",
        "102 and 103": b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n",
        "sixteen": b"HTTP/1.1 103 Early\r\n\r\n" * 16,
        "199": b"HTTP/1.1 199 Odd\r\n\r\n",
    }.items():
        yield Case("interim", name, sent + final, read=200, order=200, body=b"ok")
    yield Case("interim", "a flood", b"HTTP/1.1 103 Early\r\n\r\n" * 5_000 + final)
    yield Case("interim", "101", b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + final)
    upgrade = b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    yield Case("interim", "101 with an upgrade that nobody asked for", upgrade)
    yield Case("interim", "nothing after 100", b"HTTP/1.1 100 Continue\r\n\r\n")
    yield Case(
        "interim", "100 with a length", b"HTTP/1.1 100 C\r\nContent-Length: 2\r\n\r\nok" + final
    )
    coding = b"HTTP/1.1 100 C\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + final
    yield Case("interim", "100 with a coding", coding)


def _bodiless() -> Iterator[Case]:
    yield Case("bodiless", "204", b"HTTP/1.1 204 No\r\n\r\n", read=204, order=204, body=b"")
    yield Case("bodiless", "204 with a length", b"HTTP/1.1 204 No\r\n" + TWO)
    chunked = b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    yield Case("bodiless", "204 with chunks", chunked)
    yield Case("bodiless", "304", b"HTTP/1.1 304 Same\r\nETag: x\r\n\r\n", read=304, body=b"")
    same = b"HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\n"
    yield Case("bodiless", "304 with a length", same, read=304, body=b"")
    head = OK + b"Content-Length: 50\r\n\r\n"
    yield Case("bodiless", "HEAD", head, read=200, body=b"", method=b"HEAD")
    body = OK + TWO
    yield Case("bodiless", "HEAD with a body", body, read=200, body=b"", method=b"HEAD")
    chunked = CHUNKED + b"2\r\nok\r\n0\r\n\r\n"
    yield Case("bodiless", "HEAD with chunks", chunked, read=200, body=b"", method=b"HEAD")


def _surplus() -> Iterator[Case]:
    other = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
    for end in (End.FIN, End.OPEN):
        yield _taken("surplus", f"two answers, {end}", OK + TWO + other, end)
        yield _taken("surplus", f"bytes after the body, {end}", OK + TWO + b"poison", end)
        chunks = CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + other
        yield _taken("surplus", f"two answers, the first chunked, {end}", chunks, end)
        lines = OK + TWO + b"\r\n\r\n"
        yield _taken("surplus", f"empty lines after the body, {end}", lines, end)


def _sizes() -> Iterator[Case]:
    yield Case("size", "a value of 64 KiB", OK + b"X: " + b"a" * 65_536 + b"\r\n" + TWO)
    yield Case("size", "1,000 fields", OK + b"X: a\r\n" * 1_000 + TWO)
    yield Case("size", "a phrase of 64 KiB", b"HTTP/1.1 200 " + b"a" * 65_536 + b"\r\n" + TWO)
    yield Case("size", "a head that never ends", OK + b"X: " + b"a" * 200_000, end=End.OPEN)
    yield Case("size", "fields that never end", OK + b"X: a\r\n" * 20_000, end=End.OPEN)
    longest = OK + b"X: " + b"a" * 30_000 + b"\r\n" + TWO
    yield Case("size", "a value of 30,000 bytes", longest, read=200, order=200, body=b"ok")


def _cut() -> Iterator[Case]:
    for end in (End.FIN, End.RST):
        yield Case("cut", f"before the first byte, {end}", b"", end=end)
        yield Case("cut", f"in the status line, {end}", b"HTTP/1.1 2", end=end)
        yield Case("cut", f"in the header, {end}", OK + b"Content-Le", end=end)
        yield Case("cut", f"before the empty line, {end}", OK + b"Content-Length: 2\r\n", end=end)
        short = OK + b"Content-Length: 9\r\n\r\nok"
        yield Case("cut", f"in the body, {end}", short, read=200, whole=False, end=end)
    until_close = OK + b"\r\nok"
    yield Case("cut", "no framing, FIN", until_close, read=200, body=b"ok")
    yield Case("cut", "no framing, RST", until_close, read=200, whole=False, end=End.RST)
    old = b"HTTP/1.0 200 OK\r\n\r\nok"
    yield Case("cut", "1.0 without framing, FIN", old, read=200, body=b"ok")


def _passed() -> Iterator[Case]:
    for name, fields in {
        "a phrase missing": b"",
        "raw bytes in a value": b"X: \xe9\xff\r\n",
        "hop-by-hop fields": b"Connection: X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n",
        "what we say of ourselves": b"Gateway-Source: gateway\r\nIdempotent-Replayed: true\r\n",
        "two cookies": b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n",
        "an encoding that is none": b"Content-Encoding: gzip\r\n",
        "a date of its own": b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
        "an upgrade offered": b"Upgrade: h2c\r\nConnection: upgrade\r\n",
    }.items():
        line = b"HTTP/1.1 200\r\n" if name == "a phrase missing" else OK
        yield _taken("passed", name, line + fields + TWO)
    trailers = CHUNKED + b"2\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n"
    yield _taken("passed", "trailers, which are dropped", trailers)
    extension = CHUNKED + b'2;a="b"\r\nok\r\n0\r\n\r\n'
    yield _taken("passed", "an extension, which is dropped", extension)
    zeros = CHUNKED + b"0002\r\nok\r\n0\r\n\r\n"
    yield _taken("passed", "zeros in front of a size", zeros)
    tiny = CHUNKED + b"1\r\nx\r\n" * 5_000 + b"0\r\n\r\n"
    yield Case("passed", "tiny chunks", tiny, read=200, order=200, body=b"x" * 5_000)
    old = b"HTTP/1.0 200 OK\r\n" + TWO
    yield _taken("passed", "1.0 with a length", old)
    for status in (299, 399, 418, 451, 499, 599):
        sent = b"HTTP/1.1 %d Odd\r\n" % status + TWO
        order = 202 if status == 399 or status == 599 else status
        yield Case("passed", str(status), sent, read=status, order=order)
