"""RFC 9111 and its companions, as exchanges: name (with the clause) to steps."""

from tests.scenarios.exchanges import Says, Step

OLD = "Tue, 15 Nov 1994 08:12:31 GMT"
FRESH = {"Cache-Control": "max-age=3600"}
LM = {"Last-Modified": "T-100000"}


def twice(says: Says, *, hit: bool, wait_s: float = 0.0, **more: object) -> list[Step]:
    """The same request again, after a while: from the cache or not."""
    again = Step(says, hit=hit, wait_s=wait_s, **more)  # type: ignore[arg-type]
    return [Step(says, **more), again]  # type: ignore[arg-type]


def says(control: str, **fields: str) -> Says:
    return Says({"Cache-Control": control} | {k.replace("_", "-"): v for k, v in fields.items()})


TABLE: dict[str, list[Step]] = {}

# --- 4.2.1 freshness lifetime -----

for control, wait_s, hit in [
    ("max-age=3600", 0, True),
    ("max-age=3600", 3000, True),
    ("max-age=3600", 3700, False),
    ("max-age=0", 0, False),
    ("max-age=1", 3, False),
    ("MAX-AGE=3600", 0, True),
    ("Max-aGe=3600", 0, True),
    ('max-age="3600"', 0, True),
    ("max-age='3600'", 0, False),
    ("max-age=003600", 3000, True),
    ("max-age=0003600", 3700, False),
    ("max-age=99999999999", 3600, True),
    ("max-age=2147483648", 3600, True),
    ("max-age=2147483647", 3600, True),
    ("max-age=-3600", 0, False),
    ("max-age=3600.0", 0, False),
    ("max-age=abc", 0, False),
    ("max-age=", 0, False),
    ("max-age", 0, False),
    ("max-age =3600", 0, False),
    ("max-age= 3600", 0, False),
    ("max-age=3600, max-age=1", 3, False),
    ("max-age=1, max-age=3600", 3, False),
    ("max-age=0, max-age=3600", 0, False),
    ("max-age=3600, s-maxage=1", 3, False),
    ("max-age=1, s-maxage=3600", 3, True),
    ("s-maxage=3600", 3000, True),
    ("s-maxage=0, max-age=3600", 0, False),
    ("S-MAXAGE=3600, max-age=1", 3, True),
    ('s-maxage="3600"', 3, True),
    ("s-maxage=abc, max-age=3600", 3, False),
    ("public, max-age=3600", 3, True),
    ("max-age=3600,public", 3, True),
    ("  max-age=3600  ,  public ", 3, True),
    (",,, max-age=3600,", 3, True),
    ("a=b, max-age=3600", 3, True),
    ('a="b, max-age=1", max-age=3600', 3, True),
    ('a="max-age=3600"', 3, False),
    ('a="x, max-age=3600, y"', 3, False),
    (r'a="x\", max-age=3600"', 3, False),
    ("max-age=3600, foobar", 3, True),
    ("max-age=3600;foo=bar", 3, False),
    ("max-age=3600, no-transform", 3, True),
    ("max-age=3600, immutable", 3, True),
    ("no-store", 0, False),
    ("No-StOrE, max-age=3600", 0, False),
    ("no-store, max-age=3600, public", 0, False),
    ("private, max-age=3600", 0, False),
    ("PRIVATE, max-age=3600", 0, False),
    ("no-cache, max-age=3600", 0, False),
    ("No-Cache, max-age=3600", 0, False),
    ('no-cache="", max-age=3600', 0, False),
    ("must-understand, no-store, max-age=3600", 3, True),
    ("no-store, must-understand, max-age=3600", 3, True),
    ('no-cache="x-a", max-age=3600', 3, True),
    ('private="x-a", max-age=3600', 3, True),
    ("proxy-revalidate, max-age=3600", 3, True),
    ("must-revalidate, max-age=1", 3, False),
    ("stale-while-revalidate=60", 0, False),
]:
    TABLE[f"4.2.1 {control!r} after {wait_s} s"] = twice(says(control), hit=hit, wait_s=wait_s)

