"""What a changed configuration may change while the gateway runs."""

from pathlib import Path

import pytest

from gateway.settings import Settings, load
from gateway.supervisor.reloading import ReloadRefused, needs_restart, reread
from tests.settings.conftest import GOOD


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "ordergate.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, {})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("settle_s = 30", "settle_s = 40"),
        ('match = "POST /orders"', 'match = "POST /purchases"'),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9001"),
        ("[ledger]", "[limits]\nrequests_max = 5\n[ledger]"),
        ("[ledger]", '[log]\nlevel = "debug"\nlevels = { ledger = "error" }\n[ledger]'),
        ("[listen]", "[listen]\ndrain_s = 3\ndrain_delay_s = 1\ntrust_request_id = true"),
        ("[listen]", '[listen]\nencoded_slashes = "pass"'),
    ],
)
def test_what_a_reload_may_change(tmp_path: Path, old: str, new: str) -> None:
    before = settings(tmp_path, GOOD)
    after = settings(tmp_path, GOOD.replace(old, new, 1))
    assert after != before
    assert list(needs_restart(before, after)) == []


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8090", "listen.address"),
        ("127.0.0.1:8081", "127.0.0.1:8091", "listen.admin"),
        ("[listen]", "[listen]\nworkers = 2", "listen.workers"),
        ("ledger.db", "other.db", "ledger.url"),
        ("[ledger]", "[ledger]\nlease_s = 20", "ledger.lease_s"),
        ("[ledger]", '[log]\nformat = "console"\n[ledger]', "log.format"),
    ],
)
def test_what_only_a_start_may_change(tmp_path: Path, old: str, new: str, key: str) -> None:
    before = settings(tmp_path, GOOD)
    changed = settings(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ReloadRefused) as refused:
        reread(lambda: changed, before)
    assert refused.value.reasons == (f"{key} can't change while running: restart",)


def test_a_broken_file_is_refused_with_all_that_is_wrong(tmp_path: Path) -> None:
    before = settings(tmp_path, GOOD)
    path = tmp_path / "ordergate.toml"
    path.write_text(GOOD.replace('capability = "lookup"', 'capability = "luck"'))
    with pytest.raises(ReloadRefused) as refused:
        reread(lambda: load(path, {}), before)
    (reason,) = refused.value.reasons
    assert '"luck" is no capability' in reason
    assert str(path) in reason
