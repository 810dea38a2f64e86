"""Where a body ends: lengths, codings, chunks, trailers (RFC 9112 sections 6 and 7)."""

from collections.abc import Iterator

from tests.edge.hostile.case import CHUNKED, CHUNKED_ORDER, HIDDEN, Case
from tests.edge.stage import post


def lengths() -> Iterator[Case]:
    bad: dict[str, bytes] = {
        "signed": b"+5",
        "negative": b"-5",
        "a list of equal ones": b"5, 5",
        "a list of different ones": b"5, 6",
        "empty": b"",
        "hex": b"0x5",
        "with an underscore": b"0_5",
        "a fraction": b"5.0",
        "an exponent": b"5e0",
        "two numbers": b"5 5",
        "words": b"five",
        "full-width digits": "\uff15".encode(),
        "Arabic digits": "\u0665".encode(),
        "superscript in latin-1": b"\xb2",
        "twenty digits": b"9" * 20,
        "more than 64 bits": b"18446744073709551621",
        "with a quote": b'"5"',
        "with a semicolon": b"5;",
        "with a vertical tab": b"\x0b5",
        "with a NUL": b"5\0",
    }
    for name, value in bad.items():
        sent = b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: " + value + b"\r\n\r\nhello"
        yield Case("length", name, sent + HIDDEN, (400,), methods=(b"POST",))
    twice = b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: %b\r\n%b: %b\r\n\r\nhello" + HIDDEN
    for name, values in {
        "repeated": (b"5", b"Content-Length", b"5"),
        "repeated, different": (b"5", b"Content-Length", b"0"),
        "repeated in another case": (b"0", b"content-LENGTH", b"5"),
    }.items():
        yield Case("length", name, twice % values, (400,), methods=(b"POST",))
    both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
    for name, fields in {
        "with a coding": both,
        "after a coding": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "with a coding in odd case": b"content-length: 5\r\ntransfer-ENCODING: Chunked\r\n",
        "with identity": b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
        "with an empty coding": b"Content-Length: 5\r\nTransfer-Encoding:\r\n",
        "zero, with a coding": b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    }.items():
        sent = b"POST / HTTP/1.1\r\nHost: shop\r\n" + fields + b"\r\n0\r\n\r\n" + HIDDEN
        yield Case("length", name, sent, (400,), methods=(b"POST",))
    short = post(b"hello", target=b"/")[:-2]
    yield Case("length", "longer than the body", short, (400,), 0, (b"POST",), True)
    order = post(b"hello")[:-2]
    yield Case("length", "longer than the order", order, (400,), methods=(b"POST",))
    zeros = post(b"", target=b"/").replace(b"Length: 0", b"Length: 000") + HIDDEN
    yield Case("length", "zeros in front", zeros, (200, 200), 2, (b"POST", b"GET"))
    body_of_get = b"GET / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello" + HIDDEN
    yield Case("length", "a GET with a body", body_of_get, (200, 200), 2, (b"GET", b"GET"))


def codings() -> Iterator[Case]:
    codings: dict[str, tuple[bytes, int]] = {
        "gzip, chunked": (b"gzip, chunked", 501),
        "chunked, chunked": (b"chunked, chunked", 400),
        "chunked, identity": (b"chunked, identity", 400),
        "identity": (b"identity", 400),
        "gzip": (b"gzip", 400),
        "empty": (b"", 400),
        "xchunked": (b"xchunked", 400),
        "chunkedx": (b"chunkedx", 400),
        "with a comma": (b"chunked,", 400),
        "with a comma in front": (b",chunked", 501),
        "with a parameter": (b"chunked;q=1", 400),
        "in quotes": (b'"chunked"', 400),
        "after a vertical tab": (b"\x0bchunked", 400),
        "before a vertical tab": (b"chunked\x0b", 400),
        "with a NUL": (b"chunked\0", 400),
        "a long s and a Kelvin sign": ("chun\u212aed".encode(), 400),
        "with a no-break space": (b"\xa0chunked", 400),
    }
    for name, (value, status) in codings.items():
        head = b"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: " + value + b"\r\n\r\n"
        sent = head + b"0\r\n\r\n" + HIDDEN
        yield Case("coding", name, sent, (status,), methods=(b"POST",))
    tail = b"\r\n0\r\n\r\n" + HIDDEN
    for name, fields in {
        "repeated": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "repeated with identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "folded": b"Transfer-Encoding:\r\n chunked\r\n",
        "a space before the colon": b"Transfer-Encoding : chunked\r\n",
        "a NUL before the colon": b"Transfer-Encoding\0: chunked\r\n",
        "hidden behind a CR": b"X: y\rTransfer-Encoding: chunked\r\n",
        "hidden behind an LF": b"X: y\nTransfer-Encoding: chunked\r\n",
    }.items():
        sent = b"POST / HTTP/1.1\r\nHost: shop\r\n" + fields + tail
        yield Case("coding", name, sent, (400,), methods=(b"POST",))
    old = b"POST / HTTP/1.0\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n" + tail
    yield Case("coding", "on HTTP/1.0", old, (400,), methods=(b"POST",))
    odd = b"POST / HTTP/1.1\r\nHost: shop\r\ntRANSFER-eNCODING: CHUNKED\r\n" + tail
    yield Case("coding", "in odd case", odd, (200, 200), 2, (b"POST", b"GET"))
    tab = odd.replace(b"CHUNKED", b"chunked\t")  # optional white space that llhttp won't take
    yield Case("coding", "before a tab", tab, (400,), methods=(b"POST",))


