"""The strict reading of a request's head, from its raw bytes (RFC 9112). Pure.

aiohttp's parser reads the same bytes afterwards. This reading is narrower, so that nothing it
lets through is understood in two ways by anyone further on; and it sees what the parser
hides: the protocol's name, the size of the whole head, and where the message ends.
"""

import re
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from gateway.server.limits import ServerLimits
from middleware.messages import HOP_BY_HOP, RawHeaders, fields_in, names_of


class Refused(StrEnum):
    """Why a request was refused before anything looked at what it wants."""

    NOT_HTTP = "not_http"
    BARE_LINE_FEED = "bare_line_feed"
    REQUEST_LINE = "bad_request_line"
    SIMPLE_REQUEST = "http_0_9"
    VERSION = "http_version"
    METHOD_UNKNOWN = "method_unknown"
    METHOD_REFUSED = "method_not_implemented"
    TARGET_FORM = "target_not_origin_form"
    TARGET_CHARACTERS = "target_characters"
    TARGET_ESCAPE = "target_percent_encoding"
    TARGET_DOTS = "target_dot_segment"
    TARGET_SLASH = "target_encoded_slash"
    TARGET_TOO_LONG = "target_too_long"
    HEAD_TOO_LARGE = "head_too_large"
    TOO_MANY_FIELDS = "too_many_fields"
    FIELD_LINE = "bad_field_line"
    FOLDED = "folded_field_line"
    UNDERSCORE = "underscore_in_field_name"
    HOST_MISSING = "host_missing"
    HOST_REPEATED = "host_repeated"
    HOST_INVALID = "host_invalid"
    LENGTH_INVALID = "content_length_invalid"
    LENGTH_REPEATED = "content_length_repeated"
    LENGTH_AND_CODING = "content_length_and_transfer_encoding"
    CODING_INVALID = "transfer_encoding_invalid"
    CODING_UNKNOWN = "transfer_encoding_unknown"
    CODING_ON_1_0 = "transfer_encoding_on_http_1_0"
    CONNECTION_OPTION = "connection_names_end_to_end_field"
    UPGRADE = "upgrade"
    EXPECTATION = "expectation"
    HEADER_TIMEOUT = "header_timeout"
    PARSER_DISAGREES = "parser_disagrees"
    CONNECTIONS = "too_many_connections"
    CONNECTIONS_OF_ADDRESS = "too_many_connections_of_an_address"


METHODS = frozenset(
    b"ACL BIND CHECKOUT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR "
    b"MKCOL MOVE NOTIFY OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT "
    b"SEARCH SOURCE SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE".split()
)
"""What llhttp knows, without CONNECT (no tunnels) and TRACE (it would echo credentials).

Those two are recognised but implemented for no resource: 501 (RFC 9110 section 9.1), not 405,
which speaks of one resource and must list the others.
"""

_NOT_IMPLEMENTED = frozenset({b"CONNECT", b"TRACE"})

_EXTENSION = re.compile(rb"[A-Za-z][A-Za-z0-9._-]{0,31}")
"""Any other method that is passed on: a token (RFC 9110 section 9.1) of the bytes that no server
reads anything else into, and of none of the known methods' letters, however they are written: an
upstream that doesn't mind small letters would take an order that no route saw."""

_RESERVED = METHODS | _NOT_IMPLEMENTED | {b"PRI"}

STAND_IN = b"POST"
"""What aiohttp's parser, whose list of methods is closed, is shown instead of any other method. No
method changes how it reads the rest, but CONNECT."""

TUNNELLED = frozenset({b"websocket"})
"""What a plain route's upstream may switch to (RFC 6455); our bytes are its bytes then."""

IGNORED_UPGRADES = frozenset({b"h2c"})
"""An upgrade may be ignored (RFC 9110 section 7.8). Java's HTTP client offers h2c with every
first request over plain TCP and is content with HTTP/1.1."""

