"""Which fields go upstream, and which come back."""

import re
from functools import lru_cache

from gateway.api.proxies import Peer
from middleware.messages import HOP_BY_HOP, RawHeaders, end_to_end, first, values, without

VIA = (b"1.0 ordergate", b"1.1 ordergate")
"""By the minor version that the request came in (RFC 9110 section 7.6.3)."""

_OF_PROXIES = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-real-ip",
    }
)

_REWRITTEN = HOP_BY_HOP | _OF_PROXIES | {b"content-length", b"expect", b"request-id"}
"""Written anew, or the hop's own: what a client says of its own address is worth nothing."""

_REWRITTEN_KEY_TOO = _REWRITTEN | {b"idempotency-key"}


def upstream_fields(
    headers: RawHeaders, *, peer: Peer, request_id: str, upstream_key: str | None = None
) -> RawHeaders:
    """The client's end-to-end fields, and ours (RFC 9110 section 7.6).

    ``X-Forwarded-…`` and ``Forwarded`` (RFC 7239) are overwritten; where ``peer`` is a trusted
    proxy, they are appended to. With ``upstream_key`` the client's Idempotency-Key is replaced.
    """
    dropped = _REWRITTEN if upstream_key is None else _REWRITTEN_KEY_TOO
    ours: list[tuple[bytes, bytes]] = [
        (b"Via", VIA[peer.minor]),
        *(_appended(headers, peer) if peer.trusted else _overwritten(headers, peer)),
        (b"Request-Id", request_id.encode("latin-1", "replace")),
    ]
    if upstream_key is not None:
        ours.append((b"Idempotency-Key", upstream_key.encode("ascii")))
    kept = end_to_end(headers, dropped)
    return (*(kept if peer.trusted else _unclaimed(kept)), *ours)


_CLAIMS = (b"x-forwarded-", b"x-original-url", b"x-rewrite-url")


def _unclaimed(headers: RawHeaders) -> RawHeaders:
    """Without what frameworks believe of proxies beside all that: ``X-Forwarded-…`` of any name,
    such as ``-Ssl`` and ``-Prefix``, and another target."""
    return tuple([field for field in headers if not field[0].lower().startswith(_CLAIMS)])


_CLIENT_ALONE = frozenset({b"x-forwarded-for"})


def as_told(headers: RawHeaders, peer: Peer, *, fronted: bool) -> RawHeaders:
    """``headers`` with the client that the upstream is told of. Where proxies are believed about
    the URI (``fronted``), also without what anybody else says of it, as that is overwritten."""
    if peer.trusted:
        return headers
    address = peer.address.encode("latin-1", "replace")
    own = _unclaimed(without(headers, _OF_PROXIES)) if fronted else without(headers, _CLIENT_ALONE)
    return (*own, (b"X-Forwarded-For", address))


def _overwritten(headers: RawHeaders, peer: Peer) -> RawHeaders:
    return (
        (b"X-Forwarded-For", peer.address.encode("latin-1", "replace")),
        (b"X-Forwarded-Host", first(headers, b"host") or b""),
        (b"X-Forwarded-Proto", b"http"),
    )


def _appended(headers: RawHeaders, peer: Peer) -> RawHeaders:
    """What a trusted proxy said, and the proxy itself as the next hop. ``Forwarded`` only where
    it speaks that: two accounts of one way may differ."""
    address = peer.address.encode("latin-1", "replace")
    hops = (*values(headers, b"x-forwarded-for"), address)
    host = first(headers, b"x-forwarded-host") or first(headers, b"host") or b""
    fields: list[tuple[bytes, bytes]] = [
        (b"X-Forwarded-For", b", ".join(hop for hop in hops if hop)),
        (b"X-Forwarded-Host", host),
        (b"X-Forwarded-Proto", first(headers, b"x-forwarded-proto") or b"http"),
    ]
    told = values(headers, b"forwarded")
    if told:
        node = b'"[%b]"' % address if b":" in address else address
        fields.append((b"Forwarded", b", ".join((*told, b"for=" + node))))
    for name in (b"X-Forwarded-Port", b"X-Real-IP"):
        said = first(headers, name.lower())
        if said is not None:
            fields.append((name, said))
    return tuple(fields)


def with_deadline(fields: RawHeaders, name: bytes, waited_s: float) -> RawHeaders:
    """``fields`` with how long the answer is waited for, in milliseconds, in ``name``."""
    told = (name, b"%d" % max(1, round(waited_s * 1000)))
    return (*without(fields, frozenset({name.lower()})), told)


_HOPS = re.compile(rb"[0-9]{1,9}")


def hops_left(method: str, headers: RawHeaders) -> int | None:
    """Through how many more servers an OPTIONS may go: Max-Forwards (RFC 9110 section 7.6.2)."""
    told = first(headers, b"max-forwards") if method == "OPTIONS" else None
    return None if told is None or not _HOPS.fullmatch(told) else int(told)


def one_hop_less(fields: RawHeaders, left: int) -> RawHeaders:
    """``fields`` for the next server; ``left`` is one at least."""
    return (*without(fields, frozenset({b"max-forwards"})), (b"Max-Forwards", b"%d" % (left - 1)))


def uncompressed(fields: RawHeaders) -> RawHeaders:
    """``fields`` asking for an answer that can be read here (RFC 9110 section 12.5.3): without
    Accept-Encoding any coding would do."""
    kept = without(fields, frozenset({b"accept-encoding"}))
    return (*kept, (b"Accept-Encoding", b"identity"))


_WE_SAY = HOP_BY_HOP | {
    b"content-length",
    b"gateway-order",
    b"gateway-source",
    b"idempotency-expires",
    b"idempotency-status",
    b"idempotent-replayed",
}
"""An upstream that deduplicates may say the same of itself; to clients only we speak of our
ledger."""


def client_fields(headers: RawHeaders, *ours: tuple[bytes, bytes]) -> RawHeaders:
    """The upstream's end-to-end fields, and ``ours`` instead of any of the same names."""
    dropped = _dropped_beside(tuple([name for name, _ in ours]))
    return (*end_to_end(headers, dropped), *ours)


@lru_cache(64)  # a handful of handlers, each with its own fields
def _dropped_beside(names: tuple[bytes, ...]) -> frozenset[bytes]:
    return _WE_SAY.union(name.lower() for name in names)
