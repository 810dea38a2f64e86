"""What a supervisor and its worker tell each other, over a socket pair that only they have.

The end of the stream is a message too: the other one is gone, however it died.
"""

import asyncio
import pickle  # ours to ours: nobody else can write into the socket pair
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum

from gateway.settings import ListenSettings, Settings, UpstreamSettings

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""A configuration of a megabyte, pickled, or a large page of metrics."""

_HEAD = struct.Struct("!BI")


class Word(IntEnum):
    """Down: CONFIGURATION (the first is the start), DRAIN, HURRY. Up: the rest."""

    CONFIGURATION = 1
    DRAIN = 2
    HURRY = 3
    SERVING = 4
    """JSON: where it serves storefronts and the supervisor."""
    RELOADED = 5
    REFUSED = 6
    """Why the configuration could not be taken, in UTF-8."""
    LAST_METRICS = 7
    """What it had counted when it stopped, as ``/metrics`` has it."""


@dataclass(frozen=True, slots=True)
class Message:
    word: Word
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a worker runs by. ``retired`` upstreams are no longer configured, but orders that
    were promised them may still be pending. ``listen`` is what operators configured, where the
    worker's own differs."""

    settings: Settings
    retired: tuple[UpstreamSettings, ...] = ()
    listen: ListenSettings | None = None

    def packed(self) -> bytes:
        return pickle.dumps(self)

    @staticmethod
    def unpacked(content: bytes) -> "Configuration":
        found = pickle.loads(content)  # noqa: S301 - see the import
        if not isinstance(found, Configuration):
            raise TypeError("the supervisor sent no configuration")
        return found


class Channel:
    """One end. ``receive`` by one task only."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def on(cls, sock: socket.socket) -> "Channel":
        return cls(*await asyncio.open_connection(sock=sock))

    def send(self, word: Word, content: bytes = b"") -> None:
        """Never fails: an other end that is gone is noticed by ``receive``."""
        if not self._writer.is_closing():
            self._writer.write(_HEAD.pack(word, len(content)) + content)

    async def receive(self) -> Message | None:
        """The next message; None once the other end is gone."""
        try:
            word, length = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
            if length > MESSAGE_BYTES_MAX:
                raise ValueError(f"a message of {length} bytes")
            return Message(Word(word), await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def close(self) -> None:
        """After what was sent is on its way."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
