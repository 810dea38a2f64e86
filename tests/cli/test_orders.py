"""``ordergate orders`` against a real gateway whose backend never answers."""

import json
import stat
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, Serving
from tests.ports import free_port


@pytest.fixture
def order_id(serving: Serving, ordergate: Run) -> str:
    """An order whose attempt got no answer: a dead letter, as nobody can be asked about it."""
    request = urllib.request.Request(
        f"{serving.storefront}/orders",
        data=b'{"sku": "a"}',
        headers={"Authorization": "Bearer ann", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        assert response.status == 202
        made: str = json.load(response)["id"]
    wait_until_dead_letter(serving, made)
    return made


def wait_until_dead_letter(serving: Serving, order_id: str) -> None:
    """By long polls of the status URL, each of which ends at a move."""
    for _ in range(20):
        request = urllib.request.Request(
            f"{serving.storefront}/_gateway/orders/{order_id}", headers={"Prefer": "wait=5"}
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            if json.load(response)["status"] == "dead_letter":
                return
    raise AssertionError("still no dead letter")


def parsed(text: str) -> Any:
    return json.loads(text)


def test_an_operator_finds_a_dead_letter_and_settles_it(
    serving: Serving, ordergate: Run, order_id: str
) -> None:
    listed = ordergate("orders", "list", "--config", serving.config)
    assert listed.returncode == 0, listed.stderr
    header, row = listed.stdout.splitlines()
    assert header.split() == ["id", "status", "route", "age", "attempts", "reason"]
    assert row.split()[:3] == [order_id, "dead_letter", "place-order"]
    assert row.split()[-1] == "cannot_reconcile"

    at = ("--admin", serving.admin, "--token-file", serving.token_file)
    shown = ordergate("orders", "show", order_id, *at)
    assert shown.stdout.startswith(f"{order_id}: dead_letter\n")
    assert "(new) -> dispatched  claimed" in shown.stdout
    assert "dispatched -> in_doubt  no_answer" in shown.stdout

    reason = ("--reason", "not in the books", "--operator", "ann")
    settled = ordergate("orders", "resolve", order_id, "failed", *reason, *at)
    assert (settled.returncode, settled.stdout) == (0, f"{order_id} is failed.\n"), settled.stderr

    whole = parsed(ordergate("orders", "show", order_id, *at, "--json").stdout)
    assert whole["status"] == "failed"
    assert whole["timeline"][-1]["who"] == "operator:ann"
    assert whole["timeline"][-1]["reason"] == "operator"

    waiting = ordergate("orders", "list", *at)
    assert (waiting.returncode, waiting.stdout) == (0, "")
    page = parsed(ordergate("orders", "list", "--all", "--json", *at).stdout)
    assert [order["id"] for order in page["orders"]] == [order_id]

    again = ordergate("orders", "resolve", order_id, "confirmed", *reason, *at)
    assert again.returncode == 1
    assert "(409)" in again.stderr
    assert "failed" in again.stderr


def test_what_could_make_a_second_order_is_not_done(
    serving: Serving, ordergate: Run, order_id: str
) -> None:
    at = ("--config", serving.config)
    lookup = ordergate("orders", "lookup", order_id, *at)
    assert (lookup.returncode, lookup.stdout) == (1, "")
    assert "upstream can't be asked. The order is dead_letter (409)." in lookup.stderr
    resend = ordergate("orders", "resend", order_id, *at)
    assert resend.returncode == 1
    assert "one more attempt could make a second order" in resend.stderr


def test_the_same_nonce_is_the_same_action(serving: Serving, ordergate: Run, order_id: str) -> None:
    words = ("--reason", "in the books", "--operator", "ann", "--nonce", "n-1")
    at = ("--config", serving.config)
    for _ in range(2):
        settled = ordergate("orders", "resolve", order_id, "confirmed", *words, *at)
        assert (settled.returncode, settled.stdout) == (0, f"{order_id} is confirmed.\n")
    whole = parsed(ordergate("orders", "show", order_id, *at, "--json").stdout)
    assert [move["nonce"] for move in whole["timeline"]].count("n-1") == 1
    other = ordergate("orders", "resolve", order_id, "failed", *words, *at)
    assert other.returncode == 1
    assert "belongs to another action" in other.stderr


def test_lists_are_filtered(serving: Serving, ordergate: Run, order_id: str) -> None:
    def listed(*options: str) -> list[str]:
        page = ordergate("orders", "list", "--config", serving.config, "--json", *options)
        assert page.returncode == 0, page.stderr
        return [order["id"] for order in parsed(page.stdout)["orders"]]

    assert listed("--route", "place-order", "--upstream", "backend") == [order_id]
    assert listed("--route", "other") == []
    assert listed("--older-than", "2h") == []
    assert listed("--disputed") == []
    odd = ordergate("orders", "list", "--config", serving.config, "--older-than", "soon")
    assert odd.returncode == 2
    assert "90s, 10min, 2h or 3d" in odd.stderr


def test_what_can_not_be_asked_is_said_plainly(
    serving: Serving, ordergate: Run, tmp_path: Path
) -> None:
    at = ("--config", serving.config)
    unknown = ordergate("orders", "show", "nothing/here", *at)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "(404)" in unknown.stderr

    status = ordergate("orders", "list", "--status", "lost", *at)
    assert status.returncode == 1
    assert "dead_letter" in status.stderr

    (tmp_path / "wrong").write_text("guess\n")
    refused = ordergate("orders", "list", *at, "--token-file", tmp_path / "wrong")
    assert refused.returncode == 1
    assert "admin token is missing or wrong" in refused.stderr

    elsewhere = f"http://127.0.0.1:{free_port()}"
    nobody = ordergate("orders", "list", *at, "--admin", elsewhere)
    assert nobody.returncode == 1
    assert nobody.stderr.startswith(f"No gateway answers at {elsewhere} (Connection refused).")

    no_token = ordergate("orders", "list", *at, "--token-file", tmp_path / "none")
    assert no_token.returncode == 1
    assert "The gateway makes it at its first start" in no_token.stderr


@pytest.mark.parametrize(
    "asked",
    [
        ("orders", "list"),
        ("orders", "show", "ID"),
        ("orders", "lookup", "ID"),
        ("orders", "resend", "ID"),
        ("orders", "resolve", "ID", "confirmed", "--reason", "told by phone"),
        ("cache", "show"),
        ("cache", "purge", "--all"),
    ],
    ids=lambda asked: "-".join(asked[:2]),
)
@pytest.mark.parametrize("answer", [b'{"id": 7}', b"[]"], ids=["object", "list"])
def test_who_answers_in_the_place_of_the_admin_listener_is_not_believed(
    ordergate: Run, tmp_path: Path, asked: tuple[str, ...], answer: bytes
) -> None:
    """The storefronts' address by mistake, behind which the shop's backend says 200 to all."""

    class Shop(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_POST(self) -> None:
            self.do_GET()

    (tmp_path / "token").write_text("0123456789012345678901\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as shop:
        threading.Thread(target=shop.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{shop.server_address[1]}"
        done = ordergate(*asked, "--admin", at, "--token-file", tmp_path / "token")
        shop.shutdown()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"What answers at {at} is not Ordergate's admin API: ")


def test_the_token_is_for_its_owner_alone(serving: Serving) -> None:
    assert stat.S_IMODE(serving.token_file.stat().st_mode) == 0o600


def test_without_the_token_there_is_nothing_to_see(serving: Serving) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{serving.admin}/admin/orders", timeout=20)
    assert refused.value.code == 401
    refused.value.close()
