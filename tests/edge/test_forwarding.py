"""What an upstream is told of the way here: made up by nobody, kept from trusted proxies only."""

from pathlib import Path

import pytest

from tests.edge.stage import KEY, Stage, get, post, staged

SPOOFED = (
    b"X-Forwarded-For: 6.6.6.6, 7.7.7.7",
    b"X-Forwarded-Host: bank",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Port: 443",
    b"X-Real-IP: 6.6.6.6",
    b"Forwarded: for=6.6.6.6;proto=https",
    b"Via: 1.0 elsewhere",
)
CLAIMED = (
    b"X-Forwarded-Ssl: on",
    b"x-forwarded-scheme: https",
    b"X-Forwarded-Prefix: /evil",
    b"X-Forwarded-Client-Cert: x",
    b"X-Original-URL: /orders",
    b"X-Rewrite-URL: /orders",
)
TRUSTED = 'trusted_proxies = ["127.0.0.0/8", "10.0.0.0/8", "::1"]'


async def told(stage: Stage, request: bytes, method: bytes = b"GET") -> dict[bytes, list[bytes]]:
    (answer,) = await stage.says(request, method)
    assert answer.status < 300, answer
    fields: dict[bytes, list[bytes]] = {}
    for name, value in stage.backend.requests[-1].headers:
        fields.setdefault(name, []).append(value)
    return fields


REQUESTS = [(get(b"/", *SPOOFED), b"GET"), (post(b"{}", *SPOOFED), b"POST")]


@pytest.mark.parametrize(("request_bytes", "method"), REQUESTS, ids=["read", "order"])
async def test_what_a_client_says_of_itself_is_overwritten(
    tmp_path: Path, request_bytes: bytes, method: bytes
) -> None:
    async with staged(tmp_path) as stage:
        fields = await told(stage, request_bytes, method)
        assert fields[b"x-forwarded-for"] == [b"127.0.0.1"]
        assert fields[b"x-forwarded-host"] == [b"shop"]
        assert fields[b"x-forwarded-proto"] == [b"http"]
        assert not fields.keys() & {b"forwarded", b"x-real-ip", b"x-forwarded-port"}
        assert fields[b"via"] == [b"1.0 elsewhere", b"1.1 ordergate"]


@pytest.mark.parametrize(("request_bytes", "method"), REQUESTS, ids=["read", "order"])
async def test_via_names_the_version_that_the_client_spoke(
    tmp_path: Path, request_bytes: bytes, method: bytes
) -> None:
    async with staged(tmp_path) as stage:
        fields = await told(stage, request_bytes.replace(b"HTTP/1.1", b"HTTP/1.0"), method)
        assert fields[b"via"] == [b"1.0 elsewhere", b"1.0 ordergate"]


@pytest.mark.parametrize(("request_bytes", "method"), REQUESTS, ids=["read", "order"])
async def test_what_a_trusted_proxy_says_is_kept_and_appended_to(
    tmp_path: Path, request_bytes: bytes, method: bytes
) -> None:
    async with staged(tmp_path, listen=TRUSTED) as stage:
        fields = await told(stage, request_bytes, method)
        assert fields[b"x-forwarded-for"] == [b"6.6.6.6, 7.7.7.7, 127.0.0.1"]
        assert fields[b"x-forwarded-host"] == [b"bank"]
        assert fields[b"x-forwarded-proto"] == [b"https"]
        assert fields[b"x-forwarded-port"] == [b"443"]
        assert fields[b"x-real-ip"] == [b"6.6.6.6"]
        assert fields[b"forwarded"] == [b"for=6.6.6.6;proto=https, for=127.0.0.1"]


CLAIMS = [(get(b"/", *CLAIMED), b"GET"), (post(b"{}", *CLAIMED), b"POST")]


@pytest.mark.parametrize("listen", ["", TRUSTED], ids=["anybody", "a trusted proxy"])
@pytest.mark.parametrize(("request_bytes", "method"), CLAIMS, ids=["read", "order"])
async def test_what_frameworks_believe_of_proxies_is_believed_of_trusted_ones_only(
    tmp_path: Path, request_bytes: bytes, method: bytes, listen: str
) -> None:
    said = {name.lower(): [value] for name, value in (field.split(b": ", 1) for field in CLAIMED)}
    async with staged(tmp_path, listen=listen) as stage:
        fields = await told(stage, request_bytes, method)
        found = {name: value for name, value in fields.items() if name in said}
        assert found == (said if listen else {})


KEPT = """
[[routes]]
name = "kept"
match = "* /kept"
kind = "cached"
upstream = "backend"
"""


