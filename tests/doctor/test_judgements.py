"""What the doctor says of what it measured: each threshold from both sides."""

import os
import socket
from pathlib import Path

import pytest

from gateway.doctor.disk import (
    disk,
    file_system,
    in_the_way,
    nearest_folder,
    space,
    sync_times,
    syncs,
)
from gateway.doctor.findings import Diagnosis, Level
from gateway.doctor.ledger import is_missing, ledger, secret_file
from gateway.doctor.machine import Clocks, clocks, files_needed, limits, listeners, versions
from gateway.doctor.upstreams import Asked, judged
from gateway.ledger import Counts
from gateway.orders.attempts import Answer
from gateway.orders.lookups import NoEvidence, NoEvidenceReason
from gateway.orders.promise import LookupPlan
from gateway.orders.states import Status
from gateway.settings import load_document
from gateway.stores.sqlite_host import HostFacts
from gateway.stores.sqlite_look import LedgerLook
from tests.cli.conftest import closed_to_us

OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM
HOST = HostFacts("machine", "boot", "", "3.51.3")
MIB = 1024**2


def levels(*found: Diagnosis) -> list[Level]:
    """The levels; and everything that is not well says what to do."""
    assert all(each.advice for each in found if each.level is not OK)
    return [each.level for each in found]


def statvfs(free_bytes: int, inodes: int = 100_000, files: int = 200_000) -> os.statvfs_result:
    blocks = free_bytes // 4096
    return os.statvfs_result((4096, 4096, 10**9, blocks, blocks, files, inodes, inodes, 0, 255))


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("ext4", OK),
        ("", OK),
        ("tmpfs", PROBLEM),
        ("nfs4", PROBLEM),
        ("overlay", WARNING),
    ],
)
def test_a_file_system_that_forgets_or_is_shared_is_told(kind: str, level: Level) -> None:
    assert levels(file_system(kind, Path("/x"))) == [level]


@pytest.mark.parametrize(
    ("stat", "level"),
    [
        (statvfs(2048 * MIB), OK),
        (statvfs(1000 * MIB), WARNING),
        (statvfs(100 * MIB), PROBLEM),
        (statvfs(2048 * MIB, inodes=3), PROBLEM),
        (statvfs(2048 * MIB, inodes=0, files=0), OK),  # a file system that counts none (btrfs)
    ],
)
def test_a_disk_that_fills_up_is_told(stat: os.statvfs_result, level: Level) -> None:
    assert levels(space(stat)) == [level]


@pytest.mark.parametrize(
    ("taken", "level"),
    [
        ([0.004] * 50, OK),
        ([1e-6] * 50, WARNING),
        ([0.06] * 50, WARNING),
        ([0.6] * 50, PROBLEM),
        ([0.004] * 49 + [0.7], WARNING),
        ([0.004] * 49 + [1.5], PROBLEM),
    ],
)
def test_syncs_that_are_slow_or_too_good_to_be_true_are_told(
    taken: list[float], level: Level
) -> None:
    found = syncs(taken)
    assert levels(found) == [level]
    assert found.measured["sync_p50_s"] == taken[0]


def test_syncs_are_really_made_and_leave_nothing(tmp_path: Path) -> None:
    taken = sync_times(tmp_path, 5)
    assert len(taken) == 5
    assert all(seconds > 0 for seconds in taken)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert levels(*disk(tmp_path / "data" / "ledger.db", HOST)) == [PROBLEM]


def test_the_nearest_folder_is_one_that_exists(tmp_path: Path) -> None:
    assert nearest_folder(tmp_path / "a" / "b" / "ledger.db") == tmp_path
    assert nearest_folder(tmp_path / "ledger.db") == tmp_path


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (Clocks(1000, 1000, 1.8e9), [OK, OK]),
        (Clocks(1000, 400, 1.8e9), [WARNING, OK]),
        (Clocks(1000, 1000, 5e8), [OK, PROBLEM]),
        (Clocks(1000, 1000, 1.8e9, 1.8e9 + 1), [OK, OK]),
        (Clocks(1000, 1000, 1.8e9, 1.8e9 + 3600), [OK, WARNING]),
        (Clocks(1000, 1000, 1.8e9, 1.8e9 - 3600), [OK, WARNING]),
    ],
)
def test_clocks_that_sleep_or_jump_are_told(read: Clocks, expected: list[Level]) -> None:
    assert levels(*clocks(read, HOST)) == expected


def test_a_machine_without_a_name_is_told() -> None:
    nameless = HostFacts("", "", "", "3.51.3")
    assert levels(*clocks(Clocks(9, 9, 1.8e9), nameless)) == [OK, OK, PROBLEM, WARNING]


def test_an_sqlite_that_can_corrupt_is_a_problem() -> None:
    found = [each for each in versions(HostFacts("m", "b", "", "3.46.1")) if "SQLite" in each.text]
    assert levels(*found) == [PROBLEM]


def test_open_files_are_held_against_what_full_load_takes() -> None:
    document = {
        "upstreams": [{"name": "backend", "urls": ["http://127.0.0.1:9"], "connections_max": 1000}],
        "routes": [{"name": "a", "match": "* /**", "kind": "plain", "upstream": "backend"}],
    }
    settings = load_document(document, {}, origin="test").settings
    needed = files_needed(settings)
    assert needed > 11_000
    assert levels(limits(settings, needed)) == [OK]
    assert levels(limits(settings, needed - 1)) == [WARNING]
    assert levels(limits(settings, 1024)) == [PROBLEM]


