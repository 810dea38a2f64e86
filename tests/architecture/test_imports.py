"""The import contracts of pyproject.toml hold, and can break."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINT_IMPORTS = "from importlinter.cli import lint_imports_command as lint; lint()"


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter as ``./run lint`` does, without its cache."""
    return subprocess.run(
        [sys.executable, "-c", LINT_IMPORTS, "--no-cache"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_imports_point_down() -> None:
    report = lint_imports(ROOT)
    assert report.returncode == 0, report.stdout


def test_an_import_that_points_up_is_found(tmp_path: Path) -> None:
    report = lint_imports(stub_tree(tmp_path, rule="import gateway.cli\n"))
    assert report.returncode == 1
    assert "gateway imports middleware, never the reverse BROKEN" in report.stdout


def test_a_rule_that_reads_the_clock_is_found(tmp_path: Path) -> None:
    report = lint_imports(stub_tree(tmp_path, rule="import time\n"))
    assert report.returncode == 1
    assert "Rules are pure" in report.stdout
    assert "middleware.caching.rules -> time" in report.stdout


def test_a_room_without_a_layer_is_found(tmp_path: Path) -> None:
    root = stub_tree(tmp_path, rule="")
    (root / "gateway" / "helpers.py").touch()
    report = lint_imports(root)
    assert report.returncode == 1
    assert "gateway.helpers" in report.stdout


def stub_tree(root: Path, rule: str) -> Path:
    """The smallest tree that keeps every contract, with ``rule`` as a pure module's text."""
    (root / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for module in [*named_modules(), "gateway.cli", "middleware.caching.rules"]:
        add_module(root, module)
    (root / "middleware" / "caching" / "rules.py").write_text(rule)
    return root


def named_modules() -> list[str]:
    """Every module of ours that a contract forbids something to: it has to exist."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    named = [name for each in contracts for name in each.get("source_modules", ())]
    return [name for name in named if "*" not in name]


def add_module(root: Path, name: str) -> None:
    """An empty package of that name, in empty packages."""
    folder = root
    for part in name.split(".")[:-1]:
        folder = folder / part
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
    if not (folder / name.rpartition(".")[2]).is_dir():
        (folder / f"{name.rpartition('.')[2]}.py").touch()
