"""What proxies in front say of the URI that a client asked for. Pure.

An upstream makes links and redirections of it, so it belongs to what a request asks for as Host
does: an answer is told only to requests that say the same (RFC 9111 section 2).
"""

import re
from collections.abc import Mapping
from functools import lru_cache

FRONT_FIELDS = frozenset(
    {
        b"cf-visitor",
        b"cloudfront-forwarded-proto",
        b"forwarded",
        b"front-end-https",
        b"x-envoy-original-path",
        b"x-forwarded-host",
        b"x-forwarded-path",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-protocol",
        b"x-forwarded-scheme",
        b"x-forwarded-server",
        b"x-forwarded-ssl",
        b"x-forwarded-uri",
        b"x-original-host",
        b"x-replaced-path",
        b"x-scheme",
        b"x-script-name",
        b"x-url-scheme",
    }
)

URI_SAID = b" uri said"
"""Beside the names of Vary, none of which begins with a space: what these fields say selects."""

KNOWN_BYTES_MAX = 256
"""Proxies say the same in request after request: that is remembered, up to a length that lets
nobody fill the memory."""

_NODES = re.compile(rb'\b(?:for|by)="?[\w.:\[\]-]*"?', re.IGNORECASE)
"""In ``Forwarded``, addresses: every client has its own, and no link is made of them."""


def says_uri(fields: Mapping[bytes, bytes]) -> bool:
    return not FRONT_FIELDS.isdisjoint(fields)


def uri_said(fields: Mapping[bytes, bytes]) -> bytes:
    """The same for requests of which the same is said; empty where nothing is."""
    said = tuple([field for field in fields.items() if field[0] in FRONT_FIELDS])
    if b"forwarded" in fields or sum([len(value) for _, value in said]) > KNOWN_BYTES_MAX:
        return _joined(said)
    return _known(said)


def _joined(said: tuple[tuple[bytes, bytes], ...]) -> bytes:
    texts = []
    for name, told in sorted(said):
        value = _NODES.sub(b"", told) if name == b"forwarded" else told
        texts.append(b"%b:%d:%b" % (name, len(value), value))
    return b"\n".join(texts)


_known = lru_cache(maxsize=1024)(_joined)
