"""Which answer heads count, and how their body ends: pure rules over whole heads."""

import re
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from gateway.orders.attempts import LostReason
from middleware.messages import RawHeaders, connection_options, fields_in, names_of, values

_STATUS = rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*+))?\r\n"
_STATUS_LINE = re.compile(_STATUS)
"""RFC 9112 section 4; the space before an empty phrase may be missing, as from many servers."""
_HEAD = re.compile(
    _STATUS + rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+)\r\n"
)
"""Names are tokens right up to the colon; no folded line, no control character, no CR or LF alone
(RFC 9112 section 5, RFC 9110 section 5.5)."""
_LENGTH = re.compile(rb"[0-9]{1,18}")
"""RFC 9112 section 6.2; 18 digits are an exabyte and can't overflow anyone's counter."""

SWITCHING_PROTOCOLS = 101
_NO_CONTENT = 204
_NOT_MODIFIED = 304


class Broken(Exception):
    """What came can't count as an answer. Never leaves this package."""

    def __init__(self, reason: LostReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Framing(StrEnum):
    """What ends an answer's body (RFC 9112 section 6.3)."""

    NO_BODY = "no_body"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until_close"


class AnswerHead(NamedTuple):
    """One answer's status line and fields, as received.

    ``content_length`` is what the field says, also where there is no body (HEAD, 304).
    ``keep_alive``: both sides may use the connection again once the answer is whole.
    """

    status: int
    phrase: bytes
    headers: RawHeaders
    framing: Framing
    content_length: int | None
    keep_alive: bool

    @property
    def interim(self) -> bool:
        return self.status < 200


def status_of(raw: bytes) -> int | None:
    """The status in a head's first line, where that line is well formed."""
    line = _STATUS_LINE.match(raw)
    return int(line[2]) if line else None


def read_head(raw: bytes, method: bytes, headers_max: int) -> AnswerHead:
    """Read one whole head, up to and with its empty line. Raises Broken.

    ``method`` is the request's: the answer to HEAD has no body, whatever it says.
    """
    found = _HEAD.fullmatch(raw)
    if found is None:
        raise Broken(LostReason.MALFORMED)
    minor, code, phrase, block = found.groups(b"")
    status, old = int(code), minor == b"0"
    if status == SWITCHING_PROTOCOLS:
        raise Broken(LostReason.UPGRADED)
    headers = fields_in(block)
    if len(headers) > headers_max:
        raise Broken(LostReason.TOO_LARGE)
    lengths, codings, connected = _special(headers)
    content_length = _content_length(lengths)
    framing = _framing(method, status, codings, content_length, old)
    keep_alive = framing is not Framing.UNTIL_CLOSE and _keeps_alive(connected, old)
    return AnswerHead(status, phrase, headers, framing, content_length, keep_alive)


def read_switch(raw: bytes, protocol: bytes, headers_max: int) -> RawHeaders:
    """The fields of a whole 101 head that switches to ``protocol``. Raises Broken."""
    found = _HEAD.fullmatch(raw)
    if found is None or found[1] == b"0":
        raise Broken(LostReason.MALFORMED)
    headers = fields_in(found[4])
    if len(headers) > headers_max:
        raise Broken(LostReason.TOO_LARGE)
    agreed = [value.lower() for value in values(headers, b"upgrade")]
    lengths, codings, connected = _special(headers)
    if agreed != [protocol] or b"upgrade" not in connection_options(connected):
        raise Broken(LostReason.UPGRADED)
    if lengths or codings:
        raise Broken(LostReason.MALFORMED)
    return headers


@lru_cache(256)  # a server writes the same names again and again
def _places(names: tuple[bytes, ...]) -> tuple[int, int] | None:
    """Where Content-Length and Connection are (-1: nowhere); None where there is more to say."""
    lower = [name.lower() for name in names]
    length, connection = lower.count(b"content-length"), lower.count(b"connection")
    if length > 1 or connection > 1 or b"transfer-encoding" in lower:
        return None
    return (
        lower.index(b"content-length") if length else -1,
        lower.index(b"connection") if connection else -1,
    )


def _special(headers: RawHeaders) -> tuple[Sequence[bytes], Sequence[bytes], RawHeaders]:
    """The values of Content-Length and of Transfer-Encoding, and the Connection fields."""
    places = _places(names_of(headers))
    if places is not None:
        length, connection = places
        lengths = () if length < 0 else (headers[length][1],)
        return lengths, (), () if connection < 0 else (headers[connection],)
    codings = [value.lower() for value in values(headers, b"transfer-encoding")]
    connected = tuple(field for field in headers if field[0].lower() == b"connection")
    return values(headers, b"content-length"), codings, connected


def _content_length(lengths: Sequence[bytes]) -> int | None:
    """Refuses repeated and listed values too: RFC 9110 section 8.6 allows it, and equal copies
    are a sign of two writers."""
    if not lengths:
        return None
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise Broken(LostReason.MALFORMED)
    return int(lengths[0])


def _framing(
    method: bytes, status: int, codings: Sequence[bytes], content_length: int | None, old: bool
) -> Framing:
    if codings and (old or list(codings) != [b"chunked"] or content_length is not None):
        raise Broken(LostReason.MALFORMED)
    if status < 200 or status == _NO_CONTENT:
        if codings or content_length:  # "no body" and "a body" in one head (RFC 9112 section 6.1)
            raise Broken(LostReason.MALFORMED)
        return Framing.NO_BODY
    if method == b"HEAD" or status == _NOT_MODIFIED:
        return Framing.NO_BODY
    if codings:
        return Framing.CHUNKED
    return Framing.UNTIL_CLOSE if content_length is None else Framing.LENGTH


def _keeps_alive(connected: RawHeaders, old: bool) -> bool:
    """RFC 9112 section 9.3."""
    if not connected:
        return not old
    if len(connected) == 1 and connected[0][1].lower() == b"keep-alive":
        return True
    options = connection_options(connected)
    return b"close" not in options and (not old or b"keep-alive" in options)
