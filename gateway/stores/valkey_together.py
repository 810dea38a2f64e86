"""One question for all who ask it at once."""

import asyncio
from collections.abc import Awaitable, Callable

from gateway.stores.valkey_lane import NotDone


class Together:
    """One look at a time, and one for all who asked before it began: where a connection ends,
    hundreds ask in the same moment, and one after the other they would wait for longer than their
    callers do."""

    def __init__(self, look: Callable[[], Awaitable[None]]) -> None:
        self._look = look
        self._one = asyncio.Lock()
        self._begun = 0
        self._ended = 0
        self._failed: NotDone | None = None

    async def look(self) -> None:
        """Raises NotDone."""
        before = self._begun
        async with self._one:
            if self._ended <= before:
                self._begun += 1
                self._failed = None
                try:
                    await self._look()
                except NotDone as no:
                    self._failed = no
                self._ended = self._begun
            if self._failed is not None:
                raise NotDone(self._failed.detail, elsewhere=True) from self._failed
