"""The listener of operators, probes and metrics: aiohttp's own server."""

from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from gateway.api.admin import ledger_problems, token_check
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
        application = web.Application(middlewares=middlewares)
        application.add_routes(routes)
        self._runner = web.AppRunner(application, access_log=None)

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; the address that it has. Raises OSError."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound = self._runner.addresses[0]
        return str(bound[0]), int(bound[1])

    async def stop(self) -> None:
        await self._runner.cleanup()
