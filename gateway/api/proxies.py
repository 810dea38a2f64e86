"""Who is at the other end: a client, or a proxy whose word about the client is believed."""

import ipaddress
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from aiohttp import web

from middleware.messages import RawHeaders, values

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_KNOWN_MAX = 10_000
"""Addresses whose answer is remembered: about what a listener has connected."""


class Peer(NamedTuple):
    """The address at the other end of the connection. ``trusted``: what it says of a client's
    address is kept and appended to; of anybody else it is overwritten. ``minor``: it spoke
    HTTP/1.``minor``."""

    address: str
    trusted: bool = False
    minor: int = 1


class TrustedProxies:
    """The balancers in front, by network; none by default."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = tuple(ipaddress.ip_network(network) for network in networks)
        self._known: dict[str, bool] = {}

    def trusts(self, address: str) -> bool:
        if not self._networks:
            return False
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            known = self._known[address] = _within(address, self._networks)
        return known

    def peers(
        self, address_of: Callable[[web.BaseRequest], str]
    ) -> Callable[[web.BaseRequest], Peer]:
        """The peer of a request, by the address of its connection."""

        def peer(request: web.BaseRequest) -> Peer:
            address = address_of(request)
            return Peer(address, self.trusts(address), request.version.minor)

        return peer

    def client(self, peer: Peer, headers: RawHeaders) -> str:
        """The address of the client itself: the last in ``X-Forwarded-For`` that is no trusted
        proxy. What stands before it, that client may have made up."""
        if not peer.trusted:
            return peer.address
        nearest = peer.address
        for hop in reversed(_hops(headers)):
            if not _is_address(hop):
                break
            nearest = hop
            if not self.trusts(hop):
                break
        return nearest


def _hops(headers: RawHeaders) -> list[str]:
    text = b",".join(values(headers, b"x-forwarded-for")).decode("latin-1")
    return [_without_port(hop.strip()) for hop in text.split(",") if hop.strip()]


def _without_port(hop: str) -> str:
    """Some balancers add the port: ``192.0.2.1:4711``, ``[2001:db8::1]:4711``."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    host, colon, _ = hop.partition(":")
    return host if colon and hop.count(":") == 1 else hop


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped  # an IPv4 client of a listener on both
    return any(found in network for network in networks)
