"""Which fields go upstream, and which come back."""

from middleware.messages import HOP_BY_HOP, RawHeaders, connection_options, first, without

VIA = b"1.1 ordergate"

_REWRITTEN = frozenset(
    {
        b"content-length",
        b"expect",
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"request-id",
    }
)
"""Written anew, or the hop's own: what a client says of its own address is worth nothing."""


def upstream_fields(
    headers: RawHeaders, *, peer: str, request_id: str, upstream_key: str | None = None
) -> RawHeaders:
    """The client's end-to-end fields, and ours (RFC 9110 section 7.6).

    With ``upstream_key`` the client's Idempotency-Key is replaced by it.
    """
    dropped = HOP_BY_HOP | _REWRITTEN | connection_options(headers)
    if upstream_key is not None:
        dropped |= {b"idempotency-key"}
    host = first(headers, b"host") or b""
    ours: list[tuple[bytes, bytes]] = [
        (b"Via", VIA),
        (b"X-Forwarded-For", peer.encode("latin-1", "replace")),
        (b"X-Forwarded-Host", host),
        (b"X-Forwarded-Proto", b"http"),
        (b"Request-Id", request_id.encode("latin-1", "replace")),
    ]
    if upstream_key is not None:
        ours.append((b"Idempotency-Key", upstream_key.encode("ascii")))
    return (*without(headers, dropped), *ours)


_WE_SAY = frozenset(
    {
        b"content-length",
        b"gateway-order",
        b"gateway-source",
        b"idempotency-expires",
        b"idempotency-status",
        b"idempotent-replayed",
    }
)
"""An upstream that deduplicates may say the same of itself; to clients only we speak of our
ledger."""


def client_fields(headers: RawHeaders, *ours: tuple[bytes, bytes]) -> RawHeaders:
    """The upstream's end-to-end fields, and ``ours`` instead of any of the same names."""
    replaced = frozenset(name.lower() for name, _ in ours)
    dropped = HOP_BY_HOP | _WE_SAY | connection_options(headers) | replaced
    return (*without(headers, dropped), *ours)