def chunks() -> Iterator[Case]:
    bad: dict[str, bytes] = {
        "no size": b"\r\nhello\r\n0\r\n\r\n",
        "letters": b"xyz\r\nhello\r\n0\r\n\r\n",
        "signed": b"+5\r\nhello\r\n0\r\n\r\n",
        "negative": b"-5\r\nhello\r\n0\r\n\r\n",
        "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
        "an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
        "a space in front": b" 5\r\nhello\r\n0\r\n\r\n",
        "a space behind": b"5 \r\nhello\r\n0\r\n\r\n",
        "a tab behind": b"5\t\r\nhello\r\n0\r\n\r\n",
        "a NUL behind": b"5\0\r\nhello\r\n0\r\n\r\n",
        "more than 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        "seventeen zeros in front": b"0" * 17 + b"5\r\nhello\r\n0\r\n\r\n",
        "sizes of a gigabyte of digits": b"f" * 10_000,
        "bare line feed after the size": b"5\nhello\r\n0\r\n\r\n",
        "bare CR after the size": b"5\rhello\r\n0\r\n\r\n",
        "bare line feed after the data": b"5\r\nhello\n0\r\n\r\n",
        "bare CR after the data": b"5\r\nhello\r0\r\n\r\n",
        "nothing after the data": b"5\r\nhello0\r\n\r\n",
        "one byte too much": b"5\r\nhello!\r\n0\r\n\r\n",
        "two CRs after the data": b"5\r\nhello\r\r\n0\r\n\r\n",
        "bare line feeds at the end": b"5\r\nhello\r\n0\n\n",
        "a line feed for the last line": b"5\r\nhello\r\n0\r\n\n",
        "a space before the extension": b"5 ;a\r\nhello\r\n0\r\n\r\n",
        "extension with a bare LF": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        "extension with a bare CR": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        "extension with a NUL": b"5;a\0\r\nhello\r\n0\r\n\r\n",
        "extension without a semicolon": b"5 a=b\r\nhello\r\n0\r\n\r\n",
        "extension of 300 bytes": b"5;" + b"e" * 300 + b"\r\nhello\r\n0\r\n\r\n",
        "extension of a megabyte": b"5;" + b"e" * (1 << 20),
        "two terminators' worth in one": b"5\r\nhello\r\n0\r\n0\r\n\r\n",
        "cut in the size": b"5\r\nhello\r\n1",
        "cut in the data": b"5\r\nhel",
        "cut before the last chunk": b"5\r\nhello\r\n",
        "cut in the last line": b"5\r\nhello\r\n0\r\n",
    }
    for name, body in bad.items():
        hidden = b"" if name.startswith("cut") else HIDDEN
        yield Case("chunk", name, CHUNKED_ORDER + body + hidden, (400,), methods=(b"POST",))
        passed = CHUNKED + body + hidden
        yield Case("chunk", f"passed on: {name}", passed, (400,), 0, (b"POST",), True)
    taken: dict[str, bytes] = {
        "zeros in front": b"00005\r\nhello\r\n000\r\n\r\n",
        "capitals": b"A\r\nhellohello\r\n0\r\n\r\n",
        "an extension": b'5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n',
        "an empty body": b"0\r\n\r\n",
        "ten thousand tiny chunks": b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n",
        "tiny chunks with extensions": b"1;eeeeeeeeeeeeeeee\r\nx\r\n" * 2_000 + b"0\r\n\r\n",
        "what looks like a request": b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
    }
    methods = (b"POST", b"GET")
    for name, body in taken.items():
        yield Case("chunk", f"taken: {name}", CHUNKED + body + HIDDEN, (200, 200), 2, methods)
        order = CHUNKED_ORDER + body + HIDDEN
        yield Case("chunk", f"an order: {name}", order, (201, 200), 2, methods)


def trailers() -> Iterator[Case]:
    start = CHUNKED_ORDER + b"5\r\nhello\r\n0\r\n"
    bad: dict[str, bytes] = {
        "a bare line feed": b"A: b\n\r\n",
        "no colon": b"nonsense\r\n\r\n",
        "a space before the colon": b"A : b\r\n\r\n",
        "folded": b"A: b\r\n c\r\n\r\n",
        "a NUL": b"A: \0\r\n\r\n",
        "a CR": b"A: b\rc\r\n\r\n",
        "a broken empty line": b"\r\r\n",
        "one of 9,000 bytes": b"A: " + b"b" * 9_000 + b"\r\n\r\n",
        "two thousand of them": b"A: b\r\n" * 2_000 + b"\r\n",
        "endless": b"A: b\r\n" * 50_000,
    }
    for name, trailer in bad.items():
        yield Case("trailer", name, start + trailer + HIDDEN, (400,), methods=(b"POST",))
        passed = (start + trailer + HIDDEN).replace(b"/orders", b"/up")
        yield Case("trailer", f"passed on: {name}", passed, (400,), 0, (b"POST",), True)
    taken: dict[str, bytes] = {
        "one": b"A: b\r\n\r\n",
        "framing": b"Content-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n",
        "credentials and a host": b"Authorization: other\r\nHost: bank\r\n\r\n",
        "a key": b"Idempotency-Key: k\r\n\r\n",
    }
    for name, trailer in taken.items():
        sent = start + trailer + HIDDEN
        yield Case("trailer", f"taken: {name}", sent, (201, 200), 2, (b"POST", b"GET"))
