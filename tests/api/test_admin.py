"""The operators' API: what they see, what they do, and that each action is done once."""

import asyncio
from typing import Any

import pytest

from gateway.api.admin_documents import HIDDEN, _shown, effective
from gateway.orders import life
from gateway.orders.entry import Entry
from gateway.orders.states import Reason, Status
from tests.api.conftest import Raw
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import Answer, Shop

WORD = {"operator": "eva", "reason": "a call", "nonce": "n-1"}
RESOLVED = WORD | {"outcome": "confirmed"}


async def act(
    shop: Shop, order: str, action: str, word: Any = WORD, wait: int | None = 10, **fields: str
) -> Answer:
    if wait is not None:
        fields["Prefer"] = f"wait={wait}"
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    url = f"{shop.admin_url}/admin/orders/{order}/{action}"
    return await shop.ask("POST", url, json=word, headers=shop.admin_headers | named)


async def get(shop: Shop, path: str) -> Answer:
    return await shop.ask("GET", f"{shop.admin_url}/admin/{path}", headers=shop.admin_headers)


async def lost_order(backend: Backend, shop: Shop, *, made: bool = True) -> str:
    """An order whose attempt was lost, with what the shop was told about it."""
    backend.script.append(acts.lose_reply if made else acts.raw(b""))
    return str((await shop.taken()).json["id"])


async def dead_letter(backend: Backend, open_shop: OpenShop, **options: object) -> tuple[Shop, str]:
    """A dead letter: its upstream could not be asked for as long as doubt may last."""
    backend.lookups = False
    backend.lookup_script += [acts.answer(500)] * 100
    shop = await open_shop(answer_within_s=0.2, doubt_within_s=0.6, **options)
    order = await lost_order(backend, shop, made=options.get("made", True) is True)
    entry = await shop.settled(order)
    assert entry.status.value == "dead_letter"
    backend.lookups = True
    backend.lookup_script.clear()
    return shop, order


async def held_in_doubt(
    backend: Backend, open_shop: OpenShop, **options: object
) -> tuple[Shop, str]:
    """An order in doubt in a worker's hands, whose back-off is long."""
    backend.lookup_script += [acts.answer(404)] + [acts.answer(500)] * 2
    shop = await open_shop(answer_within_s=0.2, settle_s=30, **options)
    order = await lost_order(backend, shop)
    await shop.once(order, lambda entry: entry.events[-1].reason is Reason.LOOKUP_PROVES_NOTHING)
    return shop, order


# --- looking up -----------------------------------------------------------------------------


