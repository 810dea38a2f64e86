"""What waits together is written together: each call is told the same as if it had come alone."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger import LeaseLost, LedgerUnavailable
from gateway.orders import life
from gateway.orders.claiming import Fresh, InFlight, Mismatch, Replay
from gateway.orders.states import Reason, Status
from gateway.stores.sqlite import SqliteLedger
from gateway.stores.sqlite_rows import SqliteRows
from gateway.stores.sqlite_statements import ROWS_MAX

from .making import PROMISE, WHO, answered, attached, fresh, in_doubt, settled, submission
from .processes import make

WAIT_S = 20.0


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    opened = make(tmp_path / "ledger.db")
    await opened.open()
    yield opened
    await opened.close()


async def together(ledger: SqliteLedger, *calls: Awaitable[Any]) -> Sequence[Any]:
    """The outcomes of ``calls``, all in one batch: they wait behind one that holds the writer."""
    gate = threading.Event()

    def hold(rows: SqliteRows) -> None:
        gate.wait(WAIT_S)

    holding = asyncio.ensure_future(ledger._write(hold))
    await asyncio.sleep(0)
    waiting = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    gate.set()
    await holding
    return await asyncio.gather(*waiting, return_exceptions=True)


def kinds(outcomes: Sequence[Any]) -> list[type]:
    return [type(getattr(outcome, "claimed", outcome)) for outcome in outcomes]


async def test_many_new_orders_and_their_ends_come_back_whole(ledger: SqliteLedger) -> None:
    number = 2 * ROWS_MAX + 5
    claims = await together(ledger, *(fresh(ledger, submission(f"k{n}")) for n in range(number)))
    entries = [entry for entry, _ in claims]
    assert [await ledger.find(entry.id) for entry in entries] == entries
    ends = [life.end_attempt(entry, answered(201), ledger.now(), WHO) for entry in entries]
    pairs = zip(claims, ends, strict=True)
    told = await together(
        ledger, *(ledger.write(lease, entry, end) for (entry, lease), end in pairs)
    )
    assert told == [None] * number
    assert [await ledger.find(end.id) for end in ends] == ends
    counts = await ledger.counts()
    assert counts.conserved
    assert (counts.made, counts.by_status[Status.CONFIRMED]) == (number, number)
    page = await ledger.page(limit=number)
    assert [entry.id for entry in page.entries] == [entry.id for entry in entries]


async def test_one_key_twice_in_a_batch_is_one_order(ledger: SqliteLedger) -> None:
    outcomes = await together(
        ledger,
        ledger.claim(submission("a")),
        ledger.claim(submission("a")),
        ledger.claim(submission("a", fingerprint="r1:other", canonical=None)),
        ledger.claim(submission("a", scope="another")),
    )
    assert kinds(outcomes) == [Fresh, InFlight, Mismatch, Fresh]
    assert (await ledger.counts()).made == 2


async def test_one_submission_without_a_key_twice_in_a_batch_is_one_order(
    ledger: SqliteLedger,
) -> None:
    outcomes = await together(
        ledger, *(ledger.claim(attached("r1:same")) for _ in range(3)), fresh(ledger)
    )
    assert kinds(outcomes[:3]) == [Fresh, InFlight, InFlight]
    again = await together(
        ledger, ledger.claim(attached("r1:same")), fresh(ledger, submission("new"))
    )
    assert kinds(again[:1]) == [InFlight]
    assert (await ledger.counts()).made == 3


async def test_known_keys_among_new_ones_are_told_as_they_stand(ledger: SqliteLedger) -> None:
    await settled(ledger, submission("settled"))
    await in_doubt(ledger, submission("doubt"))
    keys = ("new", "settled", "doubt", "newer")
    outcomes = await together(ledger, *(ledger.claim(submission(each)) for each in keys))
    assert kinds(outcomes) == [Fresh, Replay, InFlight, Fresh]


async def test_a_repeated_claim_is_the_same_claim_in_one_batch_too(ledger: SqliteLedger) -> None:
    request = submission("a")
    outcomes = await together(ledger, ledger.claim(request), ledger.claim(request))
    assert kinds(outcomes) == [Fresh, Fresh]
    assert outcomes[0].lease == outcomes[1].lease
    assert (await ledger.counts()).made == 1


async def test_a_lost_lease_among_ends_harms_no_other(ledger: SqliteLedger) -> None:
    claims = [await fresh(ledger, submission(f"k{n}")) for n in range(4)]
    ends = [life.end_attempt(entry, answered(201), ledger.now(), WHO) for entry, _ in claims]
    lost = await ledger.amend(
        claims[2][0].id, lambda entry, now: life.take_over(entry, now, "another")
    )
    outcomes = await together(
        ledger,
        ledger.claim(submission("new")),
        *(
            ledger.write(lease, entry, end)
            for (entry, lease), end in zip(claims, ends, strict=True)
        ),
    )
    assert kinds(outcomes) == [Fresh, type(None), type(None), LeaseLost, type(None)]
    assert await ledger.find(claims[2][0].id) == lost
    assert [await ledger.find(ends[n].id) for n in (0, 1, 3)] == [ends[n] for n in (0, 1, 3)]
    counts = await ledger.counts()
    assert counts.conserved
    assert counts.by_status[Status.CONFIRMED] == 3


async def test_an_end_that_was_written_before_is_not_written_again(ledger: SqliteLedger) -> None:
    entry, lease = await fresh(ledger)
    end = life.end_attempt(entry, answered(201), ledger.now(), WHO)
    outcomes = await together(
        ledger, ledger.write(lease, entry, end), ledger.write(lease, entry, end)
    )
    assert kinds(outcomes) == [type(None), LeaseLost]
    assert (await ledger.counts()).conserved


async def test_a_lapsed_hold_claims_nothing_in_a_batch(ledger: SqliteLedger) -> None:
    holder = ledger.hold.holder
    await ledger._write(lambda rows: rows.end_hold(holder))
    outcomes = await together(ledger, *(ledger.claim(submission(f"k{n}")) for n in range(3)))
    assert kinds(outcomes) == [LedgerUnavailable] * 3
    assert (await ledger.counts()).made == 0


async def test_a_promise_that_was_rolled_back_is_kept_with_the_next_order(
    ledger: SqliteLedger,
) -> None:
    promise = replace(PROMISE, route="another")

    def torn(rows: SqliteRows) -> None:
        rows.insert(life.claim(submission("torn", promise=promise), rows.now), "nobody")
        raise RuntimeError("half way")

    outcomes = await together(
        ledger,
        ledger._write(torn),
        *(fresh(ledger, submission(f"k{n}", promise=promise)) for n in range(2)),
    )
    assert isinstance(outcomes[0], RuntimeError)
    for entry, _ in outcomes[1:]:
        kept = await ledger.find(entry.id)
        assert kept is not None
        assert kept.promise == promise


async def test_an_order_that_can_not_be_written_down_harms_no_other(ledger: SqliteLedger) -> None:
    entry, lease = await fresh(ledger)
    end = life.end_attempt(entry, answered(201), ledger.now(), WHO)
    outcomes = await together(
        ledger,
        ledger.claim(submission("a", scope="\ud800")),
        ledger.claim(replace(submission("b"), upstream_key="\ud800")),
        ledger.claim(submission("c")),
        ledger.write(lease, entry, end),
    )
    assert isinstance(outcomes[0], UnicodeEncodeError)
    assert isinstance(outcomes[1], TypeError)
    assert kinds(outcomes[2:]) == [Fresh, type(None)]
    assert await ledger.find(entry.id) == end
    counts = await ledger.counts()
    assert counts.conserved
    assert counts.made == 2


async def test_a_dead_letter_that_is_buried_in_a_batch_stays_open(ledger: SqliteLedger) -> None:
    doubt, lease = await in_doubt(ledger, submission("doubt"))
    entry, other = await fresh(ledger)
    end = life.end_attempt(entry, answered(422), ledger.now(), WHO)
    buried = life.bury(doubt, Reason.DOUBT_DEADLINE, ledger.now(), WHO)
    outcomes = await together(
        ledger, ledger.write(lease, doubt, buried), ledger.write(other, entry, end)
    )
    assert outcomes == [None, None]
    assert await ledger.find(doubt.id) == buried
    assert await ledger.find(entry.id) == end
