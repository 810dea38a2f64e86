"""Where the clients of order routes show who they are, made from the settings."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from gateway.settings import JwtSettings, Settings
from gateway.telemetry import Telemetry
from middleware.clock import Clock
from middleware.idempotency.claims import Demands
from middleware.idempotency.gate import ScopeSource, Shows

SourceOf: TypeAlias = Callable[[str], Shows]


def scope_sources(settings: Settings, clock: Clock, telemetry: Telemetry) -> SourceOf:
    """From the text of a scope to its source. Raises OSError, KeysInvalid where the keys of
    ``[jwt]`` can't be read."""
    claim_source = None
    if settings.jwt.keys is not None:
        claim_source = _claim_sources(settings, clock, telemetry)

    def source_of(text: str) -> Shows:
        place, _, name = text.partition(":")
        if place == "jwt" and claim_source is not None:
            return claim_source(name)
        return ScopeSource.parse(text)

    return source_of


def _claim_sources(settings: Settings, clock: Clock, telemetry: Telemetry) -> SourceOf:
    # Slow to import, and most gateways verify no tokens.
    from middleware.idempotency.bearer import ClaimSource
    from middleware.idempotency.tokens import KeyFile, TokenVerifier

    jwt = settings.jwt
    event = telemetry.log_of("requests").warning
    keys = KeyFile(Path(jwt.keys or ""), jwt.algorithms, event=event)
    verifier = TokenVerifier(keys, jwt.algorithms, _demands(jwt, settings), clock=clock)

    def claim_source(name: str) -> Shows:
        return ClaimSource(name, verifier, telemetry.token_refused)

    return claim_source


def _demands(jwt: JwtSettings, settings: Settings) -> Demands:
    sources = (text.partition(":") for route in settings.order_routes for text in route.scope)
    return Demands(
        issuer=jwt.issuer,
        audience=frozenset(jwt.audience),
        leeway_s=jwt.leeway_s,
        claims=frozenset(name for place, _, name in sources if place == "jwt"),
    )