async def test_a_lookup_of_a_dead_letter_confirms_it_by_evidence(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop, order = await dead_letter(backend, open_shop)
    told = await act(shop, order, "lookup")
    assert told.status == 200
    assert told.json["status"] == "confirmed"
    action = told.json["action"]
    assert (action["name"], action["operator"], action["nonce"]) == ("lookup", "eva", "n-1")
    assert action["result"]["reason"] == "found_by_lookup"
    audit = [move for move in told.json["timeline"] if move["who"] == "operator:eva"]
    assert [(move["reason"], move["detail"]) for move in audit] == [("operator_lookup", "a call")]
    assert (await shop.order()).status == 201


async def test_a_lookup_that_proves_absence_fails_a_dead_letter_and_frees_its_key(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop, order = await dead_letter(backend, open_shop)
    backend.orders.clear()
    told = await act(shop, order, "lookup")
    assert (told.json["status"], told.json["action"]["result"]["reason"]) == (
        "failed",
        "absence_proved",
    )
    again = await shop.order()
    assert (again.status, again.order, len(backend.orders)) == (201, order, 1)


async def test_a_lookup_without_evidence_leaves_a_dead_letter_where_it_is(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop, order = await dead_letter(backend, open_shop)
    backend.lookup_script.append(acts.answer(500))
    told = await act(shop, order, "lookup")
    assert told.json["status"] == "dead_letter"
    assert told.json["action"]["result"]["reason"] == "lookup_proves_nothing"
    assert not (await shop.entry(order)).waits


async def test_a_lookup_works_while_a_worker_holds_the_order(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop, order = await held_in_doubt(backend, open_shop)
    asked = await act(shop, order, "lookup", wait=None)
    assert asked.status == 202
    assert asked.json["action"]["result"] is None
    backend.lookup_script.clear()
    done = await act(shop, order, "lookup")
    assert done.headers["Idempotent-Replayed"] == "true"
    assert done.json["status"] == "confirmed"


async def test_the_same_nonce_acts_once_also_at_the_same_time(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop, order = await dead_letter(backend, open_shop)
    answers = await asyncio.gather(*(act(shop, order, "resolve", RESOLVED) for _ in range(8)))
    assert {answer.status for answer in answers} == {200}
    assert len({str(answer.json["action"]) for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    entry = await shop.entry(order)
    assert [event.reason for event in entry.events].count(Reason.OPERATOR) == 1


async def test_a_nonce_belongs_to_one_action(backend: Backend, open_shop: OpenShop) -> None:
    shop, order = await dead_letter(backend, open_shop)
    await act(shop, order, "resolve", RESOLVED)
    for other in (RESOLVED | {"outcome": "failed"}, RESOLVED | {"operator": "max"}):
        told = await act(shop, order, "resolve", other)
        assert (told.status, told.json["type"]) == (409, "/_gateway/problems/nonce-used")
    told = await act(shop, order, "lookup")
    assert (told.status, told.json["type"]) == (409, "/_gateway/problems/nonce-used")


async def test_a_nonce_may_come_as_idempotency_key(backend: Backend, open_shop: OpenShop) -> None:
    shop, order = await dead_letter(backend, open_shop)
    word = {"operator": "eva", "reason": "seen", "outcome": "rejected"}
    told = await act(shop, order, "resolve", word, Idempotency_Key='"n-9"')
    assert (told.status, told.json["action"]["nonce"]) == (200, "n-9")
    both = await act(shop, order, "resolve", word | {"nonce": "n-8"}, Idempotency_Key="n-9")
    assert both.status == 400


# --- sending again --------------------------------------------------------------------------


async def test_a_dead_letter_is_sent_again_where_the_upstream_knows_its_key(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.dedup = True
    backend.script += [acts.lose_reply] * 50
    shop = await open_shop(capability="dedup", answer_within_s=0.2, doubt_within_s=2)
    order = (await shop.taken()).json["id"]
    assert (await shop.settled(order)).status.value == "dead_letter"
    backend.script.clear()
    told = await act(shop, order, "resend")
    assert told.json["status"] == "confirmed"
    assert told.json["action"]["result"]["reason"] == "confirmed_by_answer"
    assert len(backend.orders) == 1


@pytest.mark.parametrize("capability", ["lookup", "none"])
async def test_what_could_make_a_second_order_is_refused_with_the_status(
    backend: Backend, open_shop: OpenShop, capability: str
) -> None:
    backend.lookup_script += [acts.answer(500)] * 100
    shop = await open_shop(capability=capability, answer_within_s=0.2, doubt_within_s=0.6)
    order = await lost_order(backend, shop)
    await shop.settled(order)
    before = await shop.entry(order)
    told = await act(shop, order, "resend")
    assert told.status == 409
    assert told.headers["Content-Type"] == "application/problem+json"
    assert told.json["refusal"] == "could_make_a_second_order"
    assert told.json["order_status"] == "dead_letter"
    assert await shop.entry(order) == before
    assert len(backend.posts) == 1


async def test_actions_on_a_settled_order_are_refused(open_shop: OpenShop) -> None:
    shop = await open_shop()
    order = (await shop.order()).order
    for action, word in (("lookup", WORD), ("resend", WORD), ("resolve", RESOLVED)):
        told = await act(shop, order, action, word)
        assert (told.status, told.json["order_status"]) == (409, "confirmed")


async def test_an_attempt_under_way_is_waited_for(backend: Backend, open_shop: OpenShop) -> None:
    backend.script.append(acts.after("go", acts.take))
    shop = await open_shop(answer_within_s=0.2, attempt_timeout_s=8, settle_s=9)
    order = (await shop.taken()).json["id"]
    for action in ("lookup", "resend"):
        assert (await act(shop, order, action)).json["refusal"] == "attempt_under_way"
    assert (await act(shop, order, "resolve", RESOLVED)).status == 409
    backend.gate("go").set()
    assert (await shop.settled(order)).status.value == "confirmed"


@pytest.mark.parametrize(
    "word",
    [
        [],
        "x",
        {},
        {"operator": "eva"},
        WORD | {"operator": " "},
        WORD | {"operator": 7},
        WORD | {"operator": "a\nb"},
        WORD | {"reason": "x" * 1001},
        WORD | {"nonce": ""},
        WORD | {"nonce": "a b"},
        WORD | {"nonce": "x" * 129},
        WORD | {"nonce": 7},
        WORD | {"nonce": ["n"]},
    ],
)
async def test_a_word_that_is_none_is_refused(open_shop: OpenShop, word: Any) -> None:
    shop = await open_shop()
    order = (await shop.order()).order
    for action in ("lookup", "resend", "resolve"):
        told = await act(shop, order, action, word)
        assert told.status == 400
        assert told.headers["Content-Type"] == "application/problem+json"


# --- lists, counts, configuration -----------------------------------------------------------

TWO_ROUTES = Raw(
    '60\n[[routes]]\nname = "other"\nmatch = "POST /other"\nkind = "order"\nupstream = "backend"\n'
    'capability = "none"\nscope = ["header:Authorization"]\nanswer_within_s = 5\n'
)


async def ids(shop: Shop, query: str) -> list[str]:
    """All pages of it."""
    found: list[str] = []
    after = ""
    while True:
        page = (await get(shop, f"orders?{query}{after}")).json
        found += [order["id"] for order in page["orders"]]
        if page["next"] is None:
            return found
        after = f"&after={page['next']}"


async def test_lists_are_filtered(backend: Backend, open_shop: OpenShop) -> None:
    shop = await open_shop(attach_window_s=TWO_ROUTES)
    mixed = [
        (await shop.order(f"key-{n}", path="/other" if n % 3 == 0 else "/orders")).order
        for n in range(9)
    ]
    other = mixed[::3]
    for limit in (1, 2, 50):
        assert await ids(shop, f"limit={limit}") == mixed
        assert await ids(shop, f"route=other&limit={limit}") == other
        assert await ids(shop, f"route=other,place-order&limit={limit}") == mixed
    assert await ids(shop, "upstream=backend") == mixed
    assert await ids(shop, "upstream=elsewhere") == []
    assert await ids(shop, "older_than_s=3600") == []
    assert await ids(shop, "older_than_s=0.0") == mixed
    assert await ids(shop, "disputed=true") == []
    assert await ids(shop, "disputed=false&status=confirmed") == mixed
    assert await ids(shop, "status=dead_letter,failed") == []


async def test_disputed_orders_are_found(backend: Backend, open_shop: OpenShop) -> None:
    backend.script.append(acts.after("late", acts.take))
    shop = await open_shop(
        capability="none", attempt_timeout_s=0.2, settle_s=8, answer_within_s=0.1
    )
    order = (await shop.taken()).json["id"]
    await shop.once(order, lambda entry: entry.status.value == "in_doubt")
    told = await act(shop, order, "resolve", RESOLVED | {"outcome": "failed"})
    assert (told.status, told.json["refusal"]) == (409, "may_still_take_effect")
    assert 0 < int(told.headers["Retry-After"]) <= 8

    def by_mistake(entry: Entry, now: float) -> Entry:
        """As if its settle_s were over."""
        return life.resolve(entry, Status.FAILED, "not there", now, "operator:eva", "n-2")

    assert await shop.gateway.ledger.amend(order, by_mistake) is not None
    backend.gate("late").set()
    await shop.once(order, lambda entry: entry.disputed)
    assert await ids(shop, "disputed=true") == [order]
    assert (await get(shop, "counts")).json["disputed"] == 1


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=x",
        "limit=٣",
        "status=lost",
        "status=",
        "route=",
        "older_than_s=-1",
        "older_than_s=nan",
        "disputed=yes",
        "sort=age",
        "route=" + "x" * 1001,
    ],
)
async def test_a_filter_that_is_none_is_refused(open_shop: OpenShop, query: str) -> None:
    shop = await open_shop()
    told = await get(shop, f"orders?{query}")
    assert (told.status, told.json["title"]) == (400, "The request is malformed")


async def test_counts_tell_conservation_and_ages(backend: Backend, open_shop: OpenShop) -> None:
    shop, _ = await dead_letter(backend, open_shop)
    await shop.order("another-key-0123456789-abc")
    counts = (await get(shop, "counts")).json
    assert (counts["made"], counts["removed"], counts["gap"]) == (2, 0, 0)
    assert counts["by_status"]["dead_letter"] == counts["by_status"]["confirmed"] == 1
    assert counts["oldest_pending_age_s"] is None
    assert counts["oldest_dead_letter_age_s"] > 0


async def test_the_configuration_is_the_one_in_force_without_secrets(open_shop: OpenShop) -> None:
    shop = await open_shop(settle_s=7)
    shown = (await get(shop, "config")).json
    assert shown == effective(shop.gateway.settings)
    route = shown["routes"][0]
    assert (route["settle_s"], route["retention_s"]) == (7.0, 259_200.0)
    token = shop.gateway.settings.admin_token_file.read_text().strip()
    assert token not in str(shown)


def test_secrets_are_hidden_and_where_they_lie_is_not() -> None:
    told = _shown(
        {
            "url": "valkey://user:hunter2@host:6379/0",
            "alert_token": "hunter2",
            "password": "hunter2",
            "admin_token_file": "/etc/token",
            "cors_credentials": True,
            "urls": ["http://a:hunter2@b"],
        }
    )
    assert "hunter2" not in str(told)
    assert told["url"] == "valkey://host:6379/0"
    assert told["alert_token"] == HIDDEN
    assert told["admin_token_file"] == "/etc/token"
    assert told["cors_credentials"] is True
