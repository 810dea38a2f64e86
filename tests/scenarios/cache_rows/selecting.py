"""For whom it is: Vary, ranges."""

from tests.scenarios.cache_rows.words import FRESH, OLD, VARIED, twice
from tests.scenarios.exchanges import Says, Step

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
    "15.3.7 a 206 nobody asked for": [Step(part(0, 4)), Step(TEN, body=b"0123456789")],
}
