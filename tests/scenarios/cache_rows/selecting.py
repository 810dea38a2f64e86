"""For whom it is: Vary, ranges."""

from tests.scenarios.cache_rows.words import FRESH, OLD, VARIED, says, twice
from tests.scenarios.exchanges import Says, Step, pairs

TABLE: dict[str, list[Step]] = {}

# --- 4.1 Vary ---


def varied(vary: str, one: str | None, other: str | None, *, hit: bool) -> list[Step]:
    said = Says(FRESH | {"Vary": vary})
    name = vary.split(",")[0].strip()
    return [
        Step(said, asks={} if one is None else {name: one}),
        Step(said, hit=hit, asks={} if other is None else {name: other}),
    ]


for one, other, hit in [
    ("1", "1", True),
    ("1", "2", False),
    ("1", None, False),
    (None, "1", False),
    (None, None, True),
    ("1, 2", "1,2", True),
    ("1,2", "1  ,   2", True),
    ("1, 2", "2, 1", False),
    ("a", "A", False),
    ("", None, False),
]:
    TABLE[f"4.1 Vary: X-A with {one!r} then {other!r}"] = varied("X-A", one, other, hit=hit)
for name, one, other, hit in [
    ("Accept-Encoding", "gzip, br", "br,GZIP", True),
    ("Accept-Language", "en;q=0.5, de", "de, en;q=0.5", True),
    ("Accept-Language", "en, de", "de, en", False),
    ("Accept-Language", "EN", "en", True),
    ("Accept", "text/html, a/b;q=0.5", "a/b;q=0.5,text/html", True),
    ("Accept", "application/json;profile=A", "application/json;profile=a", False),
    ("Accept-Encoding", "gzip;q=0", "gzip", False),
]:
    TABLE[f"4.1 Vary: {name} with {one!r} then {other!r}"] = varied(name, one, other, hit=hit)
