"""Whether it still holds."""

from tests.scenarios.cache_rows.words import FRESH, OLD, STALE, says
from tests.scenarios.exchanges import Says, Step

TABLE: dict[str, list[Step]] = {}

# --- 4.3 validation ---


def revalidated(new: Says, **more: object) -> list[Step]:
    return [
        Step(STALE),
        Step(new, wait_s=3, status=200, body=b"body", **more),  # type: ignore[arg-type]
    ]


TABLE |= {
    "4.3.1 the validators are sent": revalidated(
        Says({"ETag": '"a"'}, status=304),
        sent={"If-None-Match": '"a"', "If-Modified-Since": OLD},
    ),
    "4.3.1 a weak validator": [
        Step(says("max-age=1", ETag='W/"a"')),
        Step(Says(FRESH, status=304), wait_s=3, status=200, sent={"If-None-Match": 'W/"a"'}),
        Step(hit=True),
    ],
    "4.3.1 only Last-Modified": [
        Step(says("max-age=1", Last_Modified=OLD)),
        Step(Says(FRESH, status=304), wait_s=3, status=200, sent={"If-Modified-Since": OLD}),
        Step(hit=True),
    ],
    "4.3.1 no validator, no condition": [
        Step(says("max-age=1")),
        Step(Says(FRESH), wait_s=3, sent={"If-None-Match": None, "If-Modified-Since": None}),
        Step(hit=True),
    ],
    "4.3.3 a 304 makes it fresh": [
        *revalidated(Says({"Cache-Control": "max-age=3600", "ETag": '"a"'}, status=304)),
        Step(hit=True, wait_s=3000, told={"A": "1", "ETag": '"a"'}),
    ],
    "4.3.3 a 304 with less freshness": [
        *revalidated(Says({"Cache-Control": "max-age=2"}, status=304)),
        Step(Says({}, status=304), wait_s=3, status=200),
    ],
    "3.2 a 304 updates fields": [
        *revalidated(Says(FRESH | {"A": "2", "B": "3"}, status=304), told={"A": "2", "B": "3"}),
        Step(hit=True, told={"A": "2", "B": "3"}),
    ],
    "3.2 but not those of the body": [
        Step(says("max-age=1", ETag='"a"', Content_Type="a/b", Content_Encoding="x")),
        Step(
            Says(FRESH | {"Content-Encoding": "y", "Content-Range": "bytes 0-0/9"}, status=304),
            wait_s=3,
            status=200,
        ),
        Step(
            hit=True,
            body=b"body",
            told={"Content-Encoding": "x", "Content-Range": None, "Content-Length": "4"},
        ),
    ],
    "3.2 and not hop-by-hop ones": [
        *revalidated(Says(FRESH | {"Connection": "x-a", "X-A": "1"}, status=304)),
        Step(hit=True, told={"X-A": None}),
    ],
    "3.2 Expires of a 304": [
        Step(Says({"Expires": "T+1", "ETag": '"a"'})),
        Step(Says({"Expires": "T+3600", "ETag": '"a"'}, status=304), wait_s=3, status=200),
        Step(hit=True, wait_s=10),
    ],
    "4.3.3 a 200 takes its place": [
        Step(STALE),
        Step(Says(FRESH | {"ETag": '"b"'}, body=b"other"), wait_s=3, body=b"other"),
        Step(hit=True, body=b"other", told={"ETag": '"b"', "A": None}),
    ],
    "4.3.3 a 200 that may not be kept ends it": [
        Step(STALE),
        Step(says("no-store"), wait_s=3),
        Step(Says(FRESH)),
    ],
    "4.3.4 a 304 with another Last-Modified is not believed": [
        Step(says("max-age=1", Last_Modified=OLD)),
        Step(Says({"Last-Modified": "Wed, 16 Nov 1994 08:12:31 GMT"}, status=304), wait_s=3),
        Step(Says(FRESH, body=b"new"), body=b"new"),
    ],
    "4.3.4 a 304 about something else is not believed": [
        Step(STALE),
        Step(Says(FRESH | {"ETag": '"b"'}, status=304), wait_s=3, status=304),
    ],
    "5.2.2.4 no-cache is asked about each time": [
        Step(says("no-cache, max-age=3600", ETag='"a"')),
        Step(
            Says({"Cache-Control": "no-cache"}, status=304),
            status=200,
            body=b"body",
            sent={"If-None-Match": '"a"'},
        ),
        Step(Says({}, status=304), status=200, sent={"If-None-Match": '"a"'}),
    ],
    "4.3 max-age=0 is asked about each time": [
        Step(says("max-age=0", ETag='"a"')),
        Step(Says({}, status=304), status=200, body=b"body", sent={"If-None-Match": '"a"'}),
    ],
    "4.3 nothing said but an ETag": [
        Step(Says({"ETag": '"a"'})),
        Step(Says({}, status=304), status=200, body=b"body", sent={"If-None-Match": '"a"'}),
    ],
    "4.3 the client's own condition on a stale one, unchanged": [
        Step(STALE),
        Step(
            Says(FRESH, status=304),
            wait_s=3,
            asks={"If-None-Match": '"a"'},
            status=304,
            body=b"",
        ),
        Step(hit=True, body=b"body"),
    ],
    "4.3 the client's own condition on a stale one, other": [
        Step(STALE),
        Step(
            Says(FRESH, status=304),
            wait_s=3,
            asks={"If-None-Match": '"zzz"'},
            status=200,
            body=b"body",
            sent={"If-None-Match": '"a"'},
        ),
    ],
    "4.3 a new one that the client has": [
        Step(STALE),
        Step(
            Says(FRESH | {"ETag": '"b"'}, body=b"other"),
            wait_s=3,
            asks={"If-None-Match": '"b"'},
            status=304,
            body=b"",
        ),
        Step(hit=True, body=b"other"),
    ],
    "4.3 a 304 with nothing kept is passed on": [
        Step(Says(FRESH, status=304), asks={"If-None-Match": '"a"'}, status=304),
        Step(Says(FRESH), body=b"body"),
    ],
}