TABLE |= {
    "4.2.1 several lines are one list": twice(
        Says([("Cache-Control", "max-age=3600"), ("Cache-Control", "no-store")]), hit=False
    ),
    "4.2.1 the second line counts too": twice(
        Says([("Cache-Control", "public"), ("Cache-Control", "max-age=3600")]), hit=True
    ),
    "5.3 Expires": twice(Says({"Expires": "T+3600"}), hit=True, wait_s=3000),
    "5.3 Expires is over": twice(Says({"Expires": "T+3600"}), hit=False, wait_s=3700),
    "5.3 Expires in the past": twice(Says({"Expires": "T-3600"} | LM), hit=False),
    "5.3 Expires equal to Date": twice(Says({"Expires": "T+0", "Date": "T+0"}), hit=False),
    "5.3 Expires counts from Date": twice(Says({"Expires": "T+3600", "Date": "T+3700"}), hit=False),
    "5.3 Date a little ahead": twice(Says({"Expires": "T+3600", "Date": "T+10"}), hit=True),
    "5.3 max-age wins over Expires": twice(
        Says({"Expires": "T-3600", "Cache-Control": "max-age=3600"}), hit=True
    ),
    "5.3 max-age wins over a later Expires": twice(
        Says({"Expires": "T+3600", "Cache-Control": "max-age=1"}), hit=False, wait_s=3
    ),
    "5.3 a broken max-age isn't saved by Expires": twice(
        Says({"Expires": "T+3600", "Cache-Control": "max-age=x"}), hit=False
    ),
    "5.3 two Expires": twice(
        Says([("Expires", "T+3600"), ("Expires", "T-10")]), hit=False, wait_s=1
    ),
    "5.3 two good Expires": twice(
        Says([("Expires", "T+3600"), ("Expires", "T+7200")]), hit=True, wait_s=1
    ),
}

for expires, hit in [
    ("Sun, 06 Nov 2094 08:49:37 GMT", True),
    ("sun, 06 nov 2094 08:49:37 gmt", True),
    ("Sunday, 06-Nov-50 08:49:37 GMT", True),
    ("Sunday, 06-Nov-94 08:49:37 GMT", False),
    ("Sun Nov  6 08:49:37 2094", True),
    ("Sun Nov 16 08:49:37 2094", True),
    ("0", False),
    ("-1", False),
    ("now", False),
    ("", False),
    ("Sun, 06 Nov 2094 08:49:37 UTC", False),
    ("Sun, 06 Nov 2094 08:49:37 EST", False),
    ("Sun, 06 Nov 2094 08:49:37 +0000", False),
    ("Sun, 06 Nov 2094 08:49:37", False),
    ("Sun, 6 Nov 2094 08:49:37 GMT", False),
    ("Sun, 06-Nov-2094 08:49:37 GMT", False),
    ("06 Nov 2094 08:49:37 GMT", False),
    ("Sun 06 Nov 2094 08:49:37 GMT", False),
    ("Sun, 06 Nov 2094 8:49:37 GMT", False),
    ("Sun, 06 Nov 2094 25:49:37 GMT", False),
    ("Sun, 31 Feb 2094 08:49:37 GMT", False),
    ("Sun, 06  Nov 2094 08:49:37 GMT", False),
    ("2094-11-06T08:49:37Z", False),
]:
    TABLE[f"5.3 Expires: {expires}"] = twice(Says({"Expires": expires}), hit=hit)

# --- 4.2.2 heuristics, section 3 statuses -----

for status in (200, 203, 300, 301, 308, 404, 405, 410, 414, 501):
    TABLE[f"4.2.2 {status} with Last-Modified is fresh for a tenth"] = twice(
        Says(LM, status=status), hit=True, wait_s=5000
    )
    TABLE[f"4.2.2 {status} and no longer"] = twice(Says(LM, status=status), hit=False, wait_s=11000)
