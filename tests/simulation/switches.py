"""The gateway's safeguards, each as a way to switch it off that only a test can reach."""

import asyncio
import itertools
import math
from dataclasses import replace
from typing import Any

import pytest

from gateway import lookup, placement, reconciler, telling
from gateway.api import orders as orders_api
from gateway.ledger import Claim, Hold, Lease, Leased, LeaseLost, LedgerUnavailable
from gateway.orders import claiming, life, outcomes
from gateway.orders.attempts import Answer, AttemptEnd, Lost, NotSent, NotSentReason
from gateway.orders.bookkeeping import ended, moved, raise_token
from gateway.orders.claiming import Claimed, ClaimRequest, Fresh
from gateway.orders.entry import Entry
from gateway.orders.lookups import NoEvidence
from gateway.orders.outcomes import NotAdmitted, Refuses, Verdict
from gateway.orders.promise import Capability, LookupPlan
from gateway.orders.reconciling import Circumstances
from gateway.orders.states import Reason, Status
from gateway.placement import Placed, Placement, Placing, StillPending
from gateway.sending import Listening, Sender
from gateway.stores import doubting, steps
from gateway.stores.memory import MemoryState
from gateway.stores.valkey_remembered import Head, Known, Remembered, forgotten
from gateway.stores.valkey_trust import Trust
from middleware.caching.cache import Cache
from middleware.caching.changes import Changes
from middleware.idempotency import gate
from middleware.idempotency.rules import Sameness, upstream_key

from . import remote
from .forgetting import State
from .gateways import DEDUP_FOR_S, Replica
from .remote import RemoteLedger
from .store import Store

Patch = pytest.MonkeyPatch

# --- how each is switched off ------------------------------------------------------------------


def claims_overlook_what_is_there(patch: Patch) -> None:
    def claim(rows: MemoryState, request: ClaimRequest, holder: str, *_: object) -> Claimed:
        entry = life.claim(request, rows.now)
        rows.insert(entry, holder)
        return Fresh(entry)

    patch.setattr(steps, "claim", claim)


def attach_index_is_not_looked_at(patch: Patch) -> None:
    patch.setattr(MemoryState, "newest_attached", lambda *_: None)


def writes_ignore_status_and_token(patch: Patch) -> None:
    def write(
        rows: MemoryState, lease: Lease, before: Entry, after: Entry, due_in_s: float | None
    ) -> None:
        kept = rows.by_id(before.id)
        assert kept is not None
        custody = steps.Custody(lease.hold.holder) if after.pending else steps.NOBODY
        rows.replace(kept.entry, after, custody)

    patch.setattr(steps, "write", write)


def a_lost_attempt_counts_as_not_sent(patch: Patch) -> None:
    end_attempt = life.end_attempt

    def ending(entry: Entry, end: AttemptEnd, now: float, who: str) -> Entry:
        if isinstance(end, Lost):
            end = NotSent(NotSentReason.CLOSED_BEFORE_SENDING)
        return end_attempt(entry, end, now, who)

    patch.setattr(life, "end_attempt", ending)


def a_takeover_counts_as_not_sent(patch: Patch) -> None:
    def take_over(entry: Entry, now: float, who: str) -> Entry:
        taken = raise_token(entry)
        attempt = taken.open_attempt
        if attempt is None:
            return taken
        unsent = ended(taken, attempt, NotSent(NotSentReason.LEASE_LOST))
        target = Status.IN_DOUBT if attempt.resend else Status.RECEIVED
        return moved(unsent, target, Reason.NOT_SENT, now, who, attempt.number)

    patch.setattr(life, "take_over", take_over)


def nobody_waits_for_quiet(patch: Patch) -> None:
    seen = reconciler.Case.seen

    def at_once(case: reconciler.Case, now: float, monotonic: float) -> Circumstances:
        return replace(seen(case, now, monotonic), quiet_in_s=0.0)

    patch.setattr(reconciler.Case, "seen", at_once)


def a_no_counts_before_quiet(patch: Patch) -> None:
    absent = life.absent
    patch.setattr(life, "absent", lambda entry, now, who: absent(life.quiet(entry), now, who))


def a_refused_resend_settles_at_once(patch: Patch) -> None:
    patch.setattr(life, "refusal_settles", lambda _entry, _number: True)


def doubt_is_not_sticky(patch: Patch) -> None:
    """That a later attempt was not let in is taken for the end of the order."""
    judge = outcomes.judge

    def judged(answer: Answer, table: Any, *, resend: bool) -> Verdict:
        alone = judge(answer, table, resend=False)
        return alone if isinstance(alone, NotAdmitted) else judge(answer, table, resend=resend)

    patch.setattr(life, "judge", judged)


