"""What the settings of shared answers may say, and with which ledger."""

from pathlib import Path

import pytest

from gateway.settings import SettingsInvalid, load_with_warnings

FILE = """
[listen]
address = "127.0.0.1:8080"
admin = "127.0.0.1:8081"
[ledger]
url = "{ledger}"
[cache]
{cache}
[[upstreams]]
name = "backend"
urls = ["http://127.0.0.1:9000"]
[[routes]]
name = "all"
match = "* /**"
kind = "cached"
upstream = "backend"
"""
LEDGER = "valkey://127.0.0.1:6379"
SHARED = 'shared_url = "valkey://127.0.0.1:6380"\n'


def problems(folder: Path, cache: str, ledger: str = LEDGER) -> list[str]:
    file = folder / "ordergate.toml"
    file.write_text(FILE.format(ledger=ledger, cache=cache))
    try:
        warnings = load_with_warnings(file, {}).warnings
    except SettingsInvalid as invalid:
        return [str(each) for each in invalid.problems]
    return [f"warning: {each}" for each in warnings]


def test_a_server_of_its_own_is_fine(tmp_path: Path) -> None:
    found = problems(tmp_path, SHARED)
    assert [each for each in found if "cache." in each] == []


@pytest.mark.parametrize(
    ("cache", "ledger", "wrong"),
    [
        ('shared_url = "http://127.0.0.1"', LEDGER, "cache.shared_url: this is no ledger on"),
        (SHARED, "sqlite:///ledger.db", "cache.shared_url: gateways on an SQLite ledger have"),
        (
            SHARED + "shared_object_bytes_max = 16777216",
            LEDGER,
            "cache.shared_object_bytes_max: only 8388608 bytes of shared_bytes_max are there",
        ),
        ('shared_ca_file = "ca.pem"', LEDGER, "cache.shared_ca_file: nothing is shared"),
        (
            SHARED + 'shared_ca_file = "ca.pem"',
            LEDGER,
            "cache.shared_ca_file: without TLS no certificate is looked at",
        ),
        (
            SHARED + 'shared_sentinel_password_file = "secret"',
            LEDGER,
            "cache.shared_sentinel_password_file: there are no Sentinels here",
        ),
        (
            SHARED.replace("127", "eva@127"),
            LEDGER,
            "cache.shared_url: the user eva has no password",
        ),
        (
            SHARED.replace("6380", "6379"),
            LEDGER,
            "cache.shared_url: answers and orders share a server's memory",
        ),
    ],
)
def test_what_would_not_work_is_said(tmp_path: Path, cache: str, ledger: str, wrong: str) -> None:
    found = problems(tmp_path, cache, ledger)
    assert any(wrong in each for each in found), found
