"""What a connection needs of the listener it belongs to."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from gateway.server.heads import Head, Refused
from gateway.server.limits import ServerLimits
from gateway.server.sluice import Sluice
from gateway.server.whole import Course

if TYPE_CHECKING:
    from gateway.server.at_once import AtOnce
    from gateway.server.connection import StorefrontConnection


class Listening(Protocol):
    """The listener, as its connections see it."""

    limits: ServerLimits
    draining: bool
    sluice: Sluice
    turn_off_again: Callable[[bytes, bytes, bytes], bytes | None]
    """From method, target and key to the whole answer, where the same was refused to another in
    this turn of the loop; None where the request is to be judged."""

    def opened(self, connection: "StorefrontConnection", address: str) -> Refused | None:
        """Take the connection in, unless there are too many."""
        ...

    def closed(self, connection: "StorefrontConnection", address: str) -> None: ...

    def waits_for(self, connection: "StorefrontConnection") -> bool:
        """Whether one that was not taken is given time to read why."""
        ...

    def began(self, task: "asyncio.Task[Any] | None") -> None: ...

    def ended(self, task: "asyncio.Task[Any] | None") -> None: ...

    def date(self) -> bytes: ...

    def make_id(self) -> str: ...

    def known(self, raw: bytes) -> Head | None:
        """The head that these very bytes are, where they were answered at once before."""
        ...

    def at_hand(self, head: Head, raw: bytes, address: str, limits: ServerLimits) -> bytes | None:
        """The whole answer to a request without a body, where nobody has to be asked for it.
        ``limits``: what ``head`` was read within."""
        ...

    def turned_off(self, head: Head) -> bytes | None:
        """The whole answer to a request that is refused because there is too much to do."""
        ...

    def straight(self, head: Head, raw: bytes, address: str, back: "AtOnce") -> Course | None:
        """Send a whole request where it goes, past the handler; ``back`` is told what comes of it.
        None: ask the handler."""
        ...

    def went_straight(self, course: Course) -> None:
        """It is over, or the handler's."""
        ...

    def refused(self, reason: Refused, request_id: str, peer: str) -> None: ...

    def failed(self, error: BaseException, request_id: str) -> None: ...
