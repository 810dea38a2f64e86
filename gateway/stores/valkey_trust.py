"""Whether a key that is not in the ledger was never there.

Once any gateway sees a sign that the store forgot something, it says so in every bucket, where
all gateways read it with their next call, and it stays until an operator takes it back
(``ordergate trust``).
"""

from collections.abc import Callable

from gateway.stores.doubting import LEAVE, Said
from gateway.stores.valkey_keys import BUCKETS
from gateway.stores.valkey_remembered import Remembered


class Trust:
    """``event`` is called once when trust ends or comes back; ``say`` when a sign was seen that
    nobody has spoken of yet."""

    def __init__(
        self,
        remembered: Remembered,
        *,
        who: str,
        event: Callable[..., None],
        say: Callable[[], None] = lambda: None,
    ) -> None:
        self.remembered = remembered
        self.pending: Said | None = None
        self._said: list[Said | None] = [None] * BUCKETS
        self._who = who
        self._event = event
        self._say = say

    @property
    def reason(self) -> str | None:
        """For ``/readyz``, the metric and the log."""
        said = self.pending or next((each for each in self._said if each is not None), None)
        return None if said is None else said.advice

    def since(self, bucket: int) -> float | None:
        """Ledger time: what was written before may be older than it looks; None: trusted."""
        said = self._said[bucket] or self.pending
        return None if said is None else said.at

    def noticed(self, why: str, now: float) -> None:
        """A sign that the store forgot: to be said there with the next hold, which is at once."""
        if self.pending is None:
            self.pending = Said(now, why, self._who)
            self._event("the ledger forgot", reason=why, advice=LEAVE)
            self._say()

    def told(self, bucket: int, text: str) -> bool:
        """What a bucket says with each reply; whether trust has just ended there."""
        before = self._said[bucket]
        if (before.text() if before else "") == text:
            return False
        was = self.reason
        self._said[bucket] = Said.of(text)
        if was is None and self.reason is not None:
            self._event("another gateway found that the ledger forgot", reason=self.reason)
        elif was is not None and self.reason is None:
            self._event("the ledger is trusted again")
        return before is None
