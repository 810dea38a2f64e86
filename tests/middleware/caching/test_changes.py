"""What one replica heard, and what it does when the log is not the one it knew."""

from collections.abc import AsyncIterator

import pytest

from middleware.caching.changes import Changes, MemoryLog
from middleware.caching.invalidation import Mark, Touches
from middleware.caching.memory import MemoryStore
from middleware.tasks import Tasks
from tests.middleware.caching.test_memory import entry, takes

ORDER = Mark(Touches.PATH, b"/orders/7")


class Replica:
    def __init__(self, tasks: Tasks) -> None:
        self.store = MemoryStore(1_000_000, takes)
        self.log = MemoryLog()
        self.changes = Changes(
            self.log,
            apply=lambda mark, position: self.store.end(mark, position, 1.0),
            forget=self.store.clear,
            takes=takes,
            tasks=tasks,
        )

    def replace_log(self) -> None:
        """The file was deleted, or the server came up empty."""
        self.log = self.changes._log = MemoryLog()

    def outdated(self, position: int) -> bool:
        return self.changes.outdated(position, b"shop", b"/orders/7", ())


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    tasks = Tasks(lambda _name, _error: None)
    yield Replica(tasks)
    await tasks.close(1.0)


@pytest.mark.parametrize("appended", [0, 1, 5])
async def test_a_fetch_that_began_under_another_log_is_outdated(
    replica: Replica, appended: int
) -> None:
    await replica.changes.tell([Mark(Touches.PATH, b"/other")] * 3)
    began = replica.changes.position
    replica.replace_log()
    await replica.log.append([ORDER] * appended)
    await replica.changes.check()
    assert replica.outdated(began)
    assert not replica.outdated(replica.changes.position)


async def test_a_pattern_heard_under_another_log_ends_what_was_kept_since(
    replica: Replica,
) -> None:
    for number in range(5):
        await replica.changes.tell([Mark(Touches.PATTERN, b"/shelf/%d*" % number)])
    replica.replace_log()
    await replica.log.append([ORDER])
    await replica.changes.check()
    asked, made = entry(b"/orders/7", position=replica.changes.position)
    replica.store.put(made)
    assert replica.store.find(asked)[0] is made
    await replica.changes.tell([Mark(Touches.PATTERN, b"/orders/*")])
    assert replica.store.find(asked)[0] is None
