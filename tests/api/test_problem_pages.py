"""Every problem type that the code can tell has a page, and every page a problem."""

import re
from pathlib import Path

from gateway.pages.problems import PROBLEMS, problem_page
from middleware.problems import ProblemType
from tests.scenarios.conftest import OpenShop, open_shop

__all__ = ["open_shop"]

ROOT = Path(__file__).parents[2]
SOURCES = [*ROOT.glob("gateway/**/*.py"), *ROOT.glob("middleware/**/*.py")]
SLUG = re.compile(r'(?:Problem\(\s*\d{3},|_trouble\()\s*"([a-z-]+)"')


def test_every_problem_has_a_page() -> None:
    told = {slug for file in SOURCES for slug in SLUG.findall(file.read_text())}
    told |= {kind.value for kind in ProblemType}
    assert "ledger-unavailable" in told
    assert told == set(PROBLEMS)


def test_a_page_says_what_to_do() -> None:
    page = problem_page("key-mismatch")
    assert page is not None
    assert b"new key" in page
    assert problem_page("nonsense") is None


async def test_the_type_of_a_problem_leads_to_its_page(open_shop: OpenShop) -> None:
    shop = await open_shop()
    told = await shop.order("")
    page = await shop.ask("GET", shop.url + told.json["type"])
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    missing = await shop.ask("GET", f"{shop.url}/_gateway/problems/nonsense")
    assert missing.status == 404
