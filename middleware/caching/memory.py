"""What is kept in this process, and what goes when there is no room: S3-FIFO, by bytes.

A new entry goes into a small queue; what is read there before it reaches the end moves on to the
main queue, the rest leaves and is remembered by its key alone: if it comes back soon it was worth
keeping. A scan passes through the small queue and moves nothing else. What is read costs one
counter: a hit moves nothing.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

from middleware.caching.asked import Asked
from middleware.caching.entries import Entry, select
from middleware.caching.fronting import URI_SAID, says_uri
from middleware.caching.invalidation import Mark, Touches, path_of, plain_path

SMALL_SHARE = 0.1
"""Of the bytes: the share that the S3-FIFO paper found best, or near it, for every trace."""

HITS_MAX = 3
GHOSTS_MAX = 20_000
"""Keys remembered of what has left; each is a number in a dictionary, some 100 bytes."""

VARIANTS_MAX = 64
"""Of one URI. More of them is a Vary that fits nobody, such as User-Agent."""

SELECTIONS_MAX = 4
"""Different sets of selecting fields of one URI that are tried at a look-up."""

PATTERNS_MAX = 64
"""Pattern marks that are held against entries as they are read; more are applied at once."""

Key: TypeAlias = tuple[bytes, bytes, bool]


class _Slot:
    """An entry's place. ``checked``: pattern marks up to here were held against it."""

    __slots__ = ("checked", "entry", "hits", "main")

    def __init__(self, entry: Entry, *, main: bool) -> None:
        self.entry: Entry | None = entry
        self.hits = 0
        self.main = main
        self.checked = entry.position


class Resource:
    """The kept answers of one URI, by what selects them."""

    __slots__ = ("plain", "selections")

    def __init__(self) -> None:
        self.plain: _Slot | None = None
        self.selections: dict[tuple[bytes, ...], dict[tuple[bytes, ...], _Slot]] | None = None

    def __bool__(self) -> bool:
        return self.plain is not None or bool(self.selections)

    def slots(self) -> Iterator[_Slot]:
        if self.plain is not None:
            yield self.plain
        for variants in (self.selections or {}).values():
            yield from variants.values()

    def find(self, asked: Asked) -> _Slot | None:
        """The newest of those that ``asked`` selects (RFC 9111 section 4.1); where something is
        said of the URI, of those that were kept for the same."""
        said = says_uri(asked.fields)
        found = None if said else self.plain
        for names, variants in (self.selections or {}).items():
            if said and URI_SAID not in names:
                continue
            slot = variants.get(select(names, asked))
            if slot is not None and (found is None or _newer(slot, found)):
                found = slot
        return found

    def put(self, slot: _Slot, entry: Entry) -> list[_Slot]:
        """Take it in; what it takes the place of."""
        if not entry.vary:
            replaced = [self.plain] if self.plain is not None else []
            self.plain = slot
            return replaced
        selections = self.selections = self.selections or {}
        variants = selections.setdefault(entry.vary, {})
        replaced = [variants.pop(entry.values)] if entry.values in variants else []
        variants[entry.values] = slot
        if len(variants) > VARIANTS_MAX:
            replaced.append(variants.pop(next(iter(variants))))
        if len(selections) > SELECTIONS_MAX:
            replaced += selections.pop(next(iter(selections))).values()
        return replaced

    def drop(self, slot: _Slot, entry: Entry) -> None:
        if self.plain is slot:
            self.plain = None
        elif self.selections is not None:
            variants = self.selections.get(entry.vary, {})
            if variants.get(entry.values) is slot:
                del variants[entry.values]
                if not variants:
                    del self.selections[entry.vary]


def _newer(one: _Slot, other: _Slot) -> bool:
    if one.entry is None or other.entry is None:
        return other.entry is None
    return one.entry.since > other.entry.since


