"""One end of a simulated TCP connection: an asyncio transport above, segments on links below.

What the kernel would own lives on when the process pauses or dies: segments on the wire and the
inbox. What the process owns (the write buffer, every callback) is scheduled in its life.

- Bytes written go to the wire while the peer's window has room, cut at random; the rest waits
  in the write buffer, with back-pressure by ``pause_writing``.
- ``close`` flushes, then sends FIN; with bytes unread in the inbox it sends RST, as Linux does.
- ``abort`` throws the write buffer away and sends RST. On a RST the peer may lose what it has
  not read yet (drawn), then sees ConnectionResetError at its next read or write.
- Bytes that reach a closed socket are answered by RST; a host without power answers nothing.
"""

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context
from enum import Enum
from typing import Any, Protocol

from .lives import Life
from .loop import SimulatedLoop

WINDOW_BYTES = 65_536
"""Bytes on the wire and unread by the peer, as a kernel's receive buffer bounds them."""

READ_BYTES_MAX = 262_144
"""What one ``data_received`` gets at most: asyncio's own figure."""

WRITE_BUFFER_HIGH_BYTES = 65_536
"""asyncio's default; the low mark is a quarter of it."""


class Mark(Enum):
    """What is on a wire besides bytes."""

    FIN = "fin"
    RST = "reset"
    ACK = "window update"


class Segment:
    """Bytes or a mark on the way; ``arrived`` waits for those before it."""

    __slots__ = ("arrived", "item")

    def __init__(self, item: bytes | Mark) -> None:
        self.item = item
        self.arrived = False


class Link(Protocol):
    """One direction between two hosts, as its transports see it."""

    def carry(self, arrive: Callable[[], None], stalled: Callable[[], None]) -> None: ...
    def cut_at(self, size_bytes: int) -> int: ...
    def loses_unread(self) -> bool: ...


