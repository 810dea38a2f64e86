"""What a token's claims must say before one of them says who the client is. Pure.

Claims are those of RFC 7519; the signature has been verified by ``tokens``.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class TokenRefused(StrEnum):
    """Why a token is not believed. Log field and metric label too."""

    TOO_LONG = "too_long"
    MALFORMED = "malformed"
    ALGORITHM = "algorithm"
    UNKNOWN_KEY = "unknown_key"
    SIGNATURE = "signature"
    NO_EXPIRY = "no_expiry"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    CLAIM = "claim"


@dataclass(frozen=True, slots=True)
class Demands:
    """What is asked of every token. ``issuer`` None and no ``audience``: not looked at."""

    issuer: str | None
    audience: frozenset[str]
    leeway_s: float
    claims: frozenset[str]
    """Those that may say who the client is."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Who a token speaks for, by claim: digests of issuer and value, never the values.

    Believed until ``until`` (Unix time).
    """

    clients: Mapping[str, bytes]
    until: float


def judge(claims: Mapping[str, Any], demands: Demands, now: float) -> Verified | TokenRefused:
    """A token without ``exp`` is refused: stolen once, it would be good for ever."""
    expires, begins = claims.get("exp"), claims.get("nbf", 0)
    if expires is None:
        return TokenRefused.NO_EXPIRY
    if not _is_time(expires) or not _is_time(begins):
        return TokenRefused.MALFORMED
    if now >= expires + demands.leeway_s:
        return TokenRefused.EXPIRED
    if now < begins - demands.leeway_s:
        return TokenRefused.NOT_YET_VALID
    issuer = claims.get("iss", "")
    if not isinstance(issuer, str) or demands.issuer not in (None, issuer):
        return TokenRefused.ISSUER
    if demands.audience and not demands.audience & _audience(claims.get("aud")):
        return TokenRefused.AUDIENCE
    return _clients(claims, demands.claims, issuer, until=expires + demands.leeway_s)


def _is_time(value: object) -> bool:
    """A NumericDate (RFC 7519 section 2) that arithmetic can't trip over."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def _audience(value: object) -> frozenset[str]:
    """RFC 7519 section 4.1.3: one string, or a list of them."""
    listed = value if isinstance(value, list) else [value]
    return frozenset(one for one in listed if isinstance(one, str))


def _clients(
    claims: Mapping[str, Any], wanted: Collection[str], issuer: str, *, until: float
) -> Verified | TokenRefused:
    """A claim that is not there says nothing; one that is neither text nor a whole number can't
    name a client, and must not be taken for its absence."""
    clients = {}
    for name in wanted:
        value = claims.get(name, "")
        if isinstance(value, bool) or not isinstance(value, str | int):
            return TokenRefused.CLAIM
        if value != "":
            clients[name] = client_digest(issuer, str(value))
    return Verified(clients, until)


def client_digest(issuer: str, value: str) -> bytes:
    """Two issuers may name two clients alike, so the issuer counts."""
    named = issuer.encode("utf-8", "surrogatepass")
    valued = value.encode("utf-8", "surrogatepass")
    return hashlib.sha256(len(named).to_bytes(8, "big") + named + valued).digest()
