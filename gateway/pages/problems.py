"""The page behind each problem ``type``: what it means, and what to do about it."""

from html import escape

PROBLEMS: dict[str, tuple[str, str]] = {
    "malformed-request": (
        "The request is malformed",
        (
            "The request line, a field or the path is not HTTP, or could be read in two ways."
            " Nothing was forwarded. Send it as the detail says."
        ),
    ),
    "body-incomplete": (
        "The request body is incomplete",
        "The body ended before its framing said so. Nothing was recorded. Send the request again.",
    ),
    "not-found": (
        "There is nothing here",
        "No route takes this path, or the order is not yours to see.",
    ),
    "method-not-allowed": (
        "The method is not allowed here",
        "The Allow field lists the methods of this path.",
    ),
    "request-timeout": (
        "The request took too long to arrive",
        "The header or the body did not arrive in time. Nothing was recorded. Send it again.",
    ),
    "body-too-large": (
        "The request body is too large",
        "The member body_bytes_max says how much is taken. Nothing was recorded.",
    ),
    "target-too-long": (
        "The request target is too long",
        "Send a shorter path and query.",
    ),
    "content-encoding-not-supported": (
        "The content encoding is not supported",
        "Orders are taken as they are, never unpacked. Send the body without Content-Encoding.",
    ),
    "expectation-failed": (
        "The expectation can not be met",
        "The only expectation that is met is 100-continue.",
    ),
    "fields-too-large": (
        "The request header is too large",
        "Send fewer or shorter fields; large cookies are the usual cause.",
    ),
    "internal-error": (
        "The gateway failed",
        "A bug of the gateway's. An order may be on its way: repeat it with the same key.",
    ),
    "not-implemented": (
        "This is not implemented",
        "The method, the transfer coding or the upgrade is not known here.",
    ),
    "too-many-connections": (
        "Too many connections from one address",
        "Nothing was read. Close connections, or send the next request on one that is open.",
    ),
    "idempotency-key-too-old": (
        "The idempotency key is too old",
        (
            "It says when it was made (a UUIDv7), longer ago than retention_s and tombstone_s, and"
            " nothing is known of it: an order under it may have been forgotten. Nothing was done."
            " See whether the order exists; if not, order with a new key. Check the clock of"
            " whatever makes the keys."
        ),
    ),
    "quota-exceeded": (
        "Too many new orders of one client",
        (
            "Nothing was recorded. Repeat with the same key after Retry-After; repeats of orders"
            " that are known are answered as ever."
        ),
    ),
    "overloaded": (
        "Too many requests at once",
        (
            "Nothing was done. Repeat the same request, key and all, after Retry-After. The member"
            " reason says why: full, outranked (by an order), late, or waited."
        ),
    ),
    "http-version-not-supported": (
        "The HTTP version is not supported",
        "Speak HTTP/1.1 (or 1.0) to this listener.",
    ),
    "idempotency-key-missing": (
        "An idempotency key is required",
        "Send Idempotency-Key: one new random value for each order, the same one with each repeat.",
    ),
    "idempotency-key-invalid": (
        "The idempotency key is not acceptable",
        (
            "A key is 1 to 255 visible ASCII characters, bare or quoted, sent once; without"
            " credentials it must have 22 characters or more, so that nobody can guess it."
        ),
    ),
    "scope-invalid": (
        "The client's identity is ambiguous",
        "The field or cookie that says who you are was sent twice. Send it once.",
    ),
    "too-many-requests": (
        "Too many requests from one client",
        (
            "More than the route's rate allows, from this address or for this client (the member"
            " limits says which). Nothing was done. Repeat the same request, key and all, after"
            " Retry-After; the RateLimit fields say what is left."
        ),
    ),
    "token-invalid": (
        "The bearer token is not accepted",
        (
            "The token is expired, malformed, or not signed by a key that is trusted here; the"
            " member reason says which. Nothing was recorded. Repeat the request, key and all,"
            " with a new token."
        ),
    ),
    "http-error": ("The request was refused", "The status and the detail say why."),
    "key-unreadable": (
        "The key can not be compared",
        "The key was taken by a newer version of the gateway. Repeat with the same key.",
    ),
    "caller-not-checked": (
        "Whether you may see the answer can not be checked",
        (
            "The order is recorded, and is told only to whom the shop's backend lets in; it did"
            " not say. Repeat with the same key after Retry-After."
        ),
    ),
    "key-mismatch": (
        "The idempotency key belongs to another submission",
        (
            "Another body, method or path came with this key. The members order and order_status"
            " say what became of that order. A new order needs a new key."
        ),
    ),
    "order-in-flight": (
        "The same order is being placed",
        "Repeat with the same key after Retry-After, or ask the status URL.",
    ),
    "order-failed": (
        "The order was not placed",
        "It is proved that no order was made. Repeat with the same key, or order anew.",
    ),
    "order-rejected": (
        "The order was rejected",
        "The shop's staff settled this order as rejected.",
    ),
    "order-disputed": (
        "What became of the order is disputed",
        "There is evidence against the outcome. Ask the shop's staff before ordering again.",
    ),
    "order-not-resolvable": (
        "The order can not be resolved in its status",
        "Only an order in doubt or a dead letter can be settled by an operator.",
    ),
    "order-action-refused": (
        "The order does not allow this now",
        (
            "The member refusal says why: settled, not_in_doubt, attempt_under_way, no_lookup,"
            " absence_proved, could_make_a_second_order, or may_still_take_effect (then Retry-After"
            " says for how long). Nothing was changed."
        ),
    ),
    "nonce-used": (
        "The nonce belongs to another action",
        "Give each action on an order a nonce of its own; repeat the same action under the same.",
    ),
    "answer-gone": (
        "The answer is no longer kept",
        "The order has the outcome that order_status says; its answer was kept for retention_s.",
    ),
    "order-unreadable": (
        "What is kept of the order can not be read",
        (
            "There is an order under this key, or this id, and a newer version of the gateway wrote"
            " it, or it is damaged: its key is taken, and nothing was sent. Repeat with the same"
            " key after Retry-After."
        ),
    ),
    "ledger-unavailable": (
        "Orders can not be recorded at the moment",
        "Nothing is sent that is not recorded. Repeat with the same key after Retry-After.",
    ),
    "upstream-unreachable": (
        "The shop's backend can not be reached",
        "Nothing was sent to it. Try again after Retry-After.",
    ),
    "upstream-timeout": (
        "The shop's backend took too long",
        "The request may have had its effect; a safe one can be repeated.",
    ),
    "upstream-broke-off": (
        "The shop's backend gave no usable answer",
        "The answer was malformed or broke off. The request may have had its effect.",
    ),
    "not-in-cache": (
        "No usable answer is in the cache",
        "The request said only-if-cached. Without that, the backend is asked.",
    ),
    "change-unacknowledged": (
        "The change could not be made known to all replicas",
        (
            "The detail says whether it was sent. Until the replicas' store is back, nothing that"
            " an order can change is answered from any cache."
        ),
    ),
    "no-worker": (
        "No worker serves just now",
        "Every worker is starting or ending. Nothing was done. Try again after Retry-After.",
    ),
    "worker-broke-off": (
        "The worker that was asked is gone",
        (
            "It ended while it worked for you, and may have done what was asked. Look at the order"
            " before you repeat an action; under the same nonce it is done once."
        ),
    ),
    "admin-token-wrong": (
        "The admin token is missing or wrong",
        "Send Authorization: Bearer TOKEN; the token is in the 0600 file beside the ledger.",
    ),
}


def problem_page(slug: str) -> bytes | None:
    """The page of one problem type in HTML, or None."""
    if slug not in PROBLEMS:
        return None
    title, text = PROBLEMS[slug]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{escape(title)}</title><h1>{escape(title)}</h1>"
        f"<p><code>{escape(slug)}</code></p><p>{escape(text)}</p></html>\n"
    ).encode()
