"""What a 304 changes of what is kept, and what of it is told once (RFC 9111 section 3.2)."""

from tests.scenarios.cache_rows.words import FRESH, OLD, STALE, says
from tests.scenarios.exchanges import Says, Step

TABLE: dict[str, list[Step]] = {}

for name, before, after in [
    ("Content-MD5", "rL0Y20zC+Fzt72VPzMSk2A==", "N7UdGUp1E+RbVvZSTy1R8g=="),
    ("Content-Type", "text/plain", "text/plain;charset=utf-8"),
    ("Content-Location", "/foo", "/bar"),
    ("Content-Security-Policy", "default-src 'self'", "default-src 'none'"),
    ("Content-Foo", "1", "2"),
    ("X-Content-Foo", "1", "2"),
    ("Clear-Site-Data", '"cache"', '"cookies"'),
    ("Public-Key-Pins", "1", "2"),
    ("X-Frame-Options", "deny", "sameorigin"),
    ("X-XSS-Protection", "1", "0"),
    ("Cache-Control", "max-age=1", "max-age=3600"),
    ("Last-Modified", OLD, OLD),
    ("Vary", "X-A", "X-B"),
]:
    TABLE[f"3.2 {name} of a 304"] = [
        Step(Says({"Cache-Control": "max-age=1", "ETag": '"a"'} | {name: before})),
        Step(
            Says(FRESH | {"ETag": '"a"'} | {name: after}, status=304),
            wait_s=3,
            status=200,
            told={name: after},
        ),
        Step(hit=True, told={name: after}),
    ]
TABLE |= {
    "3.2 Content-Length of a 304 is not the body's": [
        Step(STALE),
        Step(
            Says(FRESH | {"Content-Length": "10"}, status=304),
            wait_s=3,
            status=200,
            body=b"body",
            told={"Content-Length": "4"},
        ),
        Step(hit=True, body=b"body", told={"Content-Length": "4"}),
    ],
    "3.2 all lines of a name are replaced": [
        Step(Says([("Cache-Control", "max-age=1"), ("ETag", '"a"'), ("A", "1"), ("A", "2")])),
        Step(Says(FRESH | {"A": "3"}, status=304), wait_s=3, status=200, told={"A": "3"}),
        Step(hit=True, told={"A": "3"}),
    ],
    "3.2 a cookie that a 304 sets is for its own client alone": [
        Step(says("public, max-age=1", ETag='"a"')),
        Step(
            Says({"Cache-Control": "public, max-age=3600", "Set-Cookie": "a=b"}, status=304),
            wait_s=3,
            status=200,
            body=b"body",
            told={"Set-Cookie": "a=b"},
        ),
        Step(hit=True, told={"Set-Cookie": None}),
    ],
    "3.2 so is one beside a new answer that the client has": [
        Step(says("public, max-age=1", ETag='"a"')),
        Step(
            says("public, max-age=3600", ETag='"b"', Set_Cookie="a=b"),
            wait_s=3,
            asks={"If-None-Match": '"b"'},
            status=304,
            told={"Set-Cookie": "a=b"},
        ),
        Step(hit=True, told={"Set-Cookie": None}, status=200),
    ],
    "3.2 so are the fields that private names": [
        Step(says('max-age=1, private="X-A"', ETag='"a"', X_A="1"), told={"X-A": "1"}),
        Step(
            Says({"Cache-Control": 'max-age=3600, private="X-A"', "X-A": "2"}, status=304),
            wait_s=3,
            status=200,
            told={"X-A": "2"},
        ),
        Step(hit=True, told={"X-A": None}),
    ],
    "3.2 nor is anything told twice of a 304 that may not be kept": [
        Step(says("max-age=1", ETag='"a"', X_A="1")),
        Step(
            Says({"Cache-Control": 'no-store, private="X-A"', "X-A": "2"}, status=304),
            wait_s=3,
            status=200,
            told={"X-A": "2"},
        ),
        Step(Says(FRESH)),
    ],
    "3.2 the Date of a 304": [
        Step(says("max-age=10", ETag='"a"', Date="T-5")),
        Step(Says(FRESH, status=304), wait_s=20, status=200, told={"Date": "T+0", "Age": "0"}),
        Step(hit=True, wait_s=7, told={"Date": "T-7", "Age": "7"}),
    ],
}
