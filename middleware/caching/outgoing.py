"""What goes out of the cache, and what of it is made anew from several answers."""

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol, TypeAlias

from aiohttp import web

from middleware.caching.answering import shown
from middleware.caching.asked import Asked, Received
from middleware.caching.changes import Changes
from middleware.caching.entries import Entry
from middleware.caching.fills import Buffers, Fetched, Fill, Flights
from middleware.caching.memory import MemoryStore
from middleware.caching.policy import CacheLimits, CachePolicy
from middleware.caching.validating import merged_headers
from middleware.clock import Clock
from middleware.messages import RawHeaders
from middleware.tasks import Tasks

MakeWhole: TypeAlias = Callable[[int, RawHeaders, bytes, bytes], web.StreamResponse]
"""From status, fields, reason phrase and body."""

MakeStream: TypeAlias = Callable[[int, RawHeaders, bytes, int | None], web.StreamResponse]
"""From status, fields, reason phrase and length (None: unknown)."""

STATUS_FIELD = b"Cache-Status"


class Room(Protocol):
    """What an exchange uses of its cache."""

    store: MemoryStore
    changes: Changes
    flights: Flights
    buffers: Buffers
    limits: CacheLimits
    clock: Clock
    tasks: Tasks
    whole: MakeWhole
    stream: MakeStream

    def share(self, entry: Entry, policy: CachePolicy) -> None: ...


def respond(
    room: Room, asked: Asked, entry: Entry, said: bytes, beside: RawHeaders = ()
) -> web.StreamResponse:
    """The answer from ``entry``, with its age. ``beside``: fields for this client alone."""
    told = shown(asked, entry, room.clock.wall())
    age = entry.age_s(room.clock.monotonic()) if entry.since else entry.initial_age_s
    headers = (*told.headers, *beside, (b"Age", b"%d" % age), (STATUS_FIELD, said))
    return room.whole(told.status, headers, told.phrase, told.body)


async def relay(request: web.BaseRequest, response: web.StreamResponse, fill: Fill) -> None:
    """The body to its client as it comes; a client that is gone leaves the fill to the cache."""
    try:
        await response.prepare(request)
        async with aclosing(fill.pieces()) as pieces:
            async for piece in pieces:
                await response.write(piece)
        await response.write_eof()
    finally:
        fill.abandon()


async def streamed(
    room: Room, request: web.BaseRequest | None, answer: Fetched, said: bytes
) -> web.StreamResponse:
    """An answer that is not kept, at its client's speed."""
    async with aclosing(answer):
        if request is None:
            return web.StreamResponse()
        headers = (*answer.headers, (STATUS_FIELD, said))
        response = room.stream(answer.status, headers, answer.phrase, answer.content_length)
        await response.prepare(request)
        async for piece in answer:
            await response.write(piece)
        await response.write_eof()
        return response


def once(entry: Entry, received: Received) -> Entry:
    """What a 304 validated but forbids to keep: good for the one who asked."""
    headers = merged_headers(entry.headers, received.headers)
    lines = b"".join(b"%b: %b\r\n" % field for field in headers if field[0].lower() != b"age")
    return replace(entry, lines=lines, since=0.0, initial_age_s=0.0)
