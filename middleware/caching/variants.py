"""Kept answers of a URI of which a request selects none: one may be what the upstream would send
all the same (RFC 9111 sections 4.1, 4.3.1 and 4.3.4). Pure."""

from collections.abc import Iterable
from itertools import islice

from middleware.caching.asked import Asked, Received
from middleware.caching.entries import Entry
from middleware.caching.fields import entity_tags, members
from middleware.caching.fronting import URI_SAID, uri_said
from middleware.caching.storing import EVERY_FIELD, StoringPolicy, credentials_shown
from middleware.caching.validating import CONDITIONS, strongly_equal, weakly_equal
from middleware.messages import RawHeaders, without

ASKED_MAX = 16
"""Entity tags in one request: a kilobyte of its header at most, of the newest answers."""

ETAG_BYTES_MAX = 64

_NOT_ASKED = frozenset({b"if-modified-since", b"if-range", b"range"})


def fits(asked: Asked, entry: Entry, policy: StoringPolicy) -> bool:
    """Whether the kept answer that ``asked`` selects may be told: to a client that shows who it is,
    only what is public or was kept for the same client."""
    return entry.public or credentials_shown(asked.fields, policy).issubset(entry.vary)


def askable(asked: Asked, kept: Iterable[Entry], policy: StoringPolicy) -> tuple[Entry, ...]:
    """Those of ``kept``, in its order, that may be asked about on behalf of ``asked``: whole, for
    everybody, and with a strong entity tag. Weak ones are the same for several codings at many
    servers; a strong one in a coding that the client doesn't take is left out too, as some
    servers code after they have tagged."""
    if asked.method != b"GET" or not _NOT_ASKED.isdisjoint(asked.fields):
        return ()
    anyone = not credentials_shown(asked.fields, policy)
    personal = policy.credentials | {EVERY_FIELD}
    found = (
        entry
        for entry in kept
        if (anyone or entry.public)
        and entry.status == 200
        and entry.span is None
        and _is_strong(entry.etag)
        and personal.isdisjoint(entry.vary)
        and _of_same_uri(asked, entry)
        and _takes_coding(asked, entry)
    )
    return tuple(islice(found, ASKED_MAX))


def _of_same_uri(asked: Asked, entry: Entry) -> bool:
    said = dict(zip(entry.vary, entry.values, strict=True)).get(URI_SAID, b"")
    return said == uri_said(asked.fields)


def _is_strong(etag: bytes | None) -> bool:
    return etag is not None and etag[:1] == b'"' and len(etag) <= ETAG_BYTES_MAX


def _takes_coding(asked: Asked, entry: Entry) -> bool:
    coding = entry.fields.get(b"content-encoding", b"identity").lower()
    if coding == b"identity":
        return True
    for member in members(asked.fields.get(b"accept-encoding", b"")):
        name, _, weight = member.partition(b";")
        if name.strip().lower() == coding:
            return weight.replace(b" ", b"").lower() not in (
                b"q=0",
                b"q=0.0",
                b"q=0.00",
                b"q=0.000",
            )
    return False


def naming(asked: Asked, entries: tuple[Entry, ...]) -> RawHeaders:
    """The request that names ``entries`` too, beside what its client has (section 4.3.2)."""
    own = entity_tags(asked.fields.get(b"if-none-match", b""))
    tags = dict.fromkeys((*own, *(entry.etag or b"" for entry in entries)))
    return (*without(asked.headers, CONDITIONS), (b"If-None-Match", b", ".join(tags)))


def named(entries: tuple[Entry, ...], received: Received) -> Entry | None:
    """The one that a 304 means: by its strong entity tag alone (section 4.3.4)."""
    etag = received.fields.get(b"etag")
    if etag is None:
        return None
    return next((each for each in entries if strongly_equal(etag, each.etag or b"")), None)


def means_the_clients(asked: Asked, received: Received) -> bool:
    """Whether a 304 is about what the client said that it has."""
    wanted, etag = asked.fields.get(b"if-none-match"), received.fields.get(b"etag")
    if wanted is None:
        return False
    own = list(entity_tags(wanted))
    return b"*" in own or etag is None or any(weakly_equal(each, etag) for each in own)
