"""Which orders an operator lists, and the pages they come in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.ledger import Ledger, Page, UnreadableEntry
from gateway.orders.entry import Entry
from gateway.orders.states import Status
from middleware.problems import Problem, ProblemType

PAGE_MAX = 500
PAGE_DEFAULT = 50

READS_MAX = 10
"""For one page, of up to 500 entries each. A filter that few meet answers with what it found and
where to go on, within some hundred milliseconds, however large the ledger is."""

NAMES = ("status", "route", "upstream", "older_than_s", "disputed", "limit", "after")
NAMES_MAX = 16
NAME_CHARS_MAX = 64

_SECONDS = re.compile(r"\d{1,10}(?:\.\d{1,40})?(?:e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
_SECONDS_MAX = 9_999_999_999.0


@dataclass(frozen=True, slots=True)
class Filter:
    """What all listed orders have in common; an empty part asks for nothing."""

    statuses: tuple[Status, ...] = ()
    routes: tuple[str, ...] = ()
    upstreams: tuple[str, ...] = ()
    older_than_s: float = 0.0
    disputed: bool | None = None

    def read_size(self, room: int) -> int:
        """How many to read for ``room`` more: no more than that where all of them are taken."""
        picky = self.routes or self.upstreams or self.disputed is not None
        return PAGE_MAX if picky else room

    def takes(self, entry: Entry) -> bool:
        promise = entry.promise
        return (
            (not self.routes or promise.route in self.routes)
            and (not self.upstreams or promise.upstream in self.upstreams)
            and self.disputed in (None, entry.disputed)
        )

    def old_enough(self, entry: Entry, now: float) -> bool:
        return now - entry.created_at >= self.older_than_s


@dataclass(frozen=True, slots=True)
class Listing:
    """A filter and which page of it."""

    filter: Filter
    limit: int
    after: str | None


def parse_listing(query: Mapping[str, str]) -> Listing:
    """The query of ``GET /admin/orders``. Raises Problem for what it can't mean."""
    for name in query:
        if name not in NAMES:
            raise _malformed(f"{name[:50]!r} is none of {', '.join(NAMES)}")
    chosen = Filter(
        statuses=_statuses(query.get("status")),
        routes=_names(query.get("route")),
        upstreams=_names(query.get("upstream")),
        older_than_s=_seconds(query.get("older_than_s", "0")),
        disputed=_truth(query.get("disputed")),
    )
    after = query.get("after")
    return Listing(chosen, _limit(query.get("limit", str(PAGE_DEFAULT))), after)


async def listed(ledger: Ledger, listing: Listing) -> Page:
    """A page of it, oldest first. Stable: what comes meanwhile moves no entry to another page.

    May hold fewer than the limit, or none, and yet have a next one (``READS_MAX``).
    """
    chosen, after, now = listing.filter, listing.after, ledger.now()
    found: list[Entry] = []
    others: list[UnreadableEntry] = []
    for _ in range(READS_MAX):
        room = listing.limit - len(found)
        page = await ledger.page(chosen.statuses, chosen.read_size(room), after)
        enough = _until_full(page, chosen, room)
        if enough < len(page.entries):
            page = await ledger.page(chosen.statuses, enough, after)
        old = [entry for entry in page.entries if chosen.old_enough(entry, now)]
        found += filter(chosen.takes, old)
        others += page.unreadable
        after = page.next if len(old) == len(page.entries) else None  # the rest is younger still
        if after is None or len(found) >= listing.limit:
            break
    return Page(tuple(found), after, tuple(others))


def _until_full(page: Page, chosen: Filter, room: int) -> int:
    """How many of the page's entries to read so that ``room`` of them are taken, and no more."""
    for count, entry in enumerate(page.entries, start=1):
        room -= chosen.takes(entry)
        if room == 0:
            return count
    return len(page.entries)


def _statuses(text: str | None) -> tuple[Status, ...]:
    if text is None:
        return ()
    try:
        return tuple(dict.fromkeys(map(Status, text.split(","))))
    except ValueError as error:
        names = ", ".join(status.value for status in Status)
        raise _malformed(f"status: one or more of {names}, with commas") from error


def _names(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(text.split(","))
    if len(names) > NAMES_MAX or not all(1 <= len(name) <= NAME_CHARS_MAX for name in names):
        raise _malformed(
            f"route, upstream: up to {NAMES_MAX} names, with commas, of 1 to {NAME_CHARS_MAX}"
            " characters each"
        )
    return names


def _seconds(text: str) -> float:
    if not _SECONDS.fullmatch(text) or float(text) > _SECONDS_MAX:
        raise _malformed("older_than_s: seconds, as in 3600")
    return float(text)


def _truth(text: str | None) -> bool | None:
    if text not in (None, "true", "false"):
        raise _malformed("disputed: true or false")
    return None if text is None else text == "true"


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= PAGE_MAX:
        raise _malformed(f"limit: a number from 1 to {PAGE_MAX}")
    return int(text)


def _malformed(detail: str) -> Problem:
    return Problem.of(ProblemType.MALFORMED_REQUEST, detail)