# --- 4.3.4 several kept ones of one URI ---


def variant(etag: str, body: bytes, **fields: str) -> Says:
    made = says("max-age=3600", ETag=etag, Vary="X-A", **fields)
    return Says(made.fields, body=body)


ONE, TWO = variant('"a"', b"one"), variant('"b"', b"two")
BOTH = [Step(ONE, asks={"X-A": "1"}), Step(TWO, asks={"X-A": "2"})]
TABLE |= {
    "4.3.4 all variants are asked about for one that is not here": [
        *BOTH,
        Step(
            Says({"ETag": '"a"'}, status=304),
            asks={"X-A": "3"},
            sent={"If-None-Match": '"b", "a"', "If-Modified-Since": None},
            status=200,
            body=b"one",
            told={"ETag": '"a"'},
        ),
        Step(hit=True, asks={"X-A": "3"}, status=200, body=b"one"),
        Step(hit=True, asks={"X-A": "2"}, status=200, body=b"two"),
        Step(hit=True, asks={"X-A": "1"}, status=200, body=b"one"),
    ],
    "4.3.4 the one that was chosen is told with what the 304 says": [
        *BOTH,
        Step(
            Says(FRESH | {"ETag": '"a"', "A": "2"}, status=304),
            asks={"X-A": "3"},
            status=200,
            told={"A": "2"},
        ),
        Step(hit=True, asks={"X-A": "3"}, told={"A": "2"}),
        Step(hit=True, asks={"X-A": "1"}, told={"A": None}),
    ],
    "4.3.4 and may be a new one": [
        *BOTH,
        Step(variant('"c"', b"three"), asks={"X-A": "3"}, body=b"three"),
        Step(hit=True, asks={"X-A": "3"}, status=200, body=b"three"),
    ],
    "4.3.4 a stale variant is asked about for another": [
        Step(says("max-age=1", ETag='"a"', Vary="X-A"), asks={"X-A": "1"}),
        Step(
            Says(FRESH | {"ETag": '"a"'}, status=304),
            asks={"X-A": "2"},
            sent={"If-None-Match": '"a"'},
            wait_s=3,
            status=200,
            body=b"body",
        ),
        Step(hit=True, asks={"X-A": "2"}, status=200),
        Step(Says(FRESH), asks={"X-A": "1"}),
    ],
    "4.3.4 what the client has is asked about too": [
        *BOTH,
        Step(
            Says({"ETag": '"a"'}, status=304),
            asks={"X-A": "3", "If-None-Match": '"z"'},
            sent={"If-None-Match": '"z", "b", "a"'},
            status=200,
            body=b"one",
        ),
    ],
    "4.3.4 and told that it holds": [
        *BOTH,
        Step(
            Says({"ETag": '"z"'}, status=304),
            asks={"X-A": "3", "If-None-Match": '"z"'},
            status=304,
            body=b"",
        ),
        Step(
            Says({"ETag": '"a"'}, status=304),
            asks={"X-A": "4", "If-None-Match": '"a"'},
            sent={"If-None-Match": '"a", "b"'},
            status=304,
            body=b"",
        ),
    ],
    "4.3.4 a weak tag doesn't choose": [
        Step(variant('W/"a"', b"one"), asks={"X-A": "1"}),
        Step(ONE, asks={"X-A": "2"}, sent={"If-None-Match": None}),
    ],
    "4.3.4 a coding that the client doesn't take is not asked about": [
        Step(
            says("max-age=3600", ETag='"a"', Vary="Accept-Encoding", Content_Encoding="gzip"),
            asks={"Accept-Encoding": "gzip"},
        ),
        Step(
            Says(FRESH | {"Vary": "Accept-Encoding"}),
            asks={"Accept-Encoding": "br, gzip;q=0"},
            sent={"If-None-Match": None},
        ),
        Step(
            Says({"ETag": '"a"'}, status=304),
            asks={"Accept-Encoding": "zstd, gzip"},
            sent={"If-None-Match": '"a"'},
            status=200,
            body=b"body",
            told={"Content-Encoding": "gzip"},
        ),
    ],
    "4.3.4 what is one client's is not asked about for another": [
        Step(
            says("max-age=3600, must-revalidate", ETag='"a"'),
            asks={"Authorization": "anna"},
        ),
        Step(Says(FRESH), asks={"Authorization": "bert"}, sent={"If-None-Match": None}),
    ],
    "4.3.4 nor what is not public for one that shows who it is": [
        *BOTH,
        Step(TWO, asks={"X-A": "3", "Cookie": "sid=1"}, sent={"If-None-Match": None}),
    ],
}

