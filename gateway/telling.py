"""A ledger that tells every cache what an order changes, before anyone is told of the order.

Before a claim is acknowledged, so before the first byte goes upstream; and again before an outcome
is written, so before any client hears it: whatever a cache fetched until then may show what was
before. The upstream has made the change by then, for its own answer is the evidence.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from gateway.ledger import Change, Claim, Lease, Ledger, LedgerUnavailable
from gateway.orders.claiming import ClaimRequest
from gateway.orders.entry import Entry, KeptAnswer
from gateway.orders.states import Status
from gateway.touched import by_entry, by_submission
from middleware.caching.changes import ChangesUnknown
from middleware.caching.invalidation import Mark

Tell = Callable[[tuple[Mark, ...]], Awaitable[None]]
"""Returns once every replica must hear; raises ChangesUnknown."""


def telling(
    ledger: Ledger,
    tell: Tell,
    caches: Callable[[], bool],
    trouble: Callable[[], str | None] = lambda: None,
) -> Ledger:
    """``ledger``, with ``tell`` called for what its orders change, as long as ``caches()``; while
    nobody can be told (``trouble``) it takes no orders."""
    return cast("Ledger", _TellingLedger(ledger, tell, caches, trouble))


class _TellingLedger:
    """The methods that say something of orders; all others are the ledger's own."""

    def __init__(
        self,
        ledger: Ledger,
        tell: Tell,
        caches: Callable[[], bool],
        trouble: Callable[[], str | None],
    ) -> None:
        self._ledger = ledger
        self.now = ledger.now  # asked several times an order
        self._trouble = trouble
        self._tell = tell
        self._caches = caches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    @property
    def trouble(self) -> str | None:
        return self._ledger.trouble or self._trouble()

    def claim(self, request: ClaimRequest) -> Awaitable[Claim]:
        if not self._caches():
            return self._ledger.claim(request)
        return self._claim_telling(request)

    async def _claim_telling(self, request: ClaimRequest) -> Claim:
        """The telling goes on beside the claim's write. Where it fails the claim is not
        acknowledged: it is settled as never sent."""
        marks = by_submission(request.request.target, request.promise.invalidates)
        claim, told = await asyncio.gather(
            self._ledger.claim(request), self._told(marks, written=None), return_exceptions=True
        )
        if isinstance(claim, BaseException):
            raise claim
        if isinstance(told, BaseException) and claim.lease is not None:
            raise told
        return claim

    def write(
        self, lease: Lease, before: Entry, after: Entry, *, due_in_s: float | None = None
    ) -> Awaitable[None]:
        if self._caches() and _shows(before, after):
            return self._write_telling(lease, before, after, due_in_s)
        return self._ledger.write(lease, before, after, due_in_s=due_in_s)

    async def _write_telling(
        self, lease: Lease, before: Entry, after: Entry, due_in_s: float | None
    ) -> None:
        await self._told(by_entry(before, after.answer), written=False)
        await self._ledger.write(lease, before, after, due_in_s=due_in_s)

    async def amend(self, entry_id: str, change: Change, *, evidence: bool = False) -> Entry | None:
        """A person's word, or a late answer. What it names is told before, too: a settled entry has
        no request any more, so that whoever repeats the amendment could not tell it."""
        if not self._caches():
            return await self._ledger.amend(entry_id, change, evidence=evidence)
        before = await self._ledger.find(entry_id)
        told: tuple[Mark, ...] = ()
        if before is not None:
            told = by_entry(before, _foreseen(change, before, self.now()))
            await self._told(told, written=False)
        after = await self._ledger.amend(entry_id, change, evidence=evidence)
        if before is not None and after is not None:  # of an entry that was changed meanwhile
            more = set(by_entry(before, after.answer)) - set(told)
            await self._told(tuple(more), written=None)
        return after

    async def _told(self, marks: tuple[Mark, ...], *, written: Any) -> None:
        if not marks:
            return
        try:
            await self._tell(marks)
        except ChangesUnknown as trouble:
            raise LedgerUnavailable(f"no cache could be told: {trouble}", written=written) from None


def _foreseen(change: Change, before: Entry, now: float) -> KeptAnswer | None:
    """The answer of the entry that will follow. Where ``change`` refuses, the ledger says so."""
    try:
        after = change(before, now)
    except Exception:  # noqa: BLE001 - raised again by the amendment itself, if it is to be
        return None
    return None if after is None else after.answer


def _shows(before: Entry, after: Entry) -> bool:
    """Whether something may have come of an attempt: not where nothing was sent."""
    return before.status is not after.status and after.status is not Status.RECEIVED
