"""Variables change any setting, and one that names nothing is an error."""

from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Settings, load, load_document
from tests.settings.conftest import GOOD, Problems


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ordergate.toml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_variables_change_what_the_file_says(file: Path) -> None:
    settings = load(
        file,
        {
            "ORDERGATE_LISTEN__ADDRESS": "127.0.0.1:9999",
            "ORDERGATE_LISTEN__TRUST_REQUEST_ID": "true",
            "ORDERGATE_LEDGER__LEASE_S": "20",
            "ORDERGATE_LEDGER__URL": "sqlite:///other.db",
            "ORDERGATE_LOG__LEVEL": "debug",
            "ORDERGATE_LIMITS__REQUESTS_MAX": "7",
            "ORDERGATE_ROUTES__0__SETTLE_S": "1.5",
            "ORDERGATE_ROUTES__0__CAPABILITY": "lookup",
            "ORDERGATE_ROUTES__0__SCOPE": '["cookie:session"]',
            "ORDERGATE_UPSTREAMS__0__URLS": '["http://10.0.0.1:80"]',
            "PATH": "/bin",
        },
    )
    assert settings.listen.address == "127.0.0.1:9999"
    assert settings.listen.trust_request_id is True
    assert settings.ledger.lease_s == 20
    assert settings.ledger.path == file.parent / "other.db"
    assert settings.log.level == "debug"
    assert settings.limits.requests_max == 7
    assert settings.routes[0].settle_s == 1.5
    assert settings.routes[0].scope == ("cookie:session",)
    assert settings.upstreams[0].url == "http://10.0.0.1:80"


def test_a_whole_list_may_be_given_as_json() -> None:
    route = '[{"name": "a", "match": "* /**", "kind": "plain", "upstream": "b"}]'
    settings = load(
        None,
        {
            "ORDERGATE_UPSTREAMS": '[{"name": "b", "urls": ["http://b:1"]}]',
            "ORDERGATE_ROUTES": route,
            "ORDERGATE_ROUTES__0__MATCH": "* /a/**",
        },
    )
    assert [(route.name, route.match) for route in settings.routes] == [("a", "* /a/**")]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        pytest.param(
            "ORDERGATE_LISTEN_ADDRESS",
            "127.0.0.1:1",
            "there is no such setting. Did you mean ORDERGATE_LISTEN__ADDRESS?",
        ),
        pytest.param(
            "ordergate_listen__address",
            "127.0.0.1:1",
            "there is no such setting. Did you mean ORDERGATE_LISTEN__ADDRESS?",
        ),
        pytest.param(
            "ORDERGATE_LEDGER__LEASE",
            "10",
            "there is no such setting. Did you mean ORDERGATE_LEDGER__LEASE_S?",
        ),
        pytest.param(
            "ORDERGATE_ROUTES__0__SETLE_S",
            "10",
            "there is no such setting. Did you mean ORDERGATE_ROUTES__0__SETTLE_S?",
        ),
        pytest.param(
            "ORDERGATE_ROUTES__2__SETTLE_S",
            "10",
            "there is no routes[2]. An environment variable changes what the file has; it adds no"
            " part to a list.",
        ),
        pytest.param(
            "ORDERGATE_LISTEN__ADDRESS",
            "8080",
            '"8080" is no address. Name the host too: "127.0.0.1:8080".',
        ),
        pytest.param(
            "ORDERGATE_ROUTES__0__SETTLE_S",
            "30s",
            'routes[0].settle_s: "30s" is not a number. Give a number of seconds: 30.',
        ),
        pytest.param(
            "ORDERGATE_LISTEN__TRUST_REQUEST_ID",
            "yes",
            '"yes" is neither true nor false. Write true or false, no quotes.',
        ),
        pytest.param(
            "ORDERGATE_LISTEN__ADMIN",
            "127.0.0.1:8080",
            "storefronts and operators would share 127.0.0.1:8080. Give the operators a port of"
            " their own, which storefronts can't reach.",
        ),
    ],
)
def test_a_wrong_variable_is_told_by_its_name(
    problems: Problems, name: str, value: str, problem: str
) -> None:
    assert problems(GOOD, {name: value}) == [f"environment: {name}: {problem}"]


def test_a_name_like_no_other_gets_the_list(problems: Problems) -> None:
    (problem,) = problems(GOOD, {"ORDERGATE_QQQ": "1"})
    assert problem.startswith("environment: ORDERGATE_QQQ: there is no such setting. What there")
    assert "ORDERGATE_LEDGER__URL" in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ORDERGATE_SERVICE_HOST", "10.0.0.1"),
        ("ORDERGATE_SERVICE_PORT", "8080"),
        ("ORDERGATE_ADMIN_SERVICE_PORT_HTTP", "8081"),
        ("ORDERGATE_PORT", "tcp://10.0.0.1:8080"),
        ("ORDERGATE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("ORDERGATE_PORT_8080_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_what_kubernetes_makes_of_a_service_named_ordergate_is_told(
    problems: Problems, name: str, value: str
) -> None:
    (problem,) = problems(GOOD, {name: value})
    assert problem == (
        f"environment: {name}: there is no such setting. Kubernetes makes it of a Service: write"
        " enableServiceLinks: false in the pod's spec."
    )


def test_a_port_that_somebody_set_is_no_service(problems: Problems) -> None:
    (problem,) = problems(GOOD, {"ORDERGATE_PORT": "8080"})
    assert "Kubernetes" not in problem


def test_the_given_document_is_left_as_it_was() -> None:
    document: dict[str, Any] = {
        "upstreams": [{"name": "b", "urls": ["http://b:1"]}],
        "routes": [{"name": "a", "match": "* /**", "kind": "plain", "upstream": "b"}],
    }
    load_document(document, {"ORDERGATE_ROUTES__0__MATCH": "* /a"}, origin="here")
    assert document["routes"][0]["match"] == "* /**"


def every_variable() -> list[str]:
    names = []
    for section, field in Settings.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and hasattr(model, "model_fields"):
            names += [f"ORDERGATE_{section}__{name}".upper() for name in model.model_fields]
    return names


@pytest.mark.parametrize("name", every_variable())
def test_every_setting_is_a_variable(problems: Problems, name: str) -> None:
    assert "there is no such setting" not in "".join(problems(GOOD, {name: "x"}))
