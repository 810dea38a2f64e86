"""Refuse work early, while it is still cheap to refuse."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from middleware.problems import Handler, Middleware, Problem, ProblemType


class Admission:
    """A cap on requests at work at once; one more is shed with 503 before anything is read.

    ``running`` and ``shed`` are for metrics; nothing is admitted while ``running`` is at
    ``requests_max`` or above (where many that stood ``aside`` are back at once).
    """

    def __init__(self, requests_max: int, *, retry_after_s: int = 1) -> None:
        if requests_max < 1 or retry_after_s < 0:
            raise ValueError("admission needs room for at least one request")
        self.requests_max = requests_max
        self.retry_after_s = retry_after_s
        self.running = 0
        self.shed = 0

    def middleware(self) -> Middleware:
        """The middleware. Its Problem needs ``problems`` further out."""

        @web.middleware
        async def middleware(request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
            self._enter()
            try:
                return await handler(request)
            finally:
                self.running -= 1

        return middleware

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While a request that was admitted only waits, its place is another's. Whoever uses this
        limits how many wait."""
        self.running -= 1
        try:
            yield
        finally:
            self.running += 1

    def _enter(self) -> None:
        if self.running >= self.requests_max:
            self.shed += 1
            raise Problem.of(
                ProblemType.OVERLOADED,
                "Nothing was done. Repeat the same request a little later.",
                headers={"Retry-After": str(self.retry_after_s)},
                repeat_is_safe=True,
            )
        self.running += 1