@pytest.mark.parametrize("path", [b"/up", b"/kept"], ids=["plain", "cached"])
async def test_an_options_goes_through_as_many_servers_as_it_says(
    tmp_path: Path, path: bytes
) -> None:
    """RFC 9110 section 7.6.2."""
    async with staged(tmp_path, upstream=KEPT) as stage:
        ask = get(path, b"Max-Forwards: %d").replace(b"GET", b"OPTIONS")
        assert (await told(stage, ask % 5, b"OPTIONS"))[b"max-forwards"] == [b"4"]
        assert (await told(stage, ask % 1, b"OPTIONS"))[b"max-forwards"] == [b"0"]
        (answer,) = await stage.says(ask % 0, b"OPTIONS")
        assert (answer.status, answer.values(b"gateway-source")) == (204, [b"gateway"])
        assert len(stage.backend.requests) == 2
        spelt = get(path, b"Max-Forwards: soon").replace(b"GET", b"OPTIONS")
        assert (await told(stage, spelt, b"OPTIONS"))[b"max-forwards"] == [b"soon"]
        read = get(path, b"Max-Forwards: 0")
        assert (await told(stage, read))[b"max-forwards"] == [b"0"]


async def test_a_trusted_proxy_that_says_nothing_is_the_first_hop(tmp_path: Path) -> None:
    async with staged(tmp_path, listen=TRUSTED) as stage:
        fields = await told(stage, get(b"/"))
        assert fields[b"x-forwarded-for"] == [b"127.0.0.1"]
        assert fields[b"x-forwarded-host"] == [b"shop"]
        assert b"forwarded" not in fields


async def test_the_proxy_protocol_names_the_client(tmp_path: Path) -> None:
    listen = TRUSTED + "\nproxy_protocol = true"
    async with staged(tmp_path, listen=listen) as stage:
        header = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n"
        fields = await told(stage, header + get(b"/", *SPOOFED))
        assert fields[b"x-forwarded-for"] == [b"192.0.2.7"]
        assert await stage.says(get(b"/")) == []


SILENT = {
    "unknown": b"PROXY UNKNOWN\r\n",
    "local": b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
    "a local socket": b"\r\n\r\n\0\r\nQUIT\n\x21\x31\x00\xd8" + bytes(216),
}


@pytest.mark.parametrize("name", SILENT)
@pytest.mark.parametrize(("request_bytes", "method"), REQUESTS, ids=["read", "order"])
async def test_where_the_balancer_names_nobody_the_client_is_not_believed_either(
    tmp_path: Path, request_bytes: bytes, method: bytes, name: str
) -> None:
    """A balancer that speaks the PROXY protocol passes bytes on: the fields are its client's."""
    listen = TRUSTED + "\nproxy_protocol = true"
    async with staged(tmp_path, listen=listen) as stage:
        fields = await told(stage, SILENT[name] + request_bytes, method)
        assert fields[b"x-forwarded-for"] == [b"unknown"]
        assert fields[b"x-forwarded-host"] == [b"shop"]
        assert fields[b"x-forwarded-proto"] == [b"http"]
        assert not fields.keys() & {b"forwarded", b"x-real-ip", b"x-forwarded-port"}


async def test_underscores_pass_nowhere(tmp_path: Path) -> None:
    async with staged(tmp_path, listen=TRUSTED) as stage:
        (answer,) = await stage.says(get(b"/", b"X_Forwarded_For: 6.6.6.6"))
        assert answer.status == 400
        assert stage.backend.requests == []


ME = b"Authorization: me"


async def test_a_client_has_its_share_of_new_orders_and_repeats_beyond_it(tmp_path: Path) -> None:
    async with staged(tmp_path, limits="orders_per_client_max = 2") as stage:
        for number in (1, 2):
            (made,) = await stage.says(post(b"{}", ME, KEY + b"k-%d" % number), b"POST")
            assert made.status == 201
        for _ in range(3):
            (repeat,) = await stage.says(post(b"{}", ME, KEY + b"k-1"), b"POST")
            assert repeat.status == 201
        (refused,) = await stage.says(post(b"{}", ME, KEY + b"k-3"), b"POST")
        assert (refused.status, refused.values(b"retry-after")) == (429, [b"60"])
        assert b'"safe_new_key":false' in refused.body
        assert b'"order":null' in refused.body
        (mismatch,) = await stage.says(post(b"[]", ME, KEY + b"k-1"), b"POST")
        assert mismatch.status == 422
        (other,) = await stage.says(post(b"{}", b"Authorization: her", KEY + b"k-3"), b"POST")
        assert other.status == 201
        assert (await stage.gateway.ledger.counts()).made == 3


async def test_clients_that_show_nobody_share_by_address_not_with_everybody(
    tmp_path: Path,
) -> None:
    limits = "orders_per_client_max = 1"
    async with staged(tmp_path, listen=TRUSTED, limits=limits) as stage:
        for address, status in ((b"6.6.6.6", 201), (b"6.6.6.6", 429), (b"7.7.7.7", 201)):
            (answer,) = await stage.says(post(b"{}", b"X-Forwarded-For: " + address), b"POST")
            assert answer.status == status
        (made_up,) = await stage.says(post(b"{}", b"X-Forwarded-For: 8.8.8.8, 7.7.7.7"), b"POST")
        assert made_up.status == 429
