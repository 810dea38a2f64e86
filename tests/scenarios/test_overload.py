"""More than the gateway may take at once: who is served, and what the others are told."""

import asyncio

from middleware.admission import AdmissionPolicy
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import KEY


async def test_an_order_that_is_shed_is_told_so_and_leaves_no_trace(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.after("go", acts.take))
    shop = await open_shop(attempt_timeout_s=5)
    shop.gateway.admission.apply(AdmissionPolicy(1, queue_max=0))
    first = asyncio.create_task(shop.order())
    await backend.until(lambda: len(backend.posts) == 1)
    shed = await shop.order(f"{KEY}-2")
    assert shed.status == 503
    assert shed.json["type"].endswith("/overloaded")
    assert (shed.json["order"], shed.json["safe_new_key"]) == (None, False)
    assert shed.headers["Retry-After"] == "1"
    assert shed.headers["Idempotency-Key"] == f"{KEY}-2"
    assert (await shop.gateway.ledger.counts()).made == 1
    read = await shop.ask("GET", shop.url + "/catalog")
    assert (read.status, read.json["reason"]) == (503, "full")
    assert "safe_new_key" not in read.json
    backend.gate("go").set()
    assert (await first).status == 201
    assert (await shop.order(f"{KEY}-2")).status == 201
    metrics = (await shop.ask("GET", shop.admin_url + "/metrics")).body.decode()
    assert 'ordergate_requests_shed_total{priority="order",reason="full"} 1.0' in metrics


async def test_an_order_goes_before_reads_that_came_earlier(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.lookup_script.append(acts.after("go", acts.answer(200)))
    shop = await open_shop()
    shop.gateway.admission.apply(AdmissionPolicy(1, queue_s=10))
    admission = shop.gateway.admission
    reads = [asyncio.create_task(shop.ask("GET", f"{shop.url}/{n}")) for n in range(4)]
    while admission.waiting < 3:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)
    order = asyncio.create_task(shop.order())
    while admission.waiting < 4:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)
    backend.gate("go").set()
    assert (await order).status == 201
    await asyncio.gather(*reads)
    methods = [each.method for each in backend.requests]
    assert methods == ["GET", "POST", "GET", "GET", "GET"]


async def test_a_refusal_says_the_same_before_and_after_a_request_is_made_of_it(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.after("go", acts.take))
    shop = await open_shop(attempt_timeout_s=5)
    shop.gateway.admission.apply(AdmissionPolicy(1, queue_max=0))
    first = asyncio.create_task(shop.order())
    await backend.until(lambda: len(backend.posts) == 1)
    at_once = await shop.order(f"{KEY}-2")
    read = await shop.ask("GET", shop.url + "/catalog")
    shop.gateway.storefront.turn_off = None
    later = await shop.order(f"{KEY}-2")
    read_later = await shop.ask("GET", shop.url + "/catalog")
    for early, late in ((at_once, later), (read, read_later)):
        assert early.status == late.status == 503
        told, said = dict(early.json), dict(late.json)
        assert told.pop("instance") == early.headers["Request-Id"]
        assert said.pop("instance") == late.headers["Request-Id"]
        assert told == said
        assert set(early.headers) == set(late.headers)
    backend.gate("go").set()
    assert (await first).status == 201


async def test_repeats_that_wait_for_the_first_take_no_place_at_work(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.after("go", acts.take))
    shop = await open_shop(answer_within_s=30, attempt_timeout_s=30, settle_s=40)
    admission = shop.gateway.admission
    admission.apply(AdmissionPolicy(4, requests_min=1, queue_s=30))
    first = asyncio.create_task(shop.order())
    await backend.until(lambda: len(backend.posts) == 1)
    repeats = [asyncio.create_task(shop.order()) for _ in range(20)]
    async with asyncio.timeout(20):
        while shop.gateway.placement._waiting < 20:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
    assert (admission.running, admission.waiting) == (1, 0)
    backend.gate("go").set()
    told = await asyncio.gather(first, *repeats)
    assert {each.status for each in told} == {201}
    assert (admission.running, admission.waiting) == (0, 0)
    assert len(backend.posts) == 1