TABLE["4.2.2 204"] = twice(Says(LM, status=204, body=b""), hit=True)
for status in (201, 202, 302, 303, 307, 400, 401, 403, 429, 500, 502, 503, 504, 299, 418, 599):
    TABLE[f"4.2.2 {status} without explicit freshness is not kept"] = twice(
        Says(LM, status=status), hit=False
    )
for status in (
    *(200, 201, 202, 203, 205, 299, 300, 301, 302, 303, 307, 308, 399),
    *(400, 403, 404, 405, 408, 410, 413, 414, 418, 422, 429, 431, 451, 499),
    *(500, 501, 502, 503, 504, 599),
):
    TABLE[f"3 {status} with explicit freshness"] = twice(Says(FRESH, status=status), hit=True)
    TABLE[f"3 {status} with explicit freshness ends"] = twice(
        Says(FRESH, status=status), hit=False, wait_s=4000
    )
for status in (302, 299, 599):
    TABLE[f"4.2.2 {status} marked public may be guessed"] = twice(
        Says({"Cache-Control": "public"} | LM, status=status), hit=True
    )
TABLE |= {
    "3 204 with explicit freshness": twice(Says(FRESH, status=204, body=b""), hit=True),
    "5.2.2.3 must-understand, unknown status": twice(
        Says({"Cache-Control": "must-understand, max-age=3600"}, status=599), hit=False
    ),
    "5.2.2.3 must-understand, no-store, unknown status": twice(
        Says({"Cache-Control": "must-understand, no-store, max-age=3600"}, status=599), hit=False
    ),
    "4.2.2 no validator, nothing said": twice(Says({}), hit=False),
    "4.2.2 an invalid Last-Modified": twice(Says({"Last-Modified": "x"}), hit=False),
    "4.2.2 Last-Modified in the future": twice(Says({"Last-Modified": "T+100000"}), hit=False),
}

# --- 4.2.3 age -----

for age, hit in [
    ("0", True),
    ("3000", True),
    ("3600", False),
    ("7200", False),
    ("99999999999", False),
    ("0007200", False),
    ("-7200", True),
    ("abc", True),
    ("7200.0", True),
    ("7200, 0", False),
    ("0, 7200", True),
]:
    TABLE[f"5.1 Age: {age}"] = twice(Says(FRESH | {"Age": age}), hit=hit)
TABLE |= {
    "5.1 two lines of Age": twice(Says([*FRESH.items(), ("Age", "7200"), ("Age", "0")]), hit=False),
    "4.2.3 an old Date counts": twice(Says(FRESH | {"Date": "T-7200"}), hit=False),
    "4.2.3 a received Age goes on": [
        Step(Says(FRESH | {"Age": "30"}), told={"Age": "30"}),
        Step(hit=True, wait_s=12, told={"Age": "42"}),
    ],
    "5.1 every hit has an Age": [Step(Says(FRESH)), Step(hit=True, told={"Age": "0"})],
    "4.2.3 the Date stays": [
        Step(Says(FRESH | {"Date": "T-5"}), told={"Date": "T-5"}),
        Step(hit=True, wait_s=10, told={"Date": "T-15", "Age": "15"}),
    ],
    "6.6.1 a missing Date is added": [
        Step(Says(FRESH | {"Date": "none"})),
        Step(hit=True, wait_s=10, told={"Date": "T-10", "Age": "10"}),
    ],
}

# --- 3 methods, requests -----

