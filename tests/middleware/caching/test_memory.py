"""The store in memory: bounded, fair to what is read, and exact in what it ends."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from middleware.caching.asked import Asked, Received
from middleware.caching.entries import Entry, make_entry
from middleware.caching.invalidation import Mark, Touches, touches
from middleware.caching.memory import SELECTIONS_MAX, VARIANTS_MAX, MemoryStore
from middleware.caching.storing import Keep, StoringPolicy, may_store

NOW = 1_800_000_000.0
POLICY = StoringPolicy()


def takes(pattern: bytes, path: bytes) -> bool:
    return path.startswith(pattern.rstrip(b"*"))


def entry(
    target: bytes, *, size: int = 10, vary: bytes = b"", shown: bytes = b"", position: int = 0
) -> tuple[Asked, Entry]:
    asked = Asked(b"GET", b"shop", target, ((vary or b"X", shown),))
    fields = [(b"Cache-Control", b"max-age=60"), (b"Cache-Groups", b'"g"')]
    if vary:
        fields.append((b"Vary", vary))
    answer = Received(200, b"OK", tuple(fields), NOW, NOW)
    keep = may_store(asked, answer, POLICY)
    assert isinstance(keep, Keep)
    body = b"x" * size
    made = make_entry(
        asked, answer, keep, body, since=1.0, position=position, storing=POLICY, strict=False
    )
    return asked, made


def test_variants_of_one_uri_are_capped() -> None:
    store = MemoryStore(1 << 30, takes)
    for number in range(VARIANTS_MAX + 10):
        store.put(entry(b"/a", vary=b"X-A", shown=b"%d" % number)[1])
    assert store.count == VARIANTS_MAX
    for number in range(SELECTIONS_MAX + 3):
        store.put(entry(b"/b", vary=b"X-%d" % number)[1])
    assert store.count == VARIANTS_MAX + SELECTIONS_MAX


def test_what_selects_an_answer_counts_too() -> None:
    small, large = (entry(b"/a", vary=b"X-A", shown=b"v" * size)[1] for size in (1, 10_001))
    assert large.size_bytes - small.size_bytes == 10_000


def test_what_is_larger_than_the_whole_is_not_taken() -> None:
    store = MemoryStore(5000, takes)
    assert store.put(entry(b"/a")[1])
    assert not store.put(entry(b"/b", size=6000)[1])
    assert store.count == 1


def test_what_comes_back_soon_after_it_left_is_kept_longer() -> None:
    store = MemoryStore(100_000, takes)
    asked, first = entry(b"/hot")
    store.put(first)
    for number in range(150):
        store.put(entry(b"/scan/%d" % number)[1])
    assert store.find(asked)[0] is None
    store.put(first)
    for number in range(80):
        store.put(entry(b"/scan/more/%d" % number)[1])
    assert store.find(asked)[0] is first


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 4000), st.booleans()), max_size=200))
def test_the_bound_holds_whatever_comes(steps: list[tuple[int, int, bool]]) -> None:
    store = MemoryStore(20_000, takes)
    for number, size, read in steps:
        asked, made = entry(b"/%d" % number, size=size)
        if read:
            store.find(asked)
        else:
            store.put(made)
        assert store.bytes_used <= 20_000
        assert store.bytes_used == sum(each.size_bytes for each in store.entries())
        assert store.count == len(list(store.entries()))


TARGETS = [b"/a", b"/a?q", b"/a/b", b"/c", b"/c?q"]
MARKS = [
    *(Mark(Touches.URL, target, b"shop") for target in TARGETS),
    Mark(Touches.PATH, b"/a"),
    Mark(Touches.PATH, b"/c"),
    Mark(Touches.PATTERN, b"/a*"),
    Mark(Touches.PATTERN, b"/c*"),
    Mark(Touches.GROUP, b"g"),
    Mark(Touches.GROUP, b"other"),
    Mark(Touches.ALL),
]


class Kept(RuleBasedStateMachine):
    """Against a list that is searched from end to end."""

    @initialize()
    def begin(self) -> None:
        self.store = MemoryStore(1 << 30, takes)
        self.model: dict[tuple[bytes, bytes], Entry] = {}
        self.position = 0

    @rule(at=st.sampled_from(TARGETS), shown=st.sampled_from([b"1", b"2"]))
    def put(self, at: bytes, shown: bytes) -> None:
        _, made = entry(at, vary=b"X-A", shown=shown, position=self.position)
        self.store.put(made)
        self.model[at, shown] = made

    @rule(mark=st.sampled_from(MARKS))
    def end(self, mark: Mark) -> None:
        self.position += 1
        self.store.end(mark, self.position, 1.0)
        self.model = {
            key: kept
            for key, kept in self.model.items()
            if not touches(mark, kept.host, kept.target, kept.groups, takes)
        }

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        self.store.remove(self.model.pop(key))

    @invariant()
    def finds_what_is_kept(self) -> None:
        for target in TARGETS:
            for shown in (b"1", b"2"):
                asked = Asked(b"GET", b"shop", target, ((b"X-A", shown),))
                assert self.store.find(asked)[0] is self.model.get((target, shown))


TestKept = Kept.TestCase
