"""One order for one key, whatever the wire does: the traps that every known peer falls into."""

import asyncio

import pytest

from gateway.orders.states import Reason, Status
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import KEY

CAPABILITIES = ["lookup", "dedup", ["dedup", "lookup"]]


async def test_an_order_is_answered_by_the_backend(backend: Backend, open_shop: OpenShop) -> None:
    shop = await open_shop()
    told = await shop.order()
    assert told.status == 201
    assert told.json["id"] == "o-1"
    assert told.headers["Idempotency-Key"] == KEY
    assert told.headers["Idempotency-Status"] == "created"
    assert told.headers["Gateway-Source"] == "upstream"
    assert told.headers["Set-Cookie"] == "session=secret"
    assert len(backend.orders) == 1


@pytest.mark.parametrize("capability", CAPABILITIES)
async def test_reply_lost_after_the_commit_and_the_client_retrying_makes_one_order(
    backend: Backend, open_shop: OpenShop, capability: object
) -> None:
    shop = await open_shop(capability=capability)
    backend.dedup = "dedup" in str(capability)
    backend.script.append(acts.lose_reply)
    first, second = await asyncio.gather(shop.order(), shop.order())
    third = await shop.order()
    assert {first.status, second.status, third.status} == {201}
    assert first.body == second.body == third.body
    assert len(backend.orders) == 1


