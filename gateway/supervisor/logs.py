"""Log lines on stderr, each part of the gateway at its own level; levels change while it runs."""

import logging
import sys
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from functools import cache
from typing import IO, Any, BinaryIO, TextIO, cast

import orjson
import structlog

from gateway.settings import LogSettings


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


class Unfailing:
    """A stream whose lines are lost where it can't be written (a full disk, a reader that is gone):
    no order is, for the sake of its log."""

    def __init__(self, stream: IO[Any]) -> None:
        self._stream = stream

    def write(self, line: Any) -> None:
        with suppress(OSError):
            self._stream.write(line)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


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
    if settings.format == "json":
        renderer = structlog.processors.JSONRenderer(serializer=orjson.dumps)
        factory = structlog.BytesLoggerFactory(file=cast("BinaryIO", Unfailing(sys.stderr.buffer)))
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        factory = structlog.PrintLoggerFactory(file=cast("TextIO", Unfailing(sys.stderr)))
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),  # the gate decides
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    return levels
