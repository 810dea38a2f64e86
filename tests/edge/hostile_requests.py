"""Requests that a careless proxy forwards, splits, joins or dies of, and what becomes of each.

Written from RFC 9110, RFC 9112 and the known classes of request smuggling. ``statuses`` are all
answers on the connection, in order; ``forwarded`` is how many requests the backend sees. The
backend answers ``POST /orders`` with 201 and everything else with 200.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.edge.stage import get, post

H = b"Host: shop\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: shop\r\n\r\n"
"""What smuggling is for: a request that nobody upstream of the backend has judged."""


@dataclass(frozen=True)
class Case:
    group: str
    name: str
    sent: bytes
    statuses: tuple[int, ...]
    forwarded: int = 0
    methods: tuple[bytes, ...] = (b"GET",)
    begun: bool = False
    """The backend may see a request begin whose body then breaks off: it was being streamed."""


def cases() -> list[Case]:
    found = [
        *_request_lines(),
        *_targets(),
        *_paths_near_orders(),
        *_hosts(),
        *_fields(),
        *_sizes(),
        *_lengths(),
        *_codings(),
        *_chunks(),
        *_trailers(),
        *_connections(),
        *_expectations(),
        *_keys(),
        *_pipelines(),
        *_ordinary(),
    ]
    names = [(case.group, case.name) for case in found]
    assert len(set(names)) == len(names), "two cases of one name"
    return found


def _line(line: bytes, rest: bytes = H) -> bytes:
    return line + b"\r\n" + rest + b"\r\n"


def _request_lines() -> Iterator[Case]:
    lines: dict[str, tuple[bytes, tuple[int, ...]]] = {
        "HTTP/0.9": (b"GET /\r\n", (505,)),
        "HTTP/0.9 with a field": (b"GET /\r\n" + H + b"\r\n", (505,)),
        "version 0.9": (_line(b"GET / HTTP/0.9"), (505,)),
        "version 1.2": (_line(b"GET / HTTP/1.2"), (505,)),
        "version 2.0": (_line(b"GET / HTTP/2.0"), (505,)),
        "version 1.10": (_line(b"GET / HTTP/1.10"), (400,)),
        "version 01.1": (_line(b"GET / HTTP/01.1"), (400,)),
        "version 1": (_line(b"GET / HTTP/1"), (400,)),
        "version 1,1": (_line(b"GET / HTTP/1,1"), (400,)),
        "version -1.1": (_line(b"GET / HTTP/-1.1"), (400,)),
        "version in small letters": (_line(b"GET / http/1.1"), (400,)),
        "version with a space": (_line(b"GET / HTTP/ 1.1"), (400,)),
        "another protocol": (_line(b"GET / ICY/1.1"), (400,)),
        "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (505,)),
        "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 64, (400,)),
        "nothing but NULs": (b"\0" * 64, (400,)),
        "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", (400,)),
        "leading space": (_line(b" GET / HTTP/1.1"), (400,)),
        "leading tab": (_line(b"\tGET / HTTP/1.1"), (400,)),
        "two spaces": (_line(b"GET  / HTTP/1.1"), (400,)),
        "tab for a space": (_line(b"GET\t/ HTTP/1.1"), (400,)),
        "space at the end": (_line(b"GET / HTTP/1.1 "), (400,)),
        "no target": (_line(b"GET  HTTP/1.1"), (400,)),
        "only a method": (_line(b"GET"), (400,)),
        "space in the target": (_line(b"GET /a b HTTP/1.1"), (400,)),
        "vertical tab in the target": (_line(b"GET /a\x0bb HTTP/1.1"), (400,)),
        "bare line feeds": (b"GET / HTTP/1.1\nHost: shop\n\n", (400,)),
        "bare line feed after the request line": (
            b"GET / HTTP/1.1\nHost: shop\r\n\r\n",
            (400,),
        ),
        "bare carriage return ends the line": (b"GET / HTTP/1.1\rHost: shop\r\n\r\n", (400,)),
        "CR CR LF": (b"GET / HTTP/1.1\r\r\nHost: shop\r\n\r\n", (400,)),
        "CONNECT": (_line(b"CONNECT shop:443 HTTP/1.1"), (501,)),
        "CONNECT with a path": (_line(b"CONNECT /orders HTTP/1.1"), (501,)),
        "TRACE": (_line(b"TRACE / HTTP/1.1"), (501,)),
        "unknown method": (_line(b"BREW /pot HTTP/1.1"), (501,)),
        "method in small letters": (_line(b"post /orders HTTP/1.1"), (501,)),
        "method with a bracket": (_line(b"GE(T / HTTP/1.1"), (400,)),
        "method with a NUL": (_line(b"GE\0T / HTTP/1.1"), (400,)),
        "method of 300 letters": (_line(b"G" * 300 + b" / HTTP/1.1"), (501,)),
        "method of 9,000 letters": (_line(b"G" * 9_000 + b" / HTTP/1.1"), (501,)),
        "PRI with a path": (_line(b"PRI / HTTP/1.1"), (501,)),
    }
    for name, (sent, statuses) in lines.items():
        yield Case("request line", name, sent, statuses)


def _targets() -> Iterator[Case]:
    refused: dict[str, tuple[bytes, int]] = {
        "absolute form": (b"http://shop/", 400),
        "absolute form of another host": (b"http://bank/orders", 400),
        "absolute form with TLS": (b"https://shop/", 400),
        "absolute form without a path": (b"http://shop", 400),
        "authority form": (b"shop:80", 400),
        "asterisk for GET": (b"*", 400),
        "relative path": (b"orders", 400),
        "query alone": (b"?a=b", 400),
        "fragment": (b"/a#b", 400),
        "fragment in the query": (b"/a?b#c", 400),
        "backslash": (b"/a\\..\\b", 400),
        "%zz": (b"/%zz", 400),
        "% at the end": (b"/a%", 400),
        "%2 at the end": (b"/a?b=%2", 400),
        "%u0041": (b"/%u0041", 400),
        "control character": (b"/a\x01b", 400),
        "DEL": (b"/a\x7fb", 400),
        "NUL": (b"/a\0b", 400),
        "raw UTF-8": ("/käse".encode(), 400),
        "8,193 bytes": (b"/" + b"a" * 8_192, 414),
        "100,000 bytes": (b"/" + b"a" * 99_999, 414),
    }
    for name, (target, status) in refused.items():
        yield Case("target", name, get(target), (status,))
    yield Case("target", "asterisk for OPTIONS", _line(b"OPTIONS * HTTP/1.1"), (400,))
    yield Case("target", "too long and never ends", b"GET /" + b"a" * 9_000, (414,))
    taken: dict[str, bytes] = {
        "8,192 bytes": b"/" + b"a" * 8_191,
        "dot segments": b"/a/../b/./c",
        "encoded slashes": b"/a%2fb%2F..%2fc",
        "double slashes": b"//a//b/",
        "path parameters": b"/a;v=1/b;w",
        "a bare question mark": b"/a?",
        "two question marks": b"/a??b=c?",
        "encoded NUL": b"/a%00b",
        "encoded CR LF": b"/a%0d%0aX-Injected:%201",
        "doubly encoded": b"/%252e%252e/etc",
        "overlong UTF-8, encoded": b"/%c0%ae%c0%ae/",
        "what RFC 3986 would encode": b'/a"b<c>d^e`f{g|h}?"<>',
        "an at sign": b"/@bank/",
        "an absolute URL as path": b"/http://bank/",
    }
    for name, target in taken.items():
        yield Case("target", f"taken: {name}", get(target), (200,), 1)


def _paths_near_orders() -> Iterator[Case]:
    """Backends that read a path generously would place these orders past the ledger."""
    disguises = [
        b"/orders/", b"//orders", b"/./orders", b"/x/../orders", b"/orders/.", b"/orders/x/..",
        b"/%6frders", b"/orders%2f", b"/orders;v=1", b"/orders;", b"/;/orders", b"/ORDERS",
        b"/Orders", b"/x/%2e%2e/orders", b"/x/%2E%2e/orders", b"/%2e/orders", b"/x//../orders",
        b"/%2forders", b"/%2Forders", b"/orders%00", b"/orders%20", b"/orders%23x", b"/orders%3fx",
        b"/orders%3b", b"/x%2f..%2forders", b"/x/..%2forders", b"/%5corders", b"/x%5c..%5corders",
        b"/..;/orders", b"/x/..;a=b/orders", b"/%252e/orders", b"/orders%09", b"/orders%0a",
        b"/./x/.././orders", b"///orders", b"//shop/orders", b"/%256frders",
    ]  # fmt: skip
    for path in disguises:
        yield Case(
            "near an order", path.decode(), post(b"{}", target=path), (400,), methods=(b"POST",)
        )
        yield Case("near an order", f"{path.decode()} read", get(path), (200,), 1)
    for path in (b"/orders/7/cancel", b"/ordersx", b"/xorders", b"/x/orders", b"/order"):
        yield Case(
            "near an order",
            f"{path.decode()} is another's",
            post(b"{}", target=path),
            (200,),
            1,
            (b"POST",),
        )
    plain = post(b"{}", target=b"/orders?x=/../orders")
    yield Case("near an order", "an order with a query", plain, (200,), 1, (b"POST",))


def _hosts() -> Iterator[Case]:
    hosts: dict[str, tuple[bytes, int]] = {
        "missing": (b"", 400),
        "missing on 1.0": (b"1.0", 400),
        "empty": (b"Host: \r\n", 400),
        "without a value": (b"Host:\r\n", 400),
        "repeated": (H + H, 400),
        "repeated, different": (H + b"Host: bank\r\n", 400),
        "repeated in another case": (H + b"hOST: bank\r\n", 400),
        "a list": (b"Host: shop, bank\r\n", 400),
        "two words": (b"Host: shop bank\r\n", 400),
        "user and host": (b"Host: me@shop\r\n", 400),
        "a URL": (b"Host: http://shop/\r\n", 400),
        "a path": (b"Host: shop/orders\r\n", 400),
        "a query": (b"Host: shop?x\r\n", 400),
        "a fragment": (b"Host: shop#x\r\n", 400),
        "a comma": (b"Host: shop,\r\n", 400),
        "a port of letters": (b"Host: shop:http\r\n", 400),
        "a port too long": (b"Host: shop:808080\r\n", 400),
        "a negative port": (b"Host: shop:-1\r\n", 400),
        "two ports": (b"Host: shop:80:80\r\n", 400),
        "IPv6 without brackets": (b"Host: ::1\r\n", 400),
        "IPv6 unclosed": (b"Host: [::1\r\n", 400),
        "percent-encoded": (b"Host: sh%6fp\r\n", 400),
        "space before the colon": (b"Host : shop\r\n", 400),
        "folded": (b"Host:\r\n shop\r\n", 400),
        "after a space": (b" Host: shop\r\n", 400),
        "with a NUL": (b"Host: shop\0\r\n", 400),
        "a quote": (b'Host: "shop"\r\n', 400),
        "an underscore": (b"Host: my_shop\r\n", 200),
        "a port": (b"Host: shop:8080\r\n", 200),
        "IPv6": (b"Host: [::1]:8080\r\n", 200),
        "a dot at the end": (b"Host: shop.\r\n", 200),
        "in capitals, with tabs": (b"HOST:\t SHOP \t\r\n", 200),
    }
    for name, (fields, status) in hosts.items():
        version = b"HTTP/1.0" if fields == b"1.0" else b"HTTP/1.1"
        sent = b"GET / " + version + b"\r\n" + (b"" if fields == b"1.0" else fields) + b"\r\n"
        yield Case("host", name, sent, (status,), int(status == 200))


def _fields() -> Iterator[Case]:
    refused: dict[str, bytes] = {
        "folded by a space": b"X: a\r\n b",
        "folded by a tab": b"X: a\r\n\tb",
        "a folded line first": b" X: a",
        "a line of spaces": b"X: a\r\n \r\nY: b",
        "NUL in a value": b"X: a\0b",
        "SOH in a value": b"X: a\x01b",
        "ESC in a value": b"X: a\x1bb",
        "DEL in a value": b"X: a\x7fb",
        "CR in a value": b"X: a\rb",
        "CR LF in a value, folded": b"X: a\r\n\r b",
        "LF in a value": b"X: a\nY: b",
        "CR at the end of a value": b"X: a\r",
        "vertical tab in a value": b"X: a\x0bb",
        "form feed in a value": b"X: a\x0cb",
        "NUL in a name": b"X\0: a",
        "space before the colon": b"X : a",
        "tab before the colon": b"X\t: a",
        "space in a name": b"X Y: a",
        "empty name": b": a",
        "no colon": b"nonsense",
        "a bracket in a name": b"X(Y): a",
        "a quote in a name": b'"X": a',
        "a slash in a name": b"X/Y: a",
        "a raw byte in a name": b"X\xe9: a",
        "underscore": b"X_Forwarded_For: 6.6.6.6",
        "underscore in Content_Length": b"Content_Length: 5",
        "underscore in Transfer_Encoding": b"Transfer_Encoding: chunked",
        "underscore in Idempotency_Key": b"Idempotency_Key: k",
    }
    for name, field in refused.items():
        yield Case("field", name, get(b"/", field), (400,))
    taken: dict[str, bytes] = {
        "raw bytes in a value": b"X: \xff\x80\xc3\xa9",
        "empty value": b"X:",
        "no space after the colon": b"X:a",
        "spaces and tabs around the value": b"X: \t a \t ",
        "a colon in the value": b"X: a: b",
        "the same field often": b"X: a\r\nX: b\r\nx: c",
        "every token character": b"!#$%&'*+-.^`|~09Az: a",
        "a spoofed address": b"X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6",
        "what looks like a request": b"X: GET /hidden HTTP/1.1",
    }
    for name, field in taken.items():
        yield Case("field", f"taken: {name}", get(b"/", field), (200,), 1)


def _sizes() -> Iterator[Case]:
    yield Case("size", "a value of 40,000", get(b"/", b"X: " + b"a" * 40_000), (431,))
    yield Case("size", "a name of 40,000", get(b"/", b"a" * 40_000 + b": 1"), (431,))
    yield Case("size", "101 fields", get(b"/", *[b"X: 1"] * 100), (431,))
    yield Case("size", "10,000 fields", get(b"/", *[b"X: 1"] * 10_000), (431,))
    yield Case("size", "a header that never ends", get(b"/", b"X: " + b"a" * 100_000)[:-4], (431,))
    yield Case("size", "fields that never end", get(b"/", *[b"X: 1"] * 20_000)[:-4], (431,))
    yield Case("size", "100 fields", get(b"/", *[b"X: 1"] * 99), (200,), 1)
    yield Case("size", "a value of 30,000", get(b"/", b"X: " + b"a" * 30_000), (200,), 1)
    yield Case("size", "a header that is cut off", get(b"/")[:-3], ())
    yield Case("size", "an order of 2 MiB", post(b"x" * (2 << 20)), (413,), methods=(b"POST",))
    announced = b"POST /orders HTTP/1.1\r\nHost: shop\r\nContent-Length: 99999999999\r\n\r\n{"
    yield Case("size", "an order that announces 100 GB", announced, (413,), methods=(b"POST",))
    endless = b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"x" * 65_536 + b"\r\n") * 20
    chunked = b"POST /orders HTTP/1.1\r\nHost: shop\r\n" + endless
    yield Case("size", "an order in chunks without end", chunked, (413,), methods=(b"POST",))


def _lengths() -> Iterator[Case]:
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


def _codings() -> Iterator[Case]:
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


CHUNKED = b"POST /up HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED_ORDER = CHUNKED.replace(b"/up", b"/orders")


def _chunks() -> Iterator[Case]:
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


def _trailers() -> Iterator[Case]:
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


def _connections() -> Iterator[Case]:
    for option in (
        b"Idempotency-Key", b"Authorization", b"Cookie", b"Host", b"Content-Length", b"Via",
        b"X-Forwarded-For", b"close, Content-Type", b"keep-alive, Idempotency-Key", b"foo",
        b'"close"', b"close;q=1",
    ):  # fmt: skip
        sent = post(b"{}", b"Connection: " + option)
        yield Case("connection", option.decode(), sent, (400,), methods=(b"POST",))
    two = post(b"{}", b"Connection: close", b"Connection: idempotency-key")
    yield Case("connection", "in a second line", two, (400,), methods=(b"POST",))
    for protocol in (b"h2", b"TLS/1.0", b"foo/1, websocket", b"HTTP/2.0"):
        sent = get(b"/", b"Connection: Upgrade", b"Upgrade: " + protocol)
        yield Case("connection", f"upgrade to {protocol.decode()}", sent, (501,))
    offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
    yield Case("connection", "upgrade to h2c is ignored", get(b"/", *offer), (200,), 1)
    web_socket = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
    order = post(b"{}", *web_socket)
    yield Case("connection", "an order that upgrades", order, (501,), methods=(b"POST",))
    closing = get(b"/", b"Connection: close") + HIDDEN
    yield Case("connection", "nothing is read after close", closing, (200,), 1)
    old = b"GET / HTTP/1.0\r\nHost: shop\r\n\r\n" + HIDDEN
    yield Case("connection", "nothing is read after 1.0", old, (200,), 1)
    proxy = get(b"/", b"Proxy-Connection: keep-alive", b"Keep-Alive: timeout=5", b"TE: trailers")
    yield Case("connection", "hop-by-hop fields", proxy, (200,), 1)
    empty = get(b"/", b"Connection: , ,close,")
    yield Case("connection", "empty list members", empty, (200,), 1)


def _expectations() -> Iterator[Case]:
    for value in (b"200-ok", b"100-continue, 200-ok", b"100-continue;x=1", b'"100-continue"', b""):
        sent = post(b"{}", b"Expect: " + value)
        yield Case("expect", value.decode() or "empty", sent, (417,), methods=(b"POST",))
    twice = post(b"{}", b"Expect: 100-continue", b"Expect: 100-continue")
    yield Case("expect", "repeated", twice, (201,), 1, (b"POST",))
    one = post(b"{}", b"Expect: 100-Continue")
    yield Case("expect", "100-Continue, body along", one, (201,), 1, (b"POST",))
    without = get(b"/", b"Expect: 100-continue")
    yield Case("expect", "without a body", without, (200,), 1)
    old = b"POST /orders HTTP/1.0\r\nHost: shop\r\nContent-Length: 2\r\nExpect: 200-ok\r\n\r\n{}"
    yield Case("expect", "ignored on 1.0", old, (201,), 1, (b"POST",))


KEY = b"Idempotency-Key: "
ME = b"Authorization: Bearer me"


def _keys() -> Iterator[Case]:
    """Row L9 of the list of faults."""
    bad: dict[str, bytes] = {
        "empty": b"",
        "empty in quotes": b'""',
        "300 characters": b"k" * 300,
        "256 characters": b"k" * 256,
        "unclosed": b'"k',
        "two words": b"a b",
        "a tab inside": b"a\tb",
        "raw UTF-8": "ключ".encode(),
        "latin-1": b"\xe9",
        "parameters": b'"k";a=1',
        "a list": b'"k", "l"',
        "a quote inside": b'a"b',
    }
    for name, value in bad.items():
        sent = post(b"{}", ME, KEY + value)
        yield Case("key", name, sent, (400,), methods=(b"POST",))
    repeated = post(b"{}", ME, KEY + b"key-1", KEY + b"key-1")
    yield Case("key", "repeated", repeated, (400,), methods=(b"POST",))
    cased = post(b"{}", ME, KEY + b"key-1", b"idempotency-KEY: key-2")
    yield Case("key", "repeated in another case", cased, (400,), methods=(b"POST",))
    guessable = post(b"{}", KEY + b"1")
    yield Case("key", "guessable, of nobody", guessable, (400,), methods=(b"POST",))
    pair = post(b"{}", ME, KEY + b"key-a") + post(b"{}", ME, KEY + b' \t"key-a" \t')
    yield Case("key", "bare and quoted are one", pair, (201, 201), 1, (b"POST", b"POST"))
    other = post(b"{}", ME, KEY + b"key-b") + post(b"[]", ME, KEY + b"key-b")
    yield Case("key", "bound to another body", other, (201, 422), 1, (b"POST", b"POST"))
    gzip = post(b"\x1f\x8b", ME, KEY + b"key-c", b"Content-Encoding: gzip")
    yield Case("key", "a compressed order", gzip, (415,), methods=(b"POST",))
    members = post(b"\x1f\x8b", ME, b"Content-Encoding: identity, gzip")
    yield Case("key", "an order compressed twice", members, (415,), methods=(b"POST",))


def _pipelines() -> Iterator[Case]:
    order = post(b"{}", ME, KEY + b"pipelined-1")
    same = order + order
    yield Case("pipeline", "the same order twice", same, (201, 201), 1, (b"POST", b"POST"))
    other = post(b"[]", ME, KEY + b"pipelined-2")
    both = order.replace(b"pipelined-1", b"pipelined-3") + other
    yield Case("pipeline", "two orders", both, (201, 201), 2, (b"POST", b"POST"))
    refused = order.replace(b"pipelined-1", b"pipelined-4") + get(b"/%zz") + HIDDEN
    yield Case("pipeline", "an order, then nonsense", refused, (201, 400), 1, (b"POST", b"GET"))
    gets = b"".join(get(b"/%d" % number) for number in range(50))
    yield Case("pipeline", "fifty reads", gets, (200,) * 50, 50, (b"GET",) * 50)
    lines = b"\r\n\r\n" + get(b"/") + b"\r\n" + get(b"/")
    yield Case("pipeline", "empty lines between", lines, (200, 200), 2, (b"GET", b"GET"))
    surplus = post(b"{}", ME, KEY + b"pipelined-5") + b"surplus"
    yield Case("pipeline", "surplus after the body", surplus, (201,), 1, (b"POST",))
    broken = CHUNKED_ORDER + b"zz\r\n" + order
    yield Case("pipeline", "an order behind bad chunks", broken, (400,), methods=(b"POST",))


def _ordinary() -> Iterator[Case]:
    """What must not be refused for all that."""
    yield Case("ordinary", "HEAD", _line(b"HEAD / HTTP/1.1"), (200,), 1, (b"HEAD",))
    yield Case("ordinary", "OPTIONS", _line(b"OPTIONS / HTTP/1.1"), (200,), 1, (b"OPTIONS",))
    for method in (b"PUT", b"DELETE", b"PATCH", b"PROPFIND", b"QUERY"):
        sent = post(b"x", target=b"/thing").replace(b"POST", method)
        yield Case("ordinary", method.decode(), sent, (200,), 1, (method,))
    old = b"GET / HTTP/1.0\r\nHost: shop\r\nConnection: keep-alive\r\n\r\n" + get(b"/")
    yield Case("ordinary", "1.0, kept alive", old, (200, 200), 2, (b"GET", b"GET"))
    deep = b"[" * 50_000 + b"]" * 50_000
    for name, body in {
        "duplicate members": b'{"a":1,"a":2}',
        "deep JSON": deep,
        "NaN": b'{"a":NaN}',
        "a huge integer": b"9" * 5_000,
        "a byte order mark": b"\xef\xbb\xbf{}",
        "UTF-16": '{"a":"ä"}'.encode("utf-16"),
        "a lone surrogate": b'{"a":"\\ud800"}',
        "invalid UTF-8": b'{"a":"\xff"}',
        "NULs": b"\0" * 100,
        "no JSON": b"a=1&b=2",
        "nothing": b"",
    }.items():
        yield Case("ordinary", f"an order of {name}", post(body), (201,), 1, (b"POST",))
