"""The customers' side of the story: what they meant, when they asked, what they were told."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.demo.answers import Definite, Watch
from gateway.demo.intents import Intent
from gateway.demo.oracle import Case, Entry, Held, Meant, Submission, Told
from gateway.demo.wire import Outcome, Reply
from gateway.orders.states import FINAL, SETTLED, Status


@dataclass(frozen=True, slots=True)
class Spread:
    """How long something took, in seconds: the middle, the tail, the worst."""

    p50_s: float = 0.0
    p95_s: float = 0.0
    p99_s: float = 0.0
    max_s: float = 0.0


def spread(durations_s: Sequence[float]) -> Spread:
    """Percentiles by nearest rank; all zero for none."""
    if not durations_s:
        return Spread()
    ranked = sorted(durations_s)
    last = len(ranked) - 1
    return Spread(*(ranked[round(last * share)] for share in (0.50, 0.95, 0.99, 1.0)))


class Journal:
    """Written by the customers while they shop. ``now`` is the loop's time, in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.intents: dict[str, Intent] = {}
        self.told: list[Told] = []
        self.ends: dict[str, Status] = {}
        self.definite_after_s: list[float] = []
        self.answered_after_s: list[float] = []
        self.repeats = 0
        self.replays = 0
        self.events: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
        self._now = now
        self._began: list[tuple[str, float]] = []
        self._ended: dict[int, float] = {}
        self._first_asked_s: dict[str, float] = {}

    def mean(self, intent: Intent) -> None:
        """A customer has made up their mind."""
        self.intents[intent.reference] = intent

    def begin(self, reference: str) -> int:
        """A submission begins; the number that comes back ends it."""
        now_s = self._now()
        self.repeats += reference in self._first_asked_s
        self._first_asked_s.setdefault(reference, now_s)
        self._began.append((reference, now_s))
        self._note(reference, "submits")
        return len(self._began) - 1

    def end(self, number: int, outcome: Outcome) -> None:
        """The submission was answered, or given up."""
        reference, began_s = self._began[number]
        self._ended[number] = self._now()
        if isinstance(outcome, Reply):
            self.answered_after_s.append(self._now() - began_s)
            names = {(name.lower(), value.lower()) for name, value in outcome.headers}
            self.replays += (b"idempotent-replayed", b"true") in names
            self._note(reference, f"gets {outcome.status} {outcome.body[:160]!r}")
        else:
            self._note(reference, f"gets no answer: {outcome.reason}")

    def tell(self, reference: str, said: Definite | Watch) -> None:
        """The customer has read what became of the order so far."""
        match said:
            case Watch(status=status):
                told = Told(reference, status, self._now())
            case Definite():
                told = Told(
                    reference,
                    said.status,
                    self._now(),
                    said.code,
                    said.body,
                    said.order_id,
                    said.about,
                    said.gone,
                )
                self._conclude(reference, said.status)
        self.told.append(told)
        self._note(reference, f"is told {told.status} {told.code or ''} {told.order_id or ''}")

    def _conclude(self, reference: str, status: Status) -> None:
        if self.ends.get(reference) in FINAL:
            return
        if reference not in self.ends and status in SETTLED:
            self.definite_after_s.append(self._now() - self._first_asked_s[reference])
        self.ends[reference] = status

    def since_first_asked_s(self, reference: str) -> float:
        """How long ago an intent was first submitted, in seconds."""
        return self._now() - self._first_asked_s[reference]

    @property
    def open_submissions(self) -> int:
        return len(self._began) - len(self._ended)

    def waiting(self) -> dict[str, float]:
        """The intents without a definite answer, and how long each has waited, in seconds."""
        now_s = self._now()
        asked = self._first_asked_s.items()
        return {ref: now_s - asked_s for ref, asked_s in asked if ref not in self.ends}

    def by_status(self) -> Counter[Status]:
        return Counter(self.ends.values())

    def case(self, held: Sequence[Held], entries: Sequence[Entry] = (), kills: int = 0) -> Case:
        """The records for the oracle."""
        began = enumerate(self._began)
        return Case(
            meant=[_meant(intent) for intent in self.intents.values()],
            submissions=[Submission(ref, at_s, self._ended.get(n)) for n, (ref, at_s) in began],
            told=self.told,
            held=held,
            entries=entries,
            kills=kills,
        )

    def _note(self, reference: str, text: str) -> None:
        self.events[reference].append((self._now(), text.rstrip()))


def _meant(intent: Intent) -> Meant:
    return Meant(intent.reference, intent.who, intent.would_take, intent.body_digest)
