"""What ends it, and what stands in for an upstream that fails."""

from tests.scenarios.cache_rows.words import FRESH, VARIED, says
from tests.scenarios.exchanges import Says, Step

TABLE: dict[str, list[Step]] = {}

# --- 4.4 invalidation ---

for method in ("POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "MERGE", "FOO", "x.y_1"):
    for status, hit in [(200, False), (204, False), (201, False), (303, False), (400, True)]:
        body = b"" if status == 204 else b"x"
        TABLE[f"4.4 {method} answered {status}"] = [
            Step(Says(FRESH)),
            Step(Says({}, status=status, body=body), method=method, data=b"d"),
            Step(Says(FRESH), hit=hit, status=200),
        ]
TABLE["4.4 POST answered 500"] = [
    Step(Says(FRESH)),
    Step(Says({}, status=500), method="POST", data=b"d"),
    Step(Says(FRESH), hit=True, status=200),
]
for name in ("Location", "Content-Location"):
    for value, hit in [
        ("/inv/target", False),
        ("http://shop.example/inv/target", False),
        ("http://SHOP.example:80/inv/target", False),
        ("target", False),
        ("http://other.example/inv/target", True),
        ("http://shop.example:81/inv/target", True),
        ("//other.example/inv/target", True),
    ]:
        TABLE[f"4.4 {name}: {value}"] = [
            Step(Says(FRESH), path="/inv/target"),
            Step(Says({name: value}, status=201), method="POST", path="/inv/new"),
            Step(Says(FRESH), hit=hit, path="/inv/target", status=200),
        ]
TABLE |= {
    "4.4 Location of an error": [
        Step(Says(FRESH), path="/inv/e"),
        Step(Says({"Location": "/inv/e"}, status=400), method="POST", path="/inv/new"),
        Step(hit=True, path="/inv/e", status=200),
    ],
    "4.4 a safe method ends nothing": [
        Step(Says(FRESH)),
        Step(Says({}), method="OPTIONS"),
        Step(hit=True),
    ],
    "4.4 another query is not meant": [
        Step(Says(FRESH), query="?a"),
        Step(Says({}), method="POST"),
        Step(hit=True, query="?a"),
    ],
    "4.4 all variants": [
        Step(VARIED, asks={"X-A": "1"}),
        Step(VARIED, asks={"X-A": "2"}),
        Step(Says({}), method="POST"),
        Step(VARIED, asks={"X-A": "1"}),
        Step(VARIED, asks={"X-A": "2"}),
    ],
    "RFC 9875 3 a group ends": [
        Step(Says(FRESH | {"Cache-Groups": '"g", "h"'}), path="/g/a"),
        Step(Says(FRESH | {"Cache-Groups": '"other"'}), path="/g/b"),
        Step(Says({"Cache-Group-Invalidation": '"g"'}), method="POST", path="/g/c"),
        Step(Says(FRESH), path="/g/a"),
        Step(hit=True, path="/g/b"),
    ],
    "RFC 9875 3 groups are of one origin": [
        Step(Says(FRESH | {"Cache-Groups": '"g"'}), path="/g/a"),
        Step(
            Says({"Cache-Group-Invalidation": '"g"'}),
            method="POST",
            path="/g/c",
            host="other.example",
        ),
        Step(hit=True, path="/g/a"),
    ],
    "RFC 9875 3 a safe method ends no group": [
        Step(Says(FRESH | {"Cache-Groups": '"g"'}), path="/g/a"),
        Step(Says({"Cache-Group-Invalidation": '"g"'}), path="/g/c"),
        Step(hit=True, path="/g/a"),
    ],
    "RFC 9875 2.2 what shares a group with what is ended": [
        Step(Says(FRESH | {"Cache-Groups": '"g", "h"'}), path="/g/a"),
        Step(Says(FRESH | {"Cache-Groups": '"g"'}), path="/g/b"),
        Step(Says(FRESH | {"Cache-Groups": '"i"'}), path="/g/c"),
        Step(Says({}), method="POST", path="/g/a"),
        Step(Says(FRESH), path="/g/b"),
        Step(hit=True, path="/g/c"),
    ],
    "RFC 9875 2.2 and no further": [
        Step(Says(FRESH | {"Cache-Groups": '"g"'}), path="/g/a"),
        Step(Says(FRESH | {"Cache-Groups": '"g", "h"'}), path="/g/b"),
        Step(Says(FRESH | {"Cache-Groups": '"h"'}), path="/g/c"),
        Step(Says({}), method="POST", path="/g/a"),
        Step(hit=True, path="/g/c"),
    ],
    "RFC 9875 2.2 a failure ends no group": [
        Step(Says(FRESH | {"Cache-Groups": '"g"'}), path="/g/a"),
        Step(Says({}, status=500), method="POST", path="/g/a"),
        Step(hit=True, path="/g/a"),
    ],
    "RFC 9875 3 nor does what a failure names": [
        Step(Says(FRESH | {"Cache-Groups": '"g"'}), path="/g/a"),
        Step(Says({"Cache-Group-Invalidation": '"g"'}, status=400), method="POST", path="/g/c"),
        Step(hit=True, path="/g/a"),
    ],
    "RFC 9875 2 several lines, parameters, and what is no string": [
        Step(
            Says([*FRESH.items(), ("Cache-Groups", '"a", 1, b'), ("Cache-Groups", '"g";x=1')]),
            path="/g/a",
        ),
        Step(Says({"Cache-Group-Invalidation": 'b, "g"'}), method="POST", path="/g/c"),
        Step(Says(FRESH), path="/g/a"),
    ],
    "RFC 9875 2 a group of 32 characters among 32": [
        Step(
            Says(FRESH | {"Cache-Groups": ", ".join(f'"{n:032}"' for n in range(32))}),
            path="/g/a",
        ),
        Step(Says({"Cache-Group-Invalidation": f'"{31:032}"'}), method="POST", path="/g/c"),
        Step(Says(FRESH), path="/g/a"),
    ],
    "RFC 9875 names are compared as they are": [
        Step(Says(FRESH | {"Cache-Groups": '"g"'}), path="/g/a"),
        Step(Says({"Cache-Group-Invalidation": '"G"'}), method="POST", path="/g/c"),
        Step(hit=True, path="/g/a"),
    ],
}

# --- RFC 5861 ---

DOWN = Says(raw=b"")
for control, over_s, says_, status, hit in [
    ("max-age=10, stale-if-error=60", 5, Says({}, status=500), 200, False),
    ("max-age=10, stale-if-error=60", 5, Says({}, status=503), 200, False),
    ("max-age=10, stale-if-error=60", 5, Says({}, status=504), 200, False),
    ("max-age=10, stale-if-error=60", 5, DOWN, 200, False),
    ("max-age=10, stale-if-error=60", 5, Says({}, status=404), 404, False),
    ("max-age=10, stale-if-error=60", 65, Says({}, status=500), 500, False),
    ("max-age=10", 5, Says({}, status=500), 500, False),
    ("max-age=10", 5, Says({}, status=503), 503, False),
    ("max-age=10, stale-if-error=60", 65, DOWN, 502, False),
    ("max-age=10, stale-if-error=0", 5, DOWN, 502, False),
    ("max-age=10, stale-if-error=60, must-revalidate", 5, Says({}, status=500), 500, False),
    ("max-age=10, stale-if-error=60, proxy-revalidate", 5, Says({}, status=500), 500, False),
    ("s-maxage=10, stale-if-error=60", 5, Says({}, status=500), 500, False),
    ("max-age=10, stale-if-error=60, no-cache", 5, Says({}, status=500), 500, False),
]:
    TABLE[f"5861.4 {control} over by {over_s}, upstream {says_}"] = [
        Step(says(control)),
        Step(says_, hit=hit, wait_s=10 + over_s, status=status),
    ]
for control, over_s, asks, status in [
    ("max-age=10", 5, {}, 200),
    ("max-age=10", 595, {}, 200),
    ("max-age=10", 650, {}, 502),
    ("max-age=10, must-revalidate", 5, {}, 502),
    ("max-age=10, proxy-revalidate", 5, {}, 502),
    ("max-age=10, no-cache", 5, {}, 502),
    ("s-maxage=10", 5, {}, 502),
    ("max-age=10", 5, {"Cache-Control": "no-cache"}, 502),
    ("max-age=10", 5, {"Cache-Control": "max-age=0"}, 502),
]:
    TABLE[f"4.2.4 {control} over by {over_s}, upstream away, asked {asks}"] = [
        Step(says(control)),
        Step(DOWN, wait_s=10 + over_s, asks=asks, status=status),
    ]
TABLE |= {
    "4.2.4 a stale one says so": [
        Step(says("max-age=10")),
        Step(
            DOWN,
            wait_s=15,
            status=200,
            body=b"body",
            told={
                "Age": "15",
                "Cache-Status": "ordergate; fwd=stale; ttl=-5; detail=upstream-failed",
            },
        ),
    ],
    "4.2.4 nonsense is an answer": [
        Step(says("max-age=10")),
        Step(Says(raw=b"HTTP/1.1 x\r\n\r\n"), wait_s=15, status=502),
    ],
    "5861.4 of a request": [
        Step(says("max-age=10")),
        Step(
            Says({}, status=500),
            wait_s=15,
            asks={"Cache-Control": "stale-if-error=60"},
            status=200,
            body=b"body",
        ),
    ],
    "shop: a 5xx takes no usable answer's place": [
        Step(Says(FRESH)),
        Step(Says(FRESH, status=500), asks={"Cache-Control": "no-cache"}),
        Step(hit=True, status=200),
    ],
}
