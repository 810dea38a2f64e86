"""The duty that brings every order that is not settled to its outcome.

It takes what is due, or what a dead process left, under leases; placement hands over what an
attempt left open. Each order is a case with a task of its own: ask ``reconciling.plan``, do the
step, ask again. What is due decides the work, not what is stored.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias, assert_never

from gateway.ledger import Lease, Leased, LeaseLost, Ledger, LedgerUnavailable, Watch
from gateway.lookup import Lookups
from gateway.orders import life
from gateway.orders.attempts import NotSent, NotSentReason
from gateway.orders.entry import Entry
from gateway.orders.lookups import Absent, Found, LookupResult, NoEvidence, NoEvidenceReason
from gateway.orders.pacing import Load, Pace
from gateway.orders.reconciling import (
    Bury,
    Circumstances,
    Done,
    GiveUp,
    LookUp,
    NoteQuiet,
    Place,
    Resend,
    Step,
    Wait,
    backoff_s,
    plan,
)
from gateway.orders.states import Reason
from gateway.sending import Listening, Sender
from gateway.telemetry import Telemetry
from gateway.upstream import ConnectFailed, Connection, UpstreamUnknown
from middleware.clock import Clock
from middleware.tasks import Tasks, TasksClosed

CASES_MAX = 10_000
"""Orders one process holds at once: a case is a few kilobytes. The rest waits in the ledger."""

AT_WORK_MAX = 16
"""Lookups and re-sends at once: after an outage live traffic comes first."""

TAKE_MAX = {Load.IDLE: 200, Load.BUSY: 60, Load.PRESSED: 20}
"""Taken up in one go, by what else there is to do: ten thousand at once would hold everything else
up, and wait for their turn just the same. Always more than are worked off until the next time."""

POLL_S = 0.5
"""How often the ledger is asked for what is due; handed-over orders don't wait for it."""

LEDGER_PAUSE_S = 1.0
"""After the ledger refused: long enough not to hammer it, short beside any promise."""

BROKEN_PAUSE_S = 60.0
"""An order that broke our own code is tried again, by any process, without spinning."""

Begin: TypeAlias = Callable[[Entry, float, str], Entry]


class Case:
    """One order in this process's hands."""

    def __init__(self, leased: Leased, listening: Listening | None, began: float) -> None:
        self.entry = leased.entry
        self.lease = leased.lease
        self.listening = listening
        self.quiet_from = began
        self.tries = 0
        self.next_try = began
        self.looked_up = False
        self.woken = asyncio.Event()
        self.watch = Watch()
        if listening is not None:
            listening.on_over(self.woken.set)

    def seen(self, now: float, monotonic: float) -> Circumstances:
        quiet_at = self.quiet_from + self.entry.promise.settle_s
        return Circumstances(
            now=now,
            quiet_in_s=0.0 if self.entry.quiet else max(0.0, quiet_at - monotonic),
            listening=self.listening is not None and not self.listening.over,
            next_try_in_s=max(0.0, self.next_try - monotonic),
            looked_up_since_send=self.looked_up,
        )

    def sent(self, monotonic: float, listening: Listening | None) -> None:
        """An attempt ended: quiet is counted anew."""
        self.quiet_from = monotonic
        self.listening = listening
        self.looked_up = False
        if listening is not None:
            listening.on_over(self.woken.set)

    def back_off(self, monotonic: float, draw: float) -> None:
        self.next_try = monotonic + backoff_s(self.tries, draw)
        self.tries += 1

    def ask_at_once(self) -> None:
        self.tries = 0
        self.next_try = 0.0
        self.looked_up = False


