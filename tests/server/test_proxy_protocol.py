"""The PROXY protocol: what the header says, and connections that bring it or don't."""

import asyncio
import struct

import pytest

from gateway.server import RawResponse, address_of
from gateway.server.proxy_protocol import ProxyHeader, Unread, read_proxy_header
from tests.server.serving import Storefront, get, serving

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int, family: int, payload: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(payload)) + payload


V4 = bytes((192, 0, 2, 7, 127, 0, 0, 1)) + struct.pack("!HH", 4711, 80)
V6 = bytes.fromhex("20010db8" + "00" * 11 + "07") + bytes(16) + struct.pack("!HH", 4711, 80)

READ = {
    "v1 over IPv4": (b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n", ("192.0.2.7", 4711)),
    "v1 over IPv6": (b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n", ("2001:db8::7", 4711)),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1 unknown with more": (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
    "v2 over IPv4": (v2(0x21, 0x11, V4), ("192.0.2.7", 4711)),
    "v2 over IPv6": (v2(0x21, 0x21, V6), ("2001:db8::7", 4711)),
    "v2 with extensions": (v2(0x21, 0x11, V4 + b"\x01\x00\x02h2"), ("192.0.2.7", 4711)),
    "v2 local": (v2(0x20, 0x00, b""), None),
    "v2 over a local socket": (v2(0x21, 0x31, bytes(216)), None),
}


@pytest.mark.parametrize("name", READ)
def test_a_header_is_read_whole_and_what_follows_is_left(name: str) -> None:
    header, source = READ[name]
    assert read_proxy_header(header + b"GET /") == ProxyHeader(source, len(header))
    for size in range(1, len(header)):
        assert read_proxy_header(header[:size]) is Unread.INCOMPLETE


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 4711\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 4711 80\r\n",
        b"PROXY TCP6 192.0.2.7 127.0.0.1 4711 80\r\n",
        b"PROXY TCP4 999.0.2.7 127.0.0.1 4711 80\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 99999 80\r\n",
        b"PROXY TCP6 fe80::7%eth0 ::1 4711 80\r\n",
        b"PROXY TCP6 fe80::7%\0 ::1 4711 80\r\n",
        b"PROXY TCP4 192.0.2.7 \xff 4711 80\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY UDP4 192.0.2.7 127.0.0.1 4711 80\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\n",
        b"PROXY " + b"x" * 200,
        v2(0x31, 0x11, V4),
        v2(0x22, 0x11, V4),
        v2(0x21, 0x11, V4[:-1]),
        v2(0x21, 0x11, V4 + bytes(5_000)),
    ],
)
def test_what_is_no_header_is_not_waited_for(data: bytes) -> None:
    assert read_proxy_header(data) is Unread.NONE


async def whose(request: object, _front: Storefront) -> RawResponse:
    return RawResponse(200, (), address_of(request).encode())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", READ)
async def test_the_client_is_who_the_balancer_says(name: str) -> None:
    header, source = READ[name]
    expected = b"unknown" if source is None else source[0].encode()
    async with serving(whose, proxies=("127.0.0.1",)) as front:
        async with front.connect() as client:
            await client.send(header + get() + get())
            assert [(await client.answer()).body for _ in range(2)] == [expected] * 2
        async with front.connect() as client:
            for byte in header + get():
                await client.send(bytes((byte,)))
                await asyncio.sleep(0)
            assert (await client.answer()).body == expected


async def test_a_connection_without_the_header_is_reset() -> None:
    async with serving(whose, proxies=("127.0.0.1",)) as front, front.connect() as client:
        await client.send(get())
        assert await client.closed() == b""
        assert front.server.connections == 0


async def test_nobody_but_a_trusted_proxy_is_heard() -> None:
    async with serving(whose, proxies=("192.0.2.1",)) as front, front.connect() as client:
        await client.send(READ["v1 over IPv4"][0] + get())
        assert await client.closed() == b""


async def test_a_header_that_does_not_come_is_not_waited_for_for_ever() -> None:
    proxies = ("127.0.0.1",)
    async with serving(whose, proxies=proxies, header_s=0.05) as front, front.connect() as client:
        await client.send(b"PROXY TCP4 ")
        assert await client.closed() == b""


async def test_connections_are_counted_by_the_address_of_the_client() -> None:
    header = READ["v1 over IPv4"][0]
    limits = {"connections_per_address_max": 1}
    async with serving(whose, proxies=("127.0.0.1",), **limits) as front:
        async with front.connect() as client, front.connect() as other, front.connect() as third:
            await client.send(header + get())
            assert (await client.answer()).status == 200
            await other.send(header)
            refused = await other.answer()
            assert (refused.status, refused.problem["reason"]) == (
                429,
                "too_many_connections_of_an_address",
            )
            await third.send(READ["v1 over IPv6"][0] + get())
            assert (await third.answer()).status == 200
        await front.server.quiet()
        async with front.connect() as again:
            await again.send(header + get())
            assert (await again.answer()).status == 200
