"""The run script, on machines that lack something. Nothing here needs a network."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHELL_SCRIPTS = [ROOT / "run", ROOT / ".ci" / "run"]
TOOLS = ("sh", "cat", "cksum", "readlink", "dirname", "mkdir", "find", "rm")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout in a place with a space in its name, with stand-ins for what it would start."""
    root = tmp_path / "a checkout"
    (root / "requirements").mkdir(parents=True)
    (root / "gateway").mkdir()
    shutil.copy(ROOT / "run", root / "run")
    for name in ("run.txt", "test.txt", "uv.txt"):
        (root / "requirements" / name).touch()
    (root / "gateway" / "__init__.py").touch()
    (root / "gateway" / "__main__.py").write_text(
        "import os, sys\nprint(os.getcwd(), sys.argv[1:])\n"
    )
    return root


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    """A PATH of its own: the system's small tools, and whatever a test adds."""
    path = tmp_path / "bin"
    path.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found
        (path / tool).symlink_to(found)
    return path


def script(path: Path, text: str) -> None:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


def real_python(path: Path) -> None:
    """The interpreter under this test, by another name."""
    base = Path(sysconfig.get_config_var("BINDIR")) / f"python3.{sys.version_info.minor}"
    script(path, f'exec "{base if base.exists() else sys.executable}" "$@"\n')


def stand_in_uv(path: Path) -> None:
    """Installs nothing, successfully, and says so: there is a line for each sync."""
    script(path, 'case "$1" in pip) echo synced >>"$HOME/syncs" ;; esac\n')


def start(
    tree: Path, bin_dir: Path, *arguments: str, cwd: Path | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(tree / "run"), *arguments],
        cwd=cwd or tree,
        env={"PATH": str(bin_dir), "HOME": str(tree)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


def test_no_python_is_said_plainly(tree: Path, bin_dir: Path) -> None:
    code, stdout, stderr = outcome(start(tree, bin_dir, "demo"))
    assert (code, stdout) == (1, "")
    assert "no Python 3.11 or later runs here" in stderr


def test_a_name_on_the_path_that_does_not_run_is_passed_over(tree: Path, bin_dir: Path) -> None:
    script(bin_dir / "python3.13", "echo not installed >&2; exit 127\n")
    real_python(bin_dir / "python3")
    stand_in_uv(bin_dir / "uv")
    code, stdout, stderr = outcome(start(tree, bin_dir, "serve"))
    assert (code, stdout) == (0, f"{tree} ['serve']\n"), stderr


def test_an_old_python_is_not_taken(tree: Path, bin_dir: Path) -> None:
    script(bin_dir / "python3", "exit 1\n")  # what `sys.version_info < (3, 11)` comes to
    code, _, stderr = outcome(start(tree, bin_dir, "serve"))
    assert code == 1
    assert "no Python 3.11" in stderr


def test_a_python_without_venv_support_gets_the_package_named(tree: Path, bin_dir: Path) -> None:
    real_python(bin_dir / "real")
    script(
        bin_dir / "python3",
        'case "$*" in *ensurepip* | *pip*) exit 1 ;; esac\nexec real "$@"\n',
    )
    code, _, stderr = outcome(start(tree, bin_dir, "serve"))
    assert code == 1
    assert "install python3-venv" in stderr


def test_a_warm_start_installs_nothing(tree: Path, bin_dir: Path) -> None:
    real_python(bin_dir / "python3")
    stand_in_uv(bin_dir / "uv")
    outcome(start(tree, bin_dir, "serve"))
    code, _, stderr = outcome(start(tree, bin_dir, "serve"))
    assert (code, stderr) == (0, "")
    assert (tree / "syncs").read_text() == "synced\n"


def test_a_changed_lock_is_installed(tree: Path, bin_dir: Path) -> None:
    real_python(bin_dir / "python3")
    stand_in_uv(bin_dir / "uv")
    outcome(start(tree, bin_dir, "serve"))
    (tree / "requirements" / "run.txt").write_text("# changed\n")
    outcome(start(tree, bin_dir, "serve"))
    assert (tree / "syncs").read_text() == "synced\n" * 2


def test_two_cold_starts_at_once_install_once(tree: Path, bin_dir: Path) -> None:
    real_python(bin_dir / "python3")
    stand_in_uv(bin_dir / "uv")
    both = [start(tree, bin_dir, "serve"), start(tree, bin_dir, "serve")]
    assert [outcome(process)[0] for process in both] == [0, 0]
    assert (tree / "syncs").read_text() == "synced\n"


def test_a_failed_install_is_not_stamped(tree: Path, bin_dir: Path) -> None:
    real_python(bin_dir / "python3")
    script(bin_dir / "uv", 'case "$1" in pip) exit 1 ;; esac\n')
    (tree / "requirements" / "run.txt").write_text("no-such-thing==1 --hash=sha256:00\n")
    code, _, stderr = outcome(start(tree, bin_dir, "serve"))
    assert code == 1
    assert "could not install requirements/run.txt" in stderr
    assert not list((tree / ".venv").glob(".stamp-*"))


def test_arguments_and_directory_are_the_callers(tree: Path, bin_dir: Path, tmp_path: Path) -> None:
    real_python(bin_dir / "python3")
    stand_in_uv(bin_dir / "uv")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "gateway").mkdir(parents=True)
    (elsewhere / "gateway" / "__main__.py").write_text("print('not ours')\n")
    code, stdout, stderr = outcome(start(tree, bin_dir, "check", "a b.toml", cwd=elsewhere))
    assert (code, stdout) == (0, f"{elsewhere} ['check', 'a b.toml']\n"), stderr


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_are_clean(path: Path) -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    if not shellcheck.exists():
        pytest.skip("shellcheck is not in this environment; ./run test brings it")
    report = subprocess.run([shellcheck, path], capture_output=True, text=True, timeout=30)
    assert report.returncode == 0, report.stdout
    assert os.access(path, os.X_OK)
