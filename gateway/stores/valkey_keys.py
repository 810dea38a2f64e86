"""Where things lie in a Valkey or Redis ledger.

An order is one hash. It and every index that must change with it lie in one *bucket*: keys with
one hash tag, so one slot of a cluster, so one atomic script. A client's orders share a bucket,
since its attach index must; there is a fixed number of buckets, so that what is due is found by
asking each of them.
"""

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from functools import cached_property

from gateway.orders.claiming import ANONYMOUS
from gateway.orders.entry import Entry
from gateway.orders.states import Status

BUCKETS = 64
"""Never changed: orders would no longer be found. Enough to spread over a dozen masters; few
enough that asking all of them is one short script on a server that has them all."""

STATUSES = tuple(Status)
NUMBER = {status: number for number, status in enumerate(STATUSES, start=1)}
"""How scripts name a status: put.lua counts on this order."""

REF_BYTES = 20


@dataclass(frozen=True)
class Bucket:
    """The keys of one bucket."""

    prefix: str
    number: int

    def _key(self, name: str) -> bytes:
        return f"{{{self.prefix}:{self.number}}}:{name}".encode()

    @cached_property
    def meta(self) -> bytes:
        """Epoch, sequence, time, counts, and the holds: ``u:HOLDER`` until when, ``n:HOLDER`` how
        many writes. One key, so that a hold can be renewed while its slot moves."""
        return self._key("meta")

    @cached_property
    def held(self) -> bytes:
        """Which hold has which order."""
        return self._key("held")

    @cached_property
    def due(self) -> bytes:
        """What nobody holds, by when it is due."""
        return self._key("due")

    @cached_property
    def age(self) -> bytes:
        """What is pending, by when it was claimed."""
        return self._key("age")

    @cached_property
    def dead(self) -> bytes:
        """Dead letters, by when they were claimed."""
        return self._key("dead")

    @cached_property
    def answers(self) -> bytes:
        """Whose answer is kept, by until when."""
        return self._key("answers")

    @cached_property
    def ends(self) -> bytes:
        """Whose answer is gone, by when the order goes too."""
        return self._key("ends")

    @cached_property
    def statuses(self) -> tuple[bytes, ...]:
        """The orders of each status, by number."""
        return tuple(self._key(f"is:{status.value}") for status in STATUSES)

    def order(self, ref: str) -> bytes:
        return self._key(f"o:{ref}")

    def by_id(self, entry_id: str) -> bytes:
        return self._key(f"id:{entry_id}")

    def attached(self, scope: str, fingerprint: str) -> bytes:
        return self._key(f"a:{digest(scope, fingerprint)}")


def digest(*parts: str) -> str:
    """A short name for texts of any length, never the same for different ones."""
    hashed = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        hashed.update(b"%d:" % len(raw) + raw)
    return urlsafe_b64encode(hashed.digest()[:REF_BYTES]).decode().rstrip("=")


class Layout:
    """The buckets of one ledger; several may share a server under different prefixes."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.buckets = tuple(Bucket(prefix, number) for number in range(BUCKETS))

    def bucket(self, scope: str, key: str) -> Bucket:
        """Nobody attaches to an anonymous order: those are spread by their key."""
        spread = hashlib.sha256((key if scope == ANONYMOUS else scope).encode()).digest()
        return self.buckets[int.from_bytes(spread[:4], "big") % BUCKETS]

    def place(self, scope: str, key: str) -> "Place":
        return Place(self.bucket(scope, key), digest(scope, key))

    def place_of(self, entry: Entry) -> "Place":
        return self.place(entry.scope, entry.key)

    def channel(self, entry_id: str) -> bytes:
        """What is published when this order has changed."""
        return f"{self.prefix}:changed:{entry_id}".encode()


@dataclass(frozen=True, slots=True)
class Place:
    """Where one order lies."""

    bucket: Bucket
    ref: str

    @property
    def order(self) -> bytes:
        return self.bucket.order(self.ref)
