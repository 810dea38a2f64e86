"""What the hop writes: one request head, well formed or not at all. Pure."""

import re
from dataclasses import dataclass, field
from functools import lru_cache

from middleware.messages import HOP_BY_HOP, RawHeaders, are_lines
from middleware.values import light

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110 section 5.6.2."""
_ORIGIN_FORM = re.compile(rb"/[\x21\x22\x24-\x7e]*")
"""RFC 9112 section 3.2.1, as lenient as servers are with what RFC 3986 would encode; no ``#``."""
_NOT_CALLERS = HOP_BY_HOP | {b"content-length"}
"""Fields of the connection and of framing: the hop's own business."""
_MEANS_A_BODY = frozenset({b"POST", b"PUT", b"PATCH"})
"""Methods whose empty body is announced (RFC 9110 section 8.6)."""


class IllFormedRequest(ValueError):
    """The request could not be written so that every reader understands the same by it."""


@light
@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One request as the upstream is to see it.

    ``headers`` are end to end, with exactly one ``Host``. Raises IllFormedRequest when made:
    before a claim, not after it. ``lines``: what an earlier one of the same fields made of them.
    """

    method: bytes
    target: bytes
    headers: RawHeaders
    body: bytes = b""
    lines: bytes | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.lines is None:
            _check_request_line(self.method, self.target)
            object.__setattr__(self, "lines", _field_lines(self.headers))

    def upgrade_head(self, protocol: bytes) -> bytes:
        """The same without a body, asking for another protocol (RFC 9110 section 7.8)."""
        upgrade = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % protocol
        parts = (self.method, self.target, self.lines or b"", upgrade)
        return b"%b %b HTTP/1.1\r\n%b%b\r\n" % parts

    def head(self, *, length: int | None) -> bytes:
        """The request's head (RFC 9112 section 3), framed by a length, or by chunks where None."""
        parts = (self.method, self.target, self.lines or b"", framing(self.method, length))
        return b"%b %b HTTP/1.1\r\n%b%b\r\n" % parts


def framing(method: bytes, length: int | None) -> bytes:
    """The field line that says where a request's body ends; None: chunks do."""
    if length is None:
        return b"Transfer-Encoding: chunked\r\n"
    if length or method in _MEANS_A_BODY:
        return b"Content-Length: %d\r\n" % length
    return b""


def _check_request_line(method: bytes, target: bytes) -> None:
    if not _TOKEN.fullmatch(method) or method == b"CONNECT":
        raise IllFormedRequest(f"not a method for this hop: {method[:40]!r}")
    if target == b"*" and method == b"OPTIONS":
        return
    if not _ORIGIN_FORM.fullmatch(target):
        raise IllFormedRequest(f"not a target in origin form: {target[:40]!r}")


def _field_lines(headers: RawHeaders) -> bytes:
    _check_names(tuple([name for name, _ in headers]))
    lines = b"".join([b"%b: %b\r\n" % each for each in headers])
    if not are_lines(lines, len(headers)):
        raise IllFormedRequest("control characters in a value")
    return lines


@lru_cache(256)  # a client sends the same names again and again; 256 of the largest are 8 MiB
def _check_names(names: tuple[bytes, ...]) -> None:
    hosts = 0
    for name in names:
        lower = name.lower()
        if not _TOKEN.fullmatch(name):
            raise IllFormedRequest(f"not a field name: {name[:40]!r}")
        if lower in _NOT_CALLERS:
            raise IllFormedRequest(f"the hop itself writes {name[:40]!r}, or leaves it out")
        hosts += lower == b"host"
    if hosts != 1:
        raise IllFormedRequest("a request has exactly one Host")
