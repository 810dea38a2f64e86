"""One connection's loop: the requests that were read, answered in their order.

aiohttp's own loop makes a task of every request, and goes through more hands than a proxy needs.
This one answers them all in the connection's task; what it makes of failures is the same.
"""

import asyncio
from collections import deque
from typing import TypeAlias

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gateway.server.limits import ServerLimits
from gateway.server.requests import StorefrontRequest
from gateway.server.whole import Course, Sized, Whole

Message: TypeAlias = RawRequestMessage | _ErrInfo | Whole | Sized
"""A request that was read, by the parser or by us, or a refusal."""


class Turns(RequestHandler):
    """aiohttp's request handler with this loop in it."""

    _limits: ServerLimits
    _course: Course | None = None
    """What goes without this loop (``at_once``), ahead of all that waits."""
    _messages: "deque[tuple[Message, StreamReader]]"  # type: ignore[assignment]

    def make_request(
        self,
        message: Message,
        payload: StreamReader,
        task: "asyncio.Task[None]",
    ) -> StorefrontRequest:
        raise NotImplementedError

    def began(self, task: "asyncio.Task[None]") -> None:
        """A request is being answered in ``task``."""
        raise NotImplementedError

    def ended(self, task: "asyncio.Task[None]") -> None:
        raise NotImplementedError

    def is_last(self, request: StorefrontRequest) -> bool:
        """Whether nothing may follow the answer to it."""
        raise NotImplementedError

    def part(self) -> None:
        """Close after the last answer."""
        raise NotImplementedError

    async def start(self) -> None:
        """Runs until the connection is to be closed, and closes it."""
        task = self._task_handler or asyncio.current_task()
        assert task is not None  # noqa: S101 - it is this one
        try:
            while not self._force_close:
                if self._course is not None or not self._messages:
                    await self._next_message()
                if self._course is not None:
                    continue
                message, payload = self._messages.popleft()
                self._make_room()
                if not await self._take_turn(message, payload, task):
                    break
        except asyncio.CancelledError:
            self.force_close()
            raise
        except Exception as error:  # noqa: BLE001 - the last line of defence, as aiohttp has it
            self.log_exception("Unhandled exception", exc_info=error)
            self.force_close()
        if not self._force_close:
            self._task_handler = None
            self.part()

    async def _next_message(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _make_room(self) -> None:
        """Pipelined requests that wait for their turn are few: reading goes on as they go."""
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    async def _take_turn(
        self,
        message: Message,
        payload: StreamReader,
        task: "asyncio.Task[None]",
    ) -> bool:
        """Answer one request. Whether another may follow."""
        refused = message if isinstance(message, _ErrInfo) else None
        request = self.make_request(message, payload, task)
        self.began(task)
        try:
            response = await self._respond(request, refused)
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:
            return False
        finally:
            self._current_request = None
            self.ended(task)
            request.let_go()
        # What comes late of a body would be taken for another request.
        over = self.is_last(request) or not payload.is_eof()
        self._keepalive = bool(response.keep_alive) and not over
        if not self._keepalive or self._close or self._force_close:
            return False
        self._await_next()
        return True

    async def _respond(
        self, request: StorefrontRequest, refused: _ErrInfo | None
    ) -> web.StreamResponse:
        if refused is not None:
            return self.handle_error(request, refused.status, refused.exc)
        handler = request.handler or self._request_handler
        if handler is None:
            raise ConnectionResetError("the connection was lost before its request was looked at")
        self._current_request = request
        try:
            return await handler(request)
        except web.HTTPException as answer:
            return answer
        except Exception as error:  # noqa: BLE001 - becomes an answer
            return self.handle_error(request, 500, error)

    def _await_next(self) -> None:
        """The idle limit, by one timer that is only looked at when it fires."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(
                self._next_keepalive_close_time, self._process_keepalive
            )
