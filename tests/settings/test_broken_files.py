"""Every mistake has a message of its own: where, what, and what to write instead."""

import pytest

from tests.settings.conftest import GOOD, Problems, line_of

ADDRESS = 'address = "127.0.0.1:8080"'
ADMIN = 'admin = "127.0.0.1:8081"'
LEDGER = 'url = "sqlite:////var/lib/ordergate/ledger.db"'
URLS = 'urls = ["http://127.0.0.1:9000"]'
CAPABILITY = 'capability = "lookup"'
MATCH = 'match = "POST /orders"'

# What stands in GOOD; what is written instead; where the line of the problem is to be found, if
# not where the change is ("text#2": its second time); the problem.
BROKEN = [
    pytest.param(
        ADDRESS,
        'adress = "127.0.0.1:8080"',
        "",
        "listen.adress: there is no such setting. Did you mean address?",
    ),
    pytest.param(
        ADDRESS,
        "address = 8080",
        "",
        "listen.address: 8080 is not text. Write it in quotes.",
    ),
    pytest.param(
        ADDRESS,
        'address = ":8080"',
        "",
        'listen.address: ":8080" is no address. Name the host too: "127.0.0.1:8080" (this'
        ' machine) or "0.0.0.0:8080" (all).',
    ),
    pytest.param(
        ADDRESS,
        'address = "http://127.0.0.1:8080/"',
        "",
        'listen.address: "http://127.0.0.1:8080/" is no address. Write it without a scheme:'
        ' "127.0.0.1:8080".',
    ),
    pytest.param(
        ADDRESS,
        'address = "::1:8080"',
        "",
        'listen.address: "::1:8080" is no address. Write IPv6 in brackets: "[::1]:8080".',
    ),
    pytest.param(
        ADDRESS,
        'address = "127.0.0.1:80800"',
        "",
        "listen.address: 80800 is no port. Ports end at 65535.",
    ),
    pytest.param(
        ADMIN,
        'admin = "127.0.0.1:8080"',
        "",
        "listen.admin: storefronts and operators would share 127.0.0.1:8080. Give the operators a"
        " port of their own, which storefronts can't reach.",
    ),
    pytest.param(
        ADMIN,
        'admin = "0.0.0.0:8080"',
        "",
        "listen.admin: storefronts and operators would share 0.0.0.0:8080. Give the operators a"
        " port of their own, which storefronts can't reach.",
    ),
    pytest.param(
        ADMIN,
        "workers = 0",
        "",
        "listen.workers: 0 is out of range. Give at least 1.",
    ),
    pytest.param(
        ADMIN,
        "workers = 65",
        "",
        "listen.workers: 65 is out of range. Give at most 64.",
    ),
    pytest.param(
        ADMIN,
        'admin = "127.0.0.1:8081"\n[log]\nlevels = { request = "info" }',
        "levels",
        'log.levels: "request" is no part. What there is: process, requests, orders, upstream,'
        " reconciler, ledger.",
    ),
    pytest.param(
        ADMIN,
        'admin = "127.0.0.1:8081"\n[log]\nlevels = { requests = "loud" }',
        "levels",
        'log.levels: "loud" is no level of requests. One of debug, info, warning, error.',
    ),
    pytest.param(
        ADMIN,
        'admin = "127.0.0.1:8081"\n[log]\nlevels = "debug"',
        "levels",
        'log.levels: "debug" is no table of levels. Write { requests = "warning" }.',
    ),
    pytest.param(
        ADMIN,
        'trust_request_id = "yes"',
        "",
        'listen.trust_request_id: "yes" is neither true nor false. Write true or false, no quotes.',
    ),
    pytest.param(
        "[ledger]",
        "[legder]",
        "",
        "legder: there is no such section. Did you mean ledger?",
    ),
    pytest.param(
        LEDGER,
        'url = "valkey://u:p@127.0.0.1"',
        "",
        "ledger.url: a password in a URL ends up in logs and process lists. Put it into a file and"
        " name that in password_file.",
    ),
    pytest.param(
        LEDGER,
        'url = "redis://10.0.0.1,10.0.0.2"',
        "",
        "ledger.url: one server has one address. For several use valkey+sentinel:// or"
        " valkey+cluster://.",
    ),
    pytest.param(
        LEDGER,
        'url = "valkeys+sentinel://10.0.0.1"',
        "",
        "ledger.url: it does not say what the Sentinels call the master. As in"
        ' "valkey+sentinel://10.0.0.1:26379,10.0.0.2:26379,10.0.0.3:26379/mymaster".',
    ),
    pytest.param(
        LEDGER,
        'url = "valkey+cluster://10.0.0.1/1"',
        "",
        'ledger.url: "/1" is no database. Leave it out, or write its number: /1.',
    ),
    pytest.param(
        LEDGER,
        'url = "valkey://10.0.0.1:0"',
        "",
        'ledger.url: "10.0.0.1:0" is no host and port. As in "valkey://127.0.0.1:6379".',
    ),
    pytest.param(
        LEDGER,
        'url = "valkey://10.0.0.1?timeout=3"',
        "",
        'ledger.url: "timeout" is no option. There is only "prefix".',
    ),
    pytest.param(
        LEDGER,
        'url = "valkey://127.0.0.1"\ndurability = "replicated"',
        'durability = "replicated"',
        "ledger.durability: it does not say by how many replicas. Set replicas to the number of"
        " those that could be promoted.",
    ),
    pytest.param(
        LEDGER,
        'url = "valkey://127.0.0.1"\nreplicas = 1',
        "replicas = 1",
        "ledger.replicas: nothing waits for replicas with durability fsync. Write durability ="
        ' "replicated", or leave replicas out.',
    ),
    pytest.param(
        LEDGER,
        'url = "valkey://eva@127.0.0.1"',
        "",
        "ledger.url: the user eva has no password. Put it into a file and name that in"
        " password_file.",
    ),
    pytest.param(
        LEDGER,
        'url = "sqlite://ledger.db"',
        "",
        'ledger.url: "sqlite://ledger.db" is no ledger. Three slashes for a path from the'
        ' configuration\'s folder ("sqlite:///ledger.db"), four for one from the root'
        ' ("sqlite:////ledger.db").',
    ),
    pytest.param(
        LEDGER,
        'url = "sqlite:///:memory:"',
        "",
        "ledger.url: a ledger is a file: orders must outlive the process. Name one:"
        ' "sqlite:///ledger.db".',
    ),
    pytest.param(
        LEDGER,
        'url = "sqlite:///a.db?mode=memory"',
        "",
        "ledger.url: a ledger's URL is a path and nothing more. Leave out what follows ? or #.",
    ),
    pytest.param(
        LEDGER,
        'url = "postgres://db"',
        "",
        'ledger.url: "postgres://db" is no ledger. Write "sqlite:///ledger.db".',
    ),
    pytest.param(
        LEDGER,
        'durability = "memory"',
        "",
        "ledger.durability: an SQLite ledger can't be memory: it syncs every commit. Write"
        ' "fsync".',
    ),
    pytest.param(
        LEDGER,
        "lease_s = 0.5",
        "",
        "ledger.lease_s: 0.5 is out of range. Give at least 1.",
    ),
    pytest.param(
        URLS,
        'urls = "http://127.0.0.1:9000"',
        "",
        'upstreams[0].urls: "http://127.0.0.1:9000" is not a list. Write a list:'
        ' ["http://127.0.0.1:9000"].',
    ),
    pytest.param(
        ADMIN,
        ADMIN + "\nproxy_protocol = true",
        "proxy_protocol",
        "listen.proxy_protocol: nobody is trusted to say whose connection it is. Name the"
        ' balancers, as in trusted_proxies = ["10.0.0.0/8"].',
    ),
    pytest.param(
        ADMIN,
        ADMIN + '\ntrusted_proxies = ["10.0.0.1/8"]',
        "trusted_proxies",
        'listen.trusted_proxies[0]: "10.0.0.1/8" is no network. Write an address or a network, as'
        ' in "10.0.0.0/8".',
    ),
    pytest.param(
        URLS,
        'urls = ["ftp://backend"]',
        "",
        'upstreams[0].urls[0]: "ftp://backend" is no upstream\'s address. Write scheme, host'
        ' and port alone, as in "http://127.0.0.1:9000".',
    ),
    pytest.param(
        URLS,
        URLS + '\nca_file = "ca.pem"',
        "ca_file",
        "upstreams[0].ca_file: nothing is encrypted on http://. Leave it out, or write https://.",
    ),
    pytest.param(
        URLS,
        'urls = ["https://backend"]\nclient_key_file = "key.pem"',
        "client_key_file",
        "upstreams[0].client_key_file: belongs to no certificate. Name client_cert_file too.",
    ),
    pytest.param(
        URLS,
        'urls = ["https://backend"]\nserver_name = "https://backend"',
        "server_name",
        'upstreams[0].server_name: "https://backend" is no host name. Write it alone, as in'
        ' "backend.internal".',
    ),
    pytest.param(
        URLS,
        'urls = ["http://backend/api"]',
        "",
        'upstreams[0].urls[0]: "http://backend/api" is no upstream\'s address. Write scheme, host'
        ' and port alone, as in "http://127.0.0.1:9000".',
    ),
    pytest.param(
        URLS,
        "urls = []",
        "",
        'upstreams[0].urls: there are none. Write ["http://127.0.0.1:9000"].',
    ),
    pytest.param(
        URLS,
        'urls = ["http://a:1", "http://a:1"]',
        "",
        "upstreams[0].urls: one of them stands there twice. Write each server once.",
    ),
    pytest.param(
        URLS,
        'urls = ["http://a:1", "https://b:1"]',
        "",
        "upstreams[0].urls: only some are encrypted. Write https for all.",
    ),
    pytest.param(
        URLS,
        URLS + '\nsticky_header = "X Customer"',
        "sticky_header",
        'upstreams[0].sticky_header: "X Customer" is no name of a header. As in "X-Customer".',
    ),
    pytest.param(
        URLS,
        'urls = ["http://localhost:8080"]',
        "",
        "upstreams[0].urls: the gateway would send every request to itself.",
    ),
]


