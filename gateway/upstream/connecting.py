"""Why there is no connection: the errors of sockets and name resolution, translated."""

import socket
import ssl

from gateway.orders.attempts import NotSentReason
from middleware.errors import CannotGoOn, Fault


class ConnectFailed(CannotGoOn):
    """There is no connection to the upstream, so nothing was sent: a repeat is safe."""

    fault = Fault.UPSTREAM
    repeat_is_safe = True

    def __init__(self, reason: NotSentReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def reason_of(error: OSError | UnicodeError) -> NotSentReason:
    """The reason for what ``create_connection`` raised.

    UnicodeError is how a name that IDNA can't encode shows. Where several addresses failed in
    different ways asyncio raises one OSError without a number: the general reason.
    """
    match error:
        case UnicodeError() | socket.gaierror():
            return NotSentReason.NAME_NOT_RESOLVED
        case ssl.SSLError():
            return NotSentReason.TLS_FAILED
        case ConnectionRefusedError():
            return NotSentReason.CONNECT_REFUSED
        case TimeoutError():
            return NotSentReason.CONNECT_TIMEOUT
        case _:
            return NotSentReason.CONNECT_FAILED