_CONNECTION_OPTIONS = HOP_BY_HOP | {b"close", b"http2-settings"}
"""Anything else would have a proxy delete a field that is meant for the recipient, such as
Idempotency-Key (RFC 9110 section 7.6.1)."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([^ ]+) HTTP/([0-9])\.([0-9])")
_SIMPLE_REQUEST = re.compile(rb"[A-Z]+ [^ ]+")
TARGET = re.compile(rb"/[!$-\[\]-~\"]*")
"""Visible ASCII without ``#`` (a fragment is never sent) and without a backslash, which some
servers take for a slash; the rest passes as it is, even where RFC 3986 would escape it."""
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_DOT_SEGMENT = re.compile(rb"(?:/|%2[Ff]|%5[Cc])(?:\.|%2[Ee]){1,2}(?:/|;|%2[Ff]|%5[Cc]|%3[Bb]|\Z)")
"""``.`` or ``..``, as it stands or as somebody would decode it: for whoever resolves it it leads
to another path. Clients have done that before they send anything (RFC 3986 section 5.2.4)."""
_ENCODED_SLASH = re.compile(rb"%(?:2[Ff]|5[Cc])")
"""A slash or a backslash for whoever decodes it: the path has more segments for him than for us."""
VALUE = rb"[\t -~\x80-\xff]*+"
_FIELD_LINES = rb"(?:[!#$%&'*+.^`|~0-9A-Za-z-]++:" + VALUE + rb"\r\n)*+"
"""Names are tokens without the underscore: servers that map names to variables (CGI, WSGI) make
one of ``X_Forwarded_For`` and ``X-Forwarded-For``, so the odd one could pass for a trusted one.
Values are visible bytes, any encoding; no NUL, no control characters, no folding."""
_FIELDS = re.compile(_FIELD_LINES)
_HEAD = re.compile(
    rb"(" + _TOKEN + rb") (" + TARGET.pattern + rb") HTTP/1\.([01])\r\n(" + _FIELD_LINES + rb")"
)
"""All that can be said of a head in one look, so that an ordinary one costs one look."""
HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
LENGTH = re.compile(rb"[0-9]{1,18}")
_SPECIAL = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect"}
)
_EXTRAORDINARY = frozenset(
    {
        b"expect",
        b"http2-settings",
        b"proxy-connection",
        b"sec-websocket-key1",
        b"transfer-encoding",
        b"upgrade",
    }
)


class Head(NamedTuple):
    """A request head that nobody can take for another. ``body_bytes``: 0 where there is no body,
    None where it comes in chunks and says itself where it ends. ``ordinary``: there is nothing in
    it that aiohttp's parser could object to, or read in another way (the tests try to find one);
    the others are shown to it."""

    method: bytes
    target: bytes
    minor: int
    fields: RawHeaders
    body_bytes: int | None
    expects_continue: bool
    closes: bool
    ordinary: bool
    upgrade: bool = False

    @property
    def parsed_as(self) -> bytes:
        """The method as aiohttp's parser is shown it."""
        return self.method if self.method in METHODS else STAND_IN

    def for_parser(self, raw: bytes) -> bytes:
        """The request's bytes as it is shown them."""
        known = self.method in METHODS
        return raw if known else STAND_IN + raw[len(self.method) :]


