"""What an order changes, so that no cache goes on showing what was before. Pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from gateway.orders.entry import Entry, KeptAnswer
from gateway.routes import ANY, ONE, READ_BYTES_MAX, Pattern, readings
from middleware.caching.asked import Asked
from middleware.caching.entries import groups_of
from middleware.caching.fields import combined
from middleware.caching.invalidation import Mark, Touches, located, plain_path
from middleware.messages import first

GROUP = "group:"
"""In ``invalidates``: a cache group (RFC 9875) instead of paths."""

PERSONAL = frozenset(
    b"account accounts basket baskets cart carts checkout checkouts customer customers me my order"
    b" orders profile profiles user users wallet wishlist wishlists".split()
)
"""Path segments behind which a shop shows one customer's own things. A mistake in an upstream's
headers is likeliest, and worst, there."""


def takes(pattern: bytes, path: bytes) -> bool:
    """Whether a path pattern takes ``path``, a last slash aside; one that is no pattern takes
    everything, as what it was to end is unknown."""
    parsed = _parsed(pattern)
    return parsed is None or parsed.takes(b"GET", plain_path(path)[1:].split(b"/"))


@lru_cache(maxsize=1024)
def _parsed(pattern: bytes) -> Pattern | None:
    try:
        return Pattern.parse("GET " + plain_path(pattern).decode("latin-1"))
    except ValueError:
        return None


def lineage(path: bytes) -> Iterator[bytes]:
    """``path`` and what lies above it: an order's action changes the order, and the list it is
    in. The root is nobody's list."""
    while path.count(b"/") > 1 or len(path) > 1:
        yield path
        path = path.rpartition(b"/")[0]
        if not path:
            return


def invalidated(patterns: Iterable[str]) -> tuple[Mark, ...]:
    """The marks of a route's ``invalidates``."""
    marks = []
    for text in patterns:
        if text.startswith(GROUP):
            marks.append(Mark(Touches.GROUP, text.removeprefix(GROUP).encode()))
        elif "*" in text:
            marks.append(Mark(Touches.PATTERN, text.encode("ascii")))
        else:
            marks.append(Mark(Touches.PATH, text.encode("ascii")))
    return tuple(marks)


def by_path(path: bytes) -> tuple[Mark, ...]:
    return tuple(Mark(Touches.PATH, each) for each in lineage(path))


def by_submission(target: bytes, invalidates: Sequence[str]) -> tuple[Mark, ...]:
    """What a submission to ``target`` may change."""
    return tuple(dict.fromkeys((*by_path(target.partition(b"?")[0]), *invalidated(invalidates))))


def by_entry(entry: Entry, answer: KeptAnswer | None = None) -> tuple[Mark, ...]:
    """What an order has changed: also what ``answer``, which settles it, names. ``entry`` is as
    it was before that, with its request."""
    marks = list(invalidated(entry.promise.invalidates))
    if entry.request is not None:
        target, host = entry.request.target, first(entry.request.headers, b"host") or b""
        marks += by_path(target.partition(b"?")[0])
        if answer is not None:
            fields = combined(answer.headers)
            there = located(host.lower(), target, fields)
            marks += [Mark(Touches.PATH, each.name.partition(b"?")[0]) for each in there]
            named = groups_of(fields, b"cache-group-invalidation")
            marks += [Mark(Touches.GROUP, name) for name in named]
    return tuple(dict.fromkeys(marks))


@dataclass(frozen=True)
class OrderPaths:
    """The paths that orders are about: those of the order routes, and what these invalidate."""

    patterns: tuple[Pattern, ...]
    invalidates: tuple[str, ...]

    @property
    def prefixes(self) -> tuple[bytes, ...]:
        """The part of each order route's path before its first wildcard."""
        return tuple(_literal_prefix(pattern) for pattern in self.patterns)

    def strict(self) -> Callable[[bytes], bool]:
        """Whether an order can change what is at a path: below or above where orders are placed,
        or among what they invalidate."""
        prefixes = self.prefixes
        above = {each for prefix in prefixes for each in lineage(prefix)}
        patterns = [each.encode() for each in self.invalidates if not each.startswith(GROUP)]

        def is_strict(path: bytes) -> bool:
            return (
                plain_path(path) in above
                or any(_below(path, prefix) for prefix in prefixes)
                or any(takes(pattern, path) for pattern in patterns)
            )

        return lru_cache(maxsize=4096)(is_strict)

    def disguised(self) -> Callable[[bytes], bool]:
        """Whether some upstream could read a path as one that an order changes under another
        name: no mark would end what is kept under this one."""
        prefixes = [prefix.lower() for prefix in self.prefixes]
        above = {each for prefix in prefixes for each in lineage(prefix)}
        patterns = [each.encode() for each in self.invalidates if not each.startswith(GROUP)]

        def hides(path: bytes, reading: bytes) -> bool:
            return (
                plain_path(reading) in above
                or any(_below(reading, prefix) for prefix in prefixes)
                or any(takes(each.lower(), reading) > takes(each, path) for each in patterns)
            )

        def is_disguised(path: bytes) -> bool:
            known = _readings(path)
            others = {plain_path(each) for each in known} - {plain_path(path.lower())}
            return not known or any(hides(path, each) for each in others)

        return is_disguised

    def personal(self, route: Pattern) -> Callable[[bytes], bool]:
        """Order, cart and account reads, unless the cached route's pattern speaks of such."""
        silent = PERSONAL.isdisjoint(each.lower() for each in route.segments)
        words = PERSONAL if silent else frozenset()
        own = _literal_prefix(route)
        prefixes = [each.lower() for each in self.prefixes if not _below(own, each)]
        disguised = self.disguised()

        def is_personal(path: bytes) -> bool:
            return disguised(path) or any(
                not words.isdisjoint(reading.split(b"/"))
                or any(_below(reading, prefix) for prefix in prefixes)
                for reading in _readings(path)
            )

        return lru_cache(maxsize=4096)(is_personal)

    def touched(self) -> Callable[[Asked], tuple[Mark, ...]]:
        """What an unsafe request that is no order changes besides its own target."""
        strict, disguised = self.strict(), self.disguised()
        every = [
            mark
            for prefix in self.prefixes
            for mark in (*by_path(prefix), Mark(Touches.PATTERN, prefix.rstrip(b"/") + b"/**"))
        ]

        def touched(asked: Asked) -> tuple[Mark, ...]:
            if disguised(asked.path):
                return tuple(dict.fromkeys((*by_path(asked.path), *every)))
            return by_path(asked.path) if strict(asked.path) else ()

        return touched


def _readings(path: bytes) -> tuple[bytes, ...]:
    """What upstreams could make of ``path``, in small letters; empty where that is too much to
    tell."""
    found, size = [], 0
    for reading in readings(path):
        size += len(reading)
        if size > READ_BYTES_MAX:
            return ()
        found.append(reading)
    return tuple(found)


def _literal_prefix(pattern: Pattern) -> bytes:
    kept: list[bytes] = []
    for segment in pattern.segments:
        if segment in (ONE, ANY):
            break
        kept.append(segment)
    return b"/" + b"/".join(kept)


def _below(path: bytes, prefix: bytes) -> bool:
    return path == prefix or path.startswith(prefix.rstrip(b"/") + b"/")