TABLE |= {
    "4 another query is another thing": [
        Step(Says(FRESH), query="?a"),
        Step(Says(FRESH), query="?b"),
        Step(Says(FRESH)),
        Step(hit=True, query="?a"),
    ],
    "4 an empty query is another thing": [Step(Says(FRESH)), Step(Says(FRESH), query="?")],
    "4 the path is not decoded": [
        Step(Says(FRESH), path="/a%41/x"),
        Step(Says(FRESH), path="/aA/x"),
    ],
    "4 another host is another thing": [Step(Says(FRESH)), Step(Says(FRESH), host="other.example")],
    "4 a host in capitals is the same": [Step(Says(FRESH)), Step(hit=True, host="SHOP.example")],
    "9.3.2 HEAD from GET": [
        Step(Says(FRESH | {"X": "y"}), body=b"body"),
        Step(hit=True, method="HEAD", body=b"", told={"X": "y", "Content-Length": "4"}),
    ],
    "9.3.2 HEAD is no GET": [Step(Says(FRESH), method="HEAD"), Step(Says(FRESH), body=b"body")],
    "9.3.2 HEAD for HEAD": [
        Step(Says(FRESH), method="HEAD"),
        Step(hit=True, method="HEAD", status=200),
    ],
    "4.3.5 HEAD updates a stale GET": [
        Step(says("max-age=1", ETag='"a"', A="1")),
        Step(says("max-age=3600", ETag='"a"', A="2"), method="HEAD", wait_s=3),
        Step(hit=True, told={"A": "2"}, body=b"body"),
    ],
    "4.3.5 HEAD of another representation ends it": [
        Step(says("max-age=1", ETag='"a"')),
        Step(says("max-age=3600", ETag='"b"'), method="HEAD", wait_s=3),
        Step(Says(FRESH)),
    ],
    "4.3.5 HEAD with another length ends it": [
        Step(says("max-age=1")),
        Step(says("max-age=3600", Content_Length="5"), method="HEAD", wait_s=3),
        Step(Says(FRESH)),
    ],
    "9.3.3 POST with explicit freshness and its own Content-Location": [
        Step(Says(FRESH | {"Content-Location": "/9.3.3/post"}), method="POST", path="/9.3.3/post"),
        Step(hit=True, path="/9.3.3/post", body=b"body"),
    ],
    "9.3.3 POST alone": [Step(Says(FRESH), method="POST", data=b"x"), Step(Says(FRESH))],
    "9.3.3 POST with another Content-Location": [
        Step(Says(FRESH | {"Content-Location": "/else"}), method="POST"),
        Step(Says(FRESH)),
    ],
    "9.3.3 a POST is not answered from the cache": [
        Step(Says(FRESH)),
        Step(Says(FRESH), method="POST"),
    ],
    "9.3 OPTIONS is not kept": twice(Says(FRESH), hit=False, method="OPTIONS"),
    "9.3 PUT is not kept": twice(Says(FRESH), hit=False, method="PUT", data=b"x"),
    "9.3 a GET with a body is not kept": [
        Step(Says(FRESH), data=b"x"),
        Step(Says(FRESH)),
        Step(Says(FRESH), data=b"x"),
    ],
    "3.5 Authorization alone": twice(Says(FRESH), hit=False, asks={"Authorization": "a"}),
    "3.5 Authorization and public": twice(
        says("max-age=3600, public"), hit=True, asks={"Authorization": "a"}
    ),
    "3.5 Authorization and s-maxage": twice(
        says("s-maxage=3600"), hit=True, asks={"Authorization": "a"}
    ),
    "3.5 Authorization and must-revalidate": twice(
        says("max-age=3600, must-revalidate"), hit=True, asks={"Authorization": "a"}
    ),
    "3.5 Authorization and must-revalidate, another client": [
        Step(says("max-age=3600, must-revalidate"), asks={"Authorization": "a"}),
        Step(Says(FRESH), asks={"Authorization": "b"}),
        Step(Says(FRESH)),
    ],
    "DESIGN 7 a cookie alone": twice(Says(FRESH), hit=False, asks={"Cookie": "sid=1"}),
    "DESIGN 7 a cookie and public": twice(
        says("max-age=3600, public"), hit=True, asks={"Cookie": "sid=1"}
    ),
    "DESIGN 7 Set-Cookie alone": twice(says("max-age=3600", Set_Cookie="a=b"), hit=False),
    "DESIGN 7 Set-Cookie is never told again": [
        Step(says("max-age=3600, public", Set_Cookie="a=b"), told={"Set-Cookie": "a=b"}),
        Step(hit=True, told={"Set-Cookie": None}),
    ],
    'DESIGN 7 no-cache="set-cookie"': [
        Step(says('max-age=3600, no-cache="set-cookie"', Set_Cookie="a=b")),
        Step(hit=True, told={"Set-Cookie": None}),
    ],
    "DESIGN 7 cart reads": twice(Says(FRESH), hit=False, path="/shop/cart/x.css"),
    "DESIGN 7 another target by a field": [
        Step(Says(FRESH), asks={"X-HTTP-Method-Override": "DELETE"}),
        Step(Says(FRESH)),
    ],
    "DESIGN 7 an error is not everybody's": [
        Step(Says(FRESH, status=400), asks={"X-Bad": "x" * 5000}),
        Step(Says(FRESH)),
        Step(hit=True, status=200),
    ],
}

