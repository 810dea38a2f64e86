"""How bearer tokens are verified."""

from typing import Annotated

from pydantic import Field

from gateway.settings.identities import Algorithm
from gateway.settings.section import Section
from gateway.settings.values import AsTuple, FilePath, SecondsOrZero


class JwtSettings(Section):
    """``[jwt]``: how bearer tokens are verified, for ``jwt:CLAIM`` in a route's ``scope``. A token
    that is false or expired gets 401, before anything is recorded."""

    keys: FilePath | None = None
    """The file of the issuer's keys: a JWK set, a public key as PEM, or for HMAC the secret itself.
    Read anew when it changes, and at a reload."""

    algorithms: Annotated[tuple[Algorithm, ...], AsTuple] = ()
    """Required with keys: the signatures taken, as in ``["RS256"]``."""

    issuer: Annotated[str, Field(min_length=1)] | None = None
    """What ``iss`` must say."""

    audience: Annotated[tuple[str, ...], AsTuple] = ()
    """One of these must be in ``aud``; without any it is not looked at."""

    leeway_s: Annotated[SecondsOrZero, Field(le=300)] = 30.0
    """How far the issuer's clock and ours may differ."""
