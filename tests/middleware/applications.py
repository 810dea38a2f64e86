"""A plain aiohttp application around a middleware: they must work in any."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, web

from middleware.problems import Handler, Middleware


@asynccontextmanager
async def application(
    handler: Handler, *middlewares: Middleware, prepare: Callable[..., Any] | None = None
) -> AsyncIterator[tuple[ClientSession, str]]:
    """Serve ``handler`` at every path on a free port; yields a client and the base URL."""
    app = web.Application(middlewares=middlewares)
    app.router.add_route("*", "/there{rest:.*}", handler)
    if prepare is not None:
        app.on_response_prepare.append(prepare)
    runner = web.AppRunner(app, auto_decompress=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with ClientSession() as session:
            yield session, f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def got(
    handler: Handler,
    *middlewares: Middleware,
    prepare: Callable[..., Any] | None = None,
    **options: Any,
) -> AsyncIterator[Any]:
    """The answer to one GET of ``/there``."""
    async with (
        application(handler, *middlewares, prepare=prepare) as (session, base),
        session.get(f"{base}/there", **options) as answer,
    ):
        yield answer
