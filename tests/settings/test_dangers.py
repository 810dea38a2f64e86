"""What is legal and dangerous is warned of, with its line, and works all the same."""

from pathlib import Path

import pytest

from gateway.settings import load_with_warnings
from tests.settings.conftest import GOOD, line_of


# What stands in GOOD; what is written instead; the warning; where its line is to be found, if not
# where the change is.
@pytest.mark.parametrize(
    ("right", "dangerous", "warning", "place"),
    [
        pytest.param(
            "settle_s = 30",
            "settle_s = 3",
            "routes[0].settle_s: is shorter than attempt_timeout_s (5): what the gateway still"
            " waits for would count as settled. Give more than the upstream's queueing,"
            " processing and lookup lag together.",
            "",
        ),
        pytest.param(
            "settle_s = 30",
            "doubt_within_s = 20",
            "routes[0].doubt_within_s: is over before settle_s (30): doubts go to a person"
            " unsettled. Give several times settle_s.",
            "",
        ),
        pytest.param(
            "settle_s = 30",
            "place_within_s = 2",
            "routes[0].place_within_s: is shorter than one attempt (5). Give several times"
            " attempt_timeout_s.",
            "",
        ),
        pytest.param(
            "settle_s = 30",
            'upstream_key = "client"',
            "routes[0].upstream_key: two clients that choose the same key are one to the"
            ' upstream. Only for upstreams that count keys per customer; else "digest". With a'
            " lookup, which tells no customers apart, only keys of 22 characters or more are"
            " taken.",
            "",
        ),
        pytest.param(
            'scope = ["header:Authorization"]',
            "scope = []",
            "routes[0].scope: every client is anonymous: double clicks without a key are two"
            ' orders. Say how clients are told apart, as in scope = ["cookie:session"].',
            "",
        ),
        pytest.param(
            'admin = "127.0.0.1:8081"',
            'admin = "0.0.0.0:8081"',
            "listen.admin: the operators' listener is reachable at 0.0.0.0, without TLS. See that"
            " only operators and probes reach it.",
            "",
        ),
        pytest.param(
            'url = "sqlite:////var/lib/ordergate/ledger.db"',
            'url = "sqlite:////run/ordergate/ledger.db"',
            "ledger.url: /run may be emptied, and every pending order with it. Keep the ledger"
            " where data is kept, as in sqlite:////var/lib/ordergate/ledger.db.",
            "",
        ),
        pytest.param(
            "scope_is_static = true\n",
            "",
            "routes[0].scope[0]: a token that is refreshed makes its client's retry look like"
            " another client's: two orders. Take what outlives tokens (a customer's id from a"
            " trusted proxy, a session cookie); if these credentials never change, write"
            " scope_is_static = true.",
            "scope =",
        ),
        pytest.param(
            'scope = ["header:Authorization"]\nscope_is_static = true\n',
            'scope = ["cookie:session", "header:X-Access-Token"]\n',
            "routes[0].scope[1]: a token that is refreshed makes its client's retry look like"
            " another client's: two orders. Take what outlives tokens (a customer's id from a"
            " trusted proxy, a session cookie); if these credentials never change, write"
            " scope_is_static = true.",
            "",
        ),
        pytest.param(
            'scope = ["header:Authorization"]\nscope_is_static = true\n',
            'scope = ["cookie:session", "header:X-Forwarded-For"]\n',
            "routes[0].scope[1]: an address is no client: many share one, and a client on the move"
            " changes its own. Take what says who the customer is, as a session cookie does.",
            "",
        ),
        pytest.param(
            'capability = "lookup"\nlookup = "GET /orders?idempotency_key={key}"',
            'capability = "none"',
            "routes[0].capability: every attempt without an answer waits for a person, and the"
            " gateway calls nobody. Alert on the metric"
            ' ordergate_orders{status="dead_letter"}.',
            "",
        ),
        pytest.param(
            'capability = "lookup"\nlookup = "GET /orders?idempotency_key={key}"',
            'capability = "dedup"\ndedup_for_s = 600',
            "routes[0].dedup_for_s: is over before doubt_within_s (3600): from then on nothing can"
            " settle a doubt. Give doubt_within_s less, so that a person is asked at once; or add"
            " a lookup.",
            "dedup_for_s",
        ),
        pytest.param(
            "settle_s = 30",
            "settle_s = 30\nattach_window_s = 0",
            "routes[0].attach_window_s: at 0, two clicks without a key are two orders. Give some"
            ' seconds, or write key = "require".',
            "attach_window_s",
        ),
        pytest.param(
            "settle_s = 30",
            'settle_s = 30\nnot_processed_when = ["503", "504"]',
            'routes[0].not_processed_when: "504" can also come from a proxy in front of the'
            " upstream, which does not know what became of the order. Leave it out, unless the"
            " upstream alone can say it.",
            "not_processed_when",
        ),
        pytest.param(
            "settle_s = 30",
            'settle_s = 30\nrejected_when = [200, "4xx"]',
            'routes[0].rejected_when: "200" usually says that the order was made, and a rejected'
            " order may be placed again. List it only if the upstream refuses orders so.",
            "rejected_when",
        ),
        pytest.param(
            "answer_within_s = 10",
            "answer_within_s = 120",
            "routes[0].answer_within_s: load balancers and people give up sooner, and see no"
            " answer at all. Give less than 60: a 202 with a status URL is an answer.",
            "",
        ),
        pytest.param(
            'urls = ["http://127.0.0.1:9000"]',
            'urls = ["http://127.0.0.1:9000"]\nidle_s = 30',
            "upstreams[0].idle_s: common servers close a connection that was idle for so long, and"
            " an order sent on it would come into doubt. Give less than the upstream's keep-alive"
            " time: half of it.",
            "idle_s",
        ),
        pytest.param(
            'kind = "plain"',
            'kind = "cached"\nsession_cookies = ["sid"]',
            "routes[1].session_cookies: any other cookie is taken to say nothing of who the client"
            " is. Name every cookie by which the upstream knows a customer.",
            "session_cookies",
        ),
    ],
)
def test_what_is_legal_and_dangerous_is_warned_of(
    tmp_path: Path, right: str, dangerous: str, warning: str, place: str
) -> None:
    path = tmp_path / "ordergate.toml"
    text = GOOD.replace(right, dangerous)
    path.write_text(text, encoding="utf-8")
    at = line_of(text, place or dangerous)
    warnings = [str(each) for each in load_with_warnings(path, {}).warnings]
    assert f"{path}:{at}: {warning}" in warnings