# --- 3.1 fields that are kept, and those that are not -----

TABLE |= {
    "3.1 all fields are kept": [
        Step(Says(FRESH | {"X-A": "1", "Content-Type": "a/b", "Via": "1.1 x"})),
        Step(hit=True, told={"X-A": "1", "Content-Type": "a/b"}),
    ],
    "3.1 several lines are kept": [
        Step(Says([*FRESH.items(), ("X-A", "1"), ("X-A", "2")])),
        Step(hit=True, told={"X-A": "1, 2"}),
    ],
    "3.1 fields that Connection names": [
        Step(Says(FRESH | {"Connection": "x-a, keep-alive", "X-A": "1", "X-B": "2"})),
        Step(hit=True, told={"X-A": None, "X-B": "2"}),
    ],
    "3.1 hop-by-hop and proxy fields": [
        Step(
            Says(FRESH | {"Keep-Alive": "x", "Proxy-Authenticate": "a", "Upgrade": "a"}),
        ),
        Step(
            hit=True,
            told={
                "Keep-Alive": None,
                "Proxy-Authenticate": None,
                "Upgrade": None,
            },
        ),
    ],
    "3.1 Proxy-Authentication-Info": [
        Step(Says(FRESH | {"Proxy-Authentication-Info": "a"})),
        Step(hit=True, told={"Proxy-Authentication-Info": None}),
    ],
    "5.2.2.4 fields named by no-cache": [
        Step(says('max-age=3600, no-cache="X-A, x-b"', X_A="1", X_B="2", X_C="3")),
        Step(hit=True, told={"X-A": None, "X-B": None, "X-C": "3"}),
    ],
    "5.2.2.7 fields named by private": [
        Step(says('private="X-A", max-age=3600', X_A="1", X_C="3"), told={"X-A": "1"}),
        Step(hit=True, told={"X-A": None, "X-C": "3"}),
    ],
    "8.4 Content-Encoding is untouched": [
        Step(Says(FRESH | {"Content-Encoding": "gzip"}, body=b"\x1f\x8bx")),
        Step(hit=True, told={"Content-Encoding": "gzip"}, body=b"\x1f\x8bx"),
    ],
    "3 a large body": [
        Step(Says(FRESH, body=b"x" * 2_000_000), body=b"x" * 2_000_000),
        Step(hit=True, body=b"x" * 2_000_000),
    ],
    "3 a large header": [
        Step(Says(FRESH | {"X-A": "x" * 20_000})),
        Step(hit=True, told={"X-A": "x" * 20_000}),
    ],
    "3 an empty body": [Step(Says(FRESH, body=b"")), Step(hit=True, body=b"")],
    "3.3 a body that broke off": [
        Step(
            Says(raw=b"HTTP/1.1 200 X\r\nCache-Control: max-age=99\r\nContent-Length: 5\r\n\r\nab"),
            status=200,
            broken=True,
        ),
        Step(Says(FRESH, body=b"whole"), body=b"whole"),
    ],
    "3.3 chunks that broke off": [
        Step(
            Says(
                raw=b"HTTP/1.1 200 X\r\nCache-Control: max-age=99\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"
            ),
            status=200,
            broken=True,
        ),
        Step(Says(FRESH, body=b"whole"), body=b"whole"),
    ],
    "3.3 chunks": [
        Step(
            Says(
                raw=b"HTTP/1.1 200 X\r\nCache-Control: max-age=99\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Trailer: 1\r\n\r\n"
            ),
            status=200,
            body=b"ab",
        ),
        Step(hit=True, status=200, body=b"ab"),
    ],
    "3 interim answers are passed over": [
        Step(
            Says(
                raw=b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\nHTTP/1.1 200 X\r\n"
                b"Cache-Control: max-age=99\r\nContent-Length: 2\r\n\r\nab"
            ),
            status=200,
            body=b"ab",
        ),
        Step(hit=True, status=200, body=b"ab", told={"Link": None}),
    ],
}

