"""What is kept, and of what."""

from tests.scenarios.cache_rows.words import FRESH, says, twice
from tests.scenarios.exchanges import Says, Step

TABLE: dict[str, list[Step]] = {}

# --- 3 methods, requests ---

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
    "4.3.5 HEAD leaves the fields that it doesn't name": [
        Step(says("max-age=1", ETag='"a"', A="1", B="1")),
        Step(says("max-age=3600", ETag='"a"', A="2"), method="HEAD", wait_s=3),
        Step(hit=True, told={"A": "2", "B": "1"}, body=b"body"),
    ],
    "4.3.5 HEAD without a validator": [
        Step(says("max-age=1", A="1")),
        Step(says("max-age=3600", A="2"), method="HEAD", wait_s=3),
        Step(hit=True, told={"A": "2"}, body=b"body"),
    ],
    "4.3.5 HEAD with another Last-Modified ends it": [
        Step(says("max-age=1", Last_Modified="T-1000")),
        Step(says("max-age=3600", Last_Modified="T-500"), method="HEAD", wait_s=3),
        Step(Says(FRESH)),
    ],
    "4.3.5 HEAD that says gone ends it": [
        Step(says("max-age=1", ETag='"a"')),
        Step(Says({}, status=410), method="HEAD", wait_s=3),
        Step(Says(FRESH)),
    ],
    "4.3.5 HEAD of a fresh one is answered from it": [
        Step(Says(FRESH)),
        Step(hit=True, method="HEAD", status=200),
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
    "3.5 Authorization and public, for everybody": [
        Step(says("max-age=3600, public"), asks={"Authorization": "a"}),
        Step(hit=True),
        Step(hit=True, asks={"Authorization": "b"}),
    ],
    "3.5 Authorization and s-maxage, for everybody": [
        Step(says("s-maxage=3600"), asks={"Authorization": "a"}),
        Step(hit=True),
    ],
    "3.5 Authorization alone, then nobody": [
        Step(Says(FRESH), asks={"Authorization": "a"}),
        Step(Says(FRESH)),
        Step(hit=True),
    ],
    "3.5 what is kept of anybody is not for one that shows who it is": [
        Step(Says(FRESH)),
        Step(Says(FRESH), asks={"Authorization": "a"}),
    ],
    "3.5 Authorization and CDN-Cache-Control: public": twice(
        Says({"CDN-Cache-Control": "public, max-age=3600"}), hit=True, asks={"Authorization": "a"}
    ),
    "3.5 Authorization and Expires": twice(
        Says({"Expires": "T+3600"}), hit=False, asks={"Authorization": "a"}
    ),
    "9.3 what a PUT was answered is not for GET": [
        Step(Says(FRESH), method="PUT", data=b"x"),
        Step(Says(FRESH)),
    ],
    "9.3.3 POST with Content-Location, but no freshness": [
        Step(
            Says({"Content-Location": "/9.3.3/a", "Last-Modified": "T-100000"}),
            method="POST",
            path="/9.3.3/a",
        ),
        Step(Says(FRESH), path="/9.3.3/a"),
    ],
    "9.3.3 POST with Content-Location and no-store": [
        Step(
            Says({"Content-Location": "/9.3.3/b", "Cache-Control": "no-store, max-age=99"}),
            method="POST",
            path="/9.3.3/b",
        ),
        Step(Says(FRESH), path="/9.3.3/b"),
    ],
    "9.3.2 HEAD has the length that GET has": [
        Step(Says(FRESH, body=b"0123456789")),
        Step(hit=True, method="HEAD", body=b"", told={"Content-Length": "10"}),
    ],
    "9.3.2 HEAD of an empty one": [
        Step(Says(FRESH, body=b"")),
        Step(hit=True, method="HEAD", body=b"", status=200),
    ],
    "shop: a cookie alone": twice(Says(FRESH), hit=False, asks={"Cookie": "sid=1"}),
    "shop: a cookie and public": twice(
        says("max-age=3600, public"), hit=True, asks={"Cookie": "sid=1"}
    ),
    "shop: Set-Cookie alone": twice(says("max-age=3600", Set_Cookie="a=b"), hit=False),
    "shop: Set-Cookie is never told again": [
        Step(says("max-age=3600, public", Set_Cookie="a=b"), told={"Set-Cookie": "a=b"}),
        Step(hit=True, told={"Set-Cookie": None}),
    ],
    'shop: no-cache="set-cookie"': [
        Step(says('max-age=3600, no-cache="set-cookie"', Set_Cookie="a=b")),
        Step(hit=True, told={"Set-Cookie": None}),
    ],
    "shop: cart reads": twice(Says(FRESH), hit=False, path="/shop/cart/x.css"),
    "shop: another target by a field": [
        Step(Says(FRESH), asks={"X-HTTP-Method-Override": "DELETE"}),
        Step(Says(FRESH)),
    ],
    "shop: an error to one odd field is not everybody's": [
        Step(Says(FRESH, status=400), asks={"X-Version": "9"}),
        Step(Says(FRESH)),
        Step(hit=True, status=200),
    ],
    "shop: nor is one to an odd value": [
        Step(Says(FRESH, status=400), asks={"X-Version": "9"}),
        Step(Says(FRESH), asks={"X-Version": "2"}),
    ],
    "shop: what numbers a request is no odd field": [
        Step(Says(FRESH, status=400), asks={"X-Request-Id": "a1", "X-Version": "9"}),
        Step(hit=True, asks={"X-Request-Id": "b2", "X-Version": "9"}, status=400),
    ],
    "shop: many small fields are a large header": [
        Step(Says(FRESH, status=404), asks={f"X-{n}": "x" * 200 for n in range(45)}),
        Step(Says(FRESH)),
    ],
    "shop: an error is not everybody's": [
        Step(Says(FRESH, status=400), asks={"X-Bad": "x" * 5000}),
        Step(Says(FRESH)),
        Step(hit=True, status=200),
    ],
}

