"""A suite that can't fail proves nothing: each safeguard is switched off, and must be missed.

A row names what is switched off, where, and what the judges must then say. The history that finds
it is played again with the safeguard on, and must not show that flaw: it is the safeguard that is
missed, not something that the row's own upstream does.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from gateway.orders.promise import Capability

from . import histories as told_histories
from .chaos import Blow
from .histories import Plan, Prepare, plan, play
from .safeguards import (
    TAKEN_OVER_S,
    Patch,
    a_lost_attempt_counts_as_not_sent,
    a_lost_lease_is_not_given_back,
    a_no_counts_before_quiet,
    a_refused_resend_settles_at_once,
    a_server_error_counts_as_a_refusal,
    a_takeover_counts_as_not_sent,
    a_wait_that_is_over_overlooks_the_answer,
    acknowledged_writes_may_be_lost,
    all_clients_are_one_scope,
    an_empty_upstream_proves_its_lookup,
    an_unrecorded_claim_is_told_as_failed,
    any_body_fits_any_key,
    attach_index_is_not_looked_at,
    claims_overlook_what_is_there,
    few_submissions_survive,
    frozen,
    frozen_while_claiming,
    ignores_the_lookup_key,
    lookups_need_no_proof,
    nobody_waits_for_quiet,
    nothing_more,
    refuses_while_it_works,
    sending_does_not_wait_for_the_claim,
    the_lease_is_not_looked_at,
    the_usual,
    unheard,
    upstream_keys_are_the_clients_own,
    what_was_taken_unheard_is_kept,
    writes_ignore_status_and_token,
)

LOOKUP = frozenset({Capability.LOOKUP})
DEDUP = frozenset({Capability.DEDUP})
NONE: frozenset[Capability] = frozenset()

HISTORIES_MAX = 100
"""Most are found in the first few."""

SETTLED_WITHIN_S = 30.0
"""Without a safeguard a history may never settle; that need not be waited for."""

STORM = (Blow.CRASH, Blow.PAUSE, Blow.STUMBLE, Blow.CUT_STORE)
FORGETFUL = (Blow.STORE_AWAY,) * 3


@dataclass(frozen=True, slots=True)
class Safeguard:
    """One row: what is off, and which flaw must be found, on which capability and upstream."""

    off: Callable[[Patch], None]
    flaw: str
    capabilities: frozenset[Capability] = LOOKUP
    blows: tuple[Blow, ...] = STORM
    upstream: Callable[[Patch], None] = the_usual
    prepare: Prepare = nothing_more

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
    Safeguard(a_server_error_counts_as_a_refusal, "rejected"),
    Safeguard(lookups_need_no_proof, "confirmed_with_anothers", upstream=ignores_the_lookup_key),
    Safeguard(upstream_keys_are_the_clients_own, "anothers"),
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
    Safeguard(acknowledged_writes_may_be_lost, "ordered_twice", NONE, FORGETFUL),
)


def histories(safeguard: Safeguard) -> Iterator[Plan]:
    for seed in range(HISTORIES_MAX):
        drawn = plan(seed, safeguard.capabilities)
        yield replace(drawn, blows=safeguard.blows, replicas=max(2, drawn.replicas))


def first_harm(safeguard: Safeguard) -> Plan | None:
    for each in histories(safeguard):
        if any(safeguard.flaw in found for found in play(each, safeguard.prepare).flaws):
            return each
    return None


@pytest.mark.parametrize("safeguard", SAFEGUARDS, ids=str)
def test_a_safeguard_that_is_off_is_missed(safeguard: Safeguard, monkeypatch: Patch) -> None:
    monkeypatch.setattr(told_histories, "SETTLED_WITHIN_S", SETTLED_WITHIN_S)
    safeguard.upstream(monkeypatch)
    with monkeypatch.context() as patch:
        safeguard.off(patch)
        found = first_harm(safeguard)
    assert found is not None, f"{HISTORIES_MAX} histories without {safeguard}, and no harm done"
    with_it = play(found, safeguard.prepare)
    assert not [flaw for flaw in with_it.flaws if safeguard.flaw in flaw], with_it.report()