def test_an_address_that_is_taken_is_a_problem_unless_a_gateway_runs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        document = {
            "listen": {"address": f"127.0.0.1:{taken.getsockname()[1]}", "admin": "192.0.2.1:1"},
            "upstreams": [{"name": "backend", "urls": ["http://127.0.0.1:9"]}],
            "routes": [{"name": "a", "match": "* /**", "kind": "plain", "upstream": "backend"}],
        }
        settings = load_document(document, {}, origin="test").settings
        assert levels(*listeners(settings, is_running=False)) == [PROBLEM, PROBLEM]
        assert levels(*listeners(settings, is_running=True)) == [OK, PROBLEM]
    assert levels(*listeners(settings, is_running=False)) == [OK, PROBLEM]


def look(**more: object) -> LedgerLook:
    facts: dict[str, object] = {
        "schema": 2,
        "counts": Counts(made=2, removed=0, by_status={Status.CONFIRMED: 2}),
        "machine_id": "machine",
        "boot_id": "boot",
        "now": 1000.0,
        "holders": (7,),
        "damage": "",
        "check_s": 0.001,
        "file_bytes": 65_536,
        "log_bytes": 0,
    }
    return LedgerLook(**(facts | more))  # type: ignore[arg-type]


def not_well(found: LedgerLook, *, adopt: bool = False) -> list[tuple[Level, str]]:
    diagnoses = list(ledger(found, HOST, adopt=adopt))
    levels(*diagnoses)
    return [(each.level, each.text) for each in diagnoses if each.level is not OK]


def test_a_sound_ledger_is_well() -> None:
    assert not_well(look()) == []
    assert not_well(look(boot_id="earlier", holders=())) == []


def test_what_is_wrong_with_a_ledger_is_told() -> None:
    assert not_well(look(damage="row 3 missing")) == [(PROBLEM, "it is damaged: row 3 missing")]
    foreign = look(boot_id="other", machine_id="other", holders=())
    assert [level for level, _ in not_well(foreign)] == [PROBLEM]
    assert [level for level, _ in not_well(foreign, adopt=True)] == [WARNING]
    lost = look(counts=Counts(made=3, removed=0, by_status={Status.CONFIRMED: 2}))
    assert [level for level, _ in not_well(lost)] == [PROBLEM]
    assert [level for level, _ in not_well(look(log_bytes=2**30))] == [WARNING]


@pytest.mark.parametrize(
    ("mark", "taken_over"),
    [("backup", WARNING), ("moving", WARNING), ("moved", WARNING), ("arriving", PROBLEM)],
)
def test_a_backup_or_an_end_of_a_move_in_the_place_of_the_ledger_is_told(
    mark: str, taken_over: Level
) -> None:
    """As the start has it: refused, and with ``adopt = true`` taken over, but for half a copy."""
    marked = look(machine_id=f"{mark}:2026-11-26T17:50:11+00:00", boot_id="", holders=())
    assert [level for level, _ in not_well(marked)] == [PROBLEM]
    assert [level for level, _ in not_well(marked, adopt=True)] == [taken_over]


def test_what_waits_in_a_ledger_is_told() -> None:
    counted = {Status.IN_DOUBT: 2, Status.DEAD_LETTER: 3}
    counts = Counts(5, 0, counted, disputed=1, oldest_pending_at=10, oldest_dead_letter_at=900.0)
    assert not_well(look(counts=counts, holders=())) == [
        (WARNING, "2 orders are pending and no gateway holds the ledger"),
        (WARNING, "3 dead letters wait for a person, the oldest for 100 s"),
        (WARNING, "1 settled orders are disputed: evidence contradicts the outcome"),
    ]


def test_a_folder_of_another_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd's DynamicUser has it: /var/lib/private/ordergate, and the doctor's user is none
    of the gateway's."""
    path = tmp_path / "private" / "ordergate" / "ledger.db"
    path.parent.mkdir(parents=True)
    closed_to_us(tmp_path / "private", monkeypatch)
    assert nearest_folder(path) == tmp_path / "private"
    assert not in_the_way(path)
    assert not is_missing(path)
    assert levels(secret_file(path, "the ledger", "ledger")) == [PROBLEM]
    assert is_missing(tmp_path / "other.db")


def test_a_secret_that_others_can_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert levels(secret_file(path, "secret", "x")) == [PROBLEM]
    path.write_text("x")
    path.chmod(0o644)
    assert levels(secret_file(path, "secret", "x")) == [WARNING]
    path.chmod(0o600)
    assert levels(secret_file(path, "secret", "x")) == [OK]


PLAN = LookupPlan("GET", "/orders?key={key}", "/key")


def answer(status: int, body: bytes) -> Answer:
    return Answer(status, b"", (), body)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (answer(200, b"[]"), [OK]),
        (answer(404, b""), [WARNING]),
        (answer(200, b'[{"key": "random"}]'), [PROBLEM]),
        (answer(200, b'[{"key": "other"}]'), [PROBLEM]),
        (answer(200, b"<html>"), [PROBLEM]),
        (answer(401, b""), [PROBLEM]),
        (answer(500, b""), [PROBLEM]),
        (NoEvidence(NoEvidenceReason.NO_ANSWER), [PROBLEM]),
        (NoEvidence(NoEvidenceReason.NOT_SENT, "connect_refused"), [PROBLEM]),
    ],
)
def test_only_an_absent_random_key_lets_a_lookup_be_believed(
    said: Answer | NoEvidence, expected: list[Level]
) -> None:
    assert levels(*judged("route a", Asked(PLAN, "random", said, 0.01))) == expected


def test_a_slow_lookup_is_told() -> None:
    found = list(judged("route a", Asked(PLAN, "random", answer(200, b"[]"), 3.0)))
    assert levels(*found) == [OK, WARNING]
