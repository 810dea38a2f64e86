"""What one attempt came to. The upstream hop reports it; the rules draw the conclusions."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from middleware.messages import RawHeaders
from middleware.values import light


@light
@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, strictly read: every byte that its framing announced has arrived.

    ``framed`` is False where only the end of the connection ended the body (no length, no
    chunks): such an answer may have been cut short and confirms nothing. ``oversize``: the body
    was read to its end but is larger than may be kept; ``digest`` (SHA-256, hex) stands for it.
    """

    status: int
    phrase: bytes
    headers: RawHeaders
    body: bytes
    framed: bool = True
    oversize: bool = False
    digest: str | None = None


class NotSentReason(StrEnum):
    """Why it is certain that no byte of the order left."""

    CONNECT_REFUSED = "connect_refused"
    CONNECT_TIMEOUT = "connect_timeout"
    CONNECT_FAILED = "connect_failed"
    NAME_NOT_RESOLVED = "name_not_resolved"
    TLS_FAILED = "tls_failed"
    POOL_EXHAUSTED = "pool_exhausted"
    BREAKER_OPEN = "breaker_open"
    CLOSED_BEFORE_SENDING = "closed_before_sending"
    LEASE_LOST = "lease_lost"
    CLAIM_UNACKNOWLEDGED = "claim_unacknowledged"
    TOO_LATE = "too_late"
    STOPPING = "stopping"


class LostReason(StrEnum):
    """Why an attempt that may have arrived has no answer that counts."""

    TIMEOUT = "timeout"
    RESET = "connection_reset"
    CLOSED = "connection_closed"
    TRUNCATED = "answer_truncated"
    MALFORMED = "answer_malformed"
    TOO_LARGE = "answer_head_too_large"
    BODY_TOO_LARGE = "answer_body_too_large"
    UPGRADED = "switched_protocols"
    LEASE_EXPIRED = "lease_expired"
    LEDGER_FORGOT = "ledger_forgot"
    STOPPING = "stopping"
    INTERNAL = "internal_error"


@dataclass(frozen=True, slots=True)
class NotSent:
    """Proved: nothing of the order reached the upstream."""

    reason: NotSentReason


@light
@dataclass(frozen=True, slots=True)
class Answered:
    """The upstream answered, whole and well formed. ``written_bytes`` as for Lost."""

    answer: Answer
    written_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Lost:
    """The attempt may have arrived and there is no answer.

    ``written_bytes`` counts what was handed to the kernel; ``status`` is the status line where
    one was read before the answer broke off: a hint for people, never proof.
    """

    reason: LostReason
    written_bytes: int = 0
    status: int | None = None


AttemptEnd: TypeAlias = NotSent | Answered | Lost
