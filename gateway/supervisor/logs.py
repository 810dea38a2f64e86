"""Log lines on stderr, each part of the gateway at its own level; levels change while it runs."""

import logging
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import ExitStack, suppress
from functools import cache, partial
from typing import Any, BinaryIO, TextIO, cast

import orjson
import structlog

from gateway.settings import LogSettings

STDERR = 2


class Levels:
    """Which lines are written. ``apply`` takes effect with the next line."""

    def __init__(self, settings: LogSettings) -> None:
        self._least = 0
        self._of_part: Mapping[str, int] = {}
        self.apply(settings)

    def apply(self, settings: LogSettings) -> None:
        self._least = _number(settings.level)
        self._of_part = {part: _number(level) for part, level in settings.levels.items()}

    def gate(
        self, _logger: Any, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """The first processor: drops what its part's level, or else the level of all, forbids."""
        if self.is_silent(event.get("part", ""), method):
            raise structlog.DropEvent
        return event

    def is_silent(self, part: str, method: str) -> bool:
        """Whether a line of this part at this level is dropped."""
        least = self._of_part.get(part, self._least)
        return _number("error" if method == "exception" else method) < least


class _Timestamp:
    """The processor that adds the time, in UTC; the part above a second is made once in it."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        now_us = time.time_ns() // 1000
        second = now_us // 1_000_000
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        event["timestamp"] = f"{self._text}.{now_us % 1_000_000:06}Z"
        return event


def _untold(_count: int) -> bytes:
    return b""


class Unfailing:
    """An open file, such as stderr, whose lines are lost where it can't be written at once (a full
    disk, a reader that is gone, or that stands still with its pipe full): no order is lost or held
    up for the sake of its log.

    ``lost(count)``: what is written in place of so many, once it can be. A line that was begun is
    ended before the next.
    """

    def __init__(self, descriptor: int, lost: Callable[[int], bytes] = _untold) -> None:
        self._own = ExitStack()
        self._write_at_once = _writer(descriptor, self._own)
        self._said = lost
        self._lost = 0
        self._begun = b""
        self._line: list[bytes] = []
        self._lock = threading.Lock()  # two loggers write here, each under a lock of its own

    def write(self, text: str | bytes) -> None:
        """As much as there is of a line; ``flush`` ends it."""
        data = text.encode(errors="backslashreplace") if isinstance(text, str) else text
        with self._lock:
            self._line.append(data)

    def flush(self) -> None:
        with self._lock:
            line = b"".join(self._line)
            self._line.clear()
            if line and not self._written(line):
                self._lost += 1

    def close(self) -> None:
        """What was opened for it; the file itself is its owner's."""
        self._own.close()

    def _written(self, line: bytes) -> bool:
        """Whether it was, or at least begun."""
        if self._begun:
            self._begun = self._rest(self._begun)
        if self._begun:
            return False
        if self._lost:
            line = self._said(self._lost) + line
        rest = self._rest(line)
        if len(rest) == len(line):
            return False
        self._lost, self._begun = 0, rest
        return True

    def _rest(self, data: bytes) -> bytes:
        """What could not be written."""
        with suppress(OSError):
            while data:
                data = data[self._write_at_once(data) :]
        return data


def _writer(descriptor: int, own: ExitStack) -> Callable[[bytes], int]:
    """Writes as much as it can without waiting, and says how much. A pipe is opened once more, as
    what is set on one that was inherited holds for all who have it. ``own`` closes what is."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        sock = own.enter_context(socket.socket(fileno=os.dup(descriptor)))
        return lambda data: sock.send(data, socket.MSG_DONTWAIT)
    if stat.S_ISFIFO(mode):
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
            opened = os.open(f"/dev/fd/{descriptor}", flags)
            own.callback(os.close, opened)
            return partial(os.write, opened)
    return partial(os.write, descriptor)


@cache
def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def configure_logging(settings: LogSettings, **fields: object) -> Levels:
    """One line an event: JSON for machines, or readable for people. ``fields`` are in each."""
    levels = Levels(settings)

    def with_fields(
        _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event.update(fields)
        return event

    shared: list[Any] = [
        levels.gate,
        *((with_fields,) if fields else ()),
        structlog.processors.add_log_level,
        _Timestamp(),
        structlog.processors.format_exc_info,
    ]
    renderer: Any
    factory: Any

    def lost(count: int) -> bytes:
        event = {"event": "log lines lost", "count": count, "part": "process", "level": "warning"}
        line = renderer(None, "warning", _Timestamp()(None, "", {**event, **fields}))
        return (line.encode() if isinstance(line, str) else bytes(line)) + b"\n"

    stream = Unfailing(STDERR, lost)
    if settings.format == "json":
        renderer = structlog.processors.JSONRenderer(serializer=orjson.dumps)
        factory = structlog.BytesLoggerFactory(file=cast("BinaryIO", stream))
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        factory = structlog.PrintLoggerFactory(file=cast("TextIO", stream))
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),  # the gate decides
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=cast("TextIO", stream))
    return levels
