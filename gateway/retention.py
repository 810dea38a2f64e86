"""The duty that forgets: answers after ``retention_s``, entries after ``tombstone_s`` more."""

import asyncio
from contextlib import suppress

from gateway.ledger import Ledger, LedgerUnavailable

EVERY_S = 60.0
"""What is past its time may wait a minute; a sweep of nothing costs two index look-ups."""

BATCH = 100
"""Deletions share the writer with orders, which wait for a batch: a hundred rows hold it for some
milliseconds (five hundred did for 50 at worst)."""

REST = 2.0
"""After each batch, so many times what it took. An order costs the SQLite file a quarter (13 of 54
us) of what placing it did, so that a third of the time keeps up; batch after batch, half as many
orders were served for fifteen seconds of each minute."""


class Retention:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def run(self) -> None:
        """A sweep every ``EVERY_S``; one that the ledger fails is left to the next."""
        while True:
            with suppress(LedgerUnavailable):
                await self.run_once()
            await asyncio.sleep(EVERY_S)

    async def run_once(self) -> int:
        """Remove what is past its time, in small batches; how many rows were touched."""
        time = asyncio.get_running_loop().time
        total = 0
        while True:
            began = time()
            answers, entries = await self._ledger.retire(BATCH)
            total += answers + entries
            if answers < BATCH and entries < BATCH:
                return total
            await asyncio.sleep(REST * (time() - began))