class Reconciler:
    """Call ``run`` in an owned task; ``run_once`` takes up what is due."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        sender: Sender,
        lookups: Lookups,
        tasks: Tasks,
        clock: Clock,
        telemetry: Telemetry,
        draw: Callable[[], float],
        who: str,
        load: Callable[[], Load] = lambda: Load.IDLE,
    ) -> None:
        self._ledger = ledger
        self._sender = sender
        self._lookups = lookups
        self._tasks = tasks
        self._clock = clock
        self._telemetry = telemetry
        self._logger = telemetry.log_of("reconciler")
        self._draw = draw
        self._who = who
        self._load = load
        self._pace = Pace()
        self._notes_pace = Pace()
        self._noting = asyncio.Semaphore(AT_WORK_MAX)
        self._cases = 0
        self._at_work: dict[str, asyncio.Semaphore] = {}

    @property
    def cases(self) -> int:
        return self._cases

    async def run(self) -> None:
        """For ever: take what is due. A ledger that is away costs time, never an order."""
        hindered = False
        while True:
            try:
                await self.run_once()
                hindered = False
            except LedgerUnavailable as trouble:
                if not hindered:  # once for each time: it is tried again and again
                    self._logger.warning("what is due can't be taken up", reason=str(trouble))
                hindered = True
            except Exception:  # a bug must not end the duty that no order is lost by
                self._logger.exception("taking up what is due broke off")
            await asyncio.sleep(POLL_S)

    async def run_once(self) -> int:
        """Take what is due, up to what this process may hold; how many it took."""
        room = min(TAKE_MAX[self._load()], CASES_MAX - self._cases)
        if room <= 0:
            return 0
        try:
            taken = await self._ledger.lease_due(room)
        except LedgerUnavailable as trouble:
            if trouble.hold is not None:
                # What was taken is taken by a hold that lives on, and nobody knows: let it lapse.
                trouble.hold.lapsed = True
            raise
        for leased in taken:
            self._telemetry.taken_over(leased.entry)
            self.adopt(leased, None)
        return len(taken)

    def adopt(self, leased: Leased, listening: Listening | None) -> None:
        """Bring this order to its outcome; its lease is ours. One that is too many goes back, but
        where its connection is still read."""
        if self._cases >= CASES_MAX and listening is None:
            self._give_back(leased.lease)
            return
        case = Case(leased, listening, self._clock.monotonic())
        with suppress(TasksClosed):  # stopping: the hold goes back, and others take it over
            self._tasks.start(self._work(case), name=f"reconcile {leased.entry.id}")
            self._cases += 1

    def _give_back(self, lease: Lease) -> None:
        with suppress(TasksClosed):
            back = self._sender.give_back(lease, due_in_s=POLL_S)
            self._tasks.start(back, name=f"give back {lease.entry_id}")

    async def _work(self, case: Case) -> None:
        entry_id = case.entry.id
        case.watch = self._ledger.watchers.add(entry_id, case.woken.set)
        try:
            while await self._step_on(case):
                pass
        except LeaseLost:
            self._logger.info("lease lost", order=entry_id)
            await self._sender.give_back(case.lease, due_in_s=0.0)
        except Exception:
            self._logger.exception("reconciling broke off", order=entry_id)
            await self._sender.give_back(case.lease, due_in_s=BROKEN_PAUSE_S)
        finally:
            self._ledger.watchers.remove(entry_id, case.watch)
            self._cases -= 1

    async def _step_on(self, case: Case) -> bool:
        """Do the next step; False when there is none left for us."""
        monotonic = self._clock.monotonic()
        if not case.lease.hold.valid(monotonic):
            raise LeaseLost("the hold has lapsed: whoever takes the order over acts on it")
        step = self._plan(case)
        try:
            return await self._do(case, step)
        except LedgerUnavailable:
            await self._read_again(case)
            return True

    async def _read_again(self, case: Case) -> None:
        """A write may have been made although it was not acknowledged: go on from what is there.

        An attempt that stands there unended was never sent, unless we knew of it:
        ``Sender.attempt`` ends each that it is given. A store that shows less than we know forgot.
        """
        stored = None
        while stored is None:
            await asyncio.sleep(LEDGER_PAUSE_S)
            with suppress(LedgerUnavailable):
                stored = await self._ledger.find(case.entry.id)
                if stored is None or stored.token != case.lease.token:
                    raise LeaseLost(f"order {case.entry.id} was changed by somebody else")
        known, case.entry = len(case.entry.attempts), stored
        if stored.pending and stored.open_attempt is not None:
            if stored.open_attempt.number <= known:
                raise LeaseLost(f"order {stored.id} is older than it was")
            unsent = NotSent(NotSentReason.CLOSED_BEFORE_SENDING)
            case.entry = await self._sender.write_end(stored, case.lease, unsent)
            case.sent(self._clock.monotonic(), None)

    def _plan(self, case: Case) -> Step:
        return plan(case.entry, case.seen(self._ledger.now(), self._clock.monotonic()))

    def _turn(self, case: Case) -> asyncio.Semaphore:
        """For each upstream its own turns: one that hangs must not hold up the orders of all."""
        return self._at_work.setdefault(case.entry.promise.upstream, asyncio.Semaphore(AT_WORK_MAX))

    async def _slot(self, pace: Pace, load: Load) -> None:
        """Until the pace allows the next one: what waits must not slow what is new."""
        wait_s = pace.slot_in_s(self._clock.monotonic(), load)
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    async def _do(self, case: Case, step: Step) -> bool:
        match step:
            case Wait(for_s):
                await self._wait(case, for_s)
            case Place():
                await self._send(case, step, life.dispatch)
            case Resend():
                await self._send(case, step, life.resend)
            case LookUp():
                await self._look_up(case)
            case NoteQuiet() | GiveUp() | Bury():
                await self._note(case, step)
            case Done():
                return False
            case _:
                assert_never(step)
        return True

    async def _wait(self, case: Case, for_s: float) -> None:
        """Until the time is over, the last connection has ended, or somebody changed the entry."""
        with suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                await case.woken.wait()
        case.woken.clear()
        latest = case.watch.latest
        if latest is not None and latest.token != case.lease.token:
            raise LeaseLost(f"order {latest.id} was changed by somebody else")

    async def _note(self, case: Case, step: NoteQuiet | GiveUp | Bury) -> None:
        """Write down what time alone has brought about. Thousands of orders that one outage left
        come to it in the same second: their writes take turns, too."""
        async with self._noting:
            idle = self._load() is Load.IDLE
            await self._slot(self._notes_pace, Load.IDLE if idle else Load.BUSY)
            if self._plan(case) == step:
                await self._write(case, self._noted(case.entry, step))
                if isinstance(step, NoteQuiet):
                    case.ask_at_once()

    def _noted(self, entry: Entry, step: NoteQuiet | GiveUp | Bury) -> Entry:
        now = self._ledger.now()
        match step:
            case NoteQuiet():
                return life.quiet(entry)
            case GiveUp(reason):
                return life.fail(entry, reason, now, self._who)
            case Bury(reason):
                return life.bury(entry, reason, now, self._who)
            case _:
                assert_never(step)

    async def _write(self, case: Case, after: Entry) -> None:
        before = case.entry
        await self._ledger.write(case.lease, before, after)
        case.entry = after
        self._telemetry.moved(before, after)

    async def _send(self, case: Case, step: Step, begin: Begin) -> None:
        """Connect first; then the dispatch is durable; then the first byte.

        Waiting for a turn and for a connection takes time: the step is asked for once more.
        """
        async with self._turn(case):
            await self._slot(self._pace, self._load())
            connection = await self._connection(case)
            if connection is None:
                case.back_off(self._clock.monotonic(), self._draw())
                return
            try:
                if self._plan(case) != step:
                    self._sender.pool(case.entry.promise.upstream).put_back(connection)
                    return
                await self._write(case, begin(case.entry, self._ledger.now(), self._who))
            except BaseException:
                self._sender.pool(case.entry.promise.upstream).put_back(connection)
                raise
            sent = await self._sender.attempt(case.entry, case.lease, connection)
        case.entry = sent.entry
        case.sent(self._clock.monotonic(), sent.listening)
        case.back_off(self._clock.monotonic(), self._draw())

    async def _connection(self, case: Case) -> Connection | None:
        pool = self._sender.pool(case.entry.promise.upstream)
        try:
            return pool.take_idle() or await pool.connect(pool.limits.connect_timeout_s)
        except ConnectFailed:
            return None

    async def _look_up(self, case: Case) -> None:
        """A "no" counts only if the question was asked after quiet: ``life.absent`` sees to it,
        by the entry as it stood when the lookup began."""
        async with self._turn(case):
            await self._slot(self._pace, self._load())
            result = await self._asked_about(case.entry)
        case.looked_up = True
        case.back_off(self._clock.monotonic(), self._draw())
        await self._write(case, self._read(case.entry, result))
        if case.entry.absence_proved:
            case.ask_at_once()

    async def _asked_about(self, entry: Entry) -> LookupResult:
        """Whom no upstream here can tell about goes back, perhaps to a gateway that has it; but an
        operator's question is answered: while it stays open no deadline ends the doubt."""
        try:
            return await self._lookups.look_up(entry)
        except UpstreamUnknown:
            if entry.asked is not Reason.OPERATOR_LOOKUP:
                raise
            return NoEvidence(NoEvidenceReason.NOT_SENT, "its upstream is not configured here")

    def _read(self, entry: Entry, result: LookupResult) -> Entry:
        now = self._ledger.now()
        match result:
            case Found(answer, several):
                return life.found(entry, answer, now, self._who, several=several)
            case Absent():
                return life.absent(entry, now, self._who)
            case NoEvidence(reason, detail):
                text = f"{reason.value} {detail}".strip()
                return life.no_evidence(entry, text, now, self._who)
            case _:
                assert_never(result)