@pytest.mark.parametrize(("right", "wrong", "place", "problem"), BROKEN)
def test_one_mistake_is_one_problem_with_its_line(
    problems: Problems, right: str, wrong: str, place: str, problem: str
) -> None:
    text = GOOD.replace(right, wrong, 1)
    assert problems(text) == [f"{line_of(text, place or wrong)}: {problem}"]


def test_the_right_file_has_no_problem(problems: Problems) -> None:
    assert problems(GOOD) == []


def test_every_problem_is_told_at_once_in_the_order_of_the_file(problems: Problems) -> None:
    text = (
        GOOD.replace(ADMIN, 'admin = "127.0.0.1"')
        .replace(MATCH, 'match = "POST orders"')
        .replace(URLS, 'urls = ["ftp://a"]')
        .replace(CAPABILITY, 'capability = ["dedup", "lookup"]')
        .replace("settle_s = 30", 'settle_s = "30s"\nsetle_s = 3')
        .replace('kind = "plain"', 'kind = "plane"')
        + '[[routes]]\nname = "rest"\nmatch = "GET /x"\nkind = "plain"\nupstream = "back"\n'
        + "[extra]\n"
    )
    found = [problem.split(": ") for problem in problems(text)]
    assert [problem[1] for problem in found] == [
        "listen.admin",
        "upstreams[0].urls[0]",
        "routes[0].dedup_for_s",
        "routes[0].match",
        "routes[0].settle_s",
        "routes[0].setle_s",
        "routes[1].kind",
        "routes[2].name",
        "routes[2].match",
        "routes[2].upstream",
        "extra",
    ]
    lines = [int(problem[0]) for problem in found]
    assert lines == sorted(lines)


def test_what_follows_from_a_fault_already_told_is_not_told(problems: Problems) -> None:
    text = GOOD.replace('name = "backend"', 'name = "back end"')
    assert [problem.split(": ")[1] for problem in problems(text)] == ["upstreams[0].name"]
