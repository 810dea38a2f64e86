"""What an independent strict parser, h11, says of every byte that left the gateway."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import h11

EVENT_BYTES_MAX = 1 << 20
"""h11's own bound would object to heads that the gateway may take."""


@dataclass(frozen=True)
class Request:
    """One request, as h11 understood it."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for field_name, value in self.headers if field_name == name]


@dataclass(frozen=True)
class Answer:
    """One final answer, as h11 understood it; ``whole`` unless the connection cut it short."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    whole: bool
    interims: tuple[int, ...] = ()

    def values(self, name: bytes) -> list[bytes]:
        return [value for field_name, value in self.headers if field_name == name]


@dataclass
class ServerJudge:
    """Reads what the gateway sends upstream on one connection."""

    parser: h11.Connection = field(
        default_factory=lambda: h11.Connection(h11.SERVER, EVENT_BYTES_MAX)
    )
    requests: list[Request] = field(default_factory=list)
    ill_formed: list[str] = field(default_factory=list)
    cut_short: int = 0
    received: int = 0
    _head: h11.Request | None = None
    _body: bytearray = field(default_factory=bytearray)

    def take(self, data: bytes) -> list[Request]:
        """The requests that ``data`` completes; what is ill formed is noted."""
        self.received += len(data)
        whole: list[Request] = []
        try:
            self.parser.receive_data(data)
            self._read(whole)
        except h11.RemoteProtocolError as error:
            if not data:  # well formed as far as it went: an upload whose client failed
                self.cut_short += self._head is not None
            else:
                self.ill_formed.append(f"{error} in {data[:200]!r}")
        self.requests += whole
        return whole

    def _read(self, whole: list[Request]) -> None:
        while True:
            event = self.parser.next_event()
            match event:
                case h11.Request():
                    self._head = event
                    self._body.clear()
                case h11.Data():
                    self._body += event.data
                case h11.EndOfMessage():
                    head = self._head
                    assert head is not None
                    fields = tuple(head.headers)
                    whole.append(Request(head.method, head.target, fields, bytes(self._body)))
                    self._head = None
                    self._answered()
                case _:
                    return

    def _answered(self) -> None:
        """h11 wants to be told that an answer was sent before it reads on."""
        self.parser.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
        self.parser.send(h11.EndOfMessage())
        if self.parser.our_state is h11.DONE and self.parser.their_state is h11.DONE:
            self.parser.start_next_cycle()


def answers_in(raw: bytes, methods: Sequence[bytes], *, ended: bool = True) -> list[Answer]:
    """Every answer in ``raw``, to requests with ``methods`` in turn.

    ``ended``: the connection was closed cleanly after it. Raises h11.RemoteProtocolError for what
    h11 finds ill formed, and AssertionError for bytes that nobody asked for.
    """
    parser = h11.Connection(h11.CLIENT, EVENT_BYTES_MAX)
    parser.receive_data(raw)
    if ended:
        parser.receive_data(b"")
    found: list[Answer] = []
    for method in methods:
        if not parser.trailing_data[0]:
            break
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        parser.send(h11.EndOfMessage())
        answer = _answer(parser)
        if answer is None:
            break
        found.append(answer)
        if not answer.whole or parser.their_state is not h11.DONE:
            break
        parser.start_next_cycle()
    left = parser.trailing_data[0]
    assert not left, f"bytes that nobody asked for: {left[:200]!r}"
    return found


def _answer(parser: h11.Connection) -> Answer | None:
    head: h11.Response | None = None
    body = bytearray()
    interims: list[int] = []
    while True:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError:
            if head is None:
                raise
            return Answer(head.status_code, tuple(head.headers), bytes(body), False)
        match event:
            case h11.InformationalResponse():
                interims.append(event.status_code)
            case h11.Response():
                head = event
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                assert head is not None
                fields = tuple(head.headers)
                return Answer(head.status_code, fields, bytes(body), True, tuple(interims))
            case _:
                if head is None:
                    return None
                return Answer(head.status_code, tuple(head.headers), bytes(body), False)
