"""Reading request bodies: never more than agreed, never longer than agreed, never a part."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Protocol

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from middleware.problems import Problem, ProblemType


class Place(Protocol):
    """A request's place at work."""

    def body_comes(self, request: web.BaseRequest) -> AbstractAsyncContextManager[None]:
        """Entered while its body is waited for: its place is another's. Raises Problem."""
        ...

    def at_the_clients_pace(self) -> AbstractContextManager[None]:
        """Entered while a body is passed on, either way."""
        ...


PLACE = web.RequestKey("place", Place)


def body_comes(request: web.BaseRequest) -> AbstractAsyncContextManager[None]:
    """Entered while the body of ``request`` is waited for. A client may be as slow as it likes, and
    must keep nobody from work. Raises Problem where too many are waited for."""
    place = request.get(PLACE)
    return nullcontext() if place is None else place.body_comes(request)


def at_the_clients_pace(request: web.BaseRequest) -> AbstractContextManager[None]:
    """Entered while a body is passed on, either way: what waits for a client is no work."""
    place = request.get(PLACE)
    return nullcontext() if place is None else place.at_the_clients_pace()


async def read_body(request: web.BaseRequest, *, body_bytes_max: int, deadline_s: float) -> bytes:
    """The whole body of ``request``, as it was sent (nothing is decompressed here).

    Raises Problem: 413 where it is larger than ``body_bytes_max`` (before a byte is read, where
    Content-Length says so), 408 where it has not arrived after ``deadline_s`` seconds, 400
    where it ended early or was framed wrongly. A part of a body is never returned.
    """
    whole: bytes | None = getattr(request, "whole_body", None)  # of a server that has it at hand
    if whole is not None:
        refuse_length(len(whole), body_bytes_max)
        return whole
    refuse_declared_length(request, body_bytes_max)
    received: list[bytes] = []
    size = 0
    if request.content.is_eof() and request.content.exception() is None:
        body = request.content.read_nowait()  # all of it is here: no need of a clock
        refuse_length(len(body), body_bytes_max)
        return body
    gathered = getattr(request, "gathered", None)  # of a server that puts it together at its end
    try:
        async with body_comes(request), asyncio.timeout(deadline_s):
            if gathered is not None:
                return await _gathered(request, gathered)
            while chunk := await _next(request):
                size += len(chunk)
                if size > body_bytes_max:
                    raise _too_large(body_bytes_max)
                received.append(chunk)
    except TimeoutError:
        raise _too_slow(deadline_s) from None
    return received[0] if len(received) == 1 else b"".join(received)


async def stream_body(
    request: web.BaseRequest, *, body_bytes_max: int, idle_s: float
) -> AsyncIterator[bytes]:
    """The body piece by piece, with no more in memory than the connection buffers.

    Raises what ``read_body`` raises, at the piece where it shows; ``idle_s`` is the longest
    wait for one piece. The caller abandons its own output when this raises.
    """
    refuse_declared_length(request, body_bytes_max)
    size = 0
    while True:
        try:
            async with asyncio.timeout(idle_s):
                chunk = await _next(request)
        except TimeoutError:
            raise _too_slow(idle_s) from None
        if not chunk:
            return
        size += len(chunk)
        if size > body_bytes_max:
            raise _too_large(body_bytes_max)
        yield chunk


def refuse_declared_length(request: web.BaseRequest, body_bytes_max: int) -> None:
    """Raise Problem 413 where Content-Length alone shows that the body is too large."""
    declared = request.content_length
    if declared is not None:
        refuse_length(declared, body_bytes_max)


def refuse_length(body_bytes: int, body_bytes_max: int) -> None:
    """Raise Problem 413 where it is too much."""
    if body_bytes > body_bytes_max:
        raise _too_large(body_bytes_max)


async def _next(request: web.BaseRequest) -> bytes:
    """The next piece; b"" at the end of a body that arrived whole."""
    _refuse_lost(request)
    try:
        return await request.content.readany()
    except (RequestPayloadError, ConnectionError):
        raise _incomplete() from None


async def _gathered(request: web.BaseRequest, gathered: Callable[[], Awaitable[bytes]]) -> bytes:
    """A body whose length was announced, and is not too large."""
    _refuse_lost(request)
    try:
        return await gathered()
    except (RequestPayloadError, ConnectionError):
        raise _incomplete() from None


def _refuse_lost(request: web.BaseRequest) -> None:
    if request.transport is None and not request.content.is_eof():
        raise _incomplete()  # aiohttp would raise a bare RuntimeError


def _too_large(body_bytes_max: int) -> Problem:
    return Problem.of(
        ProblemType.BODY_TOO_LARGE,
        f"Send at most {body_bytes_max} bytes.",
        members={"body_bytes_max": body_bytes_max},
        repeat_is_safe=True,
    )


def _too_slow(limit_s: float) -> Problem:
    return Problem.of(
        ProblemType.REQUEST_TIMEOUT,
        f"The body did not arrive within {limit_s:g} seconds. Repeat the request.",
        repeat_is_safe=True,
    )


def _incomplete() -> Problem:
    return Problem.of(
        ProblemType.BODY_INCOMPLETE,
        "The body ended before its framing said so, or its framing is broken.",
        repeat_is_safe=True,
    )
