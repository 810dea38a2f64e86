"""What stands in a request line: methods, versions, targets, and paths that are nearly orders."""

import re
from collections.abc import Iterator

from tests.edge.hostile.case import Case, H, line
from tests.edge.stage import get, post

_DOTS = re.compile(rb"(?:/|%2f|%5c)(?:\.|%2e){1,2}(?:/|%2f|%5c|;|%3b|$)", re.IGNORECASE)

_SLASHES = re.compile(rb"%2f|%5c", re.IGNORECASE)


def request_lines() -> Iterator[Case]:
    lines: dict[str, tuple[bytes, tuple[int, ...]]] = {
        "HTTP/0.9": (b"GET /\r\n", (505,)),
        "HTTP/0.9 with a field": (b"GET /\r\n" + H + b"\r\n", (505,)),
        "version 0.9": (line(b"GET / HTTP/0.9"), (505,)),
        "version 1.2": (line(b"GET / HTTP/1.2"), (505,)),
        "version 2.0": (line(b"GET / HTTP/2.0"), (505,)),
        "version 1.10": (line(b"GET / HTTP/1.10"), (400,)),
        "version 01.1": (line(b"GET / HTTP/01.1"), (400,)),
        "version 1": (line(b"GET / HTTP/1"), (400,)),
        "version 1,1": (line(b"GET / HTTP/1,1"), (400,)),
        "version -1.1": (line(b"GET / HTTP/-1.1"), (400,)),
        "version in small letters": (line(b"GET / http/1.1"), (400,)),
        "version with a space": (line(b"GET / HTTP/ 1.1"), (400,)),
        "another protocol": (line(b"GET / ICY/1.1"), (400,)),
        "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (505,)),
        "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 64, (400,)),
        "nothing but NULs": (b"\0" * 64, (400,)),
        "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", (400,)),
        "leading space": (line(b" GET / HTTP/1.1"), (400,)),
        "leading tab": (line(b"\tGET / HTTP/1.1"), (400,)),
        "two spaces": (line(b"GET  / HTTP/1.1"), (400,)),
        "tab for a space": (line(b"GET\t/ HTTP/1.1"), (400,)),
        "space at the end": (line(b"GET / HTTP/1.1 "), (400,)),
        "no target": (line(b"GET  HTTP/1.1"), (400,)),
        "only a method": (line(b"GET"), (400,)),
        "space in the target": (line(b"GET /a b HTTP/1.1"), (400,)),
        "vertical tab in the target": (line(b"GET /a\x0bb HTTP/1.1"), (400,)),
        "bare line feeds": (b"GET / HTTP/1.1\nHost: shop\n\n", (400,)),
        "bare line feed after the request line": (
            b"GET / HTTP/1.1\nHost: shop\r\n\r\n",
            (400,),
        ),
        "bare carriage return ends the line": (b"GET / HTTP/1.1\rHost: shop\r\n\r\n", (400,)),
        "CR CR LF": (b"GET / HTTP/1.1\r\r\nHost: shop\r\n\r\n", (400,)),
        "CONNECT": (line(b"CONNECT shop:443 HTTP/1.1"), (501,)),
        "CONNECT with a path": (line(b"CONNECT /orders HTTP/1.1"), (501,)),
        "TRACE": (line(b"TRACE / HTTP/1.1"), (501,)),
        "unknown method with a bar": (line(b"BR|EW /pot HTTP/1.1"), (501,)),
        "method in small letters": (line(b"post /orders HTTP/1.1"), (501,)),
        "method with a bracket": (line(b"GE(T / HTTP/1.1"), (400,)),
        "method with a NUL": (line(b"GE\0T / HTTP/1.1"), (400,)),
        "method of 300 letters": (line(b"G" * 300 + b" / HTTP/1.1"), (501,)),
        "method of 9,000 letters": (line(b"G" * 9_000 + b" / HTTP/1.1"), (501,)),
        "PRI with a path": (line(b"PRI / HTTP/1.1"), (501,)),
    }
    for name, (sent, statuses) in lines.items():
        yield Case("request line", name, sent, statuses)


def targets() -> Iterator[Case]:
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
        "dot segments": (b"/a/../b/./c", 400),
        "a dot segment": (b"/./a", 400),
        "a dot segment at the end": (b"/a/..", 400),
        "a dot segment before the query": (b"/a/..?b", 400),
        "above the root": (b"/../../etc/passwd", 400),
        "encoded dot segments": (b"/a/%2e%2E/b", 400),
        "a dot segment, half encoded": (b"/a/.%2e/b", 400),
        "a dot segment between encoded slashes": (b"/a%2fb%2F..%2fc", 400),
        "a dot segment between encoded backslashes": (b"/a%5c..%5Cc", 400),
        "a dot segment with a parameter": (b"/a/..;v=1/b", 400),
        "a dot segment with an encoded parameter": (b"/a/.%3bv/b", 400),
        "an encoded slash": (b"/a%2Fb", 400),
        "an encoded slash in small letters": (b"/a%2fb", 400),
        "an encoded slash first": (b"/%2fshop/a", 400),
        "an encoded slash last": (b"/a%2F", 400),
        "an encoded slash before the query": (b"/a%2Fb?c=d", 400),
        "an encoded backslash": (b"/a%5Cb", 400),
        "an encoded backslash in small letters": (b"/a%5cb", 400),
        "encoded slashes": (b"/a%2fb%2F%2fc%5cd", 400),
        "absolute form with an encoded slash": (b"http://shop/a%2Fb", 400),
        "8,193 bytes": (b"/" + b"a" * 8_192, 414),
        "100,000 bytes": (b"/" + b"a" * 99_999, 414),
    }
    for name, (target, status) in refused.items():
        yield Case("target", name, get(target), (status,))
    yield Case("target", "asterisk for OPTIONS", line(b"OPTIONS * HTTP/1.1"), (400,))
    yield Case("target", "too long and never ends", b"GET /" + b"a" * 9_000, (414,))
    taken: dict[str, bytes] = {
        "8,192 bytes": b"/" + b"a" * 8_191,
        "dots that are no segments": b"/.well-known/..a/b../.../c.%2e.d/e..",
        "dot segments in the query": b"/a?b=/../c&d=/./%2e%2e/",
        "encoded slashes in the query": b"/a?b=%2F&c=%5c?%2f",
        "doubly encoded slashes": b"/a%252Fb%255cc",
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


def encoded_slashes_passed() -> Iterator[Case]:
    """What is said of them with ``encoded_slashes = "pass"``."""
    for path in (b"/a%2fb%2F%2fc%5cd", b"/a%2Fb?c=%2F", b"/%5Ca"):
        yield Case("target", f"taken: {path.decode()}", get(path), (200,), 1)
    yield Case("target", "a dot segment beside", get(b"/a%2fb%2F..%2fc"), (400,))
    yield from paths_near_orders(slashes_pass=True)


def paths_near_orders(*, slashes_pass: bool = False) -> Iterator[Case]:
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
        if _DOTS.search(path) or (
            _SLASHES.search(path) and not slashes_pass
        ):  # refused whatever is asked
            yield Case("near an order", f"{path.decode()} read", get(path), (400,))
        else:
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
