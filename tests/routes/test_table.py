"""First match wins, and no order slips past its route in disguise."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routes import Disguised, NoRoute, Pattern, Route, RouteKind, RouteTable


def table(*routes: tuple[str, str]) -> RouteTable:
    """Routes as (kind, match), named by their place."""
    return RouteTable(
        [
            Route(index, f"r{index}", RouteKind(kind), Pattern.parse(match))
            for index, (kind, match) in enumerate(routes)
        ]
    )


def name(found: Route | NoRoute | Disguised) -> str:
    match found:
        case Route():
            return found.name
        case NoRoute():
            return "none"
        case Disguised(route):
            return f"disguised {route.name}"


SHOP = table(
    ("plain", "POST /orders/preview"),
    ("order", "POST /orders"),
    ("order", "POST /orders/*/cancel"),
    ("cached", "GET /catalog/**"),
    ("plain", "* /static/**"),
    ("plain", "* /**"),
)


@pytest.mark.parametrize(
    ("method", "target", "found"),
    [
        (b"POST", b"/orders", "r1"),
        (b"POST", b"/orders?x=/../y", "r1"),
        (b"POST", b"/orders/7/cancel", "r2"),
        (b"POST", b"/orders/A%2FB/cancel", "r2"),
        (b"POST", b"/orders/preview", "r0"),
        (b"POST", b"/orders/preview/", "r5"),
        (b"GET", b"/catalog/a", "r3"),
        (b"HEAD", b"/catalog/a", "r3"),
        (b"POST", b"/catalog/a", "r5"),
        (b"GET", b"/orders", "r5"),
        (b"GET", b"/orders/../orders", "r5"),
        (b"OPTIONS", b"//orders", "r5"),
        (b"POST", b"/static/a%20b", "r4"),
        (b"POST", b"/files/%7Bx%7D;v=1/", "r5"),
        (b"POST", b"/a//b/./c/../d", "r5"),
        (b"POST", b"*", "none"),
        (b"POST", b"http://a/orders", "none"),
        (b"POST", b"", "none"),
    ],
)
def test_the_first_match_wins(method: bytes, target: bytes, found: str) -> None:
    assert name(SHOP.find(method, target)) == found


@pytest.mark.parametrize(
    "target",
    [
        b"/orders/",
        b"//orders",
        b"/orders//",
        b"/./orders",
        b"/orders/.",
        b"/x/../orders",
        b"/../orders",
        b"/x/%2e%2E/orders",
        b"/x/..%2Forders",
        b"/x%2Fy/%2e%2e/orders",
        b"/%6Frders",
        b"/%256Frders",
        b"/%25256Frders",
        b"/orders;v=1",
        b"/orders;v=1/",
        b"/x/..;a=b/orders",
        b"/orders%3Bv=1",
        b"/\\orders",
        b"/x\\..\\orders",
        b"/x/%5c..%5c..%5corders",
        b"/Orders",
        b"/ORDERS/",
        b"/orders%3Fx=1",
        b"/orders%23",
        b"/orders%00",
        b"/orders%20",
        b"/orders%0d%0aX:y",
        b"//evil.example/orders",
        b"/orders//..",
        b"/orders//../",
        b"/static/../orders",
        b"/static/..%2forders?x",
        b"/catalog/..;/orders",
    ],
)
def test_a_disguised_order_is_refused(target: bytes) -> None:
    assert name(SHOP.find(b"POST", target)) == "disguised r1"


def test_a_lower_case_method_is_a_disguise() -> None:
    assert name(SHOP.find(b"post", b"/orders")) == "disguised r1"


def test_an_order_disguised_as_another_kind_of_order_is_refused() -> None:
    orders = table(("order", "POST /orders/express"), ("order", "POST /orders/*"))
    assert name(orders.find(b"POST", b"/orders/%65xpress")) == "disguised r0"
    assert name(orders.find(b"POST", b"/orders/plain")) == "r1"


def test_a_path_that_the_operator_wrote_out_is_no_disguise() -> None:
    django = table(("plain", "POST /orders/"), ("order", "POST /orders"))
    assert name(django.find(b"POST", b"/orders/")) == "r0"
    assert name(django.find(b"POST", b"/orders//")) == "disguised r1"


def test_patterns_with_capitals_and_escapes_are_recognised() -> None:
    caf = table(("plain", "* /Admin/**"), ("order", "POST /Caf%C3%A9"), ("order", "POST /a/**"))
    assert name(caf.find(b"POST", b"/Caf%C3%A9")) == "r1"
    assert name(caf.find(b"POST", b"/Caf%c3%a9")) == "disguised r1"
    assert name(caf.find(b"POST", b"/Caf\xc3\xa9")) == "disguised r1"
    assert name(caf.find(b"POST", b"/Admin/%41")) == "r0"
    assert name(caf.find(b"POST", b"/a/B/%7E//;x")) == "r2"


def test_a_path_too_contorted_to_read_is_refused() -> None:
    contorted = b"".join(b"/%25252e;%255c//a%00" for _ in range(400))
    began = time.perf_counter()
    assert isinstance(SHOP.find(b"POST", contorted), Disguised)
    assert time.perf_counter() - began < 1.0
    assert name(table(("plain", "* /**")).find(b"POST", contorted)) == "r0"


# --- decorations ----------------------------------------------------------------------------

Decoration = Callable[[bytes, st.DataObject], bytes]


def encode(path: bytes, data: st.DataObject) -> bytes:
    at = data.draw(st.integers(1, len(path) - 1), label="encoded at")
    form = data.draw(st.sampled_from([b"%%%02x", b"%%%02X", b"%%25%02x"]))
    return path[:at] + form % path[at] + path[at + 1 :]


def at_a_slash(insert: bytes) -> Decoration:
    def decorate(path: bytes, data: st.DataObject) -> bytes:
        places = [at for at, byte in enumerate(path) if byte == ord("/")]
        at = data.draw(st.sampled_from(places), label="inserted at")
        return path[:at] + insert + path[at:]

    return decorate


def at_the_end(insert: bytes) -> Decoration:
    return lambda path, _: path + insert


def capital(path: bytes, data: st.DataObject) -> bytes:
    at = data.draw(st.integers(1, len(path) - 1), label="capital at")
    return path[:at] + path[at : at + 1].upper() + path[at + 1 :]


DECORATIONS: list[Decoration] = [
    encode,
    capital,
    at_a_slash(b"/"),
    at_a_slash(b"/."),
    at_a_slash(b"/x/.."),
    at_a_slash(b"/%2e"),
    at_a_slash(b"/y%2f.."),
    at_the_end(b"/"),
    at_the_end(b"/."),
    at_the_end(b";a=b"),
    at_the_end(b"%3b"),
    at_the_end(b"%20"),
    at_the_end(b"%00"),
]
WITH_ORDERS_ONLY = table(("order", "POST /api/orders"), ("plain", "* /**"))


@given(data=st.data(), steps=st.lists(st.sampled_from(DECORATIONS), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_no_decorated_path_slips_past_the_order_route(
    data: st.DataObject, steps: list[Decoration]
) -> None:
    path = b"/api/orders"
    for step in steps:
        path = step(path, data)
    found = name(WITH_ORDERS_ONLY.find(b"POST", path))
    assert found == ("r0" if path == b"/api/orders" else "disguised r0"), path


@given(st.lists(st.from_regex(rb"[a-z0-9_-]{1,12}", fullmatch=True), min_size=1, max_size=5))
def test_an_ordinary_path_of_others_is_never_refused(parts: list[bytes]) -> None:
    path = b"/files/" + b"/".join(parts)
    assert name(WITH_ORDERS_ONLY.find(b"POST", path)) == "r1"


@given(st.binary(max_size=60))
def test_any_bytes_find_an_answer(raw: bytes) -> None:
    SHOP.find(b"POST", b"/" + raw)
