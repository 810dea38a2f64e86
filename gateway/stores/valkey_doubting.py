"""A claim where the store forgot: that a key is not there proves nothing."""

from dataclasses import replace

from gateway.ledger import LedgerUnavailable
from gateway.orders import life
from gateway.orders.claiming import ClaimRequest
from gateway.stores.valkey_rows import Intent


class CanNotTell(LedgerUnavailable):
    """This claim is refused, others are not: no trouble of the ledger's."""


def suspected(intent: Intent, request: ClaimRequest) -> Intent:
    """The claim as it must be made: in doubt from the start, so that the order is looked up, or
    sent under its old key, before anything new is.

    CanNotTell where neither could: a route with no way to ask, or a submission without
    a key of its own, which was perhaps sent under one that nobody knows any more. (An anonymous
    one without a key is never the same as another: nothing of it can be forgotten.)
    """
    if request.key_kind == "anonymous":
        return intent
    if not request.promise.capabilities:
        raise CanNotTell(
            "the ledger forgot, and this route can neither look up nor deduplicate", written=False
        )
    if request.key_kind == "attached":
        raise CanNotTell(
            "the ledger forgot, and a submission without Idempotency-Key can't be looked up",
            written=False,
        )
    undispatched = replace(request, dispatch=False)
    if intent.before is None:
        claimed = life.claim(undispatched, intent.now)
    else:
        claimed = life.claim_again(intent.before, undispatched, intent.now)
    return replace(intent, after=life.suspect(claimed, intent.now, request.who))
