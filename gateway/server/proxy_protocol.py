"""The PROXY protocol, versions 1 and 2: a balancer says whose connection it passes on.

HAProxy's specification (proxy-protocol.txt). The header is read once, before anything else on a
connection, and only from addresses that are trusted: anybody else could claim to be anybody.
"""

import asyncio
import ipaddress
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol, TypeAlias, cast

_V1_BYTES_MAX = 107
"""Section 2.1: the longest line, with its CR LF."""
_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD_BYTES = 16
_V2_BYTES_MAX = 4_096
"""Addresses and extensions together: TLS certificates' names fit, a flood does not."""

_ADDRESS = rb"[0-9A-Fa-f:.]+"
"""Not with a zone, as in ``fe80::7%eth0``: Python takes any bytes for one."""
_V1 = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r]*)?|(TCP4|TCP6) (%b) (?:%b) (\d{1,5}) (?:\d{1,5}))\r\n"
    % (_ADDRESS, _ADDRESS)
)
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESSES = {0x11: (4, 12), 0x21: (16, 36)}
"""TCP over IPv4 and IPv6: the bytes of one address, and of both addresses with their ports."""


NOBODY = ("unknown", 0)
"""Whose connection it is where the balancer does not say (RFC 7239 section 6.2). Not the
balancer's: it passes bytes on, so what they claim in ``X-Forwarded-For`` is the client's word."""


class Unread(Enum):
    """Why there is no header (yet)."""

    INCOMPLETE = auto()
    NONE = auto()


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """``source`` is None where the balancer names nobody: a health check, a local socket."""

    source: tuple[str, int] | None
    length: int


Reading: TypeAlias = ProxyHeader | Unread


def read_proxy_header(data: bytes) -> Reading:
    """The header at the beginning of ``data``. Pure."""
    if data.startswith(_V2_SIGNATURE[: len(data)]):
        return _read_v2(data)
    if data.startswith(b"PROXY "[: len(data)]):
        return _read_v1(data)
    return Unread.NONE


def _read_v1(data: bytes) -> Reading:
    end = data.find(b"\n", 0, _V1_BYTES_MAX) + 1
    if not end:
        return Unread.NONE if len(data) >= _V1_BYTES_MAX else Unread.INCOMPLETE
    line = _V1.fullmatch(data[:end])
    if line is None:
        return Unread.NONE
    family, source, port = line.groups()
    if family is None:
        return ProxyHeader(None, end)
    return _header(source.decode("latin-1"), 4 if family == b"TCP4" else 6, int(port), end)


def _header(text: str, version: int, port: int, length: int) -> Reading:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return Unread.NONE
    if address.version != version or port > 65_535:
        return Unread.NONE
    return ProxyHeader((str(address), port), length)


def _read_v2(data: bytes) -> Reading:
    if len(data) < _V2_HEAD_BYTES:
        return Unread.INCOMPLETE
    command, family, size = struct.unpack("!BBH", data[12:_V2_HEAD_BYTES])
    length = _V2_HEAD_BYTES + size
    if command not in (_LOCAL, _PROXY) or length > _V2_BYTES_MAX:
        return Unread.NONE
    if len(data) < length:
        return Unread.INCOMPLETE
    if command == _LOCAL or family not in _ADDRESSES:
        return ProxyHeader(None, length)
    one, both = _ADDRESSES[family]
    if size < both:
        return Unread.NONE
    addresses = data[_V2_HEAD_BYTES : _V2_HEAD_BYTES + both]
    port = int.from_bytes(addresses[2 * one : 2 * one + 2], "big")
    return ProxyHeader((str(ipaddress.ip_address(addresses[:one])), port), length)


class Announced(Protocol):
    """The connection behind the header."""

    def speak_for(self, source: tuple[str, int]) -> None:
        """The client's address is this one. Called before ``connection_made``."""
        ...

    def connection_made(self, transport: asyncio.BaseTransport, /) -> None: ...

    def data_received(self, data: bytes, /) -> None: ...


class ProxyProtocol(asyncio.Protocol):
    """Stands in front of a connection until its header is read, then gives way to it.

    A connection from elsewhere than a trusted address, without a header, or whose header does not
    come within ``header_s`` is reset: there is nobody to speak HTTP to.
    """

    def __init__(
        self,
        make: Callable[[], asyncio.Protocol],
        trusts: Callable[[str], bool],
        header_s: float,
    ) -> None:
        self._make = make
        self._trusts = trusts
        self._header_s = header_s
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if not peer or not self._trusts(str(peer[0])):
            self._transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._header_s, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._received += data  # at most _V2_BYTES_MAX and what came with its last part
        match read_proxy_header(self._received):
            case Unread.INCOMPLETE:
                pass
            case Unread.NONE:
                transport.abort()
            case ProxyHeader(source, length):
                self._give_way(transport, source, self._received[length:])

    def _give_way(
        self, transport: asyncio.Transport, source: tuple[str, int] | None, rest: bytes
    ) -> None:
        self._end_timer()
        behind = self._make()
        cast("Announced", behind).speak_for(source or NOBODY)
        transport.set_protocol(behind)
        behind.connection_made(transport)
        if rest and not transport.is_closing():
            behind.data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._end_timer()

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
