"""A scope from a verified bearer token. Apart from the gate: most gateways verify none."""

from collections.abc import Callable
from dataclasses import dataclass

from middleware.idempotency.claims import TokenRefused
from middleware.idempotency.tokens import TokenInvalid, TokenVerifier
from middleware.messages import RawHeaders, values
from middleware.problems import Problem, ProblemType


@dataclass(frozen=True, slots=True)
class ClaimSource:
    """A claim of the bearer token (RFC 6750 section 2.1), verified.

    No token, or one without the claim, shows nothing: the next source is asked. A token that is
    not believed is refused, whatever else is shown: its bearer must not become somebody else.
    """

    claim: str
    verifier: TokenVerifier
    on_refused: Callable[[TokenRefused], None]

    @property
    def kind(self) -> str:
        return f"jwt:{self.claim}"

    def read(self, headers: RawHeaders) -> list[bytes]:
        fields = values(headers, b"authorization")
        if len(fields) > 1:
            return fields  # two clients, for all we know
        scheme, _, token = fields[0].strip().partition(b" ") if fields else (b"", b"", b"")
        if scheme.lower() != b"bearer" or not token.strip():
            return []
        try:
            client = self.verifier.verify(token.strip()).clients.get(self.claim)
        except TokenInvalid as invalid:
            self.on_refused(invalid.reason)
            raise _bad_token(invalid.reason) from invalid
        return [] if client is None else [client]


def _bad_token(reason: TokenRefused) -> Problem:
    return Problem.of(
        ProblemType.TOKEN_INVALID,
        "Get a new token and repeat the same request: nothing was recorded.",
        members={"reason": reason.value},
        headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},  # RFC 6750 section 3
        repeat_is_safe=True,
    )
