"""Runs a call until it succeeds; the only user of tenacity.

The first try is bare: entering tenacity costs a tenth of a proxied request, and nearly every
call succeeds at once.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from middleware.retrying.rules import RetryPolicy, pause_s

T = TypeVar("T")


def _always(_pause_s: float, /) -> bool:
    return True


async def retried(
    call: Callable[[], Awaitable[T]],
    *,
    on: type[Exception] | tuple[type[Exception], ...],
    policy: RetryPolicy,
    draw: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
    admit: Callable[[float], bool] = _always,
) -> T:
    """The result of ``call``, tried again after each exception of the kinds ``on``.

    An exception's ``after_s`` is the least pause after it. ``admit(pause)`` is asked before each
    pause whether there is time and load to spare. Raises the last exception when it says no, and
    when ``policy.attempts_max`` tries have failed. Cancellation passes through.
    """
    try:
        return await call()
    except on as failure:
        if policy.attempts_max == 1:
            raise
        pause = pause_s(policy, 1, draw(), _asked_s(failure))
        if not admit(pause):
            raise
    await sleep(pause)

    def wait(state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome is not None else None
        return pause_s(policy, state.attempt_number + 1, draw(), _asked_s(failure))

    def stop(state: RetryCallState) -> bool:
        made = state.attempt_number + 1
        used_up = policy.attempts_max is not None and made >= policy.attempts_max
        return used_up or not admit(state.upcoming_sleep)

    retrying = AsyncRetrying(
        retry=retry_if_exception_type(on), stop=stop, wait=wait, sleep=sleep, reraise=True
    )
    return await retrying(call)


def _asked_s(failure: BaseException | None) -> float:
    return getattr(failure, "after_s", None) or 0.0
