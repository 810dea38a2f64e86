"""What an order changes, and which reads that makes an order's."""

import pytest

from gateway.routes import Pattern
from gateway.touched import OrderPaths, by_submission, lineage, takes
from middleware.caching.asked import Asked
from middleware.caching.invalidation import Mark, Touches, touches

PATHS = OrderPaths(
    (Pattern.parse("POST /api/orders"), Pattern.parse("POST /api/orders/*/cancel")),
    ("/customers/*/history", "group:stock"),
)


def test_a_path_and_what_lies_above_it() -> None:
    assert list(lineage(b"/orders/7/cancel")) == [b"/orders/7/cancel", b"/orders/7", b"/orders"]
    assert list(lineage(b"/orders/")) == [b"/orders/", b"/orders"]
    assert list(lineage(b"/")) == []


def test_a_submission_changes_its_lineage_and_what_its_route_names() -> None:
    marks = by_submission(b"/orders/7?x=/y", ["/stock/*", "/home", "group:shelf"])
    assert marks == (
        Mark(Touches.PATH, b"/orders/7"),
        Mark(Touches.PATH, b"/orders"),
        Mark(Touches.PATTERN, b"/stock/*"),
        Mark(Touches.PATH, b"/home"),
        Mark(Touches.GROUP, b"shelf"),
    )


@pytest.mark.parametrize(
    ("path", "strict"),
    [
        (b"/api/orders", True),
        (b"/api/orders/7", True),
        (b"/api/orders/7/lines", True),
        (b"/api", True),
        (b"/api/ordersx", False),
        (b"/api/catalog", False),
        (b"/customers/9/history", True),
        (b"/customers/9", False),
        (b"/", False),
    ],
)
def test_what_an_order_can_change_is_known_by_its_path(path: bytes, strict: bool) -> None:
    assert PATHS.strict()(path) is strict


@pytest.mark.parametrize(
    ("route", "path", "personal"),
    [
        ("GET /**", b"/shop/CART/x.css", True),
        ("GET /**", b"/shop/cartoons", False),
        ("GET /**", b"/api/orders/7", True),
        ("GET /**", b"/api/catalog", False),
        ("GET /api/orders/**", b"/api/orders/7", False),
        ("GET /api/**", b"/api/orders/7", True),
        ("GET /account/**", b"/account/orders", False),
        ("GET /account/**", b"/api/orders/7", True),
        ("GET /**", b"/%61ccount", True),
        ("GET /**", b"/shop/cart;x=.css", True),
        ("GET /**", b"/shop%2Fcart%2Fx.css", True),
        ("GET /**", b"/static/%2e%2e/account", True),
        ("GET /**", b"/API/Orders/7", True),
        ("GET /**", b"/catalog/caf%C3%A9", False),
        ("GET /**", b"/catalog/", False),
        ("GET /api/orders/**", b"/api/orders/%37", True),
        ("GET /api/orders/**", b"/api//orders/7", True),
        ("GET /api/orders/**", b"/api/orders/A7", False),
        ("GET /api/orders/**", b"/api/orders/7/", False),
    ],
)
def test_personal_reads_are_kept_only_where_a_route_says_so(
    route: str, path: bytes, personal: bool
) -> None:
    assert PATHS.personal(Pattern.parse(route))(path) is personal


def test_a_write_under_a_disguised_name_ends_all_that_orders_show() -> None:
    touched = PATHS.touched()
    asked = Asked(b"PUT", b"shop", b"/api/%6frders/7", ())
    assert Mark(Touches.PATTERN, b"/api/orders/**") in touched(asked)
    assert touched(Asked(b"PUT", b"shop", b"/catalog/caf%C3%A9", ())) == ()


def test_a_last_slash_makes_no_difference() -> None:
    mark = Mark(Touches.PATH, b"/api/orders/7")
    assert touches(mark, b"shop", b"/api/orders/7/?x=1", (), takes)
    assert takes(b"/shelf/*/", b"/shelf/7")
    assert takes(b"/shelf/*", b"/shelf/7/")
    assert PATHS.strict()(b"/api/")


def test_what_is_no_pattern_takes_everything() -> None:
    assert takes(b"no pattern", b"/a")
    assert takes(b"/a/*", b"/a/b")
    assert not takes(b"/a/*", b"/a/b/c")
