"""What settles an order, and what does not: each capability against a backend that misbehaves."""

import asyncio
import gzip
import json
import socket

import pytest

from gateway.orders.entry import AttemptResult
from gateway.orders.states import Reason, Status
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend, Taken
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import KEY


async def test_a_late_answer_is_evidence(backend: Backend, open_shop: OpenShop) -> None:
    """The timeout ends the waiting, not the listening, also where nothing can be asked."""
    backend.script.append(acts.after("go", acts.take))
    shop = await open_shop(
        capability="none", attempt_timeout_s=0.1, settle_s=20, answer_within_s=0.5
    )
    told = await shop.taken()
    assert told.status == 202
    await shop.once(told.json["id"], lambda entry: entry.status is Status.IN_DOUBT)
    backend.gate("go").set()
    entry = await shop.settled(told.json["id"])
    assert entry.events[-1].reason is Reason.CONFIRMED_BY_LATE_ANSWER
    assert (await shop.order()).json["id"] == "o-1"
    assert len(backend.posts) == 1


async def test_without_capability_a_lost_attempt_goes_to_a_person_at_once(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.lose_reply)
    shop = await open_shop(capability="none", settle_s=60)
    told = await shop.order()
    assert told.status == 202
    assert told.json["status"] == "dead_letter"
    again = await shop.order()
    assert again.status == 202
    assert len(backend.posts) == 1


async def test_without_capability_a_silent_attempt_is_read_until_settle_s(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.after("never", acts.take))
    shop = await open_shop(capability="none", attempt_timeout_s=0.1, settle_s=0.5)
    told = await shop.order()
    assert told.json["status"] == "dead_letter"
    entry = await shop.entry(told.json["id"])
    doubt, buried = entry.events[-2:]
    assert (doubt.target, buried.target) == (Status.IN_DOUBT, Status.DEAD_LETTER)
    assert buried.at - doubt.at >= 0.4


async def test_absence_proved_after_quiet_is_sent_again_and_makes_one_order(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.drop)
    shop = await open_shop()
    told = await shop.order()
    assert told.status == 201
    assert len(backend.posts) == 2
    assert len(backend.orders) == 1
    entry = await shop.entry(told.order)
    assert entry.attempts[1].after_quiet
    assert entry.attempts[0].made_nothing


async def test_absence_before_quiet_proves_nothing(backend: Backend, open_shop: OpenShop) -> None:
    """The first attempt still runs when the lookup says no: it must not be sent again."""
    backend.script.append(acts.after("go", acts.take))
    shop = await open_shop(attempt_timeout_s=0.1, settle_s=30)
    first = asyncio.create_task(shop.order())
    await backend.until(lambda: len(backend.asked) >= 3)
    assert len(backend.posts) == 1
    backend.gate("go").set()
    assert (await first).status == 201
    assert len(backend.posts) == len(backend.orders) == 1


async def test_absence_proved_after_the_placing_time_ends_in_failed(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.drop)
    shop = await open_shop(place_within_s=0.2)
    told = await shop.order()
    assert told.status == 503
    assert told.json["order_status"] == "failed"
    assert told.json["safe_new_key"] is True
    assert len(backend.posts) == 1
    again = await shop.order()
    assert again.status == 201
    entry = await shop.entry(again.order)
    assert [attempt.number for attempt in entry.attempts] == [1, 2]


async def test_a_lookup_that_ignores_its_parameter_never_confirms(
    backend: Backend, open_shop: OpenShop
) -> None:
    async def strangers(_: Backend, __: object, writer: asyncio.StreamWriter) -> None:
        writer.write(acts.encoded(200, [{"id": "stranger"}]))
        await writer.drain()

    backend.lookup_script += [strangers] * 100
    backend.script.append(acts.drop)
    shop = await open_shop(answer_within_s=1, doubt_within_s=1.5)
    told = await shop.order()
    assert told.status == 202
    entry = await shop.settled(told.json["id"])
    assert entry.status is Status.DEAD_LETTER
    assert len(backend.posts) == 1
    assert any(event.detail and "lookup_not_proved" in event.detail for event in entry.events)


async def test_more_than_one_match_confirms_and_disputes(
    backend: Backend, open_shop: OpenShop
) -> None:
    async def twice(backend: Backend, taken: acts.Taken, writer: asyncio.StreamWriter) -> None:
        backend.commit(taken)
        backend.commit(taken)
        writer.close()

    backend.script.append(twice)
    shop = await open_shop()
    told = await shop.order()
    assert told.status == 201
    assert told.json["id"] == "o-1"
    assert (await shop.entry(told.order)).disputed


async def test_the_echo_must_be_ours(backend: Backend, open_shop: OpenShop) -> None:
    backend.script.append(acts.lose_reply)
    shop = await open_shop(lookup_echo="/key")
    assert (await shop.order()).status == 201
    other = await open_shop(lookup_echo="/id", answer_within_s=0.8, ledger=None)
    backend.script.append(acts.lose_reply)
    assert (await other.order("another-key-0123456789")).status == 202


@pytest.mark.parametrize("status", [401, 403, 407])
async def test_not_admitted_ends_in_failed_and_tells_the_backends_answer(
    backend: Backend, open_shop: OpenShop, status: int
) -> None:
    backend.script.append(acts.answer(status, {"error": "who are you"}, "WWW-Authenticate: Basic"))
    shop = await open_shop()
    told = await shop.order()
    assert told.status == status
    assert told.json == {"error": "who are you"}
    assert (await shop.entry(told.order)).status is Status.FAILED
    again = await shop.order()
    assert again.status == 201
    assert again.order == told.order