def a_server_error_counts_as_a_refusal(patch: Patch) -> None:
    judge = outcomes.judge

    def judged(answer: Answer, table: Any, *, resend: bool) -> Verdict:
        return Refuses() if answer.status >= 500 else judge(answer, table, resend=resend)

    patch.setattr(life, "judge", judged)


def lookups_need_no_proof(patch: Patch) -> None:
    async def proved(*_: object, **__: object) -> None:
        return None

    patch.setattr(lookup.Lookups, "_unproved", proved)


def upstream_keys_are_the_clients_own(patch: Patch) -> None:
    patch.setattr(orders_api, "upstream_key", lambda _scope, key: key)


def claimed_again_is_under_another_key(patch: Patch) -> None:
    """As where the gateway had made it, and drawn an upstream key of its own."""
    numbers = itertools.count()
    patch.setattr(orders_api, "upstream_key", lambda *of: f"{upstream_key(*of)}-{next(numbers)}")
    patch.setattr(life, "under_key", lambda request, _key: request)


def any_body_fits_any_key(patch: Patch) -> None:
    patch.setattr(claiming, "same_submission", lambda *_: Sameness.SAME)


def all_clients_are_one_scope(patch: Patch) -> None:
    patch.setattr(gate, "_scope", lambda *_: "everybody")


def the_lease_is_not_looked_at(patch: Patch) -> None:
    """Also not by who wonders why the store knows it no more."""

    def seen(known: Known, head: Head, *, holder: str, wrote: bool, **_: bool) -> str | None:
        return forgotten(known, head, holder=holder, wrote=wrote, held=False)

    patch.setattr(Hold, "valid", lambda hold, _: not hold.lapsed)
    patch.setattr(remote, "forgotten", seen)


def sending_does_not_wait_for_the_claim(patch: Patch) -> None:
    claim = RemoteLedger.claim

    async def behind(ledger: RemoteLedger, request: ClaimRequest) -> None:
        await asyncio.sleep(0.05)
        await claim(ledger, request)

    async def eager(ledger: RemoteLedger, request: ClaimRequest) -> Claim:
        if not request.dispatch:
            return await claim(ledger, request)
        writing = asyncio.ensure_future(behind(ledger, request))
        writing.add_done_callback(lambda done: done.cancelled() or done.exception())
        entry = life.claim(request, ledger.now())
        return Claim(Fresh(entry), Lease(entry.id, entry.token, ledger.hold))

    patch.setattr(RemoteLedger, "claim", eager)


def short_acknowledgements_count(patch: Patch) -> None:
    patch.setattr(Store, "short_counts", True)


def absence_is_trusted_where_the_store_forgot(patch: Patch) -> None:
    patch.setattr(doubting, "making", lambda _: doubting.trusting)


def writes_that_are_gone_are_overlooked(patch: Patch) -> None:
    patch.setattr(remote, "forgotten", lambda *_, **__: None)
    patch.setattr(State, "behind", lambda *_: False)


def what_a_killed_gateway_knew_is_gone(patch: Patch) -> None:
    patch.setattr(remote, "Remembered", lambda **_: Remembered())


def what_another_gateway_found_is_not_heard(patch: Patch) -> None:
    """Nor is it held against them there."""
    patch.setattr(Trust, "told", lambda *_: False)
    patch.setattr(remote, "heard", lambda _, step: step)


def orders_are_no_further_than_they_look(patch: Patch) -> None:
    patch.setattr(doubting, "unsuspected", lambda *_: False)


def what_was_perhaps_told_is_sent_again(patch: Patch) -> None:
    patch.setattr(Entry, "perhaps_told", property(lambda _: False))


def a_refusal_settles_what_was_forgotten(patch: Patch) -> None:
    patch.setattr(doubting, "amending", lambda change, *_, **__: change)


def tries_that_failed_before_are_told(patch: Patch) -> None:
    patch.setattr(doubting, "shown", lambda entry, _: entry)


def fills_outlive_changes(patch: Patch) -> None:
    patch.setattr(Changes, "outdated", lambda *_: False)


def caches_do_not_ask_what_changed(patch: Patch) -> None:
    """But now and then, as for what no order can change."""

    async def heard(_: Cache) -> bool:
        return True

    patch.setattr(Cache, "_heard", heard)


def nobody_tells_caches(patch: Patch) -> None:
    async def told(*_: object, **__: object) -> None:
        pass

    patch.setattr(telling._TellingLedger, "_told", told)


def a_lost_acknowledgement_counts(patch: Patch) -> None:
    claim = RemoteLedger.claim

    async def claimed(ledger: RemoteLedger, request: ClaimRequest) -> Claim:
        try:
            return await claim(ledger, request)
        except LedgerUnavailable as trouble:
            if trouble.written is False or not request.dispatch:
                raise
        entry = life.claim(request, ledger.now())
        return Claim(Fresh(entry), Lease(entry.id, entry.token, ledger.hold))

    patch.setattr(RemoteLedger, "claim", claimed)


