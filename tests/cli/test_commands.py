"""Commands that need no gateway: version, check, and what misuse gets."""

import json
import socket
from pathlib import Path

import pytest

from gateway import __version__
from gateway.cli import document_for
from gateway.settings import load_document
from tests.cli.conftest import CONFIGURATION, ROOT, Run

EXAMPLE = ROOT / "deploy" / "ordergate.toml"
GOOD = CONFIGURATION.format(admin_port=8081, backend_port=9000)


def test_the_version_is_printed(ordergate: Run) -> None:
    done = ordergate("--version")
    assert (done.returncode, done.stdout) == (0, f"ordergate {__version__}\n")


def test_a_right_file_is_ok(ordergate: Run, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(EXAMPLE.read_text())
    done = ordergate("check", "a.toml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "OK\n", "")


def test_dangers_are_shown_and_do_not_fail(ordergate: Run, tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("settle_s = 30 ", "settle_s = 3 ")
    (tmp_path / "a.toml").write_text(text)
    done = ordergate("check", "a.toml")
    assert done.returncode == 0
    assert done.stdout == (
        "a.toml:26: warning: routes[0].settle_s: is shorter than attempt_timeout_s (5): what the"
        " gateway still waits for would count as settled. Give more than the upstream's queueing,"
        " processing and lookup lag together.\nOK\n"
    )


def test_every_problem_is_printed_with_its_place(ordergate: Run, tmp_path: Path) -> None:
    text = GOOD.replace('kind = "order"', 'kind = "ordr"').replace("settle_s = 0.3", "setle_s = 1")
    (tmp_path / "a.toml").write_text(text)
    done = ordergate("check", "a.toml", ORDERGATE_LISTN__ADDRESS="x")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        (
            'a.toml:15: routes[0].kind: "ordr" is not one of order, cached, plain. Did you mean'
            ' "order"?'
        ),
        "a.toml:21: routes[0].setle_s: there is no such setting. Did you mean settle_s?",
        (
            "environment: ORDERGATE_LISTN__ADDRESS: there is no such setting. Did you mean"
            " ORDERGATE_LISTEN__ADDRESS?"
        ),
    ]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("host", ["127.0.0.1", "gateway.invalid"])
def test_serve_names_the_addresses_where_one_can_not_be_used(
    ordergate: Run, tmp_path: Path, host: str, workers: str
) -> None:
    (tmp_path / "a.toml").write_text(GOOD)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"{host}:{taken.getsockname()[1]}"
        variables = {"ORDERGATE_LISTEN__ADDRESS": address, "ORDERGATE_LISTEN__WORKERS": workers}
        done = ordergate("serve", "--config", "a.toml", **variables)
    assert done.returncode == 3
    (event,) = [json.loads(line) for line in done.stderr.splitlines() if "can not be used" in line]
    assert event["event"] == "an address can not be used"
    assert (event["address"], event["admin"]) == (address, "127.0.0.1:8081")
    assert "listen.address" in event["advice"]


def test_serve_refuses_a_wrong_file_with_all_its_problems(ordergate: Run, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GOOD.replace('"none"', '"non"').replace("5", '"5s"'))
    done = ordergate("serve", "--config", "a.toml")
    assert done.returncode == 2
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [
        "routes[0].capability",
        "routes[0].answer_within_s",
    ]


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        pytest.param(
            ["serve"],
            'write --config FILE, or --upstream URL and --orders "POST /orders"',
            id="serve what",
        ),
        pytest.param(
            ["serve", "--upstream", "http://127.0.0.1:1"],
            'write --config FILE, or --upstream URL and --orders "POST /orders"',
            id="serve without order routes",
        ),
        pytest.param(
            ["serve", "--config", "a", "--upstream", "http://127.0.0.1:1"],
            "the file says it already: leave out --upstream and --orders",
            id="serve both",
        ),
        pytest.param(
            ["serve", "--upstream", "localhost:1", "--orders", "POST /orders"],
            'command line: upstreams[0].urls[0]: "localhost:1" is no upstream\'s address.',
            id="serve a wrong upstream",
        ),
        pytest.param(
            ["serve", "--upstream", "http://127.0.0.1:1", "--orders", "/orders"],
            'command line: routes[0].match: "/orders" is no pattern.',
            id="serve a wrong match",
        ),
        pytest.param(["check"], "Missing argument", id="check what"),
        pytest.param(["serv"], "No such command 'serv'", id="no such command"),
        pytest.param(["demo", "--capability", "all"], "is not one of 'dedup'", id="demo"),
        pytest.param(["demo", "--seconds", "0"], "greater than or equal to 1", id="demo seconds"),
        pytest.param(
            ["demo", "--ledger", "sqlite:///x.db"],
            'this is no ledger on Valkey or Redis; as in "valkey://127.0.0.1:6379"',
            id="demo on a file",
        ),
        pytest.param(
            ["orders", "list"],
            "write --config FILE, or --admin URL and --token-file FILE",
            id="orders of whom",
        ),
        pytest.param(
            ["orders", "show", "x", "--admin", "ftp://a", "--token-file", "t"],
            "'ftp://a' is no admin address; write http://127.0.0.1:8081",
            id="orders at a wrong address",
        ),
        pytest.param(
            ["orders", "resolve", "x", "done", "--reason", "y"],
            "'done' is not one of 'confirmed', 'rejected', 'failed'",
            id="resolve to what",
        ),
        pytest.param(["orders", "resolve", "x", "failed"], "--reason", id="resolve why"),
    ],
)
def test_misuse_exits_2_and_says_what_to_do(
    ordergate: Run, arguments: list[str], advice: str
) -> None:
    done = ordergate(*arguments)
    assert done.returncode == 2, done.stdout
    assert advice in done.stderr


def test_without_a_file_nothing_is_taken_for_granted() -> None:
    document = document_for("http://127.0.0.1:9000", ["POST /orders", "PUT /carts/*/order"])
    settings = load_document(document, {}, origin="command line").settings
    assert [(route.name, route.kind) for route in settings.routes] == [
        ("orders-1", "order"),
        ("orders-2", "order"),
        ("rest", "plain"),
    ]
    assert {route.capability for route in settings.order_routes} == {()}
