"""How long an answer is fresh, and how old it is."""

from tests.scenarios.cache_rows.words import FRESH, LM, says, twice
from tests.scenarios.exchanges import Says, Step

TABLE: dict[str, list[Step]] = {}

# --- 4.2.1 freshness lifetime ---

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
    ("max-age=3600 , public", 3, True),
    ("max-age=3600,", 3, True),
    ("\tmax-age=3600", 3, True),
    ("max-age=+3600", 0, False),
    ("max-age=1e3", 0, False),
    ("max-age=0x10", 0, False),
    ("max-age=3600a", 0, False),
    ("max-age=a3600", 0, False),
    ("max-age=36 00", 0, False),
    ('max-age="36\\00"', 3, True),
    ("max-age=", 0, False),
    ("max-age=18446744073709551617", 3600, True),
    ("max-age=" + "9" * 400, 3600, True),
    ("s-maxage=99999999999", 3600, True),
    ("s-maxage=-1, max-age=3600", 0, False),
    ("s-maxage=1.5, max-age=3600", 3, False),
    ("s-maxage=3600, max-age=0", 3, True),
    ("s-maxage=1, s-maxage=3600", 3, False),
    ("max-age=3600, max-age=3600", 3, True),
    ("no-storex, max-age=3600", 3, True),
    ("x-no-store, max-age=3600", 3, True),
    ('ext="no-store", max-age=3600', 3, True),
    ('ext="a,no-store,b", max-age=3600', 3, True),
    ("no-store=1, max-age=3600", 0, False),
    ("private=, max-age=3600", 0, False),
    ("private, s-maxage=3600", 0, False),
    ('private="x-a, x-b", s-maxage=3600', 3, True),
    ("must-revalidate, max-age=3600", 3, True),
    ("immutable", 0, False),
    ("public", 0, False),
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
    "5.3 s-maxage wins over Expires": twice(
        Says({"Expires": "T-3600", "Cache-Control": "s-maxage=3600"}), hit=True
    ),
    "5.3 Expires beside no-store": twice(
        Says({"Expires": "T+3600", "Cache-Control": "no-store"}), hit=False
    ),
    "5.3 Expires and a directive that nobody knows": twice(
        Says({"Expires": "T+3600", "Cache-Control": "foo=bar"}), hit=True
    ),
    "5.3 Expires without a Date": twice(Says({"Expires": "T+3600", "Date": "none"}), hit=True),
    "5.3 Expires and an old Age": twice(Says({"Expires": "T+3600", "Age": "7200"}), hit=False),
    "5.3 Expires and a young Age": twice(Says({"Expires": "T+3600", "Age": "1800"}), hit=True),
    "5.3 a garbled Date": twice(Says({"Expires": "T+3600", "Date": "yesterday"}), hit=True),
    "5.3 two good Expires": twice(Says([("Expires", "T+3600"), ("Expires", "T+7200")]), hit=False),
    "5.3 the same Expires twice": twice(
        Says([("Expires", "T+3600"), ("Expires", "T+3600")]), hit=False
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

# --- 4.2.2 heuristics, section 3 statuses ---

for status in (200, 203, 300, 301, 308, 404, 405, 410, 414, 501):
    TABLE[f"4.2.2 {status} with Last-Modified is fresh for a tenth"] = twice(
        Says(LM, status=status), hit=True, wait_s=5000
    )
    TABLE[f"4.2.2 {status} and no longer"] = twice(Says(LM, status=status), hit=False, wait_s=11000)
for status in (301, 302, 303, 307, 308):
    TABLE[f"3 {status} leads to the same place again"] = [
        Step(Says(FRESH | {"Location": "/there"}, status=status)),
        Step(hit=True, status=status, told={"Location": "/there"}),
    ]
TABLE["4.2.2 204"] = twice(Says(LM, status=204, body=b""), hit=True)
for status in (201, 202, 302, 303, 307, 400, 401, 403, 429, 500, 502, 503, 504, 299, 418, 599):
    TABLE[f"4.2.2 {status} without explicit freshness is not kept"] = twice(
        Says(LM, status=status), hit=False
    )
for status in (
    *(200, 201, 202, 203, 205, 299, 300, 301, 302, 303, 307, 308, 399),
    *(400, 403, 404, 405, 408, 410, 414, 418, 422, 451, 499),
    *(500, 501, 502, 503, 504, 599),
):
    TABLE[f"3 {status} with explicit freshness"] = twice(Says(FRESH, status=status), hit=True)
    TABLE[f"3 {status} with explicit freshness ends"] = twice(
        Says(FRESH, status=status), hit=False, wait_s=4000
    )
for status in (413, 428, 429, 431, 511):  # RFC 6585 sections 3 to 6, but for 413
    TABLE[f"3 {status} is never kept"] = twice(
        Says({"Cache-Control": "public, max-age=3600"}, status=status), hit=False
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
    "4.2.2 explicit freshness comes before a guess": twice(
        Says(LM | {"Cache-Control": "max-age=1"}), hit=False, wait_s=3
    ),
    "4.2.2 no guess with no-cache": twice(Says(LM | {"Cache-Control": "no-cache"}), hit=False),
    "4.2.2 no guess with no-store": twice(Says(LM | {"Cache-Control": "no-store"}), hit=False),
    "4.2.2 no guess beside an Expires that is none": twice(Says(LM | {"Expires": "0"}), hit=False),
    "4.2.2 a guess with must-revalidate": twice(
        Says(LM | {"Cache-Control": "must-revalidate"}), hit=True
    ),
    "4.2.2 a guess with an unknown directive": twice(Says(LM | {"Cache-Control": "x"}), hit=True),
    "4.2.2 a guess for a query": twice(Says(LM), hit=True, query="?a=b"),
    "4.2.2 a received Age counts against a guess": twice(Says(LM | {"Age": "20000"}), hit=False),
    "4.2.2 an attachment": twice(
        Says(LM | {"Content-Disposition": "attachment; filename=x"}), hit=True
    ),
    "4.2.2 a guess ends after a day": twice(
        Says({"Last-Modified": "T-100000000"}), hit=False, wait_s=90_000
    ),
    "4.2.2 a response Pragma means nothing": twice(Says(LM | {"Pragma": "no-cache"}), hit=True),
    "5.4 a response Pragma beside freshness": twice(Says(FRESH | {"Pragma": "no-cache"}), hit=True),
    "4.2.2 no validator, nothing said": twice(Says({}), hit=False),
    "4.2.2 an invalid Last-Modified": twice(Says({"Last-Modified": "x"}), hit=False),
    "4.2.2 Last-Modified in the future": twice(Says({"Last-Modified": "T+100000"}), hit=False),
}

# --- 4.2.3 age ---

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
    ("7200, abc", False),
    ("abc, 7200", True),
    ("7200;a=b", True),
    ("+7200", True),
    ("7200s", True),
    ("", True),
    ("2147483647", False),
    ("2147483648", False),
    ("18446744073709551617", False),
    ('"7200"', True),
]:
    TABLE[f"5.1 Age: {age}"] = twice(Says(FRESH | {"Age": age}), hit=hit)
TABLE |= {
    "5.1 two lines of Age": twice(Says([*FRESH.items(), ("Age", "7200"), ("Age", "0")]), hit=False),
    "4.2.3 an old Date counts": twice(Says(FRESH | {"Date": "T-7200"}), hit=False),
    "4.2.3 a received Age goes on": [
        Step(Says(FRESH | {"Age": "30"}), told={"Age": "30"}),
        Step(hit=True, wait_s=12, told={"Age": "42"}),
    ],
    "4.2.3 a Date ahead of us costs nothing": twice(Says(FRESH | {"Date": "T+7200"}), hit=True),
    "4.2.3 Age and an old Date: the larger": twice(
        Says(FRESH | {"Age": "7200", "Date": "T-10"}), hit=False
    ),
    "4.2.3 Age goes on under Expires": [
        Step(Says({"Expires": "T+3600", "Age": "100"})),
        Step(hit=True, wait_s=20, told={"Age": "120", "Expires": "T+3580"}),
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