TABLE |= {
    "4.1 Vary: *": twice(Says(FRESH | {"Vary": "*"}), hit=False),
    "4.1 Vary: *, X-A": twice(Says(FRESH | {"Vary": "*, X-A"}), hit=False),
    "4.1 Vary: X-A, *": twice(Says(FRESH | {"Vary": "X-A, *"}), hit=False),
    "4.1 two lines of Vary": [
        Step(Says([*FRESH.items(), ("Vary", "X-A"), ("Vary", "X-B")]), asks={"X-B": "1"}),
        Step(Says(FRESH), asks={"X-B": "2"}),
    ],
    "4.1 names in any case": varied("x-a", "1", "1", hit=True),
    "4.1 variants stand beside each other": [
        Step(VARIED, asks={"X-A": "1"}),
        Step(VARIED, asks={"X-A": "2"}),
        Step(hit=True, asks={"X-A": "1"}),
        Step(hit=True, asks={"X-A": "2"}),
    ],
    "4.1 two fields": [
        Step(Says(FRESH | {"Vary": "X-A, X-B"}), asks={"X-A": "1", "X-B": "1"}),
        Step(Says(FRESH | {"Vary": "X-A, X-B"}), asks={"X-A": "1", "X-B": "2"}),
        Step(hit=True, asks={"X-B": "1", "X-A": "1"}),
    ],
    "4.1 several lines of a request are one list": [
        Step(VARIED, asks=[("X-A", "1"), ("X-A", "2")]),
        Step(hit=True, asks={"X-A": "1, 2"}),
    ],
    "4.1 Vary: *, with an empty member": twice(Says(FRESH | {"Vary": ", *"}), hit=False),
    "4.1 Vary: *, in another line": twice(
        Says([*FRESH.items(), ("Vary", "X-A"), ("Vary", "*")]), hit=False
    ),
    "4.1 Vary: *, twice": twice(Says(FRESH | {"Vary": "*, *"}), hit=False),
    "4.1 Vary: * doesn't end what another request may have": [
        Step(Says(FRESH)),
        Step(Says(FRESH | {"Vary": "*"}), asks={"Cache-Control": "no-cache"}),
        Step(Says(FRESH)),
    ],
    "4.1 three fields": [
        Step(Says(FRESH | {"Vary": "X-A, X-B, X-C"}), asks={"X-A": "1", "X-B": "2", "X-C": "3"}),
        Step(hit=True, asks={"X-C": "3", "X-A": "1", "X-B": "2"}),
        Step(Says(FRESH), asks={"X-A": "1", "X-B": "2", "X-C": "4"}),
    ],
    "4.1 a field named twice": [
        Step(Says(FRESH | {"Vary": "X-A, x-a"}), asks={"X-A": "1"}),
        Step(hit=True, asks={"X-A": "1"}),
    ],
    "4.1 Vary changes from one answer to the next": [
        Step(Says(FRESH | {"Vary": "X-A"}), asks={"X-A": "1", "X-B": "1"}),
        Step(Says(FRESH | {"Vary": "X-B"}), asks={"X-A": "2", "X-B": "1"}),
        Step(hit=True, asks={"X-A": "3", "X-B": "1"}),
        Step(hit=True, asks={"X-A": "1", "X-B": "2"}),
        Step(Says(FRESH), asks={"X-A": "3", "X-B": "3"}),
    ],
    "4.1 the newest of two that are selected": [
        Step(Says(FRESH | {"Vary": "X-A"}, body=b"old"), asks={"X-A": "1"}),
        Step(Says(FRESH, body=b"new"), asks={"X-A": "2"}),
        Step(hit=True, asks={"X-A": "1"}, body=b"new"),
    ],
    "4.1 an answer for all takes no variant's place": [
        Step(Says(FRESH | {"Vary": "X-A"}), asks={"X-A": "1"}),
        Step(Says(FRESH | {"Vary": "X-A"}), asks={"X-A": "2"}),
        Step(hit=True, asks={"X-A": "1"}),
    ],
    "4.1 what is said of the URI selects, and nothing said does too": [
        Step(Says(FRESH, body=b"https"), asks={"X-Forwarded-Proto": "https"}),
        Step(Says(FRESH, body=b"plain"), body=b"plain"),
        Step(hit=True, asks={"X-Forwarded-Proto": "https"}, status=200),
        Step(Says(FRESH), asks={"X-Forwarded-Proto": "http"}),
    ],
    "4.1 what is said of the URI is no reason to ask about another's": [
        Step(says("max-age=3600", ETag='"a"'), asks={"X-Forwarded-Prefix": "/a"}),
        Step(Says(FRESH), sent={"If-None-Match": None}),
        Step(Says(FRESH), asks={"X-Forwarded-Prefix": "/b"}, sent={"If-None-Match": None}),
    ],
    "4.1 what proxies say of clients' addresses is nothing of the URI": [
        Step(Says(FRESH), asks={"Forwarded": 'for="[2001:db8::1]:80";proto=https'}),
        Step(hit=True, asks={"Forwarded": "For=10.1.2.3;proto=https"}, status=200),
        Step(Says(FRESH), asks={"Forwarded": "for=10.1.2.3;proto=https;host=a"}),
        Step(Says(FRESH), asks={"Forwarded": 'for="x;host=a";proto=https'}),
    ],
    "4.1 an empty Vary": twice(Says(FRESH | {"Vary": ""}), hit=True),
}

# --- 14 ranges ---

TEN = Says(FRESH | {"ETag": '"r"', "Last-Modified": OLD, "Content-Type": "t/p"}, body=b"0123456789")
for value, status, body, said in [
    ("bytes=0-1", 206, b"01", "bytes 0-1/10"),
    ("bytes=5-", 206, b"56789", "bytes 5-9/10"),
    ("bytes=-3", 206, b"789", "bytes 7-9/10"),
    ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
    ("bytes=8-100", 206, b"89", "bytes 8-9/10"),
    ("BYTES=0-1", 206, b"01", "bytes 0-1/10"),
    ("bytes=0-3,2-5", 206, b"012345", "bytes 0-5/10"),
    ("bytes=10-", 416, b"", "bytes */10"),
    ("bytes=-0", 416, b"", "bytes */10"),
    ("bytes=3-1", 200, b"0123456789", None),
    ("bytes=a-b", 200, b"0123456789", None),
    ("lines=0-1", 200, b"0123456789", None),
    ("bytes 0-1", 200, b"0123456789", None),
]:
    TABLE[f"14.2 Range: {value}"] = [
        Step(TEN),
        Step(
            hit=True,
            asks={"Range": value},
            status=status,
            body=body,
            told={"Content-Range": said, "Content-Length": str(len(body))},
        ),
    ]
