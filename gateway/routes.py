"""Which route a request takes. Pure, and on bytes: matching is on the path as it came.

An upstream may read a path more generously than its bytes say (``/orders/``, ``//orders``,
``/x/../orders``, ``/%6frders``, ``/orders;v=1``). Such a request would place an order past the
ledger, so ``RouteTable.find`` looks at every reading of it that upstreams are known for.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
"""They ask for nothing to be changed (RFC 9110 section 9.2.1)."""

SEGMENTS_MAX = 32
"""In a pattern; deeper paths than that are matched by ``**``."""

READ_BYTES_MAX = 65_536
"""All readings of one path together. An honest path has one to four; the eight of the longest
path a client may send fit, and a path that still has more is not worth understanding."""

REMEMBERED_MAX, REMEMBERED_BYTES_MAX = 4_096, 128
"""The paths last asked for, each with its route: a shop's busy ones are few, and short. Half a
megabyte at the most, whatever clients make up."""

ONE, ANY = b"*", b"**"

_METHOD = re.compile(r"[A-Z]+(?:-[A-Z]+)*")
_LITERAL = re.compile(r"(?:[A-Za-z0-9._~!$&'()+,=:@-]|%[0-9A-Fa-f]{2})+")


class RouteKind(StrEnum):
    ORDER = "order"
    CACHED = "cached"
    PLAIN = "plain"


class PatternInvalid(ValueError):
    """The text of ``match`` is no pattern; the message says what to write."""


@dataclass(frozen=True)
class Pattern:
    """``METHOD /path``: ``*`` for any method, ``*`` for one segment, ``**`` for any number.

    A pattern for GET takes HEAD too (RFC 9110 section 9.3.2). A segment that ``*`` stands for is
    not empty; ``/catalog/**`` also takes ``/catalog``.
    """

    method: bytes
    segments: tuple[bytes, ...]

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Raises PatternInvalid."""
        method, _, path = text.partition(" ")
        if method != "*" and not _METHOD.fullmatch(method):
            raise PatternInvalid('write a method in capitals, or *, and a path: "POST /orders"')
        if not path.startswith("/"):
            raise PatternInvalid(f'after {method} and one space comes a path with "/" in front')
        segments = path[1:].split("/")
        if len(segments) > SEGMENTS_MAX:
            raise PatternInvalid(f"at most {SEGMENTS_MAX} segments; ** stands for any number")
        for position, segment in enumerate(segments):
            _check_segment(segment, is_last=position == len(segments) - 1)
        return cls(method.encode(), tuple(segment.encode() for segment in segments))

    @property
    def is_literal(self) -> bool:
        """Whether it names one path, in full."""
        return ONE not in self.segments and ANY not in self.segments

    @cached_property
    def _readable(self) -> tuple[tuple[bytes, ...], ...]:
        """As the readings of a path are: in small letters, still encoded or decoded."""
        folded = tuple(segment.lower() for segment in self.segments)
        decoded = tuple(unquote_to_bytes(segment).lower() for segment in self.segments)
        return (folded,) if folded == decoded else (folded, decoded)

    def takes(self, method: bytes, segments: Sequence[bytes]) -> bool:
        """Whether a request with this path, split at every slash, is meant."""
        return self._takes_method(method) and _glob(self.segments, segments)

    def takes_reading(
        self, method: bytes, segments: Sequence[bytes], *, last_slash_counts: bool
    ) -> bool:
        """Whether a generous upstream could mean it by one reading (``readings``) of a path."""
        return self._takes_method(method.upper()) and any(
            _glob(readable, segments)
            if last_slash_counts
            else _glob(_without_last_slash(readable), _without_last_slash(segments))
            for readable in self._readable
        )

    def _takes_method(self, method: bytes) -> bool:
        return self.method in (b"*", method) or (self.method == b"GET" and method == b"HEAD")

    def covers(self, other: "Pattern") -> bool:
        """Whether every request that ``other`` takes is surely taken by this one."""
        return self._takes_method(other.method) and _covers(self.segments, other.segments)

    def meets(self, other: "Pattern") -> bool:
        """Whether there is a request that both take."""
        methods = {self.method, other.method}
        same_method = b"*" in methods or len(methods) == 1 or methods == {b"GET", b"HEAD"}
        return same_method and _meet(self.segments, other.segments)


def _without_last_slash(segments: Sequence[bytes]) -> Sequence[bytes]:
    return segments[:-1] if segments[-1] == b"" else segments


def _check_segment(segment: str, *, is_last: bool) -> None:
    if segment in ("*", "**") or (segment == "" and is_last):
        return
    if segment in ("", ".", ".."):
        raise PatternInvalid("a path has no empty, . or .. segments")
    if "*" in segment:
        raise PatternInvalid(f'* stands for a whole segment, so not "{segment}"')
    if "?" in segment or "#" in segment:
        raise PatternInvalid("the query is not matched: write the path alone")
    if not _LITERAL.fullmatch(segment):
        raise PatternInvalid(f'"{segment}" holds a character that a path must percent-encode')


def _glob(pattern: Sequence[bytes], segments: Sequence[bytes]) -> bool:
    """Match, going back to the last ``**`` only: at most len(pattern) * len(segments) steps."""
    at = position = 0
    resume_at, resume_position = -1, 0
    while position < len(segments):
        wanted = pattern[at] if at < len(pattern) else None
        if wanted == ANY:
            resume_at, resume_position = at, position
            at += 1
        elif wanted is not None and (
            wanted == segments[position] or _is_one(wanted, segments[position])
        ):
            at, position = at + 1, position + 1
        elif resume_at >= 0:
            resume_position += 1
            at, position = resume_at + 1, resume_position
        else:
            return False
    return all(rest == ANY for rest in pattern[at:])


def _is_one(wanted: bytes, segment: bytes) -> bool:
    return wanted == ONE and segment != b""


def _covers(wide: Sequence[bytes], narrow: Sequence[bytes]) -> bool:
    """Whether glob ``wide`` takes all that ``narrow`` does; False where it is not plain to see."""
    reachable = _past_any(wide, {0})
    for segment in narrow:
        taken = {at for at in reachable if at < len(wide) and wide[at] == ANY}
        if segment != ANY:
            taken |= {
                at + 1
                for at in reachable
                if at < len(wide) and (wide[at] == segment or _is_one(wide[at], segment))
            }
        reachable = _past_any(wide, taken)
    return len(wide) in reachable


def _past_any(wide: Sequence[bytes], reached: set[int]) -> set[int]:
    """``**`` may stand for nothing: each place reached also reaches what follows it."""
    for at in range(len(wide)):
        if at in reached and wide[at] == ANY:
            reached = reached | {at + 1}
    return reached


def _meet(one: Sequence[bytes], other: Sequence[bytes]) -> bool:
    """Whether some path is taken by both globs: each pair of places is looked at once."""
    reached, todo = {(0, 0)}, [(0, 0)]
    while todo:
        mine, theirs = todo.pop()
        if mine == len(one) and theirs == len(other):
            return True
        new = _steps(one[mine : mine + 1], other[theirs : theirs + 1])
        places = {(mine + a, theirs + b) for a, b in new} - reached
        reached |= places
        todo += places
    return False


def _steps(mine: Sequence[bytes], theirs: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """How far two globs may go on together; their next segments, none at the end. A ``**`` ends,
    or takes what the other one has."""
    if ANY in (*mine, *theirs):
        yield from ((1, 0),) if mine else ()
        yield from ((0, 1),) if theirs else ()
    elif mine and theirs:
        a, b = mine[0], theirs[0]
        if a == b or _is_one(a, b) or _is_one(b, a):
            yield 1, 1


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the table. ``index`` is its place in the configuration."""

    index: int
    name: str
    kind: RouteKind
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class NoRoute:
    """No route takes the request."""


@dataclass(frozen=True, slots=True)
class Disguised:
    """Refuse it (400): by its bytes it is not ``route``'s, but an upstream might read it so."""

    route: Route


Found: TypeAlias = Route | NoRoute | Disguised


class RouteTable:
    """The routes in their order; the first match wins."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._has_orders = any(route.kind is RouteKind.ORDER for route in routes)
        self._remembered = lru_cache(REMEMBERED_MAX)(self._find)

    def find(self, method: bytes, raw_target: bytes) -> Found:
        """The route of a request target in origin-form (RFC 9112 section 3.2.1).

        Any other form has no route.
        """
        path = raw_target.partition(b"?")[0]
        if len(path) <= REMEMBERED_BYTES_MAX:
            return self._remembered(method, path)
        return self._find(method, path)

    def _find(self, method: bytes, path: bytes) -> Found:
        if not path.startswith(b"/"):
            return NoRoute()
        segments = path[1:].split(b"/")
        found = next(
            (route for route in self.routes if route.pattern.takes(method, segments)), None
        )
        if self._has_orders and method not in SAFE_METHODS:
            hidden = self._hidden_order(method, path, found)
            if hidden is not None:
                return Disguised(hidden)
        return found or NoRoute()

    def _hidden_order(self, method: bytes, path: bytes, found: Route | None) -> Route | None:
        """The order route that some reading of ``path`` reaches and its bytes do not."""
        if found is not None and found.pattern.is_literal:
            return None  # the operator wrote this very path
        read_bytes = 0
        for reading in readings(path):
            read_bytes += len(reading)
            if read_bytes > READ_BYTES_MAX:
                return self._any_order_route(method)
            reached = self._reached(method, reading)
            if reached is not None and reached is not found:
                return reached
        return None

    def _reached(self, method: bytes, reading: bytes) -> Route | None:
        """The order route that this reading reaches, if no other route takes it first.

        Upstreams that add or drop a last slash do it for every path, so an order route is
        reached with or without it; another route only hides an order by the slash it has.
        """
        segments = reading[1:].split(b"/")
        for route in self.routes:
            is_order = route.kind is RouteKind.ORDER
            if route.pattern.takes_reading(method, segments, last_slash_counts=not is_order):
                return route if is_order else None
        return None

    def _any_order_route(self, method: bytes) -> Route | None:
        any_path = Pattern(method.upper(), (ANY,))
        orders = (route for route in self.routes if route.kind is RouteKind.ORDER)
        return next((r for r in orders if r.pattern.method in (b"*", any_path.method)), None)


# --- readings -------------------------------------------------------------------------------

_ORDINARY = re.compile(rb"(?:/[a-z0-9_~!$&'()*+,=:@-][a-z0-9._~!$&'()*+,=:@-]*)+")
"""No empty or dotted segment, nothing encoded, no parameter: there is one way to read it."""


def readings(path: bytes) -> Iterator[bytes]:
    """Every path, in small letters, that an upstream could make of ``path``; may be many.

    Each step is taken or not, in any order: upstreams differ in what they decode, merge and
    cut, and proxies before them may have done some of it already.
    """
    start = path.lower()
    yield start
    if _ORDINARY.fullmatch(start):
        return
    seen, waiting = {start}, [start]
    while waiting:
        reading = waiting.pop()
        for step in _STEPS:
            other = step(reading)
            if other not in seen and other.startswith(b"/"):
                seen.add(other)
                waiting.append(other)
                yield other


def _decode(path: bytes) -> bytes:
    return unquote_to_bytes(path).lower()


_ENCODED_SLASH = re.compile(rb"%(2f|5c)")


def _decode_all_but_slashes(path: bytes) -> bytes:
    kept = _ENCODED_SLASH.sub(rb"%25\1", path)
    return unquote_to_bytes(kept).lower()


def _turn_backslashes(path: bytes) -> bytes:
    return path.replace(b"\\", b"/")


_PARAMETERS = re.compile(rb";[^/]*")


def _cut_parameters(path: bytes) -> bytes:
    return _PARAMETERS.sub(b"", path)


_SLASHES = re.compile(rb"//+")


def _merge_slashes(path: bytes) -> bytes:
    return _SLASHES.sub(b"/", path)


def _cut_last_slash(path: bytes) -> bytes:
    return path[:-1] if path.endswith(b"/") else path


def _remove_dot_segments(path: bytes) -> bytes:
    """RFC 3986 section 5.2.4."""
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if segments[-1:] in ([b"."], [b".."]):
        kept.append(b"")
    return b"/" + b"/".join(kept)


_END_OF_PATH = re.compile(rb"[?#\x00-\x20\x7f].*", re.DOTALL)


def _cut_at_delimiters(path: bytes) -> bytes:
    """Where decoding brought a delimiter or a control character to light, some stop reading."""
    return _END_OF_PATH.sub(b"", path)


_AUTHORITY = re.compile(rb"//[^/]*(?=/)")


def _cut_authority(path: bytes) -> bytes:
    """``//host/orders`` is a network-path reference to some (RFC 3986 section 4.2)."""
    return _AUTHORITY.sub(b"", path, count=1) if path.startswith(b"//") else path


_STEPS: tuple[Callable[[bytes], bytes], ...] = (
    _decode,
    _decode_all_but_slashes,
    _turn_backslashes,
    _cut_parameters,
    _merge_slashes,
    _cut_last_slash,
    _remove_dot_segments,
    _cut_at_delimiters,
    _cut_authority,
)
