"""deploy/Dockerfile, without a Docker engine: hadolint reads it, and what it says is tried."""

import fnmatch
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.settings import load_with_warnings
from tests.deploy.replicas import DEPLOY, Replica

ROOT = DEPLOY.parent
DOCKERFILE = DEPLOY / "Dockerfile"


@dataclass(frozen=True)
class Instruction:
    stage: int
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        return [word for word in self.text.split() if not word.startswith("--")]


def instructions() -> list[Instruction]:
    """The Dockerfile's instructions, continued lines joined; stages are counted from 1."""
    lines = DOCKERFILE.read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    found, stage = [], 0
    for line in text.replace("\\\n", " ").splitlines():
        name, _, rest = line.strip().partition(" ")
        stage += name == "FROM"
        if name:
            found.append(Instruction(stage, name, " ".join(rest.split())))
    return found


INSTRUCTIONS = instructions()
LAST_STAGE = INSTRUCTIONS[-1].stage


def only(name: str) -> Instruction:
    """The one instruction of that name in the last stage."""
    (found,) = (each for each in INSTRUCTIONS if (each.stage, each.name) == (LAST_STAGE, name))
    return found


def environment() -> dict[str, str]:
    return dict(word.split("=", 1) for word in only("ENV").words)


def test_hadolint_has_no_objection() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not in this environment; ./run test brings it on Linux")
    report = subprocess.run(
        [hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, timeout=30
    )
    assert report.returncode == 0, report.stdout


def test_the_image_is_made_in_stages_and_only_the_venv_and_the_code_are_kept() -> None:
    assert LAST_STAGE == 2
    kept = [each for each in INSTRUCTIONS if each.stage == LAST_STAGE and each.name == "COPY"]
    assert all(each.text.startswith("--from=build") for each in kept)
    assert not [each for each in INSTRUCTIONS if each.stage == LAST_STAGE and each.name == "RUN"]


def test_everything_is_installed_by_hash_and_nothing_is_built() -> None:
    (install,) = (each for each in INSTRUCTIONS if "install" in each.words and "pip" in each.words)
    assert {"--require-hashes", "--only-binary"} < set(install.text.split())
    assert "://" not in DOCKERFILE.read_text().replace("http://127.0.0.1", "")


def test_the_gateway_does_not_run_as_root_and_gets_sigterm() -> None:
    user, group = only("USER").text.split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert only("STOPSIGNAL").text == "SIGTERM"
    assert only("ENTRYPOINT").text.startswith("[")  # no shell between the signal and the gateway


def test_only_the_ledgers_folder_is_a_volume() -> None:
    """The image runs with --read-only: the copied configuration writes nowhere else."""
    loaded = load_with_warnings(DEPLOY / "ordergate.toml", environment_of_settings())
    volume = Path(only("VOLUME").text)
    assert loaded.settings.ledger.path.parent == volume
    assert loaded.settings.admin_token_file.parent == volume


def environment_of_settings() -> dict[str, str]:
    return {name: value for name, value in environment().items() if name.startswith("ORDERGATE_")}


def test_the_images_settings_are_settings() -> None:
    listen = load_with_warnings(
        DEPLOY / "ordergate.toml", environment_of_settings()
    ).settings.listen
    assert listen.address == "0.0.0.0:8080"
    assert listen.admin == "127.0.0.1:8081"
    assert listen.drain_delay_s == 5


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    copied = [each for each in INSTRUCTIONS if each.name == "COPY" and "--from" not in each.text]
    assert copied
    for source in (word for each in copied for word in each.words[:-1]):
        assert (ROOT / source).exists(), source
        assert not is_ignored(source, rules), source
    for secret in (".git/config", "ledger.db", ".venv/bin/python", "gateway/cli/__pycache__/a.pyc"):
        assert is_ignored(secret, rules), secret


def is_ignored(path: str, rules: list[str]) -> bool:
    """As Docker reads .dockerignore: the last rule that names the path or a parent of it."""
    parents = ["/".join(path.split("/")[:count]) for count in range(1, path.count("/") + 2)]
    ignored = False
    for rule in rules:
        pattern = rule.removeprefix("!").removeprefix("**/")
        named = parents if rule.removeprefix("!") == pattern else path.split("/")
        if any(fnmatch.fnmatchcase(each, pattern) for each in named if _as_deep(each, pattern)):
            ignored = not rule.startswith("!")
    return ignored


def _as_deep(path: str, pattern: str) -> bool:
    return path.count("/") == pattern.count("/")


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[Replica]:
    replica = Replica(tmp_path, "a", backend=9)  # nobody is there, and nobody need be
    yield replica
    await replica.stop()


async def test_the_health_check_sees_a_gateway_that_lives_and_one_that_does_not(
    replica: Replica,
) -> None:
    await replica.start()
    admin = f"127.0.0.1:{replica.admin}"
    assert health(admin) == 0
    await replica.kill()
    assert health(admin) != 0


def health(admin: str) -> int:
    command = json.loads(only("HEALTHCHECK").text.partition("CMD ")[2])
    assert command[0] == "python"
    done = subprocess.run(
        [sys.executable, *command[1:]],
        env=os.environ | {"ORDERGATE_LISTEN__ADMIN": admin},
        capture_output=True,
        timeout=10,
    )
    return done.returncode
