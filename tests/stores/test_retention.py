"""retention.py: how what is past its time is forgotten, whatever the store."""

import asyncio
from typing import cast

from gateway.ledger import Ledger, LedgerUnavailable
from gateway.retention import BATCH, EVERY_S, Retention
from tests.simulation.world import World


class Past:
    """A ledger with so much to forget; each batch takes ``took_s``. ``away``: it can't be had.
    ``busy_s``: for how long it was forgetting, ``asked_at``: when it was asked to."""

    def __init__(self, rows: int, took_s: float = 0.0) -> None:
        self.rows = rows
        self.took_s = took_s
        self.away = False
        self.busy_s = 0.0
        self.asked_at: list[float] = []

    async def retire(self, limit: int) -> tuple[int, int]:
        self.asked_at.append(asyncio.get_running_loop().time())
        if self.away:
            raise LedgerUnavailable("away", written=False)
        await asyncio.sleep(self.took_s)
        self.busy_s += self.took_s
        done = min(limit, self.rows)
        self.rows -= done
        return 0, done


def sweeping(past: Past, seconds: float) -> None:
    async def story() -> None:
        running = asyncio.ensure_future(Retention(cast("Ledger", past)).run())
        await asyncio.sleep(seconds)
        running.cancel()

    World(1).run(story())


def test_forgetting_much_leaves_two_thirds_of_the_time_to_orders() -> None:
    past = Past(rows=10_000 * BATCH, took_s=0.01)
    sweeping(past, 30.0)
    assert 9.9 < past.busy_s < 10.1


def test_nothing_to_forget_costs_one_question_a_minute() -> None:
    past = Past(rows=0)
    sweeping(past, 10 * EVERY_S - 1)
    assert past.asked_at == [each * EVERY_S for each in range(10)]


def test_a_ledger_that_is_away_is_asked_again_a_minute_later() -> None:
    past = Past(rows=3 * BATCH)
    past.away = True
    sweeping(past, EVERY_S - 1)
    assert past.asked_at == [0.0]
    past.away = False
    sweeping(past, 1.0)
    assert past.rows == 0
