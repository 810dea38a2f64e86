"""One kept answer, everything about it read once, when it is kept. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

from middleware.caching.asked import Asked, Received
from middleware.caching.dates import parse_date
from middleware.caching.fields import combined, members, unquoted
from middleware.caching.fronting import URI_SAID, uri_said
from middleware.caching.storing import EVERY_FIELD, Keep, StoringPolicy
from middleware.caching.varying import selecting_values
from middleware.messages import HOP_BY_HOP, RawHeaders

NOT_KEPT = HOP_BY_HOP | frozenset(
    {b"age", b"content-length", b"proxy-authentication-info", b"request-id", b"set-cookie"}
)
"""RFC 9111 section 3.1; Age and length follow from what is kept, cookies are one client's.
``Set-Cookie2`` is a field as any other: no client heeds it (RFC 6265 section 9.4)."""

UNSELECTING = HOP_BY_HOP | frozenset(
    {b"cache-control", b"content-length", b"host", b"if-modified-since", b"if-none-match"}
    | {b"if-range", b"pragma", b"range", b"request-id", b"traceparent", b"tracestate"}
)
"""Fields that differ from one request to the next and change nothing of what is answered."""

_NUMBERS = frozenset(
    b"correlation nonce req request seq sequence span spanid trace traceid".split()
)
_LABEL = re.compile(rb"[0-9A-Za-z._-]{0,64}")
"""The value of a field that, by its own name, names or numbers the request: no two are the same,
and nobody is answered by it."""

OVERHEAD_BYTES = 900
"""What an entry costs beside its bytes: the objects and the places in the indexes."""


@dataclass(frozen=True, slots=True)
class Span:
    """Which bytes of a representation an entry holds; ``last`` inclusive."""

    first: int
    last: int
    total: int


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A kept answer. ``lines``: its field lines as they go out, Date among them, without Age and
    Content-Length. ``head_only``: the answer to a HEAD, good for another HEAD. ``span`` where
    only a part of the body is here. ``since``: monotonic time of its receipt, at which its age was
    ``initial_age_s``; 0 where it was never kept. ``position``: changes up to here were
    known when its fetch began; a later one that touches it ends it. ``strict``: an order can
    change it. ``storing``: what its route says.
    """

    host: bytes
    target: bytes
    head_only: bool
    vary: tuple[bytes, ...]
    values: tuple[bytes, ...]
    status: int
    phrase: bytes
    lines: bytes
    body: bytes
    span: Span | None
    since: float
    initial_age_s: float
    lifetime_s: float
    no_cache: bool
    never_stale: bool
    immutable: bool
    public: bool
    stale_while_revalidate_s: int
    stale_if_error_s: int | None
    etag: bytes | None
    last_modified: bytes | None
    groups: tuple[bytes, ...]
    position: int
    strict: bool
    storing: StoringPolicy

    def age_s(self, now: float) -> float:
        """RFC 9111 section 4.2.3, ``now`` monotonic."""
        return self.initial_age_s + (now - self.since)

    @property
    def size_bytes(self) -> int:
        shown = sum(map(len, self.values)) if self.values else 0
        return len(self.lines) + len(self.body) + len(self.target) + shown + OVERHEAD_BYTES

    @property
    def headers(self) -> RawHeaders:
        pairs = (line.partition(b": ") for line in self.lines.split(b"\r\n") if line)
        return tuple((name, value) for name, _, value in pairs)

    @property
    def fields(self) -> Mapping[bytes, bytes]:
        return combined(self.headers)

    def modified_at(self, now: float) -> float | None:
        return parse_date(self.last_modified or b"", now)

    def softened(self, now: float) -> "Entry":
        """The same, stale from now on (a soft purge)."""
        return replace(self, lifetime_s=min(self.lifetime_s, max(0.0, self.age_s(now))))


def make_entry(
    asked: Asked,
    answer: Received,
    keep: Keep,
    body: bytes,
    *,
    since: float,
    position: int,
    storing: StoringPolicy,
    strict: bool,
    span: Span | None = None,
) -> Entry:
    """What is kept of ``answer``: its end-to-end fields but for those that must not be."""
    directives, fields = keep.directives, answer.fields
    headers = kept_headers(answer.headers, directives.withheld)
    return Entry(
        host=asked.host,
        target=asked.target,
        head_only=asked.method == b"HEAD",
        vary=keep.vary,
        values=select(keep.vary, asked),
        status=answer.status,
        phrase=answer.phrase,
        lines=b"".join(b"%b: %b\r\n" % field for field in headers),
        body=body,
        span=span,
        since=since,
        initial_age_s=keep.initial_age_s,
        lifetime_s=keep.lifetime_s,
        no_cache=directives.no_cache,
        never_stale=directives.never_stale,
        immutable=directives.immutable,
        public=directives.declared_public,
        stale_while_revalidate_s=directives.stale_while_revalidate or 0,
        stale_if_error_s=directives.stale_if_error,
        etag=fields.get(b"etag"),
        last_modified=fields.get(b"last-modified"),
        groups=groups_of(fields, b"cache-groups"),
        position=position,
        strict=strict,
        storing=storing,
    )


def kept_headers(headers: RawHeaders, withheld: frozenset[bytes]) -> RawHeaders:
    dropped = NOT_KEPT | withheld
    return tuple(field for field in headers if field[0].lower() not in dropped)


def select(vary: tuple[bytes, ...], asked: Asked) -> tuple[bytes, ...]:
    """What ``asked`` shows of the selecting fields."""
    if not vary:
        return ()
    if vary[0] >= b"!":  # those that are no names come first
        return selecting_values(vary, asked.fields)
    return tuple([_shown(name, asked) for name in vary])


def _shown(name: bytes, asked: Asked) -> bytes:
    if name == URI_SAID:
        return uri_said(asked.fields)
    if name == EVERY_FIELD:
        return _digest(asked)
    return selecting_values((name,), asked.fields)[0]


def _digest(asked: Asked) -> bytes:
    digest = blake2b(digest_size=16)
    for name in sorted(asked.fields):
        if name not in UNSELECTING:
            value = b"" if _is_label(name, asked.fields[name]) else asked.fields[name]
            digest.update(b"%d:%b%d:%b" % (len(name), name, len(value), value))
    return digest.digest()


def _is_label(name: bytes, value: bytes) -> bool:
    return not _NUMBERS.isdisjoint(name.split(b"-")) and _LABEL.fullmatch(value) is not None


def groups_of(fields: Mapping[bytes, bytes], name: bytes) -> tuple[bytes, ...]:
    """RFC 9875: a list of strings; members that are none are passed over, and beyond 32 groups of
    32 characters (what a cache must bear) some more are taken."""
    found = []
    for member in members(fields.get(name, b"")):
        text = member.partition(b";")[0].strip() if not member.startswith(b'"') else _string(member)
        if member.startswith(b'"') and text and len(text) <= 256:
            found.append(text)
    return tuple(dict.fromkeys(found[:128]))


def _string(member: bytes) -> bytes:
    end = member.rfind(b'"')
    return unquoted(member[: end + 1])
