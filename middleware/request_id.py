"""An id for every request, on every answer."""

import random
import re
from collections.abc import Callable

from aiohttp import web

from middleware.messages import RawHeaders, values
from middleware.problems import REQUEST_ID, Handler, Middleware, apply_stamp, stamp

FIELD = "Request-Id"

_WELL_FORMED = re.compile(rb"[!-~]{1,128}")
"""Visible ASCII: safe in logs and fields. 128 is room for two UUIDs, a name and some more."""


def random_request_id() -> str:
    """128 random bits: unique without asking anyone. No secret: it opens nothing."""
    return f"{random.getrandbits(128):032x}"


def request_id(
    make_id: Callable[[], str] = random_request_id, *, trust_incoming: bool = False
) -> Middleware:
    """Middleware: give the request its id, and the answer too.

    A client's own ``Request-Id`` counts only with ``trust_incoming`` (a proxy in front sets
    it), exactly once and well formed; otherwise a client could make log lines of two requests
    look like one.
    """

    @web.middleware
    async def middleware(request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
        identity = request.get(REQUEST_ID)
        if identity is None and trust_incoming:
            identity = incoming_id(request.raw_headers)
        identity = identity or make_id()
        request[REQUEST_ID] = identity
        stamp(request, FIELD, identity)
        response = await handler(request)
        apply_stamp(request, response)
        return response

    return middleware


def incoming_id(headers: RawHeaders) -> str | None:
    """The request's own ``Request-Id``, where there is exactly one and it is well formed."""
    given = values(headers, b"request-id")
    if len(given) == 1 and _WELL_FORMED.fullmatch(given[0]):
        return given[0].decode("ascii")
    return None