for condition, status in [
    ('"r"', 206),
    ('W/"r"', 200),
    ('"x"', 200),
    (OLD, 206),
    ("Mon, 14 Nov 1994 08:12:31 GMT", 200),
    ("garbage", 200),
]:
    TABLE[f"13.1.5 If-Range: {condition}"] = [
        Step(TEN),
        Step(hit=True, asks={"Range": "bytes=0-1", "If-Range": condition}, status=status),
    ]


def part(first: int, last: int, control: str = "max-age=3600", etag: str = '"r"') -> Says:
    return Says(
        {"Cache-Control": control, "ETag": etag, "Content-Range": f"bytes {first}-{last}/10"},
        status=206,
        body=b"0123456789"[first : last + 1],
    )


MANY = Says(
    FRESH | {"Content-Type": "multipart/byteranges; boundary=x", "ETag": '"r"'},
    status=206,
    body=b"--x\r\n",
)
OPEN = Says(FRESH | {"Content-Range": "bytes 0-4/*"}, status=206, body=b"01234")
SHORT = Says(FRESH | {"Content-Range": "bytes 4-9/10"}, status=206, body=b"01234")
TABLE |= {
    "14.2 several ranges": [
        Step(TEN),
        Step(
            hit=True,
            asks={"Range": "bytes=0-1,5-6"},
            status=206,
            told={"Content-Type": "multipart/byteranges; boundary=ordergate-part-0"},
        ),
    ],
    "14.2 a range of a HEAD is none": [
        Step(TEN),
        Step(hit=True, method="HEAD", asks={"Range": "bytes=0-1"}, status=200),
    ],
    "13.2.2 If-None-Match comes before Range": [
        Step(TEN),
        Step(hit=True, asks={"Range": "bytes=0-1", "If-None-Match": '"r"'}, status=304),
    ],
    "3.3 a part serves a part": [
        Step(part(0, 4), asks={"Range": "bytes=0-4"}),
        Step(hit=True, asks={"Range": "bytes=1-2"}, status=206, body=b"12"),
        Step(hit=True, asks={"Range": "bytes=0-4"}, status=206, body=b"01234"),
    ],
    "3.3 a part is not the whole": [
        Step(part(0, 4), asks={"Range": "bytes=0-4"}),
        Step(TEN, body=b"0123456789"),
    ],
    "3.3 a part doesn't serve what it has not": [
        Step(part(0, 4), asks={"Range": "bytes=0-4"}),
        Step(part(3, 6), asks={"Range": "bytes=3-6"}, body=b"3456"),
    ],
    "3.4 parts are joined": [
        Step(part(0, 4), asks={"Range": "bytes=0-4"}),
        Step(part(5, 9), asks={"Range": "bytes=5-9"}),
        Step(hit=True, status=200, body=b"0123456789"),
        Step(hit=True, asks={"Range": "bytes=3-6"}, status=206, body=b"3456"),
    ],
    "3.3 the rest of a part is asked for": [
        Step(part(0, 4), asks={"Range": "bytes=0-4"}),
        Step(
            part(5, 9),
            status=200,
            body=b"0123456789",
            sent={"Range": "bytes=5-", "If-Range": '"r"'},
            told={"Content-Range": None, "Content-Length": "10"},
        ),
        Step(hit=True, status=200, body=b"0123456789"),
    ],
    "3.3 the whole instead of the rest": [
        Step(part(0, 4), asks={"Range": "bytes=0-4"}),
        Step(TEN, status=200, body=b"0123456789", sent={"Range": "bytes=5-"}),
        Step(hit=True, status=200, body=b"0123456789"),
    ],
    "3.4 parts of different bytes are not": [
        Step(part(0, 4), asks={"Range": "bytes=0-4"}),
        Step(part(5, 9, etag='"s"'), asks={"Range": "bytes=5-9"}),
        Step(TEN, body=b"0123456789"),
    ],
    "3.4 nor by a weak validator": [
        Step(part(0, 4, etag='W/"r"'), asks={"Range": "bytes=0-4"}),
        Step(part(5, 9, etag='W/"r"'), asks={"Range": "bytes=5-9"}),
        Step(TEN, body=b"0123456789"),
    ],
    "3.3 a part of all is the whole": [
        Step(part(0, 9), asks={"Range": "bytes=0-"}),
        Step(hit=True, status=200, body=b"0123456789"),
    ],
    "3.3 a whole answer to a range": [
        Step(TEN, asks={"Range": "bytes=0-1"}, status=200),
        Step(hit=True, asks={"Range": "bytes=0-1"}, status=206, body=b"01"),
    ],
    "3.3 a stale part": [
        Step(part(0, 4, "max-age=1"), asks={"Range": "bytes=0-4"}),
        Step(part(0, 4), asks={"Range": "bytes=0-4"}, wait_s=3),
        Step(hit=True, asks={"Range": "bytes=0-4"}, status=206, body=b"01234"),
    ],
    "3.3 the beginning that is lacking is asked for": [
        Step(part(5, 9), asks={"Range": "bytes=-5"}),
        Step(
            part(0, 4),
            status=200,
            body=b"0123456789",
            sent={"Range": "bytes=0-4", "If-Range": '"r"'},
        ),
        Step(hit=True, status=200, body=b"0123456789"),
    ],
    "3.3 the rest of a middle is not one range": [
        Step(part(3, 6), asks={"Range": "bytes=3-6"}),
        Step(TEN, sent={"Range": None}, body=b"0123456789"),
    ],
    "3.3 the rest is longer than it says": [
        Step(part(0, 4), asks={"Range": "bytes=0-4"}),
        Step(
            Says(dict(pairs(part(5, 9).fields)), status=206, body=b"56789" * 9),
            status=206,
        ),
    ],
    "3.3 a suffix again": [
        Step(part(5, 9), asks={"Range": "bytes=-5"}),
        Step(hit=True, asks={"Range": "bytes=-5"}, status=206, body=b"56789"),
        Step(hit=True, asks={"Range": "bytes=5-"}, status=206, body=b"56789"),
        Step(hit=True, asks={"Range": "bytes=-2"}, status=206, body=b"89"),
    ],
    "3.3 several parts in one answer, for the same ranges": [
        Step(MANY, asks={"Range": "bytes=0-1,8-9"}),
        Step(
            hit=True,
            asks={"Range": "bytes=0-1,8-9"},
            status=206,
            body=b"--x\r\n",
            told={"Content-Type": "multipart/byteranges; boundary=x"},
        ),
        Step(MANY, asks={"Range": "bytes=0-1,7-9"}),
        Step(TEN, asks={}, sent={"Range": None}),
    ],
    "3.3 a part of what has no known length, for the same range": [
        Step(OPEN, asks={"Range": "bytes=0-4"}),
        Step(
            hit=True, asks={"Range": "bytes=0-4"}, status=206, told={"Content-Range": "bytes 0-4/*"}
        ),
        Step(OPEN, asks={"Range": "bytes=0-3"}),
        Step(TEN, method="HEAD", asks={"Range": "bytes=0-4"}),
    ],
    "3.3 a part that is not as long as it says, for the same range": [
        Step(SHORT, asks={"Range": "bytes=-5"}),
        Step(hit=True, asks={"Range": "bytes=-5"}, status=206, body=b"01234"),
        Step(SHORT, asks={"Range": "bytes=4-6"}),
        Step(TEN),
    ],
    "14.2 a range of what is stale": [
        Step(says("max-age=1", ETag='"r"', Last_Modified=OLD)),
        Step(
            Says(FRESH | {"ETag": '"r"'}, status=304),
            wait_s=3,
            asks={"Range": "bytes=1-2"},
            sent={"Range": None, "If-None-Match": '"r"'},
            status=206,
            body=b"od",
        ),
    ],
    "14.2 a range of an answer without a validator": [
        Step(Says(FRESH, body=b"0123456789")),
        Step(hit=True, asks={"Range": "bytes=2-3"}, status=206, body=b"23"),
    ],
    "14.2 a range has the fields of the whole": [
        Step(Says(FRESH | {"A": "1", "Content-Type": "t/p"}, body=b"0123456789")),
        Step(
            hit=True,
            asks={"Range": "bytes=0-1"},
            status=206,
            told={"A": "1", "Content-Type": "t/p", "Content-Length": "2"},
        ),
    ],
    "14.2 a range of an error is none": [
        Step(Says(FRESH, status=404, body=b"0123456789")),
        Step(hit=True, asks={"Range": "bytes=0-1"}, status=404, body=b"0123456789"),
    ],
    "15.3.7 a 206 nobody asked for": [Step(part(0, 4)), Step(TEN, body=b"0123456789")],
}
