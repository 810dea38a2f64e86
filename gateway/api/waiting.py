"""Waiting for a move, for clients and operators who would rather wait than ask again."""

import asyncio
import re
from collections.abc import Callable

from gateway.ledger import Ledger, LedgerUnavailable
from gateway.orders.entry import Entry
from gateway.orders.states import Status
from middleware.messages import RawHeaders, values

WAIT_S_MAX = 30
"""``Prefer: wait`` beyond this meets the idle timeouts of balancers on the way."""

_WAIT = re.compile(
    rb"(?:^|[,;])\s*wait\s*=\s*(?:\"(\d{1,6})\"|(\d{1,6}))\s*(?=[,;]|$)", re.IGNORECASE
)


def preferred_wait_s(headers: RawHeaders) -> int | None:
    """The seconds of ``Prefer: wait=N`` (RFC 7240 section 4.3) that we honour; None without it.

    The first one counts, as the RFC has it for a preference that comes more than once.
    """
    for value in values(headers, b"prefer"):
        if found := _WAIT.search(value):
            return min(int(found[1] or found[2]), WAIT_S_MAX)
    return None


async def once(ledger: Ledger, entry: Entry, true: Callable[[Entry], bool], by: float) -> Entry:
    """``entry`` as soon as ``true`` of it, or as it stands at ``by`` (loop time).

    Woken by whoever moves it, in whichever process. A ledger that goes away ends the waiting.
    """
    if true(entry):
        return entry
    watchers = ledger.watchers
    watch = watchers.add(entry.id)
    try:
        async with asyncio.timeout_at(by):
            entry = await ledger.find(entry.id) or entry
            watchers.note(entry)
            while not true(entry):
                entry = await watch.next()
                if entry.status is Status.FAILED:  # its key may have been claimed again since
                    entry = await ledger.find(entry.id) or entry
    except (TimeoutError, LedgerUnavailable):
        pass
    finally:
        watchers.remove(entry.id, watch)
    return entry
