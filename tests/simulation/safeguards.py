"""Each safeguard of the gateway, switched off, and the invariant that must then be seen broken.

A row names what is off, where, and what the judges must say. The history that finds it is played
again with the safeguard on, and must not show that flaw: it is the safeguard that is missed, not
something that the row's own upstream does. ``./run test --safeguards`` prints the table.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.orders.promise import Capability

from . import histories as told_histories
from .blows import Blow
from .histories import Prepare, play
from .moments import (
    TAKEN_OVER_S,
    few_submissions_survive,
    frozen,
    frozen_while_claiming,
    ignores_the_lookup_key,
    most_submissions_come_late,
    nothing_more,
    refuses_while_it_works,
    standing_still_with_two_requests,
    the_store_stands_still,
    the_usual,
    unheard,
    unrecorded_first_and_slow_then,
    who_are_you,
)
from .plans import Plan, plan
from .switches import (
    Patch,
    a_claim_that_comes_late_is_kept,
    a_lost_acknowledgement_counts,
    a_lost_attempt_counts_as_not_sent,
    a_lost_lease_is_not_given_back,
    a_no_counts_before_quiet,
    a_refusal_settles_what_was_forgotten,
    a_refused_resend_settles_at_once,
    a_server_error_counts_as_a_refusal,
    a_takeover_counts_as_not_sent,
    a_wait_that_is_over_overlooks_the_answer,
    absence_is_trusted_where_the_store_forgot,
    all_clients_are_one_scope,
    an_empty_upstream_proves_its_lookup,
    an_unrecorded_claim_is_told_as_failed,
    any_body_fits_any_key,
    attach_index_is_not_looked_at,
    caches_do_not_ask_what_changed,
    claimed_again_is_under_another_key,
    claims_overlook_what_is_there,
    doubt_is_not_sticky,
    fills_outlive_changes,
    lookups_need_no_proof,
    nobody_tells_caches,
    nobody_waits_for_quiet,
    old_submissions_are_new_tries,
    orders_are_no_further_than_they_look,
    promises_follow_the_configuration,
    quiet_is_not_renewed,
    sending_does_not_wait_for_the_claim,
    short_acknowledgements_count,
    the_attach_index_is_looked_at_before,
    the_lease_is_not_looked_at,
    tombstones_go_with_their_answers,
    tries_that_failed_before_are_told,
    upstream_keys_are_the_clients_own,
    what_a_killed_gateway_knew_is_gone,
    what_another_gateway_found_is_not_heard,
    what_was_perhaps_told_is_sent_again,
    what_was_taken_unheard_is_kept,
    writes_ignore_status_and_token,
    writes_that_are_gone_are_overlooked,
)

LOOKUP = frozenset({Capability.LOOKUP})
DEDUP = frozenset({Capability.DEDUP})
NONE: frozenset[Capability] = frozenset()

HISTORIES_MAX = 100
"""Most are found in the first few."""

SETTLED_WITHIN_S = 30.0
"""Without a safeguard a history may never settle; that need not be waited for."""

STORM = (Blow.CRASH, Blow.PAUSE, Blow.STUMBLE, Blow.CUT_STORE)


FORGETTING = (Blow.FORGET, Blow.FORGET, Blow.CRASH, Blow.PAUSE, Blow.CUT_STORE)
FORGETFUL = {"keyed_only": True}
CACHING: Mapping[str, Any] = {"caches": True}


@dataclass(frozen=True, slots=True)
class Safeguard:
    """One row: what is off, and which flaw must be found, on which capability and upstream; what
    else its histories are made ``of``."""

    off: Callable[[Patch], None]
    flaw: str
    capabilities: frozenset[Capability] = LOOKUP
    blows: tuple[Blow, ...] = STORM
    upstream: Callable[[Patch], None] = the_usual
    prepare: Prepare = nothing_more
    of: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.off.__name__


SAFEGUARDS = (
    Safeguard(claims_overlook_what_is_there, "ordered_twice"),
    Safeguard(attach_index_is_not_looked_at, "ordered_twice"),
    Safeguard(
        writes_ignore_status_and_token,
        "ordered_twice",
        LOOKUP,
        (),
        prepare=frozen("claim", TAKEN_OVER_S),
    ),
    Safeguard(a_lost_attempt_counts_as_not_sent, "ordered_twice"),
    Safeguard(a_lost_attempt_counts_as_not_sent, "ordered_twice", NONE),
    Safeguard(a_takeover_counts_as_not_sent, "ordered_twice", NONE),
    Safeguard(nobody_waits_for_quiet, "ordered_twice"),
    Safeguard(a_no_counts_before_quiet, "ordered_twice"),
    Safeguard(a_refused_resend_settles_at_once, "rejected", DEDUP, upstream=refuses_while_it_works),
    Safeguard(doubt_is_not_sticky, "held_but_told_failed", DEDUP),
    Safeguard(a_server_error_counts_as_a_refusal, "rejected"),
    Safeguard(lookups_need_no_proof, "confirmed_with_anothers", upstream=ignores_the_lookup_key),
    Safeguard(upstream_keys_are_the_clients_own, "anothers"),
    Safeguard(claimed_again_is_under_another_key, "ordered_twice"),
    Safeguard(any_body_fits_any_key, "key_reused"),
    Safeguard(all_clients_are_one_scope, "another"),
    Safeguard(
        the_lease_is_not_looked_at,
        "ordered_twice",
        LOOKUP,
        (),
        prepare=frozen("claim", TAKEN_OVER_S),
    ),
    Safeguard(sending_does_not_wait_for_the_claim, "are recorded"),
    Safeguard(
        a_wait_that_is_over_overlooks_the_answer,
        "final_answers_differ",
        blows=(),
        prepare=frozen("write", 4.0),
    ),
    Safeguard(
        what_was_taken_unheard_is_kept,
        "ledger_pending",
        blows=(Blow.CRASH,) * 4,
        prepare=unheard("lease_due"),
    ),
    Safeguard(
        a_claim_that_comes_late_is_kept,
        "ledger_pending",
        blows=(),
        prepare=the_store_stands_still,
        of={"keeps": True, "replicas": 1},
    ),
    Safeguard(
        a_lost_lease_is_not_given_back,
        "ledger_pending",
        blows=(),
        prepare=unheard("write"),
    ),
    Safeguard(
        an_unrecorded_claim_is_told_as_failed,
        "held_but_told_failed",
        blows=(),
        prepare=frozen_while_claiming,
    ),
    Safeguard(
        an_empty_upstream_proves_its_lookup,
        "confirmed_with_anothers",
        upstream=ignores_the_lookup_key,
        prepare=few_submissions_survive,
    ),
    Safeguard(
        short_acknowledgements_count,
        "never did",
        NONE,
        (Blow.FAILOVER, Blow.FAILOVER, Blow.STORE_AWAY),
        of={"replicated": True},
    ),
    Safeguard(
        absence_is_trusted_where_the_store_forgot,
        "ordered_twice",
        blows=(Blow.FORGET, Blow.FORGET, Blow.CRASH),
        of={"replicas": 1, "keyed_only": True},
    ),
    Safeguard(writes_that_are_gone_are_overlooked, "has not seen", blows=FORGETTING, of=FORGETFUL),
    Safeguard(what_a_killed_gateway_knew_is_gone, "has not seen", blows=FORGETTING, of=FORGETFUL),
    Safeguard(
        what_another_gateway_found_is_not_heard, "ordered_twice", blows=FORGETTING, of=FORGETFUL
    ),
    Safeguard(
        orders_are_no_further_than_they_look,
        "ordered_twice",
        blows=(Blow.FORGET, Blow.UPSTREAM_CRASH, Blow.FORGET, Blow.UPSTREAM_CRASH, Blow.FORGET),
        of=FORGETFUL,
    ),
    Safeguard(
        tries_that_failed_before_are_told,
        "held_but_told_failed",
        blows=FORGETTING,
        prepare=unrecorded_first_and_slow_then,
        of=FORGETFUL,
    ),
    Safeguard(
        what_was_perhaps_told_is_sent_again,
        "held_but_told_failed",
        DEDUP,
        blows=FORGETTING,
        prepare=who_are_you,
        of=FORGETFUL,
    ),
    Safeguard(
        a_refusal_settles_what_was_forgotten,
        "held_but_told_failed",
        DEDUP,
        blows=(Blow.FORGET,),
        prepare=standing_still_with_two_requests,
        of=FORGETFUL,
    ),
    Safeguard(
        old_submissions_are_new_tries,
        "held_but_told_failed",
        blows=(Blow.PAUSE, Blow.PAUSE, Blow.PAUSE),
        prepare=who_are_you,
    ),
    Safeguard(fills_outlive_changes, "stale", of=CACHING),
    Safeguard(caches_do_not_ask_what_changed, "stale", of={"caches": True, "replicas": 3}),
    Safeguard(nobody_tells_caches, "stale", of=CACHING),
    Safeguard(a_lost_acknowledgement_counts, "are recorded"),
    Safeguard(
        quiet_is_not_renewed,
        "ordered_twice",
        blows=(),
        prepare=most_submissions_come_late,
    ),
    Safeguard(the_attach_index_is_looked_at_before, "ordered_twice"),
    Safeguard(tombstones_go_with_their_answers, "ordered_twice", blows=(), of={"forgets": True}),
    Safeguard(
        promises_follow_the_configuration,
        "ordered_twice",
        blows=(Blow.CRASH, Blow.CRASH, Blow.RELOAD),
        of={"upgrades": True},
    ),
)


def histories(safeguard: Safeguard) -> Iterator[Plan]:
    for seed in range(HISTORIES_MAX):
        drawn = plan(seed, safeguard.capabilities)
        several = max(2, drawn.replicas)
        plain = replace(drawn, blows=safeguard.blows, replicas=several, forgets=False)
        usual: dict[str, Any] = {"upgrades": False, "replicated": False}
        yield replace(plain, **usual | dict(safeguard.of))


@dataclass(frozen=True, slots=True)
class Harm:
    """The first history that showed it, and how many were played."""

    plan: Plan
    after: int
    flaw: str


def first_harm(safeguard: Safeguard) -> Harm | None:
    """Play without the safeguard until its flaw is found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(told_histories, "SETTLED_WITHIN_S", SETTLED_WITHIN_S)
        safeguard.upstream(patch)
        safeguard.off(patch)
        for after, each in enumerate(histories(safeguard), start=1):
            for flaw in play(each, safeguard.prepare).flaws:
                if safeguard.flaw in flaw:
                    return Harm(each, after, flaw)
    return None