async def test_a_replay_has_the_same_bytes_and_no_cookie(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop()
    first = await shop.order()
    again = await shop.order()
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Idempotency-Status"] == "replayed"
    assert "Idempotency-Expires" in again.headers
    assert "Set-Cookie" not in again.headers
    assert len(backend.posts) == 1


async def test_k_and_quoted_k_are_one_key(backend: Backend, open_shop: OpenShop) -> None:
    shop = await open_shop()
    bare = await shop.order("k")
    quoted = await shop.order('"k"')
    assert quoted.body == bare.body
    assert quoted.headers["Idempotent-Replayed"] == "true"
    assert len(backend.posts) == 1


async def test_a_key_in_another_scope_is_another_order(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop()
    anna = await shop.order(who="Bearer anna")
    bert = await shop.order(who="Bearer bert")
    assert anna.json["id"] != bert.json["id"]
    assert bert.headers["Idempotency-Status"] == "created"
    assert len({post.key for post in backend.posts}) == 2


async def test_a_refused_resend_while_the_first_attempt_still_runs_settles_nothing(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.dedup = True
    backend.script += [acts.after("commit", acts.take), acts.answer(422, {"error": "sold out"})]
    shop = await open_shop(capability="dedup", settle_s=20, attempt_timeout_s=0.2)
    first = asyncio.create_task(shop.order())
    await backend.until(lambda: len(backend.posts) == 2)
    backend.gate("commit").set()
    told = await first
    assert told.status == 201
    assert told.json == {"id": "o-1", "key": backend.posts[0].key}
    entry = await shop.entry(told.order)
    assert entry.status is Status.CONFIRMED
    assert Status.REJECTED not in {event.target for event in entry.events}


async def test_a_refused_resend_after_quiet_rejects_under_dedup(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.dedup = True
    backend.script += [acts.drop, *[acts.answer(422, {"error": "sold out"})] * 9]
    shop = await open_shop(capability="dedup", settle_s=0.5)
    told = await shop.order()
    assert told.status == 422
    assert told.json == {"error": "sold out"}
    assert told.headers["Gateway-Source"] == "upstream"
    assert backend.orders == []


async def test_two_hundred_same_key_requests_make_one_order(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.after("go", acts.take))
    shop = await open_shop(  # whose clients share its loop: none is late for want of a processor
        answer_within_s=10, attempt_timeout_s=10, settle_s=12, more="\n[limits]\nqueue_s = 10\n"
    )
    storm = [asyncio.create_task(shop.order()) for _ in range(100)]
    await backend.until(lambda: len(backend.posts) == 1)
    storm += [asyncio.create_task(shop.order()) for _ in range(100)]
    backend.gate("go").set()
    told = await asyncio.gather(*storm)
    assert {each.status for each in told} == {201}
    assert len({each.body for each in told}) == 1
    assert len(backend.posts) == 1
    created = [each for each in told if each.headers["Idempotency-Status"] == "created"]
    assert len(created) == 1


async def test_in_flight_conflict_is_told_at_once(backend: Backend, open_shop: OpenShop) -> None:
    backend.script.append(acts.after("go", acts.take))
    shop = await open_shop(in_flight="conflict", attempt_timeout_s=5, settle_s=6)
    first = asyncio.create_task(shop.order())
    await backend.until(lambda: len(backend.posts) == 1)
    told = await shop.order()
    assert told.status == 409
    assert told.json["safe_new_key"] is False
    assert told.headers["Retry-After"]
    backend.gate("go").set()
    assert (await first).status == 201


async def test_a_dead_letter_is_202_at_once_where_the_route_says_conflict_too(
    backend: Backend, open_shop: OpenShop
) -> None:
    """Nobody is placing it: "repeat after Retry-After" would be said for ever."""
    backend.script.append(acts.lose_reply)
    shop = await open_shop(capability="none", in_flight="conflict")
    entry = await shop.settled((await shop.order()).order)
    assert entry.status is Status.DEAD_LETTER
    told = await shop.order()
    assert told.status == 202
    assert told.json["status"] == "dead_letter"


async def test_another_body_under_the_key_is_told_what_became_of_the_first(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop()
    first = await shop.order(body={"sku": 1})
    other = await shop.order(body={"sku": 2})
    assert other.status == 422
    assert other.headers["Idempotency-Status"] == "mismatch"
    assert other.headers["Content-Type"] == "application/problem+json"
    assert other.json["order"] == first.order
    assert other.json["order_status"] == "confirmed"
    assert other.json["safe_new_key"] is False
    assert len(backend.posts) == 1


async def test_a_mismatch_is_found_before_the_in_flight_check(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.after("go", acts.take))
    shop = await open_shop(attempt_timeout_s=5, settle_s=6)
    first = asyncio.create_task(shop.order(body={"sku": 1}))
    await backend.until(lambda: len(backend.posts) == 1)
    assert (await shop.order(body={"sku": 2})).status == 422
    backend.gate("go").set()
    assert (await first).status == 201


async def test_the_same_json_in_another_order_is_the_same_submission(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop()
    first = await shop.order(body=b'{"sku": 1, "n": 2}')
    again = await shop.order(body=b'{"n":2,"sku":1}')
    assert again.body == first.body
    assert len(backend.posts) == 1


async def test_a_double_click_without_a_key_is_one_order(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop()
    first, second = await asyncio.gather(shop.order(None), shop.order(None))
    again = await shop.order(None)
    assert first.body == second.body == again.body
    assert {each.headers["Idempotency-Status"] for each in (first, second, again)} == {"attached"}
    assert len(backend.orders) == 1
    by_key = await shop.order(first.headers["Idempotency-Key"])
    assert by_key.body == first.body
    assert len(backend.orders) == 1


async def test_a_rejection_releases_the_attached_key_at_once(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.answer(422, {"error": "sold out"}))
    shop = await open_shop()
    assert (await shop.order(None)).status == 422
    assert (await shop.order(None)).status == 201


@pytest.mark.parametrize("capability", ["lookup", "dedup"])
async def test_a_failed_order_that_is_repeated_with_its_attached_key_keeps_its_upstream_key(
    backend: Backend, open_shop: OpenShop, capability: str
) -> None:
    """Else it would be looked up under another key than it was sent with, and found absent."""
    shop = await open_shop(capability=capability)
    backend.dedup = capability == "dedup"
    backend.script.append(acts.answer(401))
    failed = await shop.order(None)
    assert failed.status == 401
    backend.script.append(acts.lose_reply)
    told = await shop.order(failed.headers["Idempotency-Key"].strip('"'))
    entry = await shop.settled(told.order)
    assert told.order == failed.order
    assert entry.status is Status.CONFIRMED
    assert len(backend.orders) == 1
    assert {post.key for post in backend.posts} == {entry.upstream_key}


async def test_the_key_of_a_failed_order_leads_to_the_same_order_that_was_made_without_one(
    backend: Backend, open_shop: OpenShop
) -> None:
    """Two pages of one customer: one was told the key of the try that failed and repeats with it,
    as it should; the other has pressed the button meanwhile."""
    backend.script.append(acts.answer(401))
    shop = await open_shop()
    failed = await shop.order(None)
    made = await shop.order(None)
    again = await shop.order(failed.headers["Idempotency-Key"])
    assert (failed.status, made.status, again.status) == (401, 201, 201)
    assert (again.body, again.order) == (made.body, made.order)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(backend.orders) == 1


async def test_an_identical_order_after_the_attach_window_is_a_second_one(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop(attach_window_s=0)
    assert (await shop.order(None)).json["id"] == "o-1"
    assert (await shop.order(None)).json["id"] == "o-2"


async def test_an_anonymous_order_is_tracked_but_not_deduplicated(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop()
    first = await shop.order(None, who=None)
    second = await shop.order(None, who=None)
    assert {first.status, second.status} == {201}
    assert first.json["id"] != second.json["id"]
    guessable = await shop.order("short", who=None)
    assert guessable.status == 400
    own = await shop.order(KEY, who=None)
    assert (await shop.order(KEY, who=None)).body == own.body
    other = await shop.order(KEY, {"sku": 9}, who=None)
    assert other.status == 422
    assert own.order not in other.body.decode()


async def test_a_client_that_leaves_changes_nothing(backend: Backend, open_shop: OpenShop) -> None:
    backend.script.append(acts.after("go", acts.take))
    shop = await open_shop(attempt_timeout_s=5, settle_s=6)
    impatient = asyncio.create_task(shop.order())
    await backend.until(lambda: len(backend.posts) == 1)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    backend.gate("go").set()
    told = await shop.order()
    assert told.status == 201
    assert len(backend.orders) == 1


async def test_an_order_that_takes_too_long_is_202_with_a_status_url(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.after("go", acts.take))
    shop = await open_shop(answer_within_s=0.3, attempt_timeout_s=5, settle_s=6)
    told = await shop.taken()
    assert told.status == 202
    assert told.headers["Idempotency-Status"] == "pending"
    assert told.headers["Retry-After"]
    assert told.json["status_url"] == told.headers["Location"]
    backend.gate("go").set()
    await shop.settled(told.json["id"])
    status = await shop.ask("GET", shop.url + told.headers["Location"])
    assert status.json["status"] == "confirmed"
    assert status.json["answer"]["status"] == 201
    assert (await shop.order()).status == 201


async def test_an_answer_too_large_to_keep_leaves_a_tombstone_and_no_second_order(
    backend: Backend, open_shop: OpenShop
) -> None:
    large = b'"' + b"x" * 5000 + b'"'
    head = b"HTTP/1.1 201 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    backend.script.append(acts.raw(head % len(large) + large, commit=True))
    shop = await open_shop(answer_bytes_max=1000)
    first = await shop.order()
    assert first.status == 201
    assert first.json["id"] == first.order
    assert first.json["answer"] == "too large to keep"
    assert first.headers["Gateway-Source"] == "gateway"
    again = await shop.order()
    assert (again.status, again.body) == (201, first.body)
    assert len(backend.posts) == 1


async def test_an_answer_too_large_to_keep_still_shows_its_id(
    backend: Backend, open_shop: OpenShop
) -> None:
    large = b'{"id":"o-1","note":"' + b"x" * 5000 + b'"}'
    head = b"HTTP/1.1 201 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    backend.script.append(acts.raw(head % len(large) + large, commit=True))
    shop = await open_shop(answer_bytes_max=1000, answer_id="/id", capability="none")
    first = await shop.order()
    assert (first.status, first.json["answer"]) == (201, "too large to keep")
    again = await shop.order()
    assert (again.status, again.body) == (201, first.body)
    entry = await shop.entry(first.order)
    assert entry.answer is not None
    assert entry.answer.body is None
    assert len(backend.posts) == 1


async def test_nothing_leads_out_of_doubt_but_evidence(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.commit_then_500)
    shop = await open_shop()
    told = await shop.order()
    entry = await shop.entry(told.order)
    moves = [(event.source, event.target) for event in entry.events]
    doubt = moves.index((Status.DISPATCHED, Status.IN_DOUBT))
    assert {target for _, target in moves[doubt:]} == {Status.IN_DOUBT, Status.CONFIRMED}
    assert entry.events[-1].reason is Reason.FOUND_BY_LOOKUP
    assert told.status == 201
    assert len(backend.orders) == len(backend.posts) == 1


async def test_what_the_backend_says_of_replays_does_not_pass_as_ours(
    backend: Backend, open_shop: OpenShop
) -> None:
    says = ("Idempotent-Replayed: true", "Idempotency-Status: mismatch", "Gateway-Order: x")
    backend.script.append(acts.answer(201, {"id": "o-1"}, *says))
    shop = await open_shop()
    told = await shop.order()
    assert told.headers["Idempotency-Status"] == "created"
    assert "Idempotent-Replayed" not in told.headers
    assert told.order != "x"
