"""An attempt that failed: whether another one is harmless, and what the client is told."""

from gateway.orders.attempts import LostReason, NotSentReason
from gateway.upstream import ConnectFailed, UpstreamBroke
from middleware.problems import Problem, ProblemType

_GONE_BEFORE_ANSWER = frozenset({LostReason.RESET, LostReason.CLOSED})
_NOT_AGAIN = frozenset(
    {
        NotSentReason.BREAKER_OPEN,
        NotSentReason.POOL_EXHAUSTED,
        NotSentReason.STOPPING,
        NotSentReason.TLS_FAILED,
    }
)
"""Nothing was sent, but another try would meet the same, or make it worse."""


def is_harmless(failure: ConnectFailed | UpstreamBroke, once: bool) -> bool:
    """Whether another attempt is: nothing was sent, or it changes nothing and the connection died
    without a word."""
    if isinstance(failure, ConnectFailed):
        return failure.reason not in _NOT_AGAIN
    return not once and failure.reason in _GONE_BEFORE_ANSWER and failure.status is None


def problem_of(error: Exception) -> Problem:
    match error:
        case ConnectFailed(reason=reason):
            return Problem(
                503,
                "upstream-unreachable",
                "The shop's backend can not be reached",
                "Nothing was sent to it. Try again.",
                members={"reason": reason.value},
                headers={"Retry-After": "1"},
                repeat_is_safe=True,
                away=True,
            )
        case UpstreamBroke(reason=LostReason.TIMEOUT):
            return Problem(504, "upstream-timeout", "The shop's backend took too long")
        case UpstreamBroke(reason=reason, status=status):
            return Problem(
                502,
                "upstream-broke-off",
                "The shop's backend gave no usable answer",
                members={"reason": reason.value},
                away=reason in _GONE_BEFORE_ANSWER and status is None,
            )
        case _:
            return Problem.of(ProblemType.BODY_INCOMPLETE, str(error))
