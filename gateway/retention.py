"""The duty that forgets: answers after ``retention_s``, entries after ``tombstone_s`` more."""

from gateway.ledger import Ledger

BATCH = 100
"""Deletions share the writer with orders, which wait for a batch: a hundred rows hold it for some
milliseconds (five hundred did for 50 at worst)."""


class Retention:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def run_once(self) -> int:
        """Remove what is past its time, in small batches; how many rows were touched."""
        total = 0
        while True:
            answers, entries = await self._ledger.retire(BATCH)
            total += answers + entries
            if answers < BATCH and entries < BATCH:
                return total
