"""For which requests an answer was made: Vary (RFC 9110 section 12.5.5, RFC 9111 4.1). Pure."""

from collections.abc import Mapping
from functools import lru_cache

from middleware.caching.fields import members

ANYTHING = b"*"

KNOWN_BYTES_MAX = 256
"""Clients say the same of their languages and codings in every request: what they said is
remembered, up to a length that lets nobody fill the memory."""

_WEIGHTED = frozenset({b"accept", b"accept-charset", b"accept-encoding", b"accept-language"})
"""Lists of weighted ranges: members of different weight may change places. The case of letters
means nothing, but for the parameters of a media type."""

_SETS = frozenset({b"accept-charset", b"accept-encoding"})
"""And here the order of members of one weight means nothing either."""


_NO_LISTS = frozenset({b"authorization", b"cookie", b"proxy-authorization"})
"""What shows who a client is, compared byte by byte."""


_WRITTEN = frozenset({b"request-id", b"x-forwarded-for"})
"""Written anew for each request or client: the upstream chose by what a client's own field does not
say, so that nobody can tell for whom else the answer is."""


def vary_names(fields: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """The selecting fields, in lower case, sorted, each once; ``(b"*",)`` for what no request
    can match."""
    names = {name.lower() for name in members(fields.get(b"vary", b""))}
    unknown = ANYTHING in names or not _WRITTEN.isdisjoint(names)
    return (ANYTHING,) if unknown else tuple(sorted(names))


def selecting_values(names: tuple[bytes, ...], fields: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """What a request shows of the selecting fields. Two requests with the same values are the
    same to the upstream; white space, empty members and splitting into lines make no
    difference, and nothing else is taken for equal that might not be. An absent field is not an
    empty one.
    """
    return tuple(
        b"\0" if (value := fields.get(name)) is None else normalised(name, value) for name in names
    )


def normalised(name: bytes, value: bytes) -> bytes:
    """The value with nothing in it that has no meaning."""
    return _known(name, value) if len(value) <= KNOWN_BYTES_MAX else _normalised(name, value)


def _normalised(name: bytes, value: bytes) -> bytes:
    if name in _NO_LISTS:
        return value
    parts = list(members(value))
    if name in _WEIGHTED and b'"' not in value:
        lowered = [part if name == b"accept" else part.lower() for part in parts]
        return b",".join(_by_weight(lowered, sets=name in _SETS))
    return b",".join(parts)


_known = lru_cache(maxsize=4096)(_normalised)


def _by_weight(parts: list[bytes], *, sets: bool) -> list[bytes]:
    ranges = [b";".join(piece.strip(b" \t") for piece in part.split(b";")) for part in parts]
    plain = [each.removesuffix(b";q=1").removesuffix(b";q=1.0") for each in ranges]
    weighted = [(-_weight(each), each) for each in plain]
    weighted.sort(key=lambda pair: pair if sets else pair[:1])
    return [each for _, each in weighted]


def _weight(part: bytes) -> float:
    _, _, weight = part.rpartition(b";q=")
    try:
        return float(weight) if b";q=" in part else 1.0
    except ValueError:
        return 1.0
