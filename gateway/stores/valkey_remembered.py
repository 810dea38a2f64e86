"""What a gateway remembers of a remote ledger, so that it notices one that forgot.

Each bucket has an epoch (made once), a sequence that grows with every write, and how many writes
each hold made there. A store that lost writes (a failover to a replica that lagged, FLUSHALL, an
old backup) shows another epoch, a lower sequence, or fewer writes of ours than it acknowledged.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.stores.valkey_keys import BUCKETS


class Head(NamedTuple):
    """What every script's reply begins with."""

    epoch: str
    seq: int
    now: float
    forgot: str
    wrote: int

    @classmethod
    def of(cls, raw: Sequence[bytes | int]) -> "Head":
        epoch, seq, now, forgot, wrote = raw
        return cls(_text(epoch), int(seq), float(now), _text(forgot), int(wrote))


def _text(raw: bytes | int) -> str:
    return raw.decode() if isinstance(raw, bytes) else str(raw)


@dataclass(frozen=True, slots=True)
class Known:
    """What was known of a bucket when a call went out: its reply can't be older."""

    epoch: str | None
    seq: int
    holder: str
    wrote: int


@dataclass(slots=True)
class Remembered:
    """Only what was acknowledged as durable counts here."""

    holder: str = ""
    epochs: list[str | None] = field(default_factory=lambda: [None] * BUCKETS)
    seqs: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    wrote: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    histories: dict[str, str] = field(default_factory=dict)
    """The replication id of each server (of the one master, where a failover moves it)."""
    replaced: set[str] = field(default_factory=set)
    """Ids that were followed by others: who still has one does not know yet that it is no master.
    A few bytes a failover."""

    def known(self, bucket: int) -> Known:
        return Known(self.epochs[bucket], self.seqs[bucket], self.holder, self.wrote[bucket])

    def hold(self, holder: str) -> None:
        """A new hold has written nothing yet."""
        self.holder = holder
        self.wrote = [0] * BUCKETS

    def note(self, bucket: int, head: Head, *, holder: str) -> None:
        self.epochs[bucket] = head.epoch
        self.seqs[bucket] = max(self.seqs[bucket], head.seq)
        if holder == self.holder:
            self.wrote[bucket] = max(self.wrote[bucket], head.wrote)

    def adopt(self, bucket: int, head: Head) -> None:
        """Start over from what there is: it was said that the ledger forgot."""
        self.epochs[bucket], self.seqs[bucket] = head.epoch, head.seq
        self.wrote[bucket] = max(0, head.wrote)


def forgotten(known: Known, head: Head, *, holder: str, wrote: bool, held: bool) -> str | None:
    """What shows that the store forgot something; None where nothing does.

    ``wrote``: the call wrote under ``holder``, and one that was counted before is missing unless
    the count has grown. ``held``: when the reply came the hold could not have lapsed, so that the
    store must know of it.
    """
    if known.epoch is not None and head.epoch != known.epoch:
        return "it holds other data than before" if head.epoch else "it is empty"
    if head.seq < known.seq:
        return f"{known.seq - head.seq} writes or more are gone"
    if holder != known.holder:
        return None
    if head.wrote < 0:
        return "the lease of this gateway is gone" if held and known.wrote > 0 else None
    if head.wrote < known.wrote or (wrote and head.wrote == known.wrote):
        return "writes of this gateway that were acknowledged are gone"
    return None
