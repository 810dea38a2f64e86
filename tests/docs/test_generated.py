"""The pages that are written from the code are what the code is."""

from pathlib import Path

from gateway.pages import reference as problems
from gateway.settings import reference as settings

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_setting_is_described() -> None:
    assert settings.undescribed() == []


def test_the_configuration_reference_is_current() -> None:
    written = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert written == settings.reference().rstrip() + "\n", (
        "python -m gateway.settings.reference > docs/configuration.md"
    )


def test_the_page_of_problems_is_current() -> None:
    written = (DOCS / "problems.md").read_text(encoding="utf-8")
    assert written == problems.reference().rstrip() + "\n", (
        "python -m gateway.pages.reference > docs/problems.md"
    )


def test_every_problem_has_a_status() -> None:
    told = problems.statuses()
    assert told["key-mismatch"] == (422,)
    assert told["ledger-unavailable"] == (503,)
    assert [slug for slug, codes in told.items() if not codes] == ["http-error"]
