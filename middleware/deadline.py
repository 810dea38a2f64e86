"""A point in time by which a request must be answered."""

import asyncio
import math
from collections.abc import Callable

from aiohttp import web

from middleware.problems import Handler, Middleware

_DEADLINE = web.RequestKey("deadline", float)
_BUDGET = web.RequestKey("budget", float)


def deadline(budget_of: Callable[[web.BaseRequest], float | None]) -> Middleware:
    """Middleware: give the request ``budget_of(request)`` seconds from now; None sets no limit.

    It only states the deadline; who waits asks ``remaining_s``.
    """

    @web.middleware
    async def middleware(request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
        budget_s = budget_of(request)
        if budget_s is not None:
            request[_BUDGET] = budget_s
            restart(request)
        return await handler(request)

    return middleware


def restart(request: web.BaseRequest) -> None:
    """Count the budget from now: to be called when the last byte of the body is in."""
    if _BUDGET in request:
        request[_DEADLINE] = asyncio.get_running_loop().time() + request[_BUDGET]


def deadline_of(request: web.BaseRequest) -> float | None:
    """The deadline in the running loop's time, or None."""
    return request.get(_DEADLINE)


def remaining_s(request: web.BaseRequest) -> float:
    """What is left of the budget, never below 0; infinite where there is no deadline."""
    at = deadline_of(request)
    if at is None:
        return math.inf
    return max(0.0, at - asyncio.get_running_loop().time())
