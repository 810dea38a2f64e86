"""What the README tells people to copy is what was tried."""

from pathlib import Path

from gateway.settings import load_with_warnings

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "deploy" / "ordergate.toml"


def test_the_configuration_to_copy_is_right() -> None:
    loaded = load_with_warnings(EXAMPLE, {})
    assert [route.name for route in loaded.settings.order_routes] == ["place-order"]
    assert loaded.warnings == ()


def test_the_readme_shows_the_configuration_to_copy() -> None:
    readme = (ROOT / "README.md").read_text()
    assert f"```toml\n{EXAMPLE.read_text()}```" in readme
