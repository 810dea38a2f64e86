"""A store that forgets what it acknowledged, and how its gateways notice: by the gateway's own
rules (``valkey_remembered``, ``valkey_trust``), over one bucket.

What was truly lost only the simulation knows. From the moment at which the store forgot until one
gateway has said so there, another that has not noticed may take a key that is gone: that much is a
stated limit, and ``Forgettings`` keeps its bounds. Whoever was acknowledged a write that is gone
must see it in the next answer to what it asks; and once it is said, no key is believed absent.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.ledger import Lease, LeaseLost
from gateway.orders.entry import Entry
from gateway.stores import steps
from gateway.stores.doubting import Said
from gateway.stores.memory import MemoryState
from gateway.stores.valkey_remembered import Head, Known
from middleware.caching.changes import News
from middleware.caching.invalidation import Mark
from middleware.clock import Clock

ONLY = 0
"""The one bucket that a simulated store has."""

MARKS = 16
"""How many marks of a hold are kept, as in prelude.lua."""


class State(MemoryState):
    """The rows of a server, and what each of its answers says of it. ``at``: the time of a step
    that was made elsewhere, while it is made again here. ``gone``: which steps it forgot, each
    time those after one up to another."""

    at: float | None = None

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.epoch = ""
        self.seq = 0
        self.forgot = ""
        self.wrote: dict[str, tuple[int, list[str]]] = {}
        self.changed = False
        self.marks: list[Mark] = []
        self.gone: tuple[tuple[int, int], ...] = ()

    @property
    def now(self) -> float:
        return super().now if self.at is None else self.at

    def news(self, position: int) -> News:
        """What was appended to the log of changes after a position."""
        newest = len(self.marks)
        if position > newest:
            return News(newest, None)
        after = newest if position < 0 else position
        return News(newest, list(enumerate(self.marks[after:], after + 1)))

    def count(self, holder: str, mark: str) -> None:
        """Something was written under this hold."""
        self.seq += 1
        if holder in self._holders:
            wrote, marks = self.wrote.get(holder, (0, []))
            self.wrote[holder] = wrote + 1, [*marks, mark][-MARKS:]

    def head(self, holder: str) -> Head:
        """What an answer begins with."""
        wrote, marks = self.wrote.get(holder, (-1, [""]))
        return Head(self.epoch, self.seq, self.now, self.forgot, wrote, marks[-1])

    def behind(self, known: Known, holder: str) -> bool:
        """Whether there is less than who asks knows of, as ``behind`` in prelude.lua has it."""
        if (known.epoch is not None and known.epoch != self.epoch) or self.seq < known.seq:
            return True
        wrote, marks = self.wrote.get(holder, (-1, []))
        if wrote < 0 or holder != known.holder or not known.wrote:
            return False
        since = wrote - known.wrote
        return since < 0 or (since < len(marks) and marks[-1 - since] != known.mark)

    def take_hold(self, holder: str, lease_s: float) -> None:
        super().take_hold(holder, lease_s)
        self.epoch = self.epoch or holder
        self.wrote = {each: n for each, n in self.wrote.items() if each in self._holders}
        self.changed = True

    def renew_hold(self, holder: str, lease_s: float) -> bool:
        self.changed = renewed = super().renew_hold(holder, lease_s)
        return renewed

    def end_hold(self, holder: str) -> None:
        super().end_hold(holder)
        self.changed = True

    def replace(self, before: Entry, after: Entry, custody: steps.Custody | None) -> bool:
        done = super().replace(before, after, custody)
        self.changed = self.changed or done
        return done

    def insert(self, entry: Entry, holder: str) -> None:
        super().insert(entry, holder)
        self.changed = True


@dataclass(slots=True)
class Forgetting:
    """One time the store forgot: which steps are ``gone`` since (a backup may have some that were
    gone before), and with them the latest of the orders with these fingerprints."""

    at: float
    gone: tuple[tuple[int, int], ...]
    lost: frozenset[str]


class Forgettings:
    """What nobody in the world knows. ``exposed``: the fingerprints of lost orders that somebody
    took or wrote before it was said that the store forgot; ``overlooked``: who did not see it;
    ``heard``: the latest sequence that was acknowledged on a host, in any life of its gateway."""

    def __init__(self) -> None:
        self.all: list[Forgetting] = []
        self.exposed: set[str] = set()
        self.overlooked: list[str] = []
        self.heard: defaultdict[str, int] = defaultdict(int)

    def lost(self, fingerprint: str) -> bool:
        return any(fingerprint in each.lost for each in self.all)

    def written(self, state: State, changed: Sequence[Entry]) -> None:
        """A step has changed these."""
        if self.all and not state.forgot:
            self.exposed.update(each.fingerprint for each in changed if self.lost(each.fingerprint))

    def believed(
        self, who: str, asked_at: float, latest_write: int, *, heard: int, seq: int
    ) -> None:
        """Who was acknowledged a write has believed the answer to a call that it made then.
        ``heard`` before that call, on its host; the answer was from ``seq``."""
        if seq < heard:
            self.overlooked.append(f"{who} has not seen that the store is behind")
        gone = next((each.gone for each in reversed(self.all) if each.at <= asked_at), ())
        if any(back_to < latest_write <= upto for back_to, upto in gone):
            self.overlooked.append(f"{who} has not seen that the store forgot")


def lost_between(before: MemoryState, after: MemoryState) -> frozenset[str]:
    """The fingerprints of orders that are older in ``after``, or not there."""
    kept = {each.entry.id: each.entry for each in after._rows.values()}
    entries = (each.entry for each in before._rows.values())
    return frozenset(each.fingerprint for each in entries if kept.get(each.id) is not each)


# --- steps ---------------------------------------------------------------------------------------


def distrust(rows: State, why: str) -> None:
    """Say there that absence proves nothing. The latest time counts."""
    before, said = Said.of(rows.forgot), Said.of(why)
    if said is not None and (before is None or said.at > before.at):
        rows.forgot = why


def write(rows: State, lease: Lease, before: Entry, after: Entry, due_in_s: float | None) -> None:
    """``steps.write``; nobody else may hold it, even where a token was given twice by a store that
    forgot."""
    kept = rows.by_id(before.id)
    if kept is not None and kept.holder not in (None, lease.hold.holder):
        raise LeaseLost(f"order {before.id} is another hold's")
    steps.write(rows, lease, before, after, due_in_s)
