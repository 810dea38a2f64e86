"""What requests that go straight have in common, whatever is asked."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol, TypeAlias

from aiohttp import web

from gateway.telemetry import Telemetry
from middleware.messages import RawHeaders

BYTES_MAX = 65_536
"""Of a request's body and of an answer: one write. Larger ones are given time piece by piece."""

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Back(Protocol):
    """The client's connection, while a request of its goes straight."""

    @property
    def transport(self) -> asyncio.Transport | None: ...

    def now(self) -> float:
        """Loop time."""
        ...

    def date(self) -> bytes: ...

    def may_be_answered(self) -> bool:
        """Whether a whole answer may be written now, with nothing to say of the connection; also
        where the client has left, and nothing will be."""
        ...

    def answered(self, answer: bytes) -> None:
        """The whole answer. Nothing of a course may happen after this."""
        ...

    def abort(self) -> None:
        """Reset it: the client is not to wait for what will not come."""
        ...

    def goes_on(self) -> bool:
        """A request is to be made of it after all, with the course's ``marks``, for its
        ``handler``. False: the client has left; the course is to end by ``answered``."""
        ...


class Line(NamedTuple):
    """A request's head, whose client it is, and the id it was given."""

    method: bytes
    target: bytes
    fields: RawHeaders
    address: str
    identity: str


class StraightLog:
    """The line of the access log (``middleware.access_log``). ``client(address, fields)``: whose
    request it is."""

    def __init__(self, telemetry: Telemetry, client: Callable[[str, RawHeaders], str]) -> None:
        self._telemetry = telemetry
        self._client = client
        self._log = telemetry.log_of("requests").info

    def __call__(
        self, line: Line, status: int | None, size: int, took_s: float, order: str | None = None
    ) -> None:
        if self._telemetry.is_silent("requests", "info"):
            return
        more = {} if order is None else {"order": order}
        self._log(
            "request",
            method=line.method.decode("ascii"),
            path=line.target.partition(b"?")[0].decode("ascii"),
            status=status,
            duration_ms=round(took_s * 1000, 3),
            bytes=size,
            request_id=line.identity,
            **more,
            client=self._client(line.address, line.fields),
        )
