"""One order driven at random through everything that may befall it, beside a backend that knows
the truth. The rules are what the shells may do; the invariants are the promise."""

from itertools import product
from typing import Literal

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from gateway.orders import life
from gateway.orders.attempts import Answered, NotSent, NotSentReason
from gateway.orders.bookkeeping import EVENTS_MAX
from gateway.orders.claiming import decide
from gateway.orders.entry import Entry
from gateway.orders.lookups import Found, read_lookup
from gateway.orders.promise import Capability
from gateway.orders.reconciling import (
    Bury,
    Circumstances,
    Done,
    GiveUp,
    LookUp,
    NoteQuiet,
    Place,
    Resend,
    Wait,
    plan,
)
from gateway.orders.states import FINAL, Status
from tests.orders.backend import NOISE, REFUSALS, Backend
from tests.orders.making import (
    BY_KEY,
    CAPABILITIES,
    KEY,
    NOW,
    TIMED_OUT,
    UNUSED,
    WHO,
    answer,
    promise,
    submission,
    within,
)

SETTLE_S = 30.0
NOISES = st.none() | st.sampled_from(NOISE)


class Journey(RuleBasedStateMachine):
    """``self.entry`` is what the ledger holds; every write goes through ``put``. ``tried``: the
    capabilities and times of memory that an order may be promised."""

    tried = tuple(product(CAPABILITIES, (60.0, 7200.0)))
    entry: Entry
    backend: Backend

    @initialize(which=st.integers(0, 99), dispatch=st.booleans())
    def claim(self, which: int, dispatch: bool) -> None:
        capabilities, dedup_for_s = self.tried[which % len(self.tried)]
        dedup = Capability.DEDUP in capabilities
        self.backend = Backend(dedup_for_s=dedup_for_s if dedup else 0.0)
        self.now = self.quiet_from = self.next_try = NOW
        self.listening = self.looked_up = False
        self.claims = 1
        self.request = submission("claim-1", promised=promise(capabilities), dispatch=dispatch)
        entry = life.claim(self.request, self.now)
        self.entry = within(entry, settle_s=SETTLE_S, dedup_for_s=dedup_for_s)

    # What the shells do.

    def put(self, after: Entry) -> None:
        before = self.entry
        assert after.token >= before.token
        assert len(after.attempts) >= len(before.attempts)
        if before.status is Status.IN_DOUBT:
            assert after.status not in (Status.RECEIVED, Status.DISPATCHED)
        if before.status in FINAL:
            assert (after.status, after.answer) == (before.status, before.answer)
        self.entry = after

    def end(self, after: Entry, *, listening: bool = False) -> None:
        self.put(after)
        self.quiet_from, self.listening, self.looked_up = self.now, listening, False

    @property
    def sending(self) -> int | None:
        """The number of the attempt that is under way and has been sent."""
        attempt = self.entry.open_attempt
        return attempt.number if attempt and attempt.number in self.backend.attempts else None

    @property
    def about_to_send(self) -> bool:
        return self.entry.open_attempt is not None and self.sending is None

    @precondition(lambda self: self.entry.pending and self.about_to_send)
    @rule(
        delay_s=st.sampled_from([0.0, 3.0, 29.9]),
        refusal=st.none() | st.just(422) | st.sampled_from(REFUSALS),
    )
    def send(self, delay_s: float, refusal: int | None) -> None:
        """Time has passed since the dispatch was decided: the last look before the first byte."""
        if not self.entry.may_be_sent(self.now):
            too_late = NotSent(NotSentReason.TOO_LATE)
            self.end(life.end_attempt(self.entry, too_late, self.now, WHO))
            return
        number = len(self.entry.attempts)
        self.backend.take(number, self.now, *self.fate(number, delay_s, refusal))

    def fate(self, _number: int, delay_s: float, refusal: int | None) -> tuple[float, int | None]:
        """When an attempt is looked at, and how it is refused if it is: for a bias to override."""
        return delay_s, refusal

    @precondition(lambda self: self.entry.pending and self.about_to_send)
    @rule()
    def connection_is_found_closed(self) -> None:
        self.end(life.end_attempt(self.entry, UNUSED, self.now, WHO))

    @precondition(lambda self: self.entry.status is Status.DISPATCHED and self.about_to_send)
    @rule()
    def claim_is_not_acknowledged(self) -> None:
        if self.request.dispatch:
            unsent = NotSent(NotSentReason.CLAIM_UNACKNOWLEDGED)
            self.end(life.end_attempt(self.entry, unsent, self.now, WHO))

    @precondition(lambda self: self.entry.pending and self.sending)
    @rule(noise=NOISES)
    def answer_in_time(self, noise: int | None) -> None:
        assert self.sending is not None
        status = self.backend.answer(self.sending, noise)
        if status is not None:
            self.end(life.end_attempt(self.entry, Answered(answer(status)), self.now, WHO))

    @precondition(lambda self: self.entry.pending and self.sending)
    @rule(listening=st.booleans())
    def lose(self, listening: bool) -> None:
        self.end(life.end_attempt(self.entry, TIMED_OUT, self.now, WHO), listening=listening)

    @precondition(lambda self: self.entry.pending)
    @rule()
    def worker_dies_and_another_takes_over(self) -> None:
        self.end(life.take_over(self.entry, self.now, "replica-2"))

    @precondition(lambda self: self.backend.attempts)
    @rule(which=st.integers(0, 9), noise=NOISES)
    def answer_late(self, which: int, noise: int | None) -> None:
        numbers = sorted(self.backend.attempts)
        number = numbers[which % len(numbers)]
        status = self.backend.answer(number, noise)
        if status is None:
            return
        after = life.late_answer(self.entry, number, answer(status), self.now, WHO)
        if after is None:
            return
        assert after.token > self.entry.token  # whoever held it has lost it
        self.end(life.take_over(after, self.now, "replica-2") if after.pending else after)

    @rule(seconds=st.sampled_from([1.0, 5.0, 29.0, 31.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.backend.run(self.now)

    # What the reconciler does, by the plan and only by it.

    @precondition(lambda self: self.entry.pending and self.entry.open_attempt is None)
    @rule(evidence=st.booleans(), pause_s=st.sampled_from([0.0, 2.0, 20.0]))
    def take_a_step(self, evidence: bool, pause_s: float) -> None:
        now, entry = self.now, self.entry
        match plan(entry, self.seen()):
            case Place():
                self.put(life.dispatch(entry, now, WHO))
            case Resend():
                self.next_try = now + pause_s
                self.put(life.resend(entry, now, WHO))
            case LookUp():
                self.next_try, self.looked_up = now + pause_s, True
                self.put(self.look_up(evidence))
            case NoteQuiet():
                self.next_try, self.looked_up = now, False
                self.put(life.quiet(entry))
            case GiveUp(reason):
                self.put(life.fail(entry, reason, now, WHO))
            case Bury(reason):
                self.put(life.bury(entry, reason, now, WHO))
            case Wait(for_s):
                self.time_passes(min(for_s, 10.0))
                self.listening = self.listening and now < self.quiet_from + SETTLE_S
            case Done():
                raise AssertionError("a pending order is never done")

    def seen(self) -> Circumstances:
        return Circumstances(
            now=self.now,
            quiet_in_s=max(0.0, self.quiet_from + SETTLE_S - self.now),
            listening=self.listening,
            next_try_in_s=max(0.0, self.next_try - self.now),
            looked_up_since_send=self.looked_up,
        )

    def look_up(self, evidence: bool) -> Entry:
        if not evidence:
            return life.no_evidence(self.entry, "status 500", self.now, WHO)
        if not self.backend.orders:
            return life.absent(self.entry, self.now, WHO)
        found = read_lookup(answer(200), BY_KEY, KEY)
        assert isinstance(found, Found)
        return life.found(self.entry, found.answer, self.now, WHO, several=False)

    # What customers and operators do.

    @precondition(lambda self: self.entry.status is Status.FAILED)
    @rule(dispatch=st.booleans())
    def customer_tries_again(self, dispatch: bool) -> None:
        self.claims += 1
        request = submission(f"claim-{self.claims}", dispatch=dispatch)
        assert decide(self.entry, request) is None
        self.request = request
        self.end(life.claim_again(self.entry, request, self.now))

    @precondition(lambda self: self.entry.doubtful and self.entry.open_attempt is None)
    @rule()
    def operator_who_knows_resolves(self) -> None:
        if not self.backend.at_rest:
            return
        outcome: Literal[Status.CONFIRMED, Status.FAILED] = (
            Status.CONFIRMED if self.backend.orders else Status.FAILED
        )
        self.put(life.resolve(self.entry, outcome, "seen", self.now, "operator:ann"))

    # What must hold at every moment, and still when all that was sent has been looked at.

    def teardown(self) -> None:
        if hasattr(self, "backend"):
            self.time_passes(1000.0)
            self.there_is_at_most_one_order()
            self.confirmed_means_that_the_backend_holds_the_order()
            self.failed_and_rejected_mean_that_it_does_not_hold_it()
            self.an_attempt_that_is_said_to_have_made_nothing_made_nothing()

    @invariant()
    def there_is_at_most_one_order(self) -> None:
        assert len(self.backend.orders) <= 1

    @invariant()
    def confirmed_means_that_the_backend_holds_the_order(self) -> None:
        if self.entry.status is Status.CONFIRMED:
            assert self.backend.orders

    @invariant()
    def failed_and_rejected_mean_that_it_does_not_hold_it(self) -> None:
        if self.entry.status in (Status.FAILED, Status.REJECTED):
            assert not self.backend.orders

    @invariant()
    def an_attempt_that_is_said_to_have_made_nothing_made_nothing(self) -> None:
        for attempt in self.entry.attempts:
            if attempt.harmless:
                assert attempt.number not in self.backend.orders

    @invariant()
    def nothing_is_disputed_where_nobody_lies(self) -> None:
        assert not self.entry.disputed

    @invariant()
    def attempts_are_numbered_from_1_without_gaps(self) -> None:
        attempts = self.entry.attempts
        assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
        assert all(attempt.result is not None for attempt in attempts[:-1])

    @invariant()
    def the_rest_is_in_order(self) -> None:
        assert len(self.entry.events) <= EVENTS_MAX
        assert (self.entry.request is None) == self.entry.settled
        assert (self.entry.settled_at is not None) == self.entry.settled
