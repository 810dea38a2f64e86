"""Which answer heads count, and how their body ends: pure rules over whole heads.

llhttp (httptools) splits the fields and is strict about most of it; what it leaves to its users
is decided here.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

import httptools

from gateway.orders.attempts import LostReason
from middleware.messages import RawHeaders, connection_options, values

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
"""RFC 9112 section 4; the space before an empty phrase may be missing, as from many servers."""
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


@dataclass(frozen=True, slots=True)
class AnswerHead:
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


class _Fields:
    """Collects what httptools finds in one head."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def status_of(raw: bytes) -> int | None:
    """The status in a head's first line, where that line is well formed."""
    line = _STATUS_LINE.match(raw)
    return int(line[2]) if line else None


def read_head(raw: bytes, method: bytes, headers_max: int) -> AnswerHead:
    """Read one whole head, up to and with its empty line. Raises Broken.

    ``method`` is the request's: the answer to HEAD has no body, whatever it says.
    """
    line = _STATUS_LINE.match(raw)
    if line is None:
        raise Broken(LostReason.MALFORMED)
    status = int(line[2])
    if status == SWITCHING_PROTOCOLS:
        raise Broken(LostReason.UPGRADED)
    if raw.count(b"\r\n") - 2 > headers_max:
        raise Broken(LostReason.TOO_LARGE)
    headers = _fields(raw)
    old = line[1] == b"0"
    content_length = _content_length(headers)
    framing = _framing(method, status, headers, content_length, old)
    return AnswerHead(
        status=status,
        phrase=line[3] or b"",
        headers=headers,
        framing=framing,
        content_length=content_length,
        keep_alive=framing is not Framing.UNTIL_CLOSE and _keeps_alive(headers, old),
    )


def _fields(raw: bytes) -> RawHeaders:
    """llhttp itself refuses folded lines, control characters, and a CR or LF alone."""
    found = _Fields()
    try:
        httptools.HttpResponseParser(found).feed_data(raw)
    except httptools.HttpParserError as error:
        raise Broken(LostReason.MALFORMED) from error
    if not found.complete:
        raise Broken(LostReason.MALFORMED)
    return tuple(found.headers)


def _content_length(headers: RawHeaders) -> int | None:
    """Refuses repeated and listed values too: RFC 9110 section 8.6 allows it, and equal copies
    are a sign of two writers."""
    found = values(headers, b"content-length")
    if not found:
        return None
    if len(found) > 1 or not _LENGTH.fullmatch(found[0]):
        raise Broken(LostReason.MALFORMED)
    return int(found[0])


def _framing(
    method: bytes, status: int, headers: RawHeaders, content_length: int | None, old: bool
) -> Framing:
    codings = values(headers, b"transfer-encoding")
    chunked = [coding.lower() for coding in codings] == [b"chunked"]
    if codings and (old or not chunked or content_length is not None):
        raise Broken(LostReason.MALFORMED)
    if status < 200 or status == _NO_CONTENT:
        if codings or content_length:  # "no body" and "a body" in one head (RFC 9112 section 6.1)
            raise Broken(LostReason.MALFORMED)
        return Framing.NO_BODY
    if method == b"HEAD" or status == _NOT_MODIFIED:
        return Framing.NO_BODY
    if chunked:
        return Framing.CHUNKED
    return Framing.UNTIL_CLOSE if content_length is None else Framing.LENGTH


def _keeps_alive(headers: RawHeaders, old: bool) -> bool:
    """RFC 9112 section 9.3."""
    options = connection_options(headers)
    return b"close" not in options and (not old or b"keep-alive" in options)
