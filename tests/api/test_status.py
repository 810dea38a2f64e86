"""The status URL: waiting, entity tags, and what is gone."""

import asyncio

from gateway.api.status import if_none_match
from gateway.api.waiting import WAIT_S_MAX, preferred_wait_s
from gateway.orders import life
from gateway.orders.entry import Entry
from gateway.orders.states import Status
from gateway.stores.sqlite import SqliteLedger
from middleware.admission import AdmissionPolicy
from middleware.clock import SystemClock
from tests.api.conftest import Raw
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import Answer, Shop


async def pending(backend: Backend, open_shop: OpenShop, **options: object) -> tuple[Shop, str]:
    """A shop with an order whose attempt is under way until the gate "go" opens."""
    backend.script.append(acts.after("go", acts.take))
    shop = await open_shop(answer_within_s=0.2, attempt_timeout_s=30, settle_s=31, **options)
    told = await shop.taken()
    assert told.status == 202
    return shop, str(told.json["status_url"])


async def ask(shop: Shop, path: str, method: str = "GET", **fields: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return await shop.ask(method, shop.url + path, headers=named)


async def waiting(shop: Shop, count: int = 1) -> None:
    """Until so many requests are known to the watchers: nothing else tells it from outside."""
    watchers = shop.gateway.ledger.watchers
    async with asyncio.timeout(5):
        while sum(map(len, watchers._watches.values())) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_the_entity_tag_changes_with_each_move(backend: Backend, open_shop: OpenShop) -> None:
    shop, path = await pending(backend, open_shop)
    first = await ask(shop, path)
    tag = first.headers["Etag"]
    assert tag.startswith('"')
    assert (await ask(shop, path)).headers["Etag"] == tag
    same = await ask(shop, path, If_None_Match=f'"other", W/{tag}')
    assert (same.status, same.body, same.headers["Etag"]) == (304, b"", tag)
    assert "Content-Type" not in same.headers
    backend.gate("go").set()
    await shop.settled(first.json["id"])
    settled = await ask(shop, path, If_None_Match=tag)
    assert (settled.status, settled.json["status"]) == (200, "confirmed")
    assert settled.headers["Etag"] != tag
    assert (await ask(shop, path, If_None_Match="*")).status == 304


async def test_head_tells_the_same_without_a_body(backend: Backend, open_shop: OpenShop) -> None:
    shop, path = await pending(backend, open_shop)
    whole = await ask(shop, path)
    head = await ask(shop, path, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Etag"] == whole.headers["Etag"]
    assert head.headers["Content-Length"] == str(len(whole.body))


async def test_the_wait_that_was_honoured_is_told(backend: Backend, open_shop: OpenShop) -> None:
    shop, path = await pending(backend, open_shop)
    plain = await ask(shop, path)
    assert "Preference-Applied" not in plain.headers
    timed_out = await ask(shop, path, Prefer="respond-async, wait=1")
    assert timed_out.json["status"] == "dispatched"
    assert timed_out.headers["Preference-Applied"] == "wait=1"
    unchanged = await ask(shop, path, Prefer="wait=1", If_None_Match=plain.headers["Etag"])
    assert (unchanged.status, unchanged.headers["Preference-Applied"]) == (304, "wait=1")
    backend.gate("go").set()
    settled = await ask(shop, path, Prefer='wait="600"')
    assert settled.json["status"] == "confirmed"
    assert settled.headers["Preference-Applied"] == f"wait={WAIT_S_MAX}"


async def test_a_wait_with_a_tag_ends_at_the_next_move(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script += [acts.lose_reply]
    backend.lookup_script += [acts.answer(404), acts.after("go", acts.answer(500))]
    shop = await open_shop(answer_within_s=0.2)
    told = await shop.taken()
    path = told.json["status_url"]
    tag = (await ask(shop, path)).headers["Etag"]
    poll = asyncio.create_task(ask(shop, path, Prefer="wait=20", If_None_Match=tag))
    await backend.until(lambda: len(backend.asked) >= 2)
    backend.gate("go").set()
    moved = await poll
    assert moved.json["status"] == "in_doubt"
    assert moved.json["timeline"][-1]["reason"] == "lookup_proves_nothing"


async def test_waiting_takes_nobodys_turn(backend: Backend, open_shop: OpenShop) -> None:
    backend.script.append(acts.after("go", acts.take))
    shop = await open_shop(answer_within_s=0.2, attempt_timeout_s=8, settle_s=9)
    shop.gateway.admission.apply(AdmissionPolicy(2, queue_max=0))
    told = await shop.taken()
    path = told.json["status_url"]
    polls = []
    for number in range(5):
        polls.append(asyncio.create_task(ask(shop, path, Prefer="wait=20")))
        await waiting(shop, number + 1)
    assert shop.gateway.admission.running == 0
    assert (await ask(shop, path)).status == 200
    backend.gate("go").set()
    answers = await asyncio.gather(*polls)
    assert {answer.json["status"] for answer in answers} == {"confirmed"}
    assert shop.gateway.admission.running == 0


async def test_one_wait_too_many_is_answered_at_once(backend: Backend, open_shop: OpenShop) -> None:
    few = Raw("60\n[limits]\nwaits_max = 1\n")
    shop, path = await pending(backend, open_shop, attach_window_s=few)
    poll = asyncio.create_task(ask(shop, path, Prefer="wait=20"))
    await waiting(shop)
    at_once = await ask(shop, path, Prefer="wait=20")
    assert at_once.json["status"] == "dispatched"
    assert "Preference-Applied" not in at_once.headers
    backend.gate("go").set()
    assert (await poll).headers["Preference-Applied"] == "wait=20"


async def test_a_settle_by_another_process_wakes_the_wait(
    backend: Backend, open_shop: OpenShop
) -> None:
    """Another ledger on the same file is what another process has; it shares no memory."""
    backend.script.append(acts.lose_reply)
    backend.lookup_script += [acts.answer(404)] + [acts.answer(500)] * 50
    shop = await open_shop(answer_within_s=0.2, settle_s=20)
    told = await shop.taken()
    order, path = told.json["id"], told.json["status_url"]
    polls = [asyncio.create_task(ask(shop, path, Prefer="wait=20")) for _ in range(3)]
    await waiting(shop, 3)
    other = SqliteLedger(
        shop.gateway.settings.ledger.path,
        clock=SystemClock(),
        who="other",
        lease_s=5.0,
        new_holder=lambda: "other-hold",
    )
    await other.open()
    try:

        def resolve(entry: Entry, now: float) -> Entry:
            return life.resolve(entry, Status.CONFIRMED, "seen", now, "operator:eva", "n-1")

        async with asyncio.timeout(5):
            await other.amend(order, resolve)
            answers = await asyncio.gather(*polls)
    finally:
        await other.close()
    assert {answer.json["status"] for answer in answers} == {"confirmed"}


async def test_after_its_retention_the_answer_is_gone(open_shop: OpenShop) -> None:
    shop = await open_shop(retention_s=0.2, attach_window_s=0)
    told = await shop.order()
    await asyncio.sleep(0.25)  # the passing of time itself is what is tested
    gone = await ask(shop, f"/_gateway/orders/{told.order}")
    assert gone.status == 410
    assert gone.headers["Content-Type"] == "application/problem+json"
    assert gone.json["type"] == "/_gateway/problems/answer-gone"
    assert (gone.json["order"], gone.json["order_status"]) == (told.order, "confirmed")
    assert "Etag" not in gone.headers


def test_the_preference_is_read_as_the_rfc_has_it() -> None:
    def wait_s(*fields: bytes) -> int | None:
        return preferred_wait_s(tuple((b"Prefer", field) for field in fields))

    assert wait_s(b"wait=10") == 10
    assert wait_s(b'respond-async, WAIT = "7"; x=y') == 7
    assert wait_s(b"wait=3", b"wait=9") == 3
    assert wait_s(b"wait=999999") == WAIT_S_MAX
    assert wait_s(b"await=5") is None
    assert wait_s(b"wait=5s") is None
    assert wait_s(b"wait=-1") is None
    assert wait_s() is None


def test_entity_tags_are_compared_weakly() -> None:
    fields = ((b"If-None-Match", b'"a", W/"b"'), (b"if-none-match", b'"c"'))
    assert if_none_match(fields) == {'"a"', '"b"', '"c"'}
