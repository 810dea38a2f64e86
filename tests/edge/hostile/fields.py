"""What stands in a header: hosts, field lines, sizes, connections, expectations."""

from collections.abc import Iterator

from tests.edge.hostile.case import HIDDEN, Case, H
from tests.edge.stage import get, post


def hosts() -> Iterator[Case]:
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


def fields() -> Iterator[Case]:
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
        "broken cookies": b'Cookie: a="b; =; c=\xff\xff;;; d;' + b" x;" * 2_000,
        "a range in other digits": "Range: bytes=\u0661-\u0662".encode(),
    }
    for name, field in taken.items():
        yield Case("field", f"taken: {name}", get(b"/", field), (200,), 1)


def sizes() -> Iterator[Case]:
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


def connections() -> Iterator[Case]:
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
    asked = (*web_socket, b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    refused = get(b"/chat", *asked) + HIDDEN
    yield Case("connection", "a request behind an upgrade that is refused", refused, (200,), 1)
    framed = get(b"/chat", *asked, b"Content-Length: 5") + b"hello" + HIDDEN
    yield Case("connection", "an upgrade with a body", framed, (501,))
    chunked = get(b"/chat", *asked, b"Transfer-Encoding: chunked") + b"0\r\n\r\n" + HIDDEN
    yield Case("connection", "an upgrade with chunks", chunked, (501,))
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


def expectations() -> Iterator[Case]:
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
