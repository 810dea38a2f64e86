"""``ordergate cache`` against a real gateway."""

import json

from tests.cli.conftest import Run, Serving


def test_an_operator_sees_and_purges_the_cache(serving: Serving, ordergate: Run) -> None:
    shown = ordergate("cache", "show", "--config", serving.config, "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["entries"] == 0
    at = ("--admin", serving.admin, "--token-file", serving.token_file)
    assert ordergate("cache", "show", *at).stdout.startswith("entries ")
    assert ordergate("cache", "purge", "--all", *at).stdout == "Purged.\n"
    soft = ordergate("cache", "purge", "--pattern", "/catalog/**", "--soft", *at)
    assert soft.stdout == "Made stale.\n"
    url = "http://shop.example/catalog?page=2"
    one = ordergate("cache", "purge", "--url", url, "--json", *at)
    assert json.loads(one.stdout)["purged"] == {
        "what": "url",
        "name": "/catalog?page=2",
        "soft": False,
    }
    soft = ordergate("cache", "purge", "--group", "shelf", "--soft", *at)
    assert soft.stdout == "Made stale.\n"
    done = ordergate("cache", "purge", "--group", "shelf", "--json", *at)
    assert json.loads(done.stdout)["purged"]["name"] == "shelf"


def test_a_purge_of_nothing_or_of_nonsense_is_refused(serving: Serving, ordergate: Run) -> None:
    nothing = ordergate("cache", "purge", "--config", serving.config)
    assert nothing.returncode == 2
    assert "one of --url" in nothing.stderr
    nonsense = ordergate("cache", "purge", "--url", "shop", "--config", serving.config)
    assert nonsense.returncode == 1
    assert "A url is as in" in nonsense.stderr
    for pattern in ("catalog", "GET /catalog/**"):
        odd = ordergate("cache", "purge", "--pattern", pattern, "--config", serving.config)
        assert odd.returncode == 1
        assert 'A pattern is a path, as in "/catalog/**"' in odd.stderr