def still_harmed(safeguard: Safeguard, harm: Harm) -> str | None:
    """The report of the same history with the safeguard on, where it shows the flaw all the same:
    then it is not the safeguard that is missed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(told_histories, "SETTLED_WITHIN_S", SETTLED_WITHIN_S)
        safeguard.upstream(patch)
        again = play(harm.plan, safeguard.prepare)
    return again.report() if any(safeguard.flaw in flaw for flaw in again.flaws) else None


INVARIANTS = {
    "ordered_twice": "I1: one order at most",
    "rejected": "I3: told no, and none is held",
    "held_but_told_failed": "I3: told no, and none is held",
    "final_answers_differ": "I4: one final answer",
    "ledger_pending": "I5: every order ends",
    "anothers": "I6: nobody sees another's",
    "another": "I6: nobody sees another's",
    "confirmed_with_anothers": "I6: nobody sees another's",
    "are recorded": "I7: nothing is sent unrecorded",
    "never did": "what is acknowledged is kept",
    "stale": "P5: no stale order from a cache",
    "has not seen": "who wrote sees that it is gone",
    "key_reused": "a key is bound to its first body",
}
"""FAULTS.md's invariants, by the flaw that breaks them."""


def row_of(number: int) -> str:
    """A line of the table: what was off, on which upstream, what found it, after how many."""
    safeguard = SAFEGUARDS[number]
    harm = first_harm(safeguard)
    found = "not found" if harm is None else str(harm.after)
    capability = "+".join(sorted(safeguard.capabilities)) or "none"
    name = str(safeguard).replace("_", " ")
    return f"| {name} | {capability} | {INVARIANTS[safeguard.flaw]} | {found} |"


TABLE_HEAD = (
    "| switched off | capability | found by | after histories |",
    "|---|---|---|---|",
)