def test_the_right_file_is_not_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "ordergate.toml"
    path.write_text(GOOD, encoding="utf-8")
    assert load_with_warnings(path, {}).warnings == ()


def test_an_open_file_of_secrets_is_warned_of(tmp_path: Path) -> None:
    secrets = tmp_path / "lookup.secret"
    secrets.write_text("Authorization: Bearer x\n")
    path = tmp_path / "ordergate.toml"
    path.write_text(GOOD.replace("settle_s", 'lookup_headers = "lookup.secret"\nsettle_s'))
    secrets.chmod(0o640)
    (warning,) = load_with_warnings(path, {}).warnings
    assert warning.message == (
        "routes[0].lookup_headers: other users of this machine can read the secrets in it."
        f" Let nobody else: chmod 600 {secrets}."
    )
    secrets.chmod(0o600)
    assert load_with_warnings(path, {}).warnings == ()


def test_a_scope_that_outlives_tokens_is_not_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "ordergate.toml"
    for scope in ('"cookie:session"', '"header:X-Customer"', '"header:X-Customer", "cookie:sid"'):
        text = GOOD.replace('"header:Authorization"', scope).replace("scope_is_static = true", "")
        path.write_text(text)
        assert load_with_warnings(path, {}).warnings == ()


def test_an_open_admin_token_is_warned_of(tmp_path: Path) -> None:
    token = tmp_path / "ledger.db.admin-token"
    token.write_text("x" * 30)
    token.chmod(0o644)
    file = tmp_path / "a.toml"
    file.write_text(GOOD.replace("sqlite:////var/lib/ordergate/", f"sqlite:///{tmp_path}/"))
    warnings = [str(each) for each in load_with_warnings(file, {}).warnings]
    assert any("can read the admin token" in each for each in warnings)
    token.chmod(0o600)
    warnings = [str(each) for each in load_with_warnings(file, {}).warnings]
    assert not any("can read the admin token" in each for each in warnings)
