"""Runs a call until it succeeds; the only user of tenacity.

The first try is bare: entering tenacity costs a tenth of a proxied request, and nearly every
call succeeds at once.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.stop import stop_base, stop_never

from middleware.retrying.rules import RetryPolicy, pause_s

T = TypeVar("T")


async def retried(
    call: Callable[[], Awaitable[T]],
    *,
    on: type[Exception] | tuple[type[Exception], ...],
    policy: RetryPolicy,
    draw: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> T:
    """The result of ``call``, tried again after each exception of the kinds ``on``.

    Raises the last exception when ``policy.attempts_max`` tries have failed. The caller bounds
    the whole by a timeout; cancellation passes through.
    """
    try:
        return await call()
    except on:
        if policy.attempts_max == 1:
            raise

    def wait(state: RetryCallState) -> float:
        return pause_s(policy, state.attempt_number + 1, draw())

    await sleep(pause_s(policy, 1, draw()))
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(on),
        stop=_stop(policy),
        wait=wait,
        sleep=sleep,
        reraise=True,
    )
    return await retrying(call)


def _stop(policy: RetryPolicy) -> stop_base:
    if policy.attempts_max is None:
        return stop_never
    return stop_after_attempt(policy.attempts_max - 1)
