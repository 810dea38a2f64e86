"""Cache-Status (RFC 9211): what this cache did, for whoever looks at the answer. Pure."""

from middleware.caching.rules import Forwarded
from middleware.caching.storing import NotStored

NAME = b"ordergate"


def hit(ttl_s: float, *, collapsed: bool = False) -> bytes:
    """``ttl`` is what is left of the freshness; negative for a stale answer."""
    member = b"%b; hit; ttl=%d" % (NAME, ttl_s)
    return member + b"; collapsed" if collapsed else member


def forwarded(
    why: Forwarded,
    *,
    status: int | None = None,
    stored: bool = False,
    collapsed: bool = False,
    detail: NotStored | str | None = None,
) -> bytes:
    """``detail``: why the answer was not kept, or the request not answered from here."""
    member = b"%b; fwd=%b" % (NAME, why.encode("ascii"))
    if status is not None:
        member += b"; fwd-status=%d" % status
    if stored:
        member += b"; stored"
    if collapsed:
        member += b"; collapsed"
    if detail is not None:
        member += b"; detail=%b" % detail.encode("ascii")
    return member
