"""Targeted fields, and what is told of it all."""

from tests.scenarios.cache_rows.words import FRESH, STALE, VARIED, says, twice
from tests.scenarios.exchanges import Says, Step

TABLE: dict[str, list[Step]] = {}

# --- RFC 9213 ---

for fields, hit in [
    ({"CDN-Cache-Control": "max-age=3600", "Cache-Control": "no-store"}, True),
    ({"CDN-Cache-Control": "max-age=3600", "Cache-Control": "max-age=1"}, True),
    ({"CDN-Cache-Control": "max-age=1", "Cache-Control": "max-age=3600"}, False),
    ({"CDN-Cache-Control": "no-store", "Cache-Control": "max-age=3600"}, False),
    ({"CDN-Cache-Control": "private", "Cache-Control": "max-age=3600"}, False),
    ({"CDN-Cache-Control": "no-cache", "Cache-Control": "max-age=3600"}, False),
    ({"CDN-Cache-Control": "", "Cache-Control": "max-age=3600"}, True),
    ({"CDN-Cache-Control": "max-age=3600, &&", "Cache-Control": "no-store"}, False),
    ({"CDN-Cache-Control": "MAX-AGE=3600", "Cache-Control": "no-store"}, False),
    ({"CDN-Cache-Control": "max-age=1, &", "Cache-Control": "max-age=3600"}, True),
    ({"CDN-Cache-Control": 'max-age="3600"', "Cache-Control": "no-store"}, False),
    ({"CDN-Cache-Control": "max-age=3600;a=b", "Cache-Control": "no-store"}, True),
    ({"CDN-Cache-Control": "max-age=3600", "Expires": "T-100"}, True),
    ({"CDN-Cache-Control": "max-age=10000, max-age=1", "Cache-Control": "no-store"}, False),
    ({"CDN-Cache-Control": "foo", "Expires": "T+3600"}, False),
    ({"CDN-Cache-Control": "max-age=3600.5"}, False),
    ({"CDN-Cache-Control": "max-age=0", "Cache-Control": "max-age=3600"}, False),
    ({"CDN-Cache-Control": "max-age=0", "Expires": "T+3600"}, False),
    ({"CDN-Cache-Control": "max-age=3600", "Age": "1800"}, True),
    ({"CDN-Cache-Control": "max-age=3600", "Age": "7200"}, False),
    ({"CDN-Cache-Control": "max-age=2147483647"}, True),
    ({"CDN-Cache-Control": "max-age=2147483648"}, True),
    ({"CDN-Cache-Control": "max-age=99999999999"}, True),
    ({"CDN-Cache-Control": "max-age=9999999999999999", "Cache-Control": "no-store"}, False),
    ({"CDN-Cache-Control": "max-age=-1", "Cache-Control": "max-age=3600"}, False),
    ({"CDN-Cache-Control": "max-age=3600, foo, bar=1, b=(1 2)", "Cache-Control": "no-store"}, True),
    ({"CDN-Cache-Control": "max-age= 3600", "Cache-Control": "no-store"}, False),
    ({"CDN-Cache-Control": "max-age =3600", "Cache-Control": "no-store"}, False),
    ({"CDN-Cache-Control": "s-maxage=3600, max-age=1", "Cache-Control": "no-store"}, True),
    ({"CDN-Cache-Control": "max-age=3600, no-store=?0", "Cache-Control": "no-store"}, True),
    ({"CDN-Cache-Control": "no-store=?0", "Cache-Control": "max-age=3600"}, False),
    ({"CDN-Cache-Control": "no-store", "Expires": "T+3600"}, False),
    ({"CDN-Cache-Control": "none", "Cache-Control": "max-age=3600"}, False),
    ({"cdn-cache-control": "max-age=3600", "cache-control": "no-store"}, True),
    ({"Surrogate-Control": "max-age=3600", "Cache-Control": "no-store"}, False),
    ({"Cloudflare-CDN-Cache-Control": "max-age=3600", "Cache-Control": "no-store"}, False),
]:
    TABLE[f"9213.2 {fields}"] = twice(Says(fields), hit=hit, wait_s=3)
TABLE["9213.2 the field is passed on"] = [
    Step(Says({"CDN-Cache-Control": "max-age=3600"}), told={"CDN-Cache-Control": "max-age=3600"}),
    Step(hit=True, told={"CDN-Cache-Control": "max-age=3600"}),
]

# --- RFC 9211 ---

TABLE |= {
    "9211 a miss, then a hit": [
        Step(Says(FRESH), told={"Cache-Status": "ordergate; fwd=uri-miss; fwd-status=200; stored"}),
        Step(hit=True, told={"Cache-Status": "ordergate; hit; ttl=35"}),
    ],
    "9211 not kept": [
        Step(
            says("no-store"),
            told={"Cache-Status": "ordergate; fwd=uri-miss; fwd-status=200; detail=no-store"},
        ),
    ],
    "9211 nothing is here, and nobody may be asked": [
        Step(
            hit=True,
            asks={"Cache-Control": "only-if-cached"},
            status=504,
            told={"Cache-Status": "ordergate; detail=only-if-cached"},
        ),
    ],
    "9211 after another cache": [
        Step(
            Says(FRESH | {"Cache-Status": "origin; hit"}),
            told={"Cache-Status": "origin; hit, ordergate; fwd=uri-miss; fwd-status=200; stored"},
        ),
    ],
    "9211 validated": [
        Step(STALE),
        Step(
            Says({}, status=304),
            wait_s=3,
            status=200,
            told={"Cache-Status": "ordergate; fwd=stale; fwd-status=304; stored"},
        ),
    ],
    "9211 another variant": [
        Step(VARIED, asks={"X-A": "1"}),
        Step(
            VARIED,
            asks={"X-A": "2"},
            told={"Cache-Status": "ordergate; fwd=vary-miss; fwd-status=200; stored"},
        ),
    ],
}
