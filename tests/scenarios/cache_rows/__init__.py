"""RFC 9111 and its companions, as exchanges: name (with the clause) to steps."""

from tests.scenarios.cache_rows import (
    asking,
    changing,
    freshness,
    merging,
    other,
    selecting,
    storing,
    validating,
)

TABLE = (
    freshness.TABLE
    | storing.TABLE
    | selecting.TABLE
    | validating.TABLE
    | merging.TABLE
    | asking.TABLE
    | changing.TABLE
    | other.TABLE
)
