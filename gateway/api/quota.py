"""How many new orders one client may make in a window. Pure: the time is an argument."""

from dataclasses import dataclass

_CLIENTS_MAX = 100_000
"""Remembered in one window; more of them are forgotten together, and may begin anew."""


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """At most ``new_max`` new entries of one client within ``window_s``, in each process."""

    new_max: int
    window_s: float


class Quota:
    """A sliding window of two buckets: the last window counts by the share that still reaches in.

    Counts in this process alone, without asking the ledger: N processes let N times as many
    through, which is bound enough against a client that floods.
    """

    def __init__(self, limits: QuotaLimits) -> None:
        self.limits = limits
        self._window = 0
        self._now: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def take(self, client: str, now: float) -> bool:
        """Count one new entry, unless the client has used up its share."""
        self._turn(now)
        if self._used(client, now) >= self.limits.new_max:
            return False
        if client not in self._now and len(self._now) >= _CLIENTS_MAX:
            self._now.clear()
        self._now[client] = self._now.get(client, 0) + 1
        return True

    def give_back(self, client: str, taken: float) -> None:
        """What was taken at ``taken`` was not a new entry after all."""
        windows_ago = self._window - int(taken // self.limits.window_s)
        counts = (self._now, self._before)[windows_ago] if windows_ago in (0, 1) else {}
        if counts.get(client, 0) > 0:
            counts[client] -= 1

    def _used(self, client: str, now: float) -> float:
        window_s = self.limits.window_s
        left = 1.0 - (now % window_s) / window_s
        return self._now.get(client, 0) + self._before.get(client, 0) * left

    def _turn(self, now: float) -> None:
        window = int(now // self.limits.window_s)
        if window != self._window:
            self._before = self._now if window == self._window + 1 else {}
            self._now = {}
            self._window = window
