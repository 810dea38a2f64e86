"""What a request will accept, and what an immutable answer makes of it."""

from tests.scenarios.cache_rows.words import FRESH, STALE, says
from tests.scenarios.exchanges import Says, Step

TABLE: dict[str, list[Step]] = {}

# --- RFC 8246 ---

for told, wait_s, hit in [
    ("max-age=0", 10, True),
    ("max-age=5", 10, True),
    ("no-cache", 10, False),
    ("max-age=0, no-cache", 10, False),
    ("min-fresh=95", 10, False),
    ("max-age=0", 110, False),
]:
    TABLE[f"8246 {told} of an immutable one after {wait_s} s"] = [
        Step(says("max-age=100, immutable", ETag='"a"')),
        Step(
            Says({}, status=304), hit=hit, wait_s=wait_s, asks={"Cache-Control": told}, status=200
        ),
    ]
TABLE["8246 a reload with a condition"] = [
    Step(says("max-age=100, immutable=x", ETag='"a"')),
    Step(
        hit=True,
        wait_s=10,
        asks={"Cache-Control": "max-age=0", "If-None-Match": '"a"'},
        status=304,
    ),
]

# --- 5.2.1 request directives ---

for asks, hit in [
    ({"Cache-Control": "no-cache"}, False),
    ({"Cache-Control": "No-Cache"}, False),
    ({"Pragma": "no-cache"}, False),
    ({"Pragma": "other"}, True),
    ({"Pragma": "no-cache", "Cache-Control": "max-age=3600"}, True),
    ({"Cache-Control": "max-age=0"}, False),
    ({"Cache-Control": "max-age=5"}, False),
    ({"Cache-Control": "max-age=50"}, True),
    ({"Cache-Control": 'max-age="5"'}, False),
    ({"Cache-Control": "max-age=x"}, False),
    ({"Cache-Control": "min-fresh=50"}, True),
    ({"Cache-Control": "min-fresh=95"}, False),
    ({"Cache-Control": "min-fresh=x"}, False),
    ({"Cache-Control": "only-if-cached"}, True),
    ({"Cache-Control": "no-transform"}, True),
    ({"Cache-Control": "max-stale"}, True),
]:
    TABLE[f"5.2.1 {asks} of one kept for 10 of 100 s"] = [
        Step(says("max-age=100", ETag='"a"')),
        Step(Says({}, status=304), hit=hit, wait_s=10, asks=asks, status=200),
    ]
for control, over_s, asked, hit in [
    ("max-age=10", 5, "max-stale", True),
    ("max-age=10", 5, "max-stale=10", True),
    ("max-age=10", 15, "max-stale=10", False),
    ("max-age=10", 5, "max-stale=x", False),
    ("max-age=10, must-revalidate", 5, "max-stale", False),
    ("max-age=10, proxy-revalidate", 5, "max-stale", False),
    ("s-maxage=10", 5, "max-stale", False),
    ("max-age=10, no-cache", 5, "max-stale", False),
]:
    TABLE[f"5.2.1.2 {asked} of {control} over by {over_s}"] = [
        Step(says(control)),
        Step(says(control), hit=hit, wait_s=10 + over_s, asks={"Cache-Control": asked}),
    ]
TABLE |= {
    "5.2.1.5 no-store of a request": [
        Step(Says(FRESH), asks={"Cache-Control": "no-store"}),
        Step(Says(FRESH)),
    ],
    "5.2.1.5 no-store doesn't end what is kept": [
        Step(Says(FRESH)),
        Step(hit=True, asks={"Cache-Control": "no-store"}),
    ],
    "5.2.1.7 only-if-cached with nothing kept": [
        Step(hit=True, asks={"Cache-Control": "only-if-cached"}, status=504)
    ],
    "5.2.1.7 only-if-cached with a stale one": [
        Step(STALE),
        Step(hit=True, wait_s=5, asks={"Cache-Control": "only-if-cached"}, status=504),
    ],
    "5.2.1.4 no-cache asks, and renews": [
        Step(says("max-age=100", ETag='"a"')),
        Step(
            Says(FRESH | {"ETag": '"b"'}, body=b"new"),
            asks={"Cache-Control": "no-cache"},
            body=b"new",
        ),
        Step(hit=True, body=b"new"),
    ],
}