class MemoryStore:
    """``bytes_max`` is never exceeded, what an entry costs beside its bytes included.
    ``takes(pattern, path)`` matches the patterns of marks."""

    def __init__(self, bytes_max: int, takes: Callable[[bytes, bytes], bool]) -> None:
        self.bytes_max = bytes_max
        self.bytes_used = 0
        self.count = 0
        self.evicted = 0
        self._takes = takes
        self._resources: dict[Key, Resource] = {}
        self._paths: dict[bytes, Key | set[Key]] = {}
        self._groups: dict[bytes, set[_Slot]] = {}
        self._patterns: dict[bytes, tuple[int, Mark]] = {}
        self._patterns_at = -1
        self._small: deque[_Slot] = deque()
        self._main: deque[_Slot] = deque()
        self._small_bytes = 0
        self._ghosts: OrderedDict[int, None] = OrderedDict()

    def find(self, asked: Asked, *, head: bool = False) -> tuple[Entry | None, bool]:
        """The entry that ``asked`` selects, and whether there are others of its URI. ``head``:
        among the answers to HEAD."""
        resource = self._resources.get((asked.host, asked.target, head))
        if resource is None:
            return None, False
        slot = resource.find(asked)
        if slot is None:
            return None, True
        entry = slot.entry
        if entry is not None and slot.checked < self._patterns_at:
            entry = self._checked(slot, entry)
        if entry is None:
            return None, False
        if slot.hits < HITS_MAX:
            slot.hits += 1
        return entry, True

    def entries(self) -> Iterator[Entry]:
        """All that is kept, in no order: for whoever looks at it from outside."""
        slots = (slot for resource in self._resources.values() for slot in resource.slots())
        return (slot.entry for slot in slots if slot.entry is not None)

    def at(self, host: bytes, target: bytes) -> list[Entry]:
        """The answers to GET that are kept of one URI, the newest first."""
        slots = self._slots((host, target, False))
        found = [slot.entry for slot in slots if slot.entry is not None]
        return sorted(found, key=lambda entry: -entry.since)

    def selection(self, asked: Asked) -> tuple[object, ...]:
        """The same for requests that what is known of their URI can't tell apart."""
        resource = self._resources.get((asked.host, asked.target, False))
        if resource is None or not resource.selections:
            return (asked.host, asked.target)
        shown = (select(names, asked) for names in resource.selections)
        return (asked.host, asked.target, *shown)

    def put(self, entry: Entry) -> bool:
        """Keep ``entry``, in the place of one that the same requests select. False: too large."""
        if entry.size_bytes > self.bytes_max:
            return False
        key = (entry.host, entry.target, entry.head_only)
        resource = self._resources.get(key)
        if resource is None:
            resource = self._resources[key] = Resource()
            self._index(key)
        slot = _Slot(entry, main=self._ghosts.pop(hash(key), 0) is None)
        for replaced in resource.put(slot, entry):
            slot.main = slot.main or replaced.main or replaced.hits > 0
            self._forget(replaced)
        for group in entry.groups:
            self._groups.setdefault(group, set()).add(slot)
        self._enqueue(slot, entry)
        self._make_room()
        return True

    def remove(self, entry: Entry) -> None:
        """Drop exactly this one, if it is still here."""
        for slot in self._slots((entry.host, entry.target, entry.head_only)):
            if slot.entry is entry:
                self._drop(slot)

    def clear(self) -> None:
        for key in list(self._resources):
            self._end_key(key, None)

    def end(self, mark: Mark, position: int, now: float) -> None:
        """Apply a mark to all that was fetched before it."""
        soft = now if mark.soft else None
        match mark.touches:
            case Touches.URL:
                for head in (False, True):
                    self._end_key((mark.host, mark.name, head), soft)
            case Touches.PATH:
                for key in self._keys(plain_path(mark.name)):
                    self._end_key(key, soft)
            case Touches.GROUP:
                self._end_group(mark, soft)
            case Touches.PATTERN:
                self._remember(mark, position, now)
            case Touches.ALL:
                for key in list(self._resources):
                    self._end_key(key, soft)

    def _end_group(self, mark: Mark, soft: float | None) -> None:
        for slot in list(self._groups.get(mark.name, ())):
            if slot.entry is not None and mark.host in (b"", slot.entry.host):
                self._end(slot, soft)

    # --- patterns: held against entries when they are read -----------------------------------

    def _remember(self, mark: Mark, position: int, now: float) -> None:
        if mark.soft or len(self._patterns) >= PATTERNS_MAX:
            for path in [path for path in self._paths if self._takes(mark.name, path)]:
                self.end(replace(mark, touches=Touches.PATH, name=path), position, now)
            return
        self._patterns[mark.name] = (position, mark)
        self._patterns_at = position

    def _checked(self, slot: _Slot, entry: Entry) -> Entry | None:
        path = path_of(entry.target)
        for name, (position, _) in self._patterns.items():
            if position > slot.checked and self._takes(name, path):
                self._drop(slot)
                return None
        slot.checked = self._patterns_at
        return entry

    # --- indexes -----------------------------------------------------------------------------

    def _index(self, key: Key) -> None:
        path = path_of(key[1])
        known = self._paths.get(path)
        if known is None:
            self._paths[path] = key
        elif isinstance(known, set):
            known.add(key)
        else:
            self._paths[path] = {known, key}

    def _unindex(self, key: Key) -> None:
        path = path_of(key[1])
        known = self._paths.get(path)
        if isinstance(known, set):
            known.discard(key)
            if known:
                return
        self._paths.pop(path, None)

    def _keys(self, path: bytes) -> list[Key]:
        known = self._paths.get(path)
        if known is None:
            return []
        return list(known) if isinstance(known, set) else [known]

    def _slots(self, key: Key) -> list[_Slot]:
        resource = self._resources.get(key)
        return [] if resource is None else list(resource.slots())

    def _end_key(self, key: Key, soft: float | None) -> None:
        for slot in self._slots(key):
            self._end(slot, soft)

    def _end(self, slot: _Slot, soft: float | None) -> None:
        if soft is None:
            self._drop(slot)
        elif slot.entry is not None:
            slot.entry = slot.entry.softened(soft)

    def _drop(self, slot: _Slot) -> None:
        entry = slot.entry
        if entry is None:
            return
        key = (entry.host, entry.target, entry.head_only)
        resource = self._resources.get(key)
        if resource is not None:
            resource.drop(slot, entry)
            if not resource:
                del self._resources[key]
                self._unindex(key)
        self._forget(slot)

    def _forget(self, slot: _Slot) -> None:
        """Out of the counts and the queues, whose dead places are swept when they are many."""
        entry, slot.entry = slot.entry, None
        if entry is None:
            return
        for group in entry.groups:
            held = self._groups.get(group)
            if held is not None:
                held.discard(slot)
                if not held:
                    del self._groups[group]
        self.bytes_used -= entry.size_bytes
        self.count -= 1
        if not slot.main:
            self._small_bytes -= entry.size_bytes
        if len(self._small) + len(self._main) > 2 * self.count + 64:
            self._small = deque(each for each in self._small if each.entry is not None)
            self._main = deque(each for each in self._main if each.entry is not None)

    # --- the queues --------------------------------------------------------------------------

    def _enqueue(self, slot: _Slot, entry: Entry) -> None:
        self.bytes_used += entry.size_bytes
        self.count += 1
        if slot.main:
            self._main.append(slot)
        else:
            self._small.append(slot)
            self._small_bytes += entry.size_bytes

    def _make_room(self) -> None:
        while self.bytes_used > self.bytes_max:
            from_small = self._small_bytes > self.bytes_max * SMALL_SHARE or not self._main
            if from_small and self._small:
                self._leave_small()
            elif self._main:
                self._leave_main()
            elif not self._small:
                return

    def _leave_small(self) -> None:
        slot = self._small.popleft()
        entry = slot.entry
        if entry is None:
            return
        if slot.hits:
            slot.main, slot.hits = True, 0
            self._small_bytes -= entry.size_bytes
            self._main.append(slot)
            return
        self._ghosts[hash((entry.host, entry.target, entry.head_only))] = None
        if len(self._ghosts) > GHOSTS_MAX:
            self._ghosts.popitem(last=False)
        self.evicted += 1
        self._drop(slot)

    def _leave_main(self) -> None:
        slot = self._main.popleft()
        if slot.entry is None:
            return
        if slot.hits:
            slot.hits -= 1
            self._main.append(slot)
            return
        self.evicted += 1
        self._drop(slot)