async def test_a_submission_whose_client_left_before_it_was_read_is_no_new_try(
    backend: Backend, open_shop: OpenShop
) -> None:
    """It lay in a process that stood still, and its client has been told since that it failed."""
    backend.script.append(acts.answer(401, {"error": "who are you"}))
    shop = await open_shop()
    failed = await shop.order()
    left = socket.create_connection(shop.gateway.storefront_address)
    body = json.dumps({"sku": 7}).encode()
    left.sendall(
        b"POST /orders HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer anna\r\nIdempotency-Key: %s\r\nContent-Length: %d\r\n\r\n%s"
        % (KEY.encode(), len(body), body)
    )
    left.shutdown(socket.SHUT_WR)  # and all that before the gateway gets to look
    reader, writer = await asyncio.open_connection(sock=left)
    told = await reader.read()
    writer.close()
    assert told.startswith(b"HTTP/1.1 401 ")
    assert b"Idempotent-Replayed: true" in told
    assert len(backend.posts) == 1
    again = await shop.order()
    assert (again.status, again.order) == (201, failed.order)


async def test_not_processed_is_tried_again_no_sooner_than_told(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.answer(429, None, "Retry-After: 1"))
    shop = await open_shop()
    told = await shop.order()
    assert told.status == 201
    entry = await shop.entry(told.order)
    first, second = entry.attempts
    assert second.began_at - first.began_at >= 0.95
    assert Status.IN_DOUBT not in {event.target for event in entry.events}


async def test_a_refusal_is_final_and_replayed(backend: Backend, open_shop: OpenShop) -> None:
    backend.script.append(acts.answer(422, {"error": "sold out"}))
    shop = await open_shop()
    told = await shop.order()
    again = await shop.order()
    assert (told.status, told.body) == (again.status, again.body) == (422, b'{"error": "sold out"}')
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(backend.posts) == 1


BROKEN = {
    "short body": b"HTTP/1.1 201 X\r\nContent-Length: 50\r\n\r\n{",
    "garbage": b"GARBAGE\r\n\r\n",
    "two lengths": b"HTTP/1.1 201 X\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and chunks": b"HTTP/1.1 201 X\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n",
    "bad chunk": b"HTTP/1.1 201 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "no length": b'HTTP/1.1 201 X\r\nContent-Type: application/json\r\n\r\n{"id":',
    "truncated json": b"HTTP/1.1 201 X\r\nContent-Type: application/json\r\n"
    b'Content-Length: 6\r\n\r\n{"id":',
    "switched": b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    "accepted only": b"HTTP/1.1 202 X\r\nContent-Length: 2\r\n\r\n{}",
    "redirect": b"HTTP/1.1 303 X\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
    "server error": b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n",
    "control byte": b"HTTP/1.1 201 X\r\nX-A: \x01\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_an_answer_that_proves_nothing_is_never_the_clients(
    backend: Backend, open_shop: OpenShop, name: str
) -> None:
    backend.script.append(acts.raw(BROKEN[name], commit=True))
    shop = await open_shop()
    told = await shop.order()
    assert told.status == 201
    assert told.json["id"] == "o-1"
    entry = await shop.entry(told.order)
    assert entry.events[-1].reason is Reason.FOUND_BY_LOOKUP
    assert len(backend.posts) == 1


async def test_a_stated_rule_makes_503_mean_not_processed(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.answer(503))
    shop = await open_shop(not_processed_when=["503"])
    told = await shop.order()
    assert told.status == 201
    entry = await shop.entry(told.order)
    assert Status.IN_DOUBT not in {event.target for event in entry.events}


async def test_where_refusals_are_named_another_4xx_leaves_doubt(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.answer(404))
    shop = await open_shop(rejected_when=["422"])
    told = await shop.order()
    assert told.status == 201
    entry = await shop.entry(told.order)
    assert entry.attempts[0].result is AttemptResult.ANSWERED
    assert Status.IN_DOUBT in {event.target for event in entry.events}


async def test_a_confirming_answer_without_its_id_leaves_doubt(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.answer(201, {"ok": True}))
    shop = await open_shop(answer_id="/id")
    told = await shop.order()
    assert told.status == 201
    assert told.json["id"] == "o-1"
    assert len(backend.posts) == 2


async def test_an_answer_that_is_to_show_its_id_is_asked_for_uncompressed(
    backend: Backend, open_shop: OpenShop
) -> None:
    """Browsers accept gzip, and many a backend compresses what it may: then no answer had an id."""

    async def take(backend: Backend, taken: Taken, writer: asyncio.StreamWriter) -> None:
        body, coding = json.dumps(backend.commit(taken)).encode(), "identity"
        if "gzip" in taken.headers.get("accept-encoding", "gzip"):
            body, coding = gzip.compress(body), "gzip"
        fields = f"Content-Type: application/json\r\nContent-Encoding: {coding}"
        head = f"HTTP/1.1 201 X\r\n{fields}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    backend.script.append(take)
    shop = await open_shop(capability="none", answer_id="/id")
    told = await shop.order(**{"Accept-Encoding": "gzip, deflate, br"})
    assert told.status == 201
    assert told.json["id"] == "o-1"
    assert len(backend.orders) == 1


async def test_dedup_is_not_resent_after_the_backend_forgets_the_key(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.dedup = True
    backend.script += [acts.drop] * 50
    shop = await open_shop(capability="dedup", dedup_for_s=2.5, doubt_within_s=4, answer_within_s=1)
    told = await shop.order()
    entry = await shop.settled(told.json["id"])
    assert entry.status is Status.DEAD_LETTER
    assert len(entry.attempts) > 1
    assert entry.first_dispatched_at is not None
    assert entry.attempts[-1].began_at < entry.first_dispatched_at + 2.5
