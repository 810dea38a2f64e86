"""One line for each request. No query, no keys, no bodies: what a log must not keep."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from middleware.problems import BEGAN, REQUEST_ID, Handler, Middleware

ORDER_ID = web.RequestKey("order_id", str)
"""Set by whoever learns which order a request is about."""


def _always() -> bool:
    return True


def access_log(
    log: Callable[..., object],
    *,
    wanted: Callable[[], bool] = _always,
    client: Callable[[web.BaseRequest], str] | None = None,
) -> Middleware:
    """Middleware: call ``log("request", method=…, path=…, status=…, …)`` when it is answered.

    ``client`` says whose request it is: an address. A line that nobody ``wanted`` when the request
    came is not even put together.

    ``duration_ms`` ends when the response is ready; a whole answer is written after that.
    ``status`` is None where nothing was answered (the handler was cancelled or failed).
    """

    @web.middleware
    async def middleware(request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
        if not wanted():
            return await handler(request)
        loop = asyncio.get_running_loop()
        began = request.get(BEGAN) or loop.time()
        response: web.StreamResponse | None = None
        try:
            response = await handler(request)
            return response
        finally:
            line = _line(request, response, loop.time() - began)
            if client is not None:
                line["client"] = client(request)
            log("request", **line)

    return middleware


def _line(
    request: web.BaseRequest, response: web.StreamResponse | None, duration_s: float
) -> dict[str, object]:
    line: dict[str, object] = {
        "method": request.method,
        "path": request.raw_path.partition("?")[0],
        "status": None if response is None else response.status,
        "duration_ms": round(duration_s * 1000, 3),
        "bytes": 0 if response is None else _size(response),
        "request_id": request.get(REQUEST_ID),
    }
    if ORDER_ID in request:
        line["order"] = request[ORDER_ID]
    return line


def _size(response: web.StreamResponse) -> int:
    """Body bytes; before a ``web.Response`` is written only its body can say."""
    body = response.body if isinstance(response, web.Response) else None
    return len(body) if isinstance(body, (bytes, bytearray)) else response.body_length
