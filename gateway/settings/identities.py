"""Values that name fields, and who a client is: headers, cookies, claims, algorithms."""

import re
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

from gateway.settings.problems import shown, wrong

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _header_name(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise wrong(f"{shown(text)} is no name of a header", 'as in "X-Customer"')
    return text.lower()


HeaderName: TypeAlias = Annotated[str, AfterValidator(_header_name)]


def _field_name(text: str) -> str:
    if not _TOKEN.fullmatch(text) or text.lower() in _NO_CLIENT:
        raise wrong(f"{shown(text)} is no name for a field of ours", 'as in "X-Request-Timeout-Ms"')
    return text


OwnFieldName: TypeAlias = Annotated[str, AfterValidator(_field_name)]

_NO_CLIENT = frozenset(
    {
        "accept", "cache-control", "connection", "content-length", "content-type", "date", "expect",
        "host", "idempotency-key", "keep-alive", "origin", "prefer", "referer", "request-id", "te",
        "trailer", "transfer-encoding", "upgrade", "user-agent",
    }
)  # fmt: skip
"""Of the message or the connection: many clients share them, or one client changes them."""


ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
)  # fmt: skip


def _algorithm(text: str) -> str:
    if text.lower() == "none":
        raise wrong("a token without a signature can be anybody's", "name what the issuer signs by")
    if text not in ALGORITHMS:
        raise wrong(f"{shown(text)} is no algorithm", f"one of {', '.join(ALGORITHMS)}")
    return text


Algorithm: TypeAlias = Annotated[str, AfterValidator(_algorithm)]

_NO_CLAIM = frozenset(
    {"aud", "auth_time", "azp", "exp", "iat", "iss", "jti", "nbf", "nonce", "scope", "typ"}
)
"""Of the token or of all its issuer's clients."""


def _claim(name: str) -> None:
    if not re.fullmatch(r"[!-~]{1,128}", name):
        raise wrong(f"{shown(name)} is no name of a claim", 'as in "jwt:sub"')
    if name in _NO_CLAIM:
        raise wrong(
            f"the claim {name} does not say who the client is",
            "take what is the same in all its tokens and in nobody else's, as jwt:sub",
        )


def _scope_source(text: str) -> str:
    place, _, name = text.partition(":")
    if place == "jwt":
        _claim(name)
        return text
    if place not in ("header", "cookie"):
        raise wrong(
            f"{shown(text)} is no scope", 'write "jwt:CLAIM", "header:NAME" or "cookie:NAME"'
        )
    if not _TOKEN.fullmatch(name):
        raise wrong(f"{shown(name)} is no name of a {place}", f'as in "{place}:session"')
    if (place, name.lower()) == ("header", "cookie"):
        what = "all cookies together are no scope: any of them may change"
        raise wrong(what, "name one: cookie:session")
    if place == "header" and name.lower() in _NO_CLIENT:
        raise wrong(
            f"{name} does not say who the client is",
            "take what a trusted party verified, as in header:X-Customer",
        )
    return text


ScopeText: TypeAlias = Annotated[str, AfterValidator(_scope_source)]
