"""What was changed, in one order for all replicas: a log of marks with positions.

Whoever changes something appends its marks and is answered after that; whoever serves what an
order can change first asks for what is new. A replica that gets no answer serves nothing of it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from middleware.caching.invalidation import Mark, touches
from middleware.errors import CannotGoOn, Fault
from middleware.tasks import Tasks, TasksClosed

HEARD_MAX = 4096
"""Marks remembered for fetches under way; one that began before the oldest is not kept."""

TIMEOUT_S = 2.0
"""For one answer of the log: a hundred times what it takes. Then nobody can say what changed."""

NOT_IN_TIME = "the log of changes gave no answer in time"


class ChangesUnknown(CannotGoOn):
    """The log can't be read or written: nobody knows what was changed meanwhile."""

    fault = Fault.STORE


@dataclass(frozen=True, slots=True)
class News:
    """The marks after the position asked about, each with its own, and the newest position.
    ``marks`` None: the log doesn't go back that far, so anything may have changed. ``settling``:
    somebody who changes things may not know yet that this log is read."""

    position: int
    marks: Sequence[tuple[int, Mark]] | None
    settling: bool = False


class ChangeLog(Protocol):
    """The port. Methods raise ChangesUnknown where the store can't answer for sure."""

    async def append(self, marks: Sequence[Mark]) -> None:
        """Return once every replica's next ``since`` is sure to tell them."""
        ...

    async def since(self, position: int) -> News:
        """What was appended after ``position``; -1 asks for the newest position alone. Whoever asks
        has a cache."""
        ...

    def nothing_new(self, position: int) -> bool:
        """True only where it is sure, just now and without waiting, that ``since(position)`` would
        tell nothing. A log that has to ask somebody says False."""
        ...

    def in_use(self) -> bool:
        """Whether some process may have a cache, whatever the caller's own configuration says: True
        unless it is known, without waiting, that none has."""
        ...

    async def look(self) -> bool:
        """Find out whether it is in use, where that takes a question. Whether to look again."""
        ...

    async def recent(self) -> News:
        """As ``since(-1)``, with the marks up to there that the log still has: at most
        ``HEARD_MAX``, without a gap. None where it can't tell."""
        ...

    def stamp(self, position: int) -> bytes | None:
        """What tells others which position of which log this is; None where the log has no others,
        or doesn't know the position any more."""
        ...

    def position_of(self, stamp: bytes) -> int | None:
        """The position in this log; None for one of another log, or one that isn't known here."""
        ...

    async def close(self) -> None: ...


class MemoryLog:
    """One process's own log."""

    def __init__(self, kept: int = HEARD_MAX) -> None:
        self._marks: deque[tuple[int, Mark]] = deque(maxlen=kept)
        self._position = 0

    async def append(self, marks: Sequence[Mark]) -> None:
        for mark in marks:
            self._position += 1
            self._marks.append((self._position, mark))

    async def since(self, position: int) -> News:
        if position < 0 or position == self._position:
            return News(self._position, ())
        oldest = self._marks[0][0] if self._marks else self._position + 1
        if position > self._position or position < oldest - 1:
            return News(self._position, None)
        return News(self._position, [each for each in self._marks if each[0] > position])

    def nothing_new(self, position: int) -> bool:
        return position == self._position

    def in_use(self) -> bool:
        return False

    async def look(self) -> bool:
        return False

    async def recent(self) -> News:
        return News(self._position, None)

    def stamp(self, position: int) -> bytes | None:  # noqa: ARG002 - it is one process's own
        return None

    def position_of(self, stamp: bytes) -> int | None:  # noqa: ARG002
        return None

    async def close(self) -> None:
        return None


