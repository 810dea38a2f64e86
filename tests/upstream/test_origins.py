"""Where an upstream may listen."""

import pytest

from gateway.upstream import Origin


@pytest.mark.parametrize(
    ("url", "origin", "authority"),
    [
        ("http://127.0.0.1:9000", Origin("127.0.0.1", 9000), "127.0.0.1:9000"),
        ("http://backend/", Origin("backend", 80), "backend"),
        ("http://backend:80", Origin("backend", 80), "backend"),
        ("http://[::1]:9000", Origin("::1", 9000), "[::1]:9000"),
    ],
)
def test_origin_is_read_from_its_url(url: str, origin: Origin, authority: str) -> None:
    assert Origin.parse(url) == origin
    assert origin.authority == authority


@pytest.mark.parametrize(
    "url",
    [
        "backend:9000",
        "http://",
        "http://backend/api",
        "http://backend?",
        "http://backend#x",
        "http://user@backend",
        "http://backend:0",
        "http://backend:65536",
        "http://backend:x",
        "http://back end",
    ],
)
def test_url_that_is_more_or_less_than_an_origin_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Origin.parse(url)
