"""How field values are read: lists, quoted strings, numbers (RFC 9110 section 5.6). Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping

SECONDS_MAX = 2**31
"""RFC 9111 section 1.2.2: what is larger counts as this, which is 68 years."""

_DIGITS = re.compile(rb"[0-9]+")
_TAG = re.compile(rb'(?:[^",]|"[^"]*"?)+')
_MEMBER = re.compile(rb'(?:[^",]|"(?:[^"\\]|\\.)*"?)+', re.DOTALL)


def members(value: bytes) -> Iterator[bytes]:
    """The members of a list, without outer white space and without empty ones. A comma within a
    quoted string parts nothing; a quote that is never closed goes on to the end."""
    if b'"' not in value:
        for part in value.split(b","):
            if text := part.strip(b" \t"):
                yield text
        return
    for found in _MEMBER.finditer(value):
        if text := found[0].strip(b" \t"):
            yield text


def entity_tags(value: bytes) -> Iterator[bytes]:
    """The members of a list of entity tags, in which a backslash is a character as any other (RFC
    9110 section 8.8.3)."""
    for found in _TAG.finditer(value):
        if text := found[0].strip(b" \t"):
            yield text


def combined(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Lower-case name to value, several lines of a name as one list (RFC 9110 section 5.3)."""
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        lower = name.lower()
        if lower in fields:
            fields[lower] += b", " + value
        else:
            fields[lower] = value
    return fields


def unquoted(value: bytes) -> bytes:
    """The content of a quoted string; anything else as it is."""
    if len(value) < 2 or value[:1] != b'"' or value[-1:] != b'"':
        return value
    return re.sub(rb"\\(.)", rb"\1", value[1:-1], flags=re.DOTALL)


def delta_seconds(value: bytes) -> int | None:
    """A non-negative number of seconds (RFC 9111 section 1.2.2), or None."""
    if not _DIGITS.fullmatch(value):
        return None
    digits = value.lstrip(b"0") or b"0"
    return SECONDS_MAX if len(digits) > 10 else min(int(digits), SECONDS_MAX)


def age_value(fields: Mapping[bytes, bytes]) -> int:
    """The received Age (RFC 9111 section 5.1): of a list its first member; 0 for what is none."""
    first = next(members(fields.get(b"age", b"")), b"")
    return delta_seconds(first) or 0
