"""What operators, probes and metrics are served by."""

from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from gateway.api.admin import ledger_problems, token_check
from gateway.server.guarded import GuardedListener
from middleware.problems import problems


class Operators:
    """``routes`` for who has ``token``; ``failed`` is told of requests that failed unforeseen."""

    def __init__(
        self,
        routes: Sequence[web.AbstractRouteDef],
        token: str,
        failed: Callable[[web.BaseRequest, BaseException], None],
    ) -> None:
        middlewares: list[Any] = [
            problems(on_failure=failed),
            token_check(lambda: token),
            ledger_problems(),
        ]
        self.application = web.Application(middlewares=middlewares)
        self.application.add_routes(routes)
        self._listener = GuardedListener(self.application)

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; the address that it has. Raises OSError."""
        return await self._listener.start(host, port)

    async def stop(self) -> None:
        await self._listener.stop()
