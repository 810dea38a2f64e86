"""What a gateway remembers of a remote ledger, so that it notices one that forgot.

Each bucket has an epoch (made once), a sequence that grows with every write, and how many writes
each hold made there, with the marks of the last ones. A store that lost writes (a failover to a
replica that lagged, FLUSHALL, an old backup) shows another epoch, a lower sequence, fewer writes of
ours than it acknowledged, or another write where the last of them was.

Every call says what its gateway knows, and a script that finds less does nothing: else writes
whose answers are lost would make up in the count for those that are gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.stores.valkey_keys import BUCKETS

GONE = "writes of this gateway that were acknowledged are gone"

MARK_MAX = 16**8
"""A mark has eight hexadecimal digits, as prelude.lua expects."""


class Head(NamedTuple):
    """What every script's reply begins with."""

    epoch: str
    seq: int
    now: float
    forgot: str
    wrote: int
    mark: str

    @classmethod
    def of(cls, raw: Sequence[bytes | int]) -> "Head":
        epoch, seq, now, forgot, wrote, mark = raw
        return cls(_text(epoch), int(seq), float(now), _text(forgot), int(wrote), _text(mark))


def _text(raw: bytes | int) -> str:
    return raw.decode() if isinstance(raw, bytes) else str(raw)


@dataclass(frozen=True, slots=True)
class Known:
    """What was known of a bucket when a call went out: its reply can't be older."""

    epoch: str | None
    seq: int
    holder: str
    wrote: int
    mark: str

    def line(self, holder: str) -> str:
        """As scripts read it (``open`` in prelude.lua)."""
        wrote, mark = (self.wrote, self.mark) if holder == self.holder else (0, "")
        return f"{self.epoch or '-'} {self.seq} {wrote} {mark or '-'}"


@dataclass(slots=True)
class Remembered:
    """Only what was acknowledged as durable counts here."""

    holder: str = ""
    epochs: list[str | None] = field(default_factory=lambda: [None] * BUCKETS)
    seqs: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    wrote: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    marks: list[str] = field(default_factory=lambda: [""] * BUCKETS)
    histories: dict[str, str] = field(default_factory=dict)
    """The replication id of each server (of the one master, where a failover moves it)."""
    replaced: set[str] = field(default_factory=set)
    """Ids that were followed by others: who still has one does not know yet that it is no master.
    A few bytes a failover."""

    def known(self, bucket: int) -> Known:
        epoch, wrote, mark = self.epochs[bucket], self.wrote[bucket], self.marks[bucket]
        return Known(epoch, self.seqs[bucket], self.holder, wrote, mark)

    def hold(self, holder: str) -> None:
        """A new hold has written nothing yet."""
        self.holder = holder
        self.wrote = [0] * BUCKETS
        self.marks = [""] * BUCKETS

    def note(self, bucket: int, head: Head, *, holder: str) -> None:
        self.epochs[bucket] = head.epoch
        self.seqs[bucket] = max(self.seqs[bucket], head.seq)
        if holder == self.holder and head.wrote > self.wrote[bucket]:
            self.wrote[bucket], self.marks[bucket] = head.wrote, head.mark

    def adopt(self, bucket: int, head: Head) -> None:
        """Start over from what there is: it was said that the ledger forgot."""
        self.epochs[bucket], self.seqs[bucket] = head.epoch, head.seq
        self.wrote[bucket], self.marks[bucket] = max(0, head.wrote), head.mark


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
    same = head.wrote == known.wrote
    if head.wrote < known.wrote or (same and (wrote or head.mark != known.mark)):
        return GONE
    return None
