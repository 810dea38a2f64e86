"""Connect first: what can't be sent is received, and never in doubt."""

import asyncio
import socket

from gateway.orders.states import Reason, Status
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop


async def test_an_order_for_a_backend_that_is_down_is_received_and_placed_later(
    backend: Backend, open_shop: OpenShop
) -> None:
    port = backend.port
    await backend.stop()
    shop = await open_shop(answer_within_s=0.5)
    told = await shop.taken()
    assert told.status == 202
    assert told.json["status"] == "received"
    assert told.json["safe_new_key"] is False
    await backend.start(port)
    entry = await shop.settled(told.json["id"])
    assert entry.status is Status.CONFIRMED
    assert Status.IN_DOUBT not in {event.target for event in entry.events}
    assert len(backend.orders) == 1


async def test_a_slow_connect_makes_no_doubt(backend: Backend, open_shop: OpenShop) -> None:
    """A listener whose queue is full swallows the SYN: the order waits, sent nowhere."""
    port = backend.port
    await backend.stop()
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind(("127.0.0.1", port))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        shop = await open_shop(answer_within_s=1)
        told = await shop.order()
        assert told.status == 202
        assert told.json["status"] == "received"
    await backend.start(port)
    entry = await shop.settled(told.json["id"])
    assert entry.status is Status.CONFIRMED
    assert len(entry.attempts) == 1


async def test_what_can_not_be_placed_in_time_fails_and_a_new_key_is_safe(
    backend: Backend, open_shop: OpenShop
) -> None:
    await backend.stop()
    shop = await open_shop(place_within_s=0.5)
    told = await shop.order()
    assert told.status == 503
    assert told.json["order_status"] == "failed"
    assert told.json["safe_new_key"] is True
    entry = await shop.entry(told.json["order"])
    assert entry.events[-1].reason is Reason.PLACE_DEADLINE
    assert entry.attempts == ()


async def test_a_replay_needs_no_upstream(backend: Backend, open_shop: OpenShop) -> None:
    shop = await open_shop()
    first = await shop.order()
    await backend.stop()
    again = await shop.order()
    assert (again.status, again.body) == (201, first.body)


async def test_a_connection_taken_for_a_replay_goes_back_unused(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop()
    await shop.order("first-key")
    for _ in range(5):
        await shop.order("first-key")
    await shop.order("second-key")
    assert [post.connection for post in backend.posts] == [1, 1]


async def test_idle_connections_closed_at_random_make_no_doubt(
    backend: Backend, open_shop: OpenShop
) -> None:
    async def take_and_close(
        backend: Backend, taken: acts.Taken, writer: asyncio.StreamWriter
    ) -> None:
        await acts.take(backend, taken, writer)
        if len(backend.posts) % 3 == 0:
            writer.close()

    shop = await open_shop(attempt_timeout_s=5, settle_s=6)
    backend.script += [take_and_close] * 150
    for number in range(150):
        told = await shop.order(f"key-{number}")
        assert told.status == 201
    counts = await shop.gateway.ledger.counts()
    assert counts.by_status[Status.CONFIRMED] == 150
    assert len(backend.asked) == 0
