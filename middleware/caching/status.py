"""Cache-Status (RFC 9211): what this cache did, for whoever looks at the answer. Pure."""

from middleware.caching.rules import Forwarded
from middleware.caching.storing import NotStored

NAME = b"ordergate"


def hit(ttl_s: float) -> bytes:
    """``ttl`` is what is left of the freshness; negative for a stale answer."""
    return b"%b; hit; ttl=%d" % (NAME, ttl_s)


def forwarded(
    why: Forwarded,
    *,
    status: int | None = None,
    stored: bool = False,
    collapsed: bool | None = None,
    ttl_s: float | None = None,
    detail: NotStored | str | None = None,
) -> bytes:
    """``collapsed``: whether waiting for another's answer was of use; None: nobody waited.
    ``detail``: why the answer was not kept, or the request not answered from here."""
    member = b"%b; fwd=%b" % (NAME, why.encode("ascii"))
    if status is not None:
        member += b"; fwd-status=%d" % status
    if stored:
        member += b"; stored"
    if collapsed is not None:
        member += b"; collapsed" if collapsed else b"; collapsed=?0"
    if ttl_s is not None:
        member += b"; ttl=%d" % ttl_s
    if detail is not None:
        member += b"; detail=%b" % detail.encode("ascii")
    return member