def quiet_is_not_renewed(patch: Patch) -> None:
    """Once quiet, always quiet, whatever was sent since."""

    def sent(case: reconciler.Case, _: float, listening: Listening | None) -> None:
        case.listening, case.looked_up = listening, False

    patch.setattr(reconciler.Case, "sent", sent)
    patch.setattr(Entry, "quiet", property(lambda entry: entry.quiet_attempt > 0))


def the_attach_index_is_looked_at_before(patch: Patch) -> None:
    """And not in the atomic step that writes it."""
    claim, newest, within = steps.claim, MemoryState.newest_attached, [False]
    ask = RemoteLedger.claim

    def blindly(rows: MemoryState, request: ClaimRequest, holder: str, *made: Any) -> Claimed:
        within[0] = True
        try:
            return claim(rows, request, holder, *made)
        finally:
            within[0] = False

    async def after_a_look(ledger: RemoteLedger, request: ClaimRequest) -> Claim:
        seen = await ledger.peek(request)
        return await ask(ledger, request) if seen is None else Claim(seen, None)

    patch.setattr(steps, "claim", blindly)
    patch.setattr(RemoteLedger, "claim", after_a_look)
    patch.setattr(
        MemoryState,
        "newest_attached",
        lambda rows, *which: None if within[0] else newest(rows, *which),
    )


def tombstones_go_with_their_answers(patch: Patch) -> None:
    def until(entry: Entry) -> float | None:
        return None if entry.settled_at is None else entry.settled_at + entry.promise.retention_s

    patch.setattr(steps, "entry_until", until)


def promises_follow_the_configuration(patch: Patch) -> None:
    """Whoever takes an order up serves it as the route is now."""
    adopt, loaded = reconciler.Reconciler.adopt, Replica.reload
    reloaded: list[Replica] = []

    def reload(replica: Replica) -> None:
        reloaded.append(replica)
        loaded(replica)

    def as_now(self: reconciler.Reconciler, leased: Leased, listening: Listening | None) -> None:
        entry = leased.entry
        if reloaded:
            able = entry.promise.capabilities | {Capability.DEDUP}
            promise = replace(entry.promise, capabilities=able, dedup_for_s=DEDUP_FOR_S)
            entry = replace(entry, promise=promise)
        adopt(self, Leased(entry, leased.lease), listening)

    patch.setattr(Replica, "reload", reload)
    patch.setattr(reconciler.Reconciler, "adopt", as_now)


# --- faults that the simulation has found, put back -----------------------------------------------


def a_wait_that_is_over_overlooks_the_answer(patch: Patch) -> None:
    async def placed(
        self: Placement,
        placing: Placing,
        *,
        answer_by: float,
        wait_in_flight: bool = True,
        **_: Any,
    ) -> Placed:
        task, progress = placing
        try:
            async with asyncio.timeout_at(answer_by):
                claimed = await asyncio.shield(task)
        except TimeoutError:
            if progress.entry is None:
                raise LedgerUnavailable("no claim in time") from None
            return StillPending(progress.entry, progress.created)
        return await self._told(claimed, progress, answer_by, wait_in_flight)

    patch.setattr(Placement, "placed", placed)


def what_was_taken_unheard_is_kept(patch: Patch) -> None:
    async def run_once(self: reconciler.Reconciler) -> int:
        taken = await self._ledger.lease_due(100)
        for leased in taken:
            self.adopt(leased, None)
        return len(taken)

    patch.setattr(reconciler.Reconciler, "run_once", run_once)


def a_claim_that_comes_late_is_kept(patch: Patch) -> None:
    patch.setattr(Placement, "_let_lapse", lambda *_: None)


def a_lost_lease_is_not_given_back(patch: Patch) -> None:
    async def nothing(*_: object, **__: object) -> None:
        pass

    async def written(_: Sender, lease: Lease) -> Entry:
        raise LeaseLost(lease.entry_id)

    patch.setattr(Sender, "give_back", nothing)
    patch.setattr(Sender, "_written_before", written)


def old_submissions_are_new_tries(patch: Patch) -> None:
    patch.setattr(orders_api.OrdersApi, "_waited_at", lambda *_: math.inf)


def an_unrecorded_claim_is_told_as_failed(patch: Patch) -> None:
    """And whoever was told so, or asked before, may try anew."""
    patch.setattr(placement, "_unacknowledged", lambda _: False)
    old_submissions_are_new_tries(patch)


def an_empty_upstream_proves_its_lookup(patch: Patch) -> None:
    unproved = lookup.Lookups._unproved

    async def once(
        self: lookup.Lookups, upstream: str, plan: LookupPlan, *, holding: bool = False
    ) -> NoEvidence | None:
        return None if holding else await unproved(self, upstream, plan)

    patch.setattr(lookup.Lookups, "_unproved", once)
