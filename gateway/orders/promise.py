"""What an order was promised when it was claimed. Frozen: kept in its entry, never re-read."""

from dataclasses import dataclass, field
from enum import StrEnum


class Capability(StrEnum):
    """What the upstream can do about an order in doubt."""

    DEDUP = "dedup"
    LOOKUP = "lookup"


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """Which answers mean what. Items are status codes ("503") or classes ("4xx").

    An empty tuple takes the default of ``outcomes.judge``. Where ``rejected_when`` is set,
    a 4xx it does not list leaves doubt (an upstream that answers 404 while it boots).
    ``answer_id`` is a JSON pointer (RFC 6901) that a confirming answer must contain.
    """

    confirmed_when: tuple[str, ...] = ()
    rejected_when: tuple[str, ...] = ()
    not_admitted_when: tuple[str, ...] = ()
    not_processed_when: tuple[str, ...] = ()
    in_doubt_when: tuple[str, ...] = ()
    answer_id: str | None = None

    @property
    def lists_any(self) -> bool:
        """Whether any answer is listed at all."""
        return bool(
            self.confirmed_when
            or self.rejected_when
            or self.not_admitted_when
            or self.not_processed_when
            or self.in_doubt_when
        )


@dataclass(frozen=True, slots=True)
class LookupPlan:
    """How to ask the upstream for one order.

    ``method`` is GET or HEAD-free safe; ``target`` an origin-form template with ``{key}``;
    ``echo`` a JSON pointer to the key in what was found; ``headers_file`` names the secret file
    whose lines are sent as fields (never the customer's own credentials).
    """

    method: str
    target: str
    echo: str | None = None
    headers_file: str | None = None


@dataclass(frozen=True, slots=True)
class Promise:
    """The route's promises to one order; every time in seconds."""

    route: str
    upstream: str
    capabilities: frozenset[Capability] = field(default_factory=frozenset)
    lookup: LookupPlan | None = None
    outcomes: OutcomeTable = OutcomeTable()
    answer_within_s: float = 10.0
    attempt_timeout_s: float = 5.0
    settle_s: float = 30.0
    place_within_s: float = 900.0
    doubt_within_s: float = 3600.0
    attach_window_s: float = 60.0
    dedup_for_s: float = 0.0
    retention_s: float = 259_200.0
    tombstone_s: float = 2_592_000.0
    answer_bytes_max: int = 1_048_576
    invalidates: tuple[str, ...] = ()

    @property
    def dedup(self) -> bool:
        return Capability.DEDUP in self.capabilities

    @property
    def can_look_up(self) -> bool:
        return Capability.LOOKUP in self.capabilities and self.lookup is not None
