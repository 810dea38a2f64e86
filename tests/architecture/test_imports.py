"""The import contracts of pyproject.toml hold, and can break."""

import subprocess
import sys
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
    for package in ("gateway", "gateway/orders", "middleware", "middleware/caching"):
        (root / package).mkdir()
        (root / package / "__init__.py").touch()
    for room in ("cli", "routes", "touched", "placement", "sending", "reconciler", "lookup"):
        (root / "gateway" / f"{room}.py").touch()
    (root / "middleware" / "caching" / "rules.py").write_text(rule)
    return root
