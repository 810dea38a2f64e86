"""When the ledger can't be written, read or acknowledged, nothing is sent."""

import asyncio
import threading
from pathlib import Path
from typing import Any

from gateway.ledger import Claim, Ledger, LedgerUnavailable, Taking
from gateway.orders.claiming import ClaimRequest
from gateway.orders.states import Reason, Status
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import KEY, Shop
from tests.stores.processes import held_back, make


def _replace(shop: Shop, name: str, function: Any) -> None:
    setattr(shop.gateway.ledger, name, function)


async def test_a_claim_that_is_refused_sends_nothing(backend: Backend, open_shop: OpenShop) -> None:
    shop = await open_shop()

    async def refused(_: ClaimRequest) -> Claim:
        raise LedgerUnavailable("the disk is full", written=False)

    claim = shop.gateway.ledger.claim
    _replace(shop, "claim", refused)
    told = await shop.order()
    assert told.status == 503
    assert told.json["type"].endswith("ledger-unavailable")
    assert told.json["safe_new_key"] is False
    assert "same key" in told.json["detail"]
    assert told.headers["Idempotency-Key"] == KEY
    assert backend.posts == []
    _replace(shop, "claim", claim)
    assert (await shop.order()).status == 201


async def test_a_claim_that_is_not_acknowledged_sends_nothing_and_is_settled_as_not_sent(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop()
    ledger: Ledger = shop.gateway.ledger
    claim, disclaim = ledger.claim, ledger.disclaim
    claimed: list[Claim] = []
    settled = asyncio.Event()

    async def unacknowledged(request: ClaimRequest) -> Claim:
        claimed.append(await claim(request))
        raise LedgerUnavailable("the acknowledgement was lost", written=None)

    async def noted(request: ClaimRequest) -> bool:
        done = await disclaim(request)
        settled.set()
        return done

    _replace(shop, "claim", unacknowledged)
    _replace(shop, "disclaim", noted)
    told = await shop.order()
    assert told.status == 503
    assert told.json["safe_new_key"] is False
    await settled.wait()
    assert backend.posts == []
    entry = await shop.entry(claimed[0].claimed.entry.id)
    assert entry.status is Status.FAILED
    assert entry.events[-1].reason is Reason.CLAIM_UNACKNOWLEDGED
    _replace(shop, "claim", claim)
    assert (await shop.order()).status == 201
    assert len(backend.orders) == 1


async def test_a_claim_that_is_not_heard_of_takes_no_later_lease_away(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop()
    ledger: Ledger = shop.gateway.ledger
    under, claim = ledger.hold, ledger.claim

    async def unheard(_: ClaimRequest) -> Claim:
        under.lapsed = True
        await ledger.renew_hold()
        with Taking(under):
            raise LedgerUnavailable("the link was cut", written=None)

    _replace(shop, "claim", unheard)
    assert (await shop.order()).status == 503
    assert ledger.hold is not under
    assert not ledger.hold.lapsed
    _replace(shop, "claim", claim)
    assert (await shop.order()).status == 201


async def test_an_outcome_is_told_only_after_it_is_durable(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop(answer_within_s=0.5)
    write = shop.gateway.ledger.write
    back = asyncio.Event()

    async def away(*given: Any, **more: Any) -> None:
        if not back.is_set():
            raise LedgerUnavailable("away", written=False)
        await write(*given, **more)

    _replace(shop, "write", away)
    told = await shop.order()
    assert len(backend.orders) == 1
    assert told.status == 202
    back.set()
    entry = await shop.settled(told.json["id"])
    assert entry.status is Status.CONFIRMED
    assert (await shop.order()).json["id"] == "o-1"
    assert len(backend.posts) == 1


async def test_a_settled_order_is_told_while_the_ledger_takes_no_writes(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop()
    first = await shop.order()

    async def refused(_: ClaimRequest) -> Claim:
        raise LedgerUnavailable("the ledger is locked", written=False)

    _replace(shop, "claim", refused)
    again = await shop.order()
    assert (again.status, again.body) == (201, first.body)
    assert (await shop.order("another-key-0123456789")).status == 503
    assert len(backend.posts) == 1


async def test_an_outage_of_the_ledger_keeps_nothing_of_each_order_that_it_refused(
    open_shop: OpenShop, tmp_path: Path
) -> None:
    """Those that came while the hold was good may have been claimed, and are settled afterwards;
    those that came later can't have been."""
    ledger = make(tmp_path / "slow.db", timeout_s=0.2)
    shop = await open_shop(ledger=ledger)
    assert (await shop.order("before-0123456789-abcdefgh")).status == 201
    gate = threading.Event()
    busy = held_back(ledger, gate)
    await asyncio.sleep(0)
    ledger.hold.lapsed = True
    told = await asyncio.gather(*(shop.order(f"{KEY}-{number}") for number in range(5)))
    assert {each.status for each in told} == {503}
    kept = [name for name in shop.gateway._orders.names if name.startswith("disclaim")]
    gate.set()
    await asyncio.wait([busy])
    assert kept == []