def check_request_line(line: bytes, limits: ServerLimits) -> Refused | None:
    """Refuse by the request line alone, as soon as it is there (without its CR LF)."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        return _why_no_request_line(line, limits)
    method, target, major, minor = match.groups()
    if major != b"1" or minor not in (b"0", b"1"):
        return Refused.VERSION
    return _check_method(method) or _check_target(target, limits)


def _check_method(method: bytes) -> Refused | None:
    if method in METHODS:
        return None
    if method in _NOT_IMPLEMENTED:
        return Refused.METHOD_REFUSED
    plain = _EXTENSION.fullmatch(method) and method.upper() not in _RESERVED
    return None if plain else Refused.METHOD_UNKNOWN


def _why_no_request_line(line: bytes, limits: ServerLimits) -> Refused:
    if len(line) > limits.target_bytes_max:
        return Refused.TARGET_TOO_LONG
    if line.startswith(b"PRI * HTTP/"):
        return Refused.VERSION
    if _SIMPLE_REQUEST.fullmatch(line):
        return Refused.SIMPLE_REQUEST
    return Refused.REQUEST_LINE


def _check_target(target: bytes, limits: ServerLimits) -> Refused | None:
    if len(target) > limits.target_bytes_max:
        return Refused.TARGET_TOO_LONG
    if not target.startswith(b"/"):
        return Refused.TARGET_FORM
    if not TARGET.fullmatch(target):
        return Refused.TARGET_CHARACTERS
    return _check_path(target, limits)


def _check_path(target: bytes, limits: ServerLimits) -> Refused | None:
    if b"%" in target:
        return _check_encoded(target, limits)
    if b"." in target and _DOT_SEGMENT.search(target.partition(b"?")[0]):
        return Refused.TARGET_DOTS
    return None


def _check_encoded(target: bytes, limits: ServerLimits) -> Refused | None:
    if _BAD_ESCAPE.search(target):
        return Refused.TARGET_ESCAPE
    path = target.partition(b"?")[0]
    if _DOT_SEGMENT.search(path):
        return Refused.TARGET_DOTS
    if not limits.encoded_slashes_pass and _ENCODED_SLASH.search(path):
        return Refused.TARGET_SLASH
    return None


def read_head(head: bytes, limits: ServerLimits) -> Head | Refused:
    """Judge a whole head, from the request line to the last field line's CR LF inclusive.

    The empty line at the end is not part of ``head``.
    """
    found = _HEAD.fullmatch(head)
    if found is None or len(found[2]) > limits.target_bytes_max:
        return _why_no_head(head, limits)
    method, target, digit, block = found.groups()
    fields = fields_in(block)
    refused = _check_method(method) or _check_path(target, limits)
    if refused is not None:
        return refused
    if len(fields) > limits.fields_max:
        return Refused.TOO_MANY_FIELDS
    plain = _plain_head(method, target, fields) if digit == b"1" else None
    return plain or _judge_fields(method, target, int(digit), fields)


def are_plain(names: tuple[bytes, ...]) -> bool:
    """Whether a head with these fields is an ordinary HTTP/1.1 one wherever its host, its length
    and its connection option are well formed."""
    return _places(names) is not None


class _Places(NamedTuple):
    """Where among the fields these are; -1 where they are not."""

    host: int
    length: int
    connection: int


@lru_cache(256)  # clients send the same names again and again; 256 of the largest are some MiB
def _places(names: tuple[bytes, ...]) -> _Places | None:
    """None where these fields may say more than where the body ends."""
    lower = [name.lower() for name in names]
    if len(set(lower)) < len(lower) or b"host" not in lower:
        return None
    if not _EXTRAORDINARY.isdisjoint(lower):
        return None
    at = {name: index for index, name in enumerate(lower)}
    return _Places(at[b"host"], at.get(b"content-length", -1), at.get(b"connection", -1))


def _plain_head(method: bytes, target: bytes, fields: RawHeaders) -> Head | None:
    """What nearly every HTTP/1.1 head comes to, by the shortest way; None where ``_judge_fields``
    has to say it."""
    places = _places(names_of(fields))
    if places is None or not HOST.fullmatch(fields[places.host][1]):
        return None
    if places.connection >= 0 and fields[places.connection][1].lower() != b"keep-alive":
        return None
    if places.length < 0:
        return Head(method, target, 1, fields, 0, False, False, True)
    length = fields[places.length][1]
    if not LENGTH.fullmatch(length):
        return None
    return Head(method, target, 1, fields, int(length), False, False, True)


def _judge_fields(method: bytes, target: bytes, minor: int, fields: RawHeaders) -> Head | Refused:
    names = [name.lower() for name, _ in fields]
    special = _special_fields(names, fields)
    body_bytes = _body_bytes(special, minor)
    if isinstance(body_bytes, Refused):
        return body_bytes
    refused = _check_host(special)
    expects, closes = False, minor == 0
    if len(special) > 1:
        refused = refused or _check_connection(special) or _check_expect(special, minor)
        expects = minor > 0 and b"expect" in special
        closes = _closes(special, minor)
    if refused is not None:
        return refused
    upgrade = b"upgrade" in special and _members(special, b"upgrade") == TUNNELLED
    if upgrade and not _may_tunnel(method, minor, body_bytes, special):
        return Refused.UPGRADE
    ordinary = len(set(names)) == len(names) and _EXTRAORDINARY.isdisjoint(names)
    return Head(method, target, minor, fields, body_bytes, expects, closes, ordinary, upgrade)


def _may_tunnel(
    method: bytes, minor: int, body_bytes: int | None, special: dict[bytes, list[bytes]]
) -> bool:
    """RFC 6455 section 4.1; anything else may be read in two ways."""
    asked = _members(special, b"connection")
    return (
        method == b"GET"
        and minor == 1
        and body_bytes == 0
        and b"upgrade" in asked
        and b"close" not in asked
        and b"expect" not in special
        and len(special[b"upgrade"]) == 1
    )


def _why_no_head(head: bytes, limits: ServerLimits) -> Refused:
    line, _, fields = head.partition(b"\r\n")
    return check_request_line(line, limits) or _why_no_fields(fields)


def _why_no_fields(fields: bytes) -> Refused:
    if re.search(rb"(?:^|\r\n)[ \t]", fields):
        return Refused.FOLDED
    if _FIELDS.fullmatch(fields.replace(b"_", b"-")):
        return Refused.UNDERSCORE
    return Refused.FIELD_LINE


def _special_fields(names: list[bytes], fields: RawHeaders) -> dict[bytes, list[bytes]]:
    special: dict[bytes, list[bytes]] = {}
    for name, field in zip(names, fields, strict=True):
        if name in _SPECIAL:
            special.setdefault(name, []).append(field[1])
    return special


def _body_bytes(special: dict[bytes, list[bytes]], minor: int) -> int | Refused | None:
    """Where the body ends (RFC 9112 section 6.3), or why that is not beyond doubt."""
    codings = special.get(b"transfer-encoding")
    lengths = special.get(b"content-length")
    if codings is None:
        if lengths is None:
            return 0
        if len(lengths) > 1:
            return Refused.LENGTH_REPEATED
        return int(lengths[0]) if LENGTH.fullmatch(lengths[0]) else Refused.LENGTH_INVALID
    if lengths is not None:
        return Refused.LENGTH_AND_CODING
    if minor == 0:
        return Refused.CODING_ON_1_0
    if len(codings) == 1 and codings[0].lower() == b"chunked":
        return None
    named = [coding.strip().lower() for line in codings for coding in line.split(b",")]
    last_alone = named[-1] == b"chunked" and named.count(b"chunked") == 1
    return Refused.CODING_UNKNOWN if last_alone else Refused.CODING_INVALID


def _check_host(special: dict[bytes, list[bytes]]) -> Refused | None:
    hosts = special.get(b"host", [])
    if len(hosts) != 1:
        return Refused.HOST_REPEATED if hosts else Refused.HOST_MISSING
    return None if HOST.fullmatch(hosts[0]) else Refused.HOST_INVALID


def _check_connection(special: dict[bytes, list[bytes]]) -> Refused | None:
    if not _members(special, b"connection") <= _CONNECTION_OPTIONS:
        return Refused.CONNECTION_OPTION
    offered = _members(special, b"upgrade")
    if offered != TUNNELLED and not offered <= IGNORED_UPGRADES:
        return Refused.UPGRADE
    return None


def _closes(special: dict[bytes, list[bytes]], minor: int) -> bool:
    """Whether the client sends nothing after this request (RFC 9112 section 9.3)."""
    options = _members(special, b"connection")
    return b"close" in options or (minor == 0 and b"keep-alive" not in options)


def _members(special: dict[bytes, list[bytes]], name: bytes) -> frozenset[bytes]:
    """A list field's members, in lower case, without empty ones (RFC 9110 section 5.6.1)."""
    if name not in special:
        return frozenset()
    members = (member for line in special[name] for member in line.split(b","))
    return frozenset(text for member in members if (text := member.strip(b" \t").lower()))


def _check_expect(special: dict[bytes, list[bytes]], minor: int) -> Refused | None:
    """RFC 9110 section 10.1.1: an expectation on HTTP/1.0 is ignored."""
    expected = special.get(b"expect", [])
    if minor > 0 and any(value.lower() != b"100-continue" for value in expected):
        return Refused.EXPECTATION
    return None
