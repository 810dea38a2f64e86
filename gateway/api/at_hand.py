"""Answers that are in the cache, given before a request is made of the bytes.

What stands between the listener and the cache for other requests (an id, the log, the counts, the
limit of requests at work) is done here for these, in the same way.
"""

from collections.abc import Callable
from time import perf_counter

from gateway.telemetry import Telemetry
from middleware.caching.asked import Asked
from middleware.caching.cache import Cache
from middleware.caching.fronting import says_uri
from middleware.caching.status import hit
from middleware.caching.storing import StoringPolicy
from middleware.messages import RawHeaders, fields_in

KNOWN_MAX = 2048
KNOWN_BYTES_MAX = 1024
"""What clients ask in the same words again and again is read once: some 6 MiB at most."""

BYTES_MAX = 65_536
"""A larger answer is written piece by piece, each with a deadline of its own."""


class AtHand:
    """``current``: what the routes in force say of storing. An entry that was kept under another
    configuration is not given from here."""

    def __init__(
        self,
        *,
        cache: Cache,
        current: tuple[StoringPolicy, ...],
        telemetry: Telemetry,
        make_id: Callable[[], str],
        client: Callable[[str, RawHeaders], str],
        trusts: Callable[[str], bool],
    ) -> None:
        self._cache = cache
        self._trusts = trusts
        self._fronted = any(each.behind_proxies for each in current)
        self._current = current
        self._ids = frozenset(map(id, current))
        self._telemetry = telemetry
        self._make_id = make_id
        self._client = client
        self._known: dict[bytes, Asked] = {}
        self._log = telemetry.log_of("requests").info

    def __call__(self, target: bytes, raw: bytes, address: str) -> bytes | None:
        """The answer's bytes, or None: then the request goes the usual way."""
        began = perf_counter()
        asked = self._asked(target, raw)
        if self._fronted and says_uri(asked.fields) and not self._trusts(address):
            return None  # what it says is overwritten: it selects nothing
        served = self._cache.at_hand(asked)
        if served is None or id(served.entry.storing) not in self._ids:
            return None
        entry, age_s, _ = served
        if len(entry.body) > BYTES_MAX:
            return None
        self._cache.hits += 1
        identity = self._make_id()
        self._telemetry.answered("cached", entry.status)
        self._log(
            "request",
            method="GET",
            path=asked.path.decode("utf-8", "surrogateescape"),
            status=entry.status,
            duration_ms=round((perf_counter() - began) * 1000, 3),
            bytes=len(entry.body),
            request_id=identity,
            client=self._client(address, asked.headers),
        )
        return b"HTTP/1.1 %d %b\r\n%bAge: %d\r\nCache-Status: %b\r\nRequest-Id: %b\r\n%b" % (
            entry.status,
            entry.phrase,
            entry.lines,
            age_s,
            hit(entry.lifetime_s - age_s),
            identity.encode("ascii"),
            b"Content-Length: %d\r\n\r\n%b" % (len(entry.body), entry.body),
        )

    def _asked(self, target: bytes, raw: bytes) -> Asked:
        known = self._known.get(raw)
        if known is not None:
            return known
        headers = fields_of(raw)
        asked = Asked(b"GET", host_of(headers), target, headers)
        if len(raw) <= KNOWN_BYTES_MAX:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[raw] = asked
        return asked


def fields_of(raw: bytes) -> RawHeaders:
    """The field lines of a head that was judged well formed, values without outer white space."""
    return fields_in(raw[raw.index(b"\r\n") + 2 : -2])


def host_of(headers: RawHeaders) -> bytes:
    for name, value in headers:
        if name == b"Host" or name.lower() == b"host":
            return value.lower()
    return b""
