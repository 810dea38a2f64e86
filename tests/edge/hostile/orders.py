"""What orders add: keys, pipelines, odd bodies; and what must not be refused for all that."""

from collections.abc import Iterator

from tests.edge.hostile.case import CHUNKED_ORDER, HIDDEN, ME, Case, line
from tests.edge.stage import KEY, get, post


def keys() -> Iterator[Case]:
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


def pipelines() -> Iterator[Case]:
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
    after = post(b"{}", ME, KEY + b"pipelined-6") + get(b"/") + CHUNKED_ORDER + b"zz\r\n"
    posts = (b"POST", b"GET", b"POST")
    yield Case("pipeline", "bad chunks behind an order", after, (201, 200, 400), 2, posts)


def ordinary() -> Iterator[Case]:
    """What must not be refused for all that."""
    yield Case("ordinary", "HEAD", line(b"HEAD / HTTP/1.1"), (200,), 1, (b"HEAD",))
    yield Case("ordinary", "OPTIONS", line(b"OPTIONS / HTTP/1.1"), (200,), 1, (b"OPTIONS",))
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