for name, value in [
    ("Content-Location", "/foo"),
    ("Content-MD5", "rL0Y20zC+Fzt72VPzMSk2A=="),
    ("Content-Range", "bytes 1-9/10"),
    ("Content-Security-Policy", "default-src 'self'"),
    ("Content-Disposition", "attachment"),
    ("Content-Language", "de"),
    ("Content-Type", "text/plain;charset=utf-8"),
    ("Clear-Site-Data", '"cookies"'),
    ("Link", "</a>; rel=preload"),
    ("Location", "/x"),
    ("Public-Key-Pins", "x"),
    ("Retry-After", "1"),
    ("Server-Timing", "a;dur=1"),
    ("Set-Cookie2", "a=b"),
    ("Surrogate-Key", "a b"),
    ("Warning", '199 - "x"'),
    ("X-Frame-Options", "deny"),
    ("X-XSS-Protection", "1"),
]:
    TABLE[f"3.1 {name} is kept"] = [
        Step(Says(FRESH | {name: value})),
        Step(hit=True, told={name: value}),
    ]

# --- 3.1 fields that are kept, and those that are not ---

TABLE |= {
    "3.1 all fields are kept": [
        Step(Says(FRESH | {"X-A": "1", "Content-Type": "a/b", "Via": "1.1 x"})),
        Step(hit=True, told={"X-A": "1", "Content-Type": "a/b"}),
    ],
    "3.1 fields that nobody knows": [
        Step(Says(FRESH | {"Content-Foo": "1", "X-Content-Foo": "2", "Foo": "3"})),
        Step(hit=True, told={"Content-Foo": "1", "X-Content-Foo": "2", "Foo": "3"}),
    ],
    "3.1 an empty value": [Step(Says(FRESH | {"Foo": ""})), Step(hit=True, told={"Foo": ""})],
    "3.1 bytes beyond ASCII": [
        Step(Says(FRESH | {"Foo": "\xe9"})),
        Step(hit=True, told={"Foo": "\xe9"}),
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
    "3.1 other fields of one connection": [
        Step(
            Says(
                FRESH
                | {"TE": "x", "Trailer": "x", "Proxy-Authorization": "x", "Proxy-Connection": "x"}
            )
        ),
        Step(
            hit=True,
            told={"TE": None, "Trailer": None, "Proxy-Authorization": None}
            | {"Proxy-Connection": None},
        ),
    ],
    "3.1 Connection names fields in any case": [
        Step(Says([*FRESH.items(), ("Connection", "A"), ("Connection", "b, C"), ("a", "1")])),
        Step(hit=True, told={"A": None}),
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
    "3.3 two framings": [
        Step(
            Says(
                raw=b"HTTP/1.1 200 X\r\nCache-Control: max-age=99\r\nContent-Length: 2\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
            ),
            status=502,
        ),
        Step(Says(FRESH, body=b"whole"), body=b"whole"),
    ],
    "3.3 two lengths": [
        Step(
            Says(
                raw=b"HTTP/1.1 200 X\r\nCache-Control: max-age=99\r\nContent-Length: 2\r\n"
                b"Content-Length: 3\r\n\r\nabc"
            ),
            status=502,
        ),
        Step(Says(FRESH, body=b"whole"), body=b"whole"),
    ],
    "3.3 a body that only the connection's end ends": [
        Step(
            Says(raw=b"HTTP/1.1 200 X\r\nCache-Control: max-age=99\r\n\r\nab"),
            status=200,
            body=b"ab",
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
    "3.3 trailers say nothing of caching": [
        Step(
            Says(
                raw=b"HTTP/1.1 200 X\r\nCache-Control: max-age=99\r\nTransfer-Encoding: chunked\r\n"
                b"\r\n4\r\nbody\r\n0\r\nCache-Control: no-store\r\n\r\n"
            ),
            body=b"body",
        ),
        Step(hit=True, body=b"body"),
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
