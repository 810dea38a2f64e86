"""The policy and hishel 2 get the same exchanges; where they differ, a clause says who is right.

An exchange: a request, its answer, some time, the request again. What is compared is whether the
second is answered from the cache without asking.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import hishel
import pytest
from hishel import CacheMiss, FromCache, IdleClient, Response, StoreAndUse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from middleware.caching.asked import Asked, Received
from middleware.caching.entries import make_entry
from middleware.caching.memory import MemoryStore
from middleware.caching.rules import Serve, bypassed, decide
from middleware.caching.storing import Keep, StoringPolicy, may_store
from middleware.messages import RawHeaders

NOW = 1_800_000_000.0
POLICY = StoringPolicy()
Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Exchange:
    status: int
    answer: Fields
    first: Fields
    second: Fields
    wait_s: int

    def says(self, name: str) -> str:
        return ", ".join(value for each, value in self.answer if each == name)

    def asks(self, name: str) -> str:
        return ", ".join(value for each, value in (*self.first, *self.second) if each == name)

    @property
    def control(self) -> str:
        return self.says("Cache-Control").lower()


def dated(offset_s: int) -> str:
    return formatdate(NOW + offset_s, usegmt=True)


CONTROLS = st.lists(
    st.sampled_from(
        [
            *("max-age=10", "max-age=100", "max-age=0", "MAX-AGE=100", 'max-age="100"'),
            *("s-maxage=10", "s-maxage=100", "s-maxage=0", "public", "private", "no-store"),
            *("no-cache", "must-revalidate", "proxy-revalidate", "must-understand", "foo"),
            *("stale-while-revalidate=1000", "stale-if-error=1000", "max-age=x", "max-age=-1"),
            *('no-cache="x-a"', 'private="x-a"', "immutable"),
        ]
    ),
    max_size=3,
).map(", ".join)
ANSWERS = st.fixed_dictionaries(
    {"Date": st.sampled_from([dated(0), dated(-50), dated(5)])},
    optional={
        "Cache-Control": CONTROLS,
        "Expires": st.sampled_from(["0", dated(-10), dated(10), dated(100), "x", ""]),
        "Age": st.sampled_from(["0", "5", "60", "x"]),
        "ETag": st.just('"a"'),
        "Last-Modified": st.sampled_from([dated(-1000), dated(-100_000)]),
        "Vary": st.sampled_from(["X-A", "*", "X-A, X-B", ""]),
        "Set-Cookie": st.just("a=b"),
    },
).map(lambda fields: tuple(fields.items()))
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "Authorization": st.just("Bearer x"),
        "Cookie": st.just("a=b"),
        "X-A": st.sampled_from(["1", "2"]),
        "X-B": st.sampled_from(["1", "2"]),
        "Cache-Control": st.sampled_from(
            ["no-cache", "no-store", "max-age=0", "max-age=20", "min-fresh=50", "max-stale=50"]
        ),
    },
).map(lambda fields: tuple(fields.items()))
EXCHANGES = st.builds(
    Exchange,
    status=st.sampled_from([200, 201, 203, 204, 301, 302, 404, 410, 500, 503, 599]),
    answer=ANSWERS,
    first=REQUESTS,
    second=REQUESTS,
    wait_s=st.sampled_from([0, 7, 30, 200]),
)


def ours(exchange: Exchange) -> bool:
    store = MemoryStore(1 << 20, lambda _pattern, _path: False)
    first, second = asked(exchange.first), asked(exchange.second)
    answer = Received(exchange.status, b"", raw(exchange.answer), NOW, NOW)
    keep = may_store(first, answer, POLICY)
    if bypassed(first) or not isinstance(keep, Keep):
        return False
    entry = make_entry(
        first, answer, keep, b"", since=1.0, position=0, storing=POLICY, strict=False
    )
    store.put(entry)
    found, varies = store.find(second)
    now, wall = 1.0 + exchange.wait_s, NOW + exchange.wait_s
    verdict = decide(second, found, now=now, wall=wall, varies=varies, strict=False)
    return isinstance(verdict, Serve)


def theirs(exchange: Exchange, clock: Any) -> bool:
    clock.now = NOW
    options = hishel.CacheOptions(shared=True, supported_methods=["GET"], allow_stale=False)
    first, second = (
        hishel.Request("GET", "http://shop.example/", hishel.Headers(dict(fields)))
        for fields in (exchange.first, exchange.second)
    )
    response = Response(exchange.status, hishel.Headers(dict(exchange.answer)))
    state = CacheMiss(request=first, options=options).next(response)
    if not isinstance(state, StoreAndUse):
        return False
    entry = hishel.Entry(uuid4(), first, state.response)
    clock.now = NOW + exchange.wait_s
    return isinstance(IdleClient(options=options).next(second, [entry]), FromCache)


def asked(fields: Fields) -> Asked:
    return Asked(b"GET", b"shop.example", b"/", raw(fields))


def raw(fields: Fields) -> RawHeaders:
    return tuple((name.encode(), value.encode()) for name, value in fields)


Because = tuple[Callable[[Exchange], bool], str]


def requested(it: Exchange) -> str:
    return dict(it.second).get("Cache-Control", "")


WE_ASK: list[Because] = [
    (
        lambda it: bool(it.says("Set-Cookie")),
        "a shop: an answer that sets a cookie was made for one client",
    ),
    (lambda it: bool(it.asks("Cookie")), "a shop: a cookie is as good as Authorization"),
    (
        lambda it: bool(it.asks("Authorization")),
        "RFC 9111 3.5: kept for its own client, unless public or s-maxage",
    ),
    (lambda it: it.says("Age") not in ("", "0"), "RFC 9111 4.2.3: a received Age counts"),
    (
        lambda it: dict(it.first).get("Cache-Control") == "no-store",
        "RFC 9111 5.2.1.5: nothing of such a request is kept",
    ),
    (
        lambda it: requested(it).startswith(("max-age", "min-fresh")),
        "RFC 9111 5.2.1: what a request will accept",
    ),
    (
        lambda it: len(set(re.findall(r"s-maxage=[^,]*|max-age=[^,]*", it.control))) > 1,
        "RFC 9111 4.2.1: of values that differ the careful one; s-maxage before all",
    ),
    (
        lambda it: "max-age=x" in it.control or "max-age=-1" in it.control,
        "RFC 9111 4.2.1: what is no number is stale",
    ),
    (
        lambda it: it.says("Date") != dated(0),
        "RFC 9111 4.2.3: how old it was when it came",
    ),
    (
        lambda it: it.status == 599 and "must-understand" in it.control,
        "RFC 9111 5.2.2.3: a status that is not understood",
    ),
    (
        lambda it: "s-maxage" in it.control,
        "RFC 9111 5.2.2.10: s-maxage ends the freshness in a shared cache",
    ),
]
WE_ANSWER: list[Because] = [
    (lambda it: "stale-while-revalidate" in it.control, "RFC 5861 3: its window"),
    (
        lambda it: requested(it).startswith("max-stale"),
        "RFC 9111 5.2.1.2: the request accepts it",
    ),
    (
        lambda it: "immutable" in it.control and requested(it).startswith("max-age"),
        "RFC 8246 2.1: asking anew would be in vain",
    ),
    (
        lambda it: "must-understand" in it.control,
        "RFC 9111 5.2.2.3: it takes the place of no-store",
    ),
    (
        lambda it: '="x-a"' in it.control,
        "RFC 9111 5.2.2.4, 5.2.2.7: only the named fields are left out",
    ),
    (
        lambda it: bool(it.asks("Authorization")) and "must-revalidate" in it.control,
        "RFC 9111 3.5: must-revalidate lets it in, here for its own client",
    ),
    (
        lambda it: it.status != 200,
        "RFC 9111 3: explicit freshness or public lets any final status in",
    ),
]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    turned = SimpleNamespace(now=NOW)
    turned.time = lambda: turned.now
    monkeypatch.setattr("hishel._core._spec.time", turned)
    return turned


@settings(
    max_examples=400,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(EXCHANGES)
def test_every_difference_has_a_clause(clock: Any, exchange: Exchange) -> None:
    mine, other = ours(exchange), theirs(exchange, clock)
    if mine != other:
        because = WE_ANSWER if mine else WE_ASK
        assert any(holds(exchange) for holds, _ in because), (mine, other, exchange)


PLAIN = Exchange(200, (("Date", dated(0)), ("Cache-Control", "max-age=100")), (), (), 7)


def test_both_agree_on_what_is_plain(clock: Any) -> None:
    assert ours(PLAIN) is theirs(PLAIN, clock) is True
    over = Exchange(200, PLAIN.answer, (), (), 200)
    assert ours(over) is theirs(over, clock) is False