class Changes:
    """One replica's ear. ``apply(mark, position)`` is called for each mark heard, in order, and
    ``forget()`` where some may have been missed. ``trouble``: why the log could not be asked or
    told, until it can.

    ``position`` is this replica's own count of the log's: it never goes back and never stays where
    it was when another log takes the known one's place, so what began before that is outdated.
    ``recalls``: it looks back at its beginning, so that what others kept before can be judged.
    ``hears``: whether anything is kept here that a change could end. ``settling``: not all who
    change things tell of it yet; what is kept meanwhile is forgotten in the end.
    """

    def __init__(
        self,
        log: ChangeLog,
        *,
        apply: Callable[[Mark, int], None],
        forget: Callable[[], None],
        takes: Callable[[bytes, bytes], bool],
        tasks: Tasks,
        timeout_s: float = TIMEOUT_S,
        recalls: bool = False,
    ) -> None:
        self._log = log
        self._tasks = tasks
        self._apply = apply
        self._forget = forget
        self._takes = takes
        self._timeout_s = timeout_s
        self._heard: deque[tuple[int, Mark]] = deque(maxlen=HEARD_MAX)
        self._floor = 0
        self._next: asyncio.Future[None] | None = None
        self._reading = asyncio.Lock()
        self._in_log = -1
        self._recalls = recalls
        self.position = -1
        self.hears = True
        self.settling = False
        self.trouble: str | None = None

    async def check(self) -> None:
        """Hear all that was appended before this call. One question serves everyone who asks
        before it goes out, and the next one waits for its answer: one for each would wait for all
        those before it, and the log be asked more often than it can answer. Raises
        ChangesUnknown."""
        asking = self._next
        if asking is None:
            loop = asyncio.get_running_loop()
            asking = self._next = loop.create_future()
            loop.call_soon(self._begin, asking)
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.shield(asking)
        except TimeoutError as error:
            raise ChangesUnknown(NOT_IN_TIME) from error

    def nothing_new(self) -> bool:
        """Whether a check would surely tell nothing: then there is no need to wait for one."""
        known = self.position >= 0 and not self.settling
        return known and self._log.nothing_new(self._in_log)

    async def tell(self, marks: Sequence[Mark]) -> None:
        """Append ``marks``, and hear them where that matters. Raises ChangesUnknown: they may be
        told or not."""
        if not marks:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._log.append(marks)
        except (TimeoutError, ChangesUnknown) as error:
            why = str(error) or "the log of changes took too long"
            self.trouble = why if self.hears else None  # whoever doesn't hear would never lose it
            raise ChangesUnknown(why) from error
        if self.hears:
            await self.check()

    def told_elsewhere(self) -> bool:
        """Whether another process may have a cache."""
        return self._log.in_use()

    async def look(self) -> bool:
        """Find out whether another process has; whether to look again. Raises ChangesUnknown."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._log.look()
        except TimeoutError as error:
            raise ChangesUnknown(NOT_IN_TIME) from error

    def outdated(self, position: int, host: bytes, target: bytes, groups: Iterable[bytes]) -> bool:
        """Whether something that touches ``target`` was heard after ``position``."""
        if position < self._floor:
            return True
        for at, mark in reversed(self._heard):
            if at <= position:
                return False
            if touches(mark, host, target, groups, self._takes):
                return True
        return False

    def stamp(self, position: int) -> bytes | None:
        """What tells other replicas of a position at which nothing here was outdated; None where
        there are none."""
        return None if position < self._floor else self._log.stamp(position - self._ahead)

    def position_of(self, stamp: bytes) -> int | None:
        """The position that another replica means; None where it is not known here."""
        found = self._log.position_of(stamp)
        return None if found is None or found > self._in_log else found + self._ahead

    @property
    def _ahead(self) -> int:
        return self.position - self._in_log

    def _remember(self, news: News) -> None:
        """What was told before this replica began."""
        marks = list(news.marks or ())
        self._in_log = self.position = news.position
        self._floor = marks[0][0] - 1 if marks else news.position
        self._heard.extend(marks)
        self.settling = news.settling

    def _begin(self, asking: "asyncio.Future[None]") -> None:
        try:
            self._tasks.start(self._read(asking), name="hear changes")
        except TasksClosed:
            self._goes_out(asking)
            _fail(asking, "stopping")

    def _goes_out(self, asking: "asyncio.Future[None]") -> None:
        """Whoever asks from here on needs another question."""
        if self._next is asking:
            self._next = None

    async def _read(self, asking: "asyncio.Future[None]") -> None:
        try:
            async with self._reading, asyncio.timeout(self._timeout_s):
                self._goes_out(asking)
                if self.position < 0 and self._recalls:
                    self._remember(await self._log.recent())
                else:
                    self._hear(await self._log.since(self._in_log))
        except (TimeoutError, ChangesUnknown) as error:
            self.trouble = str(error) or NOT_IN_TIME
            _fail(asking, self.trouble)
        except asyncio.CancelledError:
            asking.cancel()
            raise
        else:
            self.trouble = None
            if not asking.done():
                asking.set_result(None)
        finally:
            self._goes_out(asking)

    def _hear(self, news: News) -> None:
        settled = self.settling and not news.settling
        self.settling = news.settling
        if news.marks is None or news.position < self._in_log or settled:
            self._heard.clear()
            self.position = self._floor = max(self.position, news.position) + HEARD_MAX
            self._forget()
        elif self.position < 0:
            self.position = self._floor = news.position
        else:
            ahead = self._ahead
            for position, mark in news.marks:
                self._note(position + ahead, mark)
            self.position = news.position + ahead
        self._in_log = news.position

    def _note(self, position: int, mark: Mark) -> None:
        if len(self._heard) == HEARD_MAX:
            self._floor = self._heard[0][0]
        self._heard.append((position, mark))
        self._apply(mark, position)


def _fail(asking: "asyncio.Future[None]", why: str) -> None:
    if not asking.done():
        asking.set_exception(ChangesUnknown(why))
        asking.exception()  # whoever waits is told; nobody waiting is no news