# --- 4.1 Vary -----


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
    ("Accept-Encoding", "gzip;q=0", "gzip", False),
]:
    TABLE[f"4.1 Vary: {name} with {one!r} then {other!r}"] = varied(name, one, other, hit=hit)
VARIED = Says(FRESH | {"Vary": "X-A"})
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

# --- 4.3 validation -----

STALE = says("max-age=1", ETag='"a"', Last_Modified=OLD, A="1")


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

# --- 4.3.2 conditional requests answered from the cache -----

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

# --- 5.2.1 request directives -----

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

# --- 14 ranges -----

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

# --- 4.4 invalidation -----

for method in ("POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "MERGE"):
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
    "RFC 9875 names are compared as they are": [
        Step(Says(FRESH | {"Cache-Groups": '"g"'}), path="/g/a"),
        Step(Says({"Cache-Group-Invalidation": '"G"'}), method="POST", path="/g/c"),
        Step(hit=True, path="/g/a"),
    ],
}

# --- RFC 5861 -----

DOWN = Says(raw=b"")
for control, over_s, says_, status, hit in [
    ("max-age=10, stale-if-error=60", 5, Says({}, status=500), 200, False),
    ("max-age=10, stale-if-error=60", 5, Says({}, status=503), 200, False),
    ("max-age=10, stale-if-error=60", 5, Says({}, status=504), 200, False),
    ("max-age=10, stale-if-error=60", 5, DOWN, 200, False),
    ("max-age=10, stale-if-error=60", 5, Says({}, status=404), 404, False),
    ("max-age=10, stale-if-error=60", 65, Says({}, status=500), 500, False),
    ("max-age=10", 5, Says({}, status=500), 500, False),
    ("max-age=10", 5, DOWN, 502, False),
    ("max-age=10, stale-if-error=60, must-revalidate", 5, Says({}, status=500), 500, False),
    ("max-age=10, stale-if-error=60, proxy-revalidate", 5, Says({}, status=500), 500, False),
    ("s-maxage=10, stale-if-error=60", 5, Says({}, status=500), 500, False),
    ("max-age=10, stale-if-error=60, no-cache", 5, Says({}, status=500), 500, False),
]:
    TABLE[f"5861.4 {control} over by {over_s}, upstream {says_}"] = [
        Step(says(control)),
        Step(says_, hit=hit, wait_s=10 + over_s, status=status),
    ]
TABLE |= {
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
    "DESIGN 7 a 5xx takes no usable answer's place": [
        Step(Says(FRESH)),
        Step(Says(FRESH, status=500), asks={"Cache-Control": "no-cache"}),
        Step(hit=True, status=200),
    ],
}

# --- RFC 9213 -----

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
]:
    TABLE[f"9213.2 {fields}"] = twice(Says(fields), hit=hit, wait_s=3)
TABLE["9213.2 the field is passed on"] = [
    Step(Says({"CDN-Cache-Control": "max-age=3600"}), told={"CDN-Cache-Control": "max-age=3600"}),
    Step(hit=True, told={"CDN-Cache-Control": "max-age=3600"}),
]

# --- RFC 9211 -----

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
