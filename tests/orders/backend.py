"""An order backend as the rules must fear it: slow, silent, and true to its capability only.

It looks at an attempt at some time within ``settle_s`` of its sending. What it then decides is
what it answers, if the answer arrives at all; before that only noise can arrive.
"""

from dataclasses import dataclass

NOISE = (202, 302, 408, 500, 503)
"""What may be answered at any time, by whoever stands in the way, whatever becomes of the order."""

REFUSALS = (400, 401, 403, 404, 409, 422, 425, 429)
"""What only the backend itself says, of an attempt that made nothing."""


@dataclass
class Attempted:
    look_at: float
    refusal: int | None
    answer: int | None = None


class Backend:
    """``dedup_for_s`` 0: it does not look at keys. ``orders``: the attempts that made one."""

    def __init__(self, *, dedup_for_s: float) -> None:
        self.dedup_for_s = dedup_for_s
        self.orders: list[int] = []
        self.attempts: dict[int, Attempted] = {}
        self._first_at: float | None = None

    @property
    def at_rest(self) -> bool:
        return all(attempt.answer is not None for attempt in self.attempts.values())

    def take(self, number: int, now: float, delay_s: float, refusal: int | None) -> None:
        """The bytes of an attempt arrive; it is looked at after ``delay_s``."""
        assert number not in self.attempts, "sent twice"
        self._first_at = now if self._first_at is None else self._first_at
        self.attempts[number] = Attempted(now + delay_s, refusal)
        self.run(now)

    def run(self, now: float) -> None:
        due = sorted(
            (attempt.look_at, number)
            for number, attempt in self.attempts.items()
            if attempt.answer is None and attempt.look_at <= now
        )
        for look_at, number in due:
            self.attempts[number].answer = self._decide(number, look_at)

    def _decide(self, number: int, now: float) -> int:
        assert self._first_at is not None
        refusal = self.attempts[number].refusal
        if self.orders and now < self._first_at + self.dedup_for_s:
            return 201 if refusal is None else 409
        if refusal is not None:
            return refusal
        self.orders.append(number)
        return 201

    def answer(self, number: int, noise: int | None) -> int | None:
        """The status that arrives for an attempt now: noise, its own, or None (nothing yet)."""
        return noise if noise is not None else self.attempts[number].answer
