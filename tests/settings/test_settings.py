"""What right settings come to: paths, promises, the table of routes."""

from pathlib import Path

from gateway.orders.promise import Capability, LookupPlan, OutcomeTable, Promise
from gateway.routes import Route, RouteKind
from gateway.settings import Settings, load
from tests.settings.conftest import GOOD


def loaded(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "ordergate.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, {})


def test_a_route_states_its_whole_promise(tmp_path: Path) -> None:
    secret = tmp_path / "lookup.secret"
    secret.write_text("Authorization: Bearer x\n")
    text = GOOD.replace('capability = "lookup"', 'capability = ["lookup", "dedup"]').replace(
        "settle_s = 30",
        "settle_s = 30\ndedup_for_s = 86400\nplace_within_s = 60\ndoubt_within_s = 600\n"
        "attach_window_s = 0\nretention_s = 1000\ntombstone_s = 2000\nanswer_bytes_max = 10\n"
        'lookup_echo = "/key"\nlookup_headers = "lookup.secret"\nanswer_id = "/id"\n'
        'confirmed_when = [201]\nrejected_when = ["422", "409"]\nin_doubt_when = ["4XX"]\n'
        'not_processed_when = ["503"]\nnot_admitted_when = [402]\ninvalidates = ["/orders/*"]\n',
    )
    assert loaded(tmp_path, text).routes[0].promise() == Promise(
        route="place-order",
        upstream="backend",
        capabilities=frozenset({Capability.DEDUP, Capability.LOOKUP}),
        lookup=LookupPlan("GET", "/orders?idempotency_key={key}", "/key", str(secret)),
        outcomes=OutcomeTable(
            confirmed_when=("201",),
            rejected_when=("422", "409"),
            not_admitted_when=("402",),
            not_processed_when=("503",),
            in_doubt_when=("4xx",),
            answer_id="/id",
        ),
        answer_within_s=10,
        attempt_timeout_s=5,
        settle_s=30,
        place_within_s=60,
        doubt_within_s=600,
        attach_window_s=0,
        dedup_for_s=86_400,
        retention_s=1000,
        tombstone_s=2000,
        answer_bytes_max=10,
        invalidates=("/orders/*",),
    )


def test_defaults_are_those_of_the_promise(tmp_path: Path) -> None:
    text = GOOD.replace('capability = "lookup"', 'capability = "none"')
    text = "\n".join(
        line for line in text.splitlines() if "_s =" not in line and "lookup" not in line
    )
    assert loaded(tmp_path, text).routes[0].promise() == Promise("place-order", "backend")


def test_three_slashes_start_from_the_configurations_folder(tmp_path: Path) -> None:
    settings = loaded(tmp_path, GOOD.replace("sqlite:////var/lib", "sqlite:///data"))
    assert settings.ledger.path == tmp_path / "data/ordergate/ledger.db"
    assert settings.ledger.url == f"sqlite:///{settings.ledger.path}"
    assert settings.admin_token_file == tmp_path / "data/ordergate/ledger.db.admin-token"


def test_four_slashes_start_from_the_root(tmp_path: Path) -> None:
    settings = loaded(tmp_path, GOOD)
    assert settings.ledger.path == Path("/var/lib/ordergate/ledger.db")


def test_the_table_of_routes_is_in_the_files_order(tmp_path: Path) -> None:
    table = loaded(tmp_path, GOOD).route_table()
    found = table.find(b"POST", b"/orders?x=1")
    assert isinstance(found, Route)
    assert (found.index, found.name, found.kind) == (0, "place-order", RouteKind.ORDER)
    other = table.find(b"GET", b"/orders")
    assert isinstance(other, Route)
    assert (other.index, other.name, other.kind) == (1, "rest", RouteKind.PLAIN)
