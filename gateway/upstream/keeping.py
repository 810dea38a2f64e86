"""For how long an idle connection may be used again, as the upstream shows it. Pure.

An upstream that closes a connection just when a request is on its way leaves a doubt that nobody
can resolve. So the limit follows what was seen: a quarter of the shortest time after which the
upstream closed an idle connection. Half would do where it always waits as long; one that closes at
random may be quicker than it was yet.
"""

SHORTEST_S = 0.02
"""Below this a connection is as good as used once; a restart of the upstream closes some so
young."""

SEEN_SHARE = 0.25

RECOVER_EVERY_S = 10.0
"""After so long without another such close the limit doubles: a minute from one extreme to the
other, so that a restart is soon forgotten."""


class IdleLimit:
    """``seconds``: the limit now, ``longest_s`` at most. Times are loop times."""

    def __init__(self, longest_s: float) -> None:
        self.longest_s = longest_s
        self.seconds = longest_s
        self._recover_at = 0.0

    def closed_by_upstream(self, quiet_s: float, now: float) -> None:
        """It closed a connection that had been idle for so long."""
        seen = max(SHORTEST_S, quiet_s * SEEN_SHARE)
        if seen < self.longest_s:
            self.seconds = min(self.seconds, seen)
            self._recover_at = now + RECOVER_EVERY_S

    def recover(self, now: float) -> None:
        """To be called now and then, while ``seconds`` is below ``longest_s``."""
        if now >= self._recover_at:
            self.seconds = min(self.longest_s, self.seconds * 2)
            self._recover_at = now + RECOVER_EVERY_S
