"""The duty that keeps upstreams which left the configuration, while orders wait for them."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from gateway.ledger import Ledger, LedgerUnavailable
from gateway.orders.states import Status
from gateway.settings import RouteSettings, Settings
from gateway.telemetry import Telemetry
from gateway.upstream import Pools

EVERY_S = 15.0
"""How soon the pool of an upstream that vanished is closed does not matter: it costs little."""

PAGE = 500

WAITING = (Status.RECEIVED, Status.DISPATCHED, Status.IN_DOUBT, Status.DEAD_LETTER)
"""An operator may have a dead letter looked up, so it needs its upstream too."""


class VanishedUpstreams:
    """Call ``run`` in an owned task, and ``look_now`` after each change of the configuration."""

    def __init__(self, *, ledger: Ledger, pools: Pools, telemetry: Telemetry) -> None:
        self._ledger = ledger
        self._pools = pools
        self._log = telemetry.log_of("upstream")
        self._changed = asyncio.Event()

    def look_now(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        """At once, and then while there is something to close; else only after a change."""
        while True:
            with suppress(LedgerUnavailable):
                await self.run_once()
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S if self._pools.leaving else None):
                    await self._changed.wait()

    async def run_once(self) -> None:
        """Report orders whose upstream is not there; close what no order needs any more."""
        named = await self._named()
        for name in named.keys() - set(self._pools):
            self._log.error(
                "orders wait for an upstream that is not configured: configure it again",
                upstream=name,
                orders=named[name],
            )
        for name in await self._pools.close_unused(named.keys()):
            self._log.info("no order names the upstream any more: closed", upstream=name)

    async def _named(self) -> Counter[str]:
        """The upstreams that orders which wait were promised, and how many each."""
        named: Counter[str] = Counter()
        after: str | None = None
        while True:
            page = await self._ledger.page(WAITING, PAGE, after)
            named.update(entry.promise.upstream for entry in page.entries)
            after = page.next
            if after is None:
                return named


def say_what_changed(before: Settings, after: Settings, telemetry: Telemetry) -> None:
    """Of a reload: what orders from before may come to harm by."""
    moved = _moved_upstreams(before, after)
    if moved:
        telemetry.log_of("upstream").warning(
            "upstreams have new addresses: orders that wait are looked up there; a backend"
            " with other books needs another name",
            upstreams=moved,
        )
    forgetful = _forgetful_routes(before, after)
    if forgetful:
        telemetry.log_of("orders").warning(
            "order routes have another scope, or another match, or are gone, or another route"
            " takes some of their requests: who repeats an order from before there may order"
            " twice",
            routes=forgetful,
        )


def _moved_upstreams(before: Settings, after: Settings) -> list[str]:
    """The upstreams that kept their name and changed their address."""
    urls = {upstream.name: upstream.urls for upstream in before.upstreams}
    return [each.name for each in after.upstreams if urls.get(each.name, each.urls) != each.urls]


def _forgetful_routes(before: Settings, after: Settings) -> list[str]:
    """The order routes of ``before`` on which the repeat of an order may be a new one now."""
    return [
        route.name
        for place, route in enumerate(before.routes)
        if route.kind == "order" and not _still_known(route, before.routes[:place], after.routes)
    ]


def _still_known(
    route: RouteSettings, ahead: Sequence[RouteSettings], after: Sequence[RouteSettings]
) -> bool:
    """Whether all that came to this order route, past those ``ahead``, comes to one that tells
    clients apart as it did."""
    never_came = {each.match for each in ahead}
    for each in after:
        same = each.kind == "order" and each.scope == route.scope
        if each.match == route.match:
            return same
        if not same and each.match not in never_came and each.pattern.meets(route.pattern):
            return False
    return False