class SimulatedTransport(asyncio.Transport):
    """Behaves as asyncio's selector transport does; ``outgoing`` is its link to the peer."""

    def __init__(
        self,
        loop: SimulatedLoop,
        life: Life,
        context: Context,
        outgoing: Link,
        extra: dict[str, Any],
        label: str,
        note: Callable[[str, str], None],
        give_up_s: float,
    ) -> None:
        super().__init__({"socket": None, "sslcontext": None, **extra})
        self.peer: SimulatedTransport | None = None
        self.life = life
        self.without_power = False
        self._loop = loop
        self._context = context
        self._outgoing = outgoing
        self._label = label
        self._note = note
        self._give_up_s = give_up_s
        self._giving_up: asyncio.TimerHandle | None = None
        self._protocol: asyncio.Protocol | None = None
        self._unsent = bytearray()
        self._wire: deque[Segment] = deque()
        self._in_flight_bytes = 0
        self._inbox: deque[bytes | Mark] = deque()
        self._read_scheduled = False
        self._reading_paused = False
        self._writing_paused = False
        self._closing = False
        self._gone = False  # the process has closed its socket, or was closed with it
        self._eof = False
        self._fin_sent = False
        self._input_ended = False
        self._reset = False
        self._high_bytes = WRITE_BUFFER_HIGH_BYTES
        self._low_bytes = WRITE_BUFFER_HIGH_BYTES // 4

    # For the network

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the established connection to its protocol. Runs in the life of this end."""
        self.set_protocol(protocol)
        protocol.connection_made(self)
        self._wake()

    def vanish(self, *, without_power: bool) -> None:
        """The process died. Its kernel closes the socket, or was switched off with it."""
        self._unsent.clear()
        self.without_power = without_power
        self._close_socket(silent=without_power)

    def refuse(self) -> None:
        """Give up a connection that nobody waits for any more, established or not."""
        self._closing = self._gone = True
        if self.peer is not None and not self._reset and not self.without_power:
            self._reset = True
            self._send(Mark.RST)

    def has_input(self) -> bool:
        """The kernel has something that the process has not read."""
        return bool(self._inbox)

    def has_ended(self) -> bool:
        """The kernel knows that nothing more comes, read or not."""
        return self._input_ended or any(isinstance(item, Mark) for item in self._inbox)

    def is_over(self) -> bool:
        """Nothing of this end matters any more: closed, and all it sent has arrived."""
        return self._gone and not self._wire

    def forget(self) -> None:
        """Power is back on a host that knows nothing of this connection: bytes get RST now."""
        self.without_power = False
        if self.peer is not None and self.peer._wire and self.peer._wire[0].arrived:
            self.peer._deliver()

    # For the process: reading

    def is_reading(self) -> bool:
        return not self._reading_paused and not self._closing

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False
        self._wake()

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        if not isinstance(protocol, asyncio.Protocol):
            raise NotImplementedError("only asyncio.Protocol is simulated")
        self._protocol = protocol

    # For the process: writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data or self._closing:
            return
        if self._reset:
            self._lose(BrokenPipeError(errno.EPIPE, "Broken pipe"))
            return
        self._unsent += data
        self._pump()
        if len(self._unsent) > self._high_bytes and not self._writing_paused:
            self._writing_paused = True
            if self._protocol is not None:
                self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._eof and not self._closing:
            self._eof = True
            self._pump()

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low_bytes, self._high_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = WRITE_BUFFER_HIGH_BYTES if low is None else 4 * low
        low = high // 4 if low is None else low
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high_bytes, self._low_bytes = high, low

    # For the process: ending

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if not self._unsent:
            self._end(None)

    def abort(self) -> None:
        if self._gone:
            return
        self._unsent.clear()
        if not self._reset:
            self._reset = True
            self._send(Mark.RST)
        self._end(None)

    # What goes on inside when sending

    def _pump(self) -> None:
        while self._unsent and (room := WINDOW_BYTES - self._in_flight_bytes) > 0:
            size = self._outgoing.cut_at(min(len(self._unsent), room))
            self._in_flight_bytes += size
            self._send(bytes(self._unsent[:size]))
            del self._unsent[:size]
        if self._eof and not self._unsent and not self._fin_sent:
            self._fin_sent = True
            self._send(Mark.FIN)

    def _send(self, item: bytes | Mark) -> None:
        if self.peer is None:  # the handshake never got so far
            return
        segment = Segment(item)
        self._wire.append(segment)

        def arrive() -> None:
            segment.arrived = True
            self._deliver()

        self._outgoing.carry(arrive, self._stalled)

    def _deliver(self) -> None:
        """Give the peer what has arrived without a gap: TCP keeps order whatever the delays."""
        if self.peer is None or self.peer.without_power:
            self._stalled()
            return
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
        while self._wire and self._wire[0].arrived:
            self.peer._receive(self._wire.popleft().item)

    def _stalled(self) -> None:
        if self._giving_up is None and not self._gone:
            self._giving_up = self._loop.call_later(
                self._give_up_s, self._give_up, context=Context()
            )

    def _give_up(self) -> None:
        error = TimeoutError(errno.ETIMEDOUT, "Connection timed out")
        self._in_life(self._lose, error)

    def _on_writable(self) -> None:
        if self._gone:
            return
        self._pump()
        if self._writing_paused and len(self._unsent) <= self._low_bytes:
            self._writing_paused = False
            if self._protocol is not None:
                self._protocol.resume_writing()
        if self._closing and not self._unsent:
            self._end(None)

    # What goes on inside when receiving

    def _receive(self, item: bytes | Mark) -> None:
        """A segment has reached this end's kernel."""
        if item is Mark.ACK:
            self._in_life(self._on_writable)
        elif self._gone:
            if isinstance(item, bytes) and not self._reset:
                self._reset = True
                self._send(Mark.RST)
        elif item is Mark.RST:
            self._receive_reset()
        else:
            self._inbox.append(item)
            self._wake()

    def _receive_reset(self) -> None:
        self._reset = True
        if self._outgoing.loses_unread():
            self._inbox.clear()
        self._inbox.append(Mark.RST)
        if self._unsent or self._closing:
            self._in_life(self._lose, _reset_by_peer())
        self._wake()

    def _wake(self) -> None:
        ready = self._inbox and not self._reading_paused and not self._closing
        if ready and not self._read_scheduled and self._protocol is not None:
            self._read_scheduled = True
            self._in_life(self._read)

    def _read(self) -> None:
        self._read_scheduled = False
        if not self._inbox or self._reading_paused or self._closing or self._protocol is None:
            return
        match self._inbox[0]:
            case bytes():
                self._read_bytes(self._protocol)
            case Mark.FIN:
                self._inbox.popleft()
                self._input_ended = True
                self._note(self.life.host, f"{self._label} end of input")
                if not self._protocol.eof_received():
                    self.close()
            case _:
                self._lose(_reset_by_peer())
        self._wake()

    def _read_bytes(self, protocol: asyncio.Protocol) -> None:
        pieces: list[bytes] = []
        size = 0
        while self._inbox and isinstance(piece := self._inbox[0], bytes) and size < READ_BYTES_MAX:
            pieces.append(piece)
            size += len(piece)
            self._inbox.popleft()
        if self.peer is not None:
            self.peer._in_flight_bytes -= size
            if self.peer._unsent:
                self._send(Mark.ACK)
        self._note(self.life.host, f"{self._label} reads {size}")
        protocol.data_received(b"".join(pieces))

    # What goes on inside when ending

    def _lose(self, error: OSError) -> None:
        """The connection broke: no FIN can be sent, nothing more can be read."""
        if not self._gone:
            self._unsent.clear()
            self._reset = True
            self._end(error)

    def _end(self, error: OSError | None) -> None:
        self._close_socket(silent=False)
        how = f"closed by {type(error).__name__}" if error else "closed"
        self._note(self.life.host, f"{self._label} {how}")
        self._in_life(self._lost, error)

    def _close_socket(self, *, silent: bool) -> None:
        if self._gone:
            return
        self._closing = self._gone = True
        if self._giving_up is not None:
            self._giving_up.cancel()
        if silent or self._reset:
            return
        if any(isinstance(item, bytes) for item in self._inbox):
            self._reset = True
            self._send(Mark.RST)
        elif not self._fin_sent:
            self._fin_sent = True
            self._send(Mark.FIN)

    def _lost(self, error: OSError | None) -> None:
        protocol, self._protocol = self._protocol, None
        self._inbox.clear()
        if protocol is not None:
            protocol.connection_lost(error)

    def _in_life(self, callback: Callable[..., object], *args: object) -> None:
        self._loop.call_soon(callback, *args, context=self._context)


def _reset_by_peer() -> OSError:
    return ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