# --- 4.3.2 conditional requests answered from the cache ---

KEPT = says("max-age=3600", ETag='"a"', Last_Modified=OLD, Content_Type="t/p", Vary="X-Z")
WEAK = says("max-age=3600", ETag='W/"a"')
for kept, asks, status in [
    (KEPT, {"If-None-Match": '"a"'}, 304),
    (KEPT, {"If-None-Match": 'W/"a"'}, 304),
    (KEPT, {"If-None-Match": '"b"'}, 200),
    (KEPT, {"If-None-Match": '"b", "a"'}, 304),
    (KEPT, {"If-None-Match": '"b" , W/"a" '}, 304),
    (KEPT, {"If-None-Match": '"b,a"'}, 200),
    (KEPT, {"If-None-Match": "*"}, 304),
    (KEPT, {"If-None-Match": "a"}, 200),
    (KEPT, {"If-None-Match": '"A"'}, 200),
    (WEAK, {"If-None-Match": '"a"'}, 304),
    (WEAK, {"If-None-Match": 'W/"a"'}, 304),
    (KEPT, {"If-Modified-Since": OLD}, 304),
    (KEPT, {"If-Modified-Since": "Wed, 16 Nov 1994 08:12:31 GMT"}, 304),
    (KEPT, {"If-Modified-Since": "Mon, 14 Nov 1994 08:12:31 GMT"}, 200),
    (KEPT, {"If-Modified-Since": "garbage"}, 200),
    (KEPT, {"If-None-Match": '"b"', "If-Modified-Since": OLD}, 200),
    (KEPT, {"If-None-Match": '"a"', "If-Modified-Since": "garbage"}, 304),
    (KEPT, {"If-None-Match": '"b", "c" , "a"'}, 304),
    (KEPT, {"If-None-Match": ',, "a",'}, 304),
    (KEPT, {"If-None-Match": r'"b\", "a"'}, 304),
    (KEPT, {"If-None-Match": r'"b\",a,"'}, 200),
    (says("max-age=3600", ETag=r'"a\"'), {"If-None-Match": r'"b", "a\"'}, 304),
    (KEPT, {"If-None-Match": '"a" "b"'}, 200),
    (KEPT, {"If-None-Match": 'w/"a"'}, 200),
    (KEPT, {"If-None-Match": ""}, 200),
    (says("max-age=3600", ETag="a"), {"If-None-Match": "a"}, 304),
    (says("max-age=3600", ETag="a"), {"If-None-Match": '"a"'}, 200),
    (says("max-age=3600", ETag='""'), {"If-None-Match": '""'}, 304),
    (says("max-age=3600", ETag='"a"'), {"If-Modified-Since": OLD}, 200),
    (KEPT, {"If-Modified-Since": "Tuesday, 15-Nov-94 08:12:31 GMT"}, 304),
    (KEPT, {"If-Modified-Since": "Tue Nov 15 08:12:31 1994"}, 304),
    (KEPT, {"If-Modified-Since": "Tue Nov 15 08:12:30 1994"}, 200),
    (KEPT, {"If-Modified-Since": "tue, 15 nov 1994 08:12:31 gmt"}, 304),
    (KEPT, {"If-Modified-Since": "Tue, 15 Nov 1994 08:12:31 EST"}, 200),
    (KEPT, {"If-Modified-Since": "15 Nov 1994"}, 200),
    (KEPT, {"If-Modified-Since": "T+1000"}, 304),
    (says("max-age=3600", Date="T-50"), {"If-Modified-Since": "T+0"}, 304),
    (says("max-age=3600", Date="T-50"), {"If-Modified-Since": "T-100"}, 200),
]:
    TABLE[f"4.3.2 {kept.fields} asked {asks}"] = [
        Step(kept),
        Step(hit=True, asks=asks, status=status, body=b"body" if status == 200 else b""),
        Step(hit=True, method="HEAD", asks=asks, status=status, body=b""),
    ]
TABLE |= {
    "15.4.5 what a 304 says": [
        Step(KEPT),
        Step(
            hit=True,
            asks={"If-None-Match": '"a"'},
            status=304,
            told={
                "ETag": '"a"',
                "Vary": "X-Z",
                "Cache-Control": "max-age=3600",
                "Content-Type": None,
                "Content-Length": None,
                "Age": "0",
            },
        ),
    ],
    "4.3.2 conditions are not for errors": [
        Step(Says(FRESH | {"ETag": '"a"'}, status=404)),
        Step(hit=True, asks={"If-None-Match": '"a"'}, status=404),
    ],
    "4.3.2 If-Match is the upstream's": [
        Step(KEPT),
        Step(Says({}, status=412), asks={"If-Match": '"a"'}, sent={"If-Match": '"a"'}),
    ],
}
