"""Counting requests: what it costs, and what is kept of whom, where there are many clients."""

import asyncio
import time
from typing import Any

import pytest
from aiohttp import web
from limits import parse

from middleware import rates
from middleware.problems import Problem
from middleware.rates import Rate, RateLimiter


class Counted:
    """A rate limiter in one process, asked by clients of any name."""

    def __init__(self, allowed: str) -> None:
        self.limiter = RateLimiter(refused=lambda _: None, trouble=lambda _: None)
        self._middleware = self.limiter.middleware(lambda request: (request["rate"],))
        self._item = parse(allowed)

    async def ask(self, who: str) -> bool:
        request: Any = {"rate": Rate("client", self._item, who)}
        try:
            await self._middleware(request, self._answer)
        except Problem:
            return False
        await asyncio.sleep(0)  # what it has left for later is done
        return True

    async def _answer(self, _request: object) -> web.StreamResponse:
        return web.Response()

    @property
    def kept(self) -> int:
        """The members of all that the store holds."""
        held = vars(self.limiter._own).values()
        return sum(len(each) for each in held if isinstance(each, (dict, list)))

    async def cost_s(self, times: int) -> float:
        began = time.thread_time()
        for number in range(times):
            await self.ask(f"one of few {number % 10}")
        return time.thread_time() - began


async def test_counting_costs_no_more_where_many_are_counted() -> None:
    few, many = Counted("1000000/hour"), Counted("1000000/hour")
    for number in range(20_000):
        await many._middleware({"rate": Rate("client", many._item, str(number))}, many._answer)
    assert await many.cost_s(200) < 10 * await few.cost_s(200)


async def test_what_is_kept_of_clients_is_bounded_however_many_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rates, "KEYS_MAX", 50)
    counted = Counted("2/hour")
    for number in range(1000):
        assert await counted.ask(str(number))
    assert counted.kept <= 4 * 50


async def test_clients_are_forgotten_when_their_windows_have_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    counted = Counted("100/minute")
    for number in range(100):
        assert await counted.ask(str(number))
    now += 180
    for _ in range(20):
        assert await counted.ask("another")
    assert counted.kept <= 4 * 2


async def test_a_window_that_slides_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 60_000.0  # a window begins
    monkeypatch.setattr(time, "time", lambda: now)
    counted = Counted("4/minute")
    assert [await counted.ask("anna") for _ in range(5)] == [True] * 4 + [False]
    now += 90  # half of them still count
    assert [await counted.ask("anna") for _ in range(3)] == [True] * 2 + [False]
    assert await counted.ask("berta")
