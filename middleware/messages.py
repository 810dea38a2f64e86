"""HTTP messages as values: header fields as they stood on the wire, and what follows from them."""

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import TypeAlias

RawHeaders: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Field lines in the order received: names with their case kept, values without outer space."""

PHRASES = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
"""For a status that came without one (RFC 9110 section 15.1)."""

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields that speak of one connection only (RFC 9110 section 7.6.1)."""

_FIELD = re.compile(rb"([^:]++):[\t ]*+([^\r]*+)\r\n")

_TOKEN_BYTES = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""What a token is made of (RFC 9110 section 5.6.2)."""

_VALUE_BYTES = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
"""What a field's value is made of (RFC 9110 section 5.5): no CR, LF, NUL, no other control."""


def fields_in(block: bytes) -> RawHeaders:
    """The fields of a block of field lines that is known to be well formed."""
    fields: RawHeaders = tuple(_FIELD.findall(block))
    if block.rfind(b" \r") < 0 and block.rfind(b"\t\r") < 0:
        return fields
    return tuple([(name, value.rstrip(b" \t")) for name, value in fields])


def names_of(headers: RawHeaders) -> tuple[bytes, ...]:
    """The fields' names in their case: a sender writes the same ones again and again, so that
    what follows from them alone may be remembered."""
    return tuple([name for name, _ in headers])


def are_tokens(names: Sequence[bytes]) -> bool:
    """Whether each of ``names`` is a token."""
    return b"" not in names and not b"".join(names).translate(None, _TOKEN_BYTES)


def are_lines(block: bytes, count: int) -> bool:
    """Whether ``block``, which holds CR LF ``count`` times, holds nothing else that a field's
    value may not."""
    return block.translate(None, _VALUE_BYTES) == b"\r\n" * count


def values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """Every value of the field ``name`` (given in lower case), one item for each field line."""
    return [value for field, value in headers if field.lower() == name]


def first(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first value of the field ``name`` (given in lower case), or None."""
    for field, value in headers:
        if field.lower() == name:
            return value
    return None


def without(headers: Iterable[tuple[bytes, bytes]], names: frozenset[bytes]) -> RawHeaders:
    """The fields whose lower-case names are not in ``names``."""
    return tuple((field, value) for field, value in headers if field.lower() not in names)


def connection_options(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The lower-case names listed in ``Connection`` (RFC 9110 section 7.6.1)."""
    return frozenset(
        option.strip().lower()
        for value in values(headers, b"connection")
        for option in value.split(b",")
        if option.strip()
    )


NAMES_NO_FIELD = frozenset({b"close", b"keep-alive"})
"""``Connection`` fields that speak of the connection alone, as nearly all do."""


def end_to_end(headers: Iterable[tuple[bytes, bytes]], dropped: frozenset[bytes]) -> RawHeaders:
    """The fields that are not in ``dropped``, which includes ``HOP_BY_HOP``, and not named in
    ``Connection`` either (RFC 9110 section 7.6.1)."""
    kept, connected = [], []
    for field in headers:
        name = field[0].lower()
        if name not in dropped:
            kept.append(field)
        elif name == b"connection" and field[1].lower() not in NAMES_NO_FIELD:
            connected.append(field)
    return without(kept, connection_options(connected)) if connected else tuple(kept)
