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
