"""The ways that bytes come in and go out: plain TCP, TLS upstream, the PROXY protocol in front."""

import ssl
import struct
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import trustme


class Way(StrEnum):
    PLAIN = "plain"
    TLS = "upstream over TLS"
    PROXY_1 = "PROXY protocol 1"
    PROXY_2 = "PROXY protocol 2"


PROXIED = 'trusted_proxies = ["127.0.0.1"]\nproxy_protocol = true'

_ADDRESSES = bytes((192, 0, 2, 7, 127, 0, 0, 1)) + struct.pack("!HH", 4711, 80)

_HEADERS = {
    Way.PROXY_1: b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n",
    Way.PROXY_2: b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + _ADDRESSES,
}


@dataclass(frozen=True)
class Paved:
    """``options`` for ``staged``; ``begins`` is what the balancer says first."""

    options: dict[str, Any]
    begins: bytes = b""
    client: bytes = b"127.0.0.1"


def paved(way: Way, folder: Path) -> Paved:
    if way is Way.PLAIN:
        return Paved({})
    if way is Way.TLS:
        return Paved(over_tls(folder))
    return Paved({"listen": PROXIED}, _HEADERS[way], b"192.0.2.7")


def over_tls(folder: Path) -> dict[str, Any]:
    """An upstream with a certificate of an authority that the gateway trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    return {
        "url": "https://127.0.0.1:{port}",
        "upstream": 'ca_file = "ca.pem"',
        "backend_listen": {"ssl": server},
    }
