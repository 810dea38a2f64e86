"""Every mistake in a route has a message of its own, with its line."""

import pytest

from tests.settings.conftest import GOOD, Problems, line_of

CAPABILITY = 'capability = "lookup"'
LOOKUP = 'lookup = "GET /orders?idempotency_key={key}"'
SCOPE = 'scope = ["header:Authorization"]'
ANSWER = "answer_within_s = 10"
MATCH = 'match = "POST /orders"'

# What stands in GOOD; what is written instead; where the line of the problem is to be found, if
# not where the change is ("text#2": its second time); the problem.
BROKEN = [
    pytest.param(
        'upstream = "backend"',
        'upstream = "backedn"',
        "",
        'routes[0].upstream: there is no upstream "backedn". Did you mean backend?',
    ),
    pytest.param(
        MATCH,
        'match = "POST orders"',
        "",
        'routes[0].match: "POST orders" is no pattern. After POST and one space comes a path with'
        ' "/" in front.',
    ),
    pytest.param(
        MATCH,
        'match = "* /orders"',
        "",
        "routes[0].match: an order route can't take *. Name the method that places orders, as in"
        ' "POST /orders".',
    ),
    pytest.param(
        MATCH,
        'match = "GET /orders"',
        "",
        "routes[0].match: an order route can't take GET. Name the method that places orders, as"
        ' in "POST /orders".',
    ),
    pytest.param(
        'kind = "order"',
        'kind = "oder"',
        "",
        'routes[0].kind: "oder" is not one of order, cached, plain. Did you mean "order"?',
    ),
    pytest.param(
        CAPABILITY,
        'capability = "look-up"',
        "",
        'routes[0].capability: "look-up" is no capability. Write "dedup", "lookup", ["dedup",'
        ' "lookup"] or "none".',
    ),
    pytest.param(
        CAPABILITY,
        'capability = ["lookup", "none"]',
        "",
        'routes[0].capability: "none" is no capability. Write "dedup", "lookup", ["dedup",'
        ' "lookup"] or "none".',
    ),
    pytest.param(
        CAPABILITY,
        "",
        "[[routes]]",
        "routes[0].capability: is missing. Say what the upstream can do about an order in doubt:"
        ' "dedup", "lookup", ["dedup", "lookup"] or "none".',
    ),
    pytest.param(
        CAPABILITY,
        'capability = ["lookup", "dedup"]',
        "[[routes]]",
        "routes[0].dedup_for_s: is missing. Say for how many seconds the upstream remembers a"
        " key, as in dedup_for_s = 86400.",
    ),
    pytest.param(
        ANSWER,
        "dedup_for_s = 60",
        "",
        "routes[0].dedup_for_s: the upstream is not said to deduplicate. Leave it out, or add"
        ' "dedup" to capability.',
    ),
    pytest.param(
        CAPABILITY,
        'capability = "none"',
        LOOKUP,
        "routes[0].lookup: the upstream is not said to answer lookups. Leave it out, or add"
        ' "lookup" to capability.',
    ),
    pytest.param(
        LOOKUP,
        "",
        "[[routes]]",
        'routes[0].lookup: is missing. Say how to ask, as in lookup = "GET'
        ' /orders?idempotency_key={key}".',
    ),
    pytest.param(
        LOOKUP,
        'lookup = "GET /orders"',
        "",
        'routes[0].lookup: the lookup does not say which order. Put {key} in it, as in "GET'
        ' /orders?idempotency_key={key}".',
    ),
    pytest.param(
        LOOKUP,
        'lookup = "GET /orders/{key}/{id}"',
        "",
        "routes[0].lookup: {id} is not known in a lookup. Only {key} is filled in.",
    ),
    pytest.param(
        LOOKUP,
        'lookup = "POST /find?key={key}"',
        "",
        'routes[0].lookup: a lookup with POST could change something. Use GET, as in "GET'
        ' /orders?idempotency_key={key}".',
    ),
    pytest.param(
        LOOKUP,
        'lookup = "/orders?key={key}"',
        "",
        'routes[0].lookup: "/orders?key={key}" is no lookup. Write a method and a path, as in'
        ' "GET /orders?idempotency_key={key}".',
    ),
    pytest.param(
        ANSWER,
        'lookup_echo = "key"',
        "",
        'routes[0].lookup_echo: "key" is no JSON pointer. Begin with a slash: "/key" (RFC 6901).',
    ),
    pytest.param(
        SCOPE,
        'scope = ["jwt:sub"]',
        "",
        "routes[0].scope[0]: there are no keys to verify tokens by. Write [jwt] with keys ="
        ' "jwks.json" and algorithms = ["RS256"].',
    ),
    pytest.param(
        SCOPE,
        'scope = ["jwt:jti"]',
        "",
        "routes[0].scope[0]: the claim jti does not say who the client is. Take what is the same in"
        " all its tokens and in nobody else's, as jwt:sub.",
    ),
    pytest.param(
        SCOPE,
        'scope = ["jwt:"]',
        "",
        'routes[0].scope[0]: "" is no name of a claim. As in "jwt:sub".',
    ),
    pytest.param(
        ANSWER,
        'replay_check = "/me"',
        "",
        'routes[0].replay_check: "/me" is no request. Write a method and a path, as in "GET /me".',
    ),
    pytest.param(
        ANSWER,
        'replay_check = "POST /me"',
        "",
        'routes[0].replay_check: POST could change something. Use GET or HEAD: "GET /me".',
    ),
    pytest.param(
        SCOPE,
        'scope = "header:Authorization"',
        "",
        'routes[0].scope: "header:Authorization" is not a list. Write a list:'
        ' ["header:Authorization"].',
    ),
    pytest.param(
        SCOPE,
        'scope = ["Authorization"]',
        "",
        'routes[0].scope[0]: "Authorization" is no scope. Write "jwt:CLAIM", "header:NAME" or'
        ' "cookie:NAME".',
    ),
    pytest.param(
        SCOPE,
        'scope = ["header:Cookie"]',
        "",
        "routes[0].scope[0]: all cookies together are no scope: any of them may change. Name one:"
        " cookie:session.",
    ),
    pytest.param(
        SCOPE,
        'scope = ["cookie:session", "header:Idempotency-Key"]',
        "",
        "routes[0].scope[1]: Idempotency-Key does not say who the client is. Take what a trusted"
        " party verified, as in header:X-Customer.",
    ),
    pytest.param(
        LOOKUP,
        'lookup = "GET /orders#{key}"',
        "lookup = ",
        'routes[0].lookup: what follows # is never sent. Leave it out, as in "GET'
        ' /orders?idempotency_key={key}".',
    ),
    pytest.param(
        ANSWER,
        'answer_within_s = "10s"',
        "",
        'routes[0].answer_within_s: "10s" is not a number. Give a number of seconds: 10.',
    ),
    pytest.param(
        ANSWER,
        'answer_within_s = "1.5 min"',
        "",
        'routes[0].answer_within_s: "1.5 min" is not a number. Give a number of seconds: 90.',
    ),
    pytest.param(
        ANSWER,
        "answer_within_s = true",
        "",
        "routes[0].answer_within_s: true is not a number. Give a number of seconds.",
    ),
    pytest.param(
        ANSWER,
        "answer_within_s = 0",
        "",
        "routes[0].answer_within_s: 0 is out of range. Give more than 0.",
    ),
    pytest.param(
        ANSWER,
        "answer_within_s = nan",
        "",
        "routes[0].answer_within_s: nan is not a finite number.",
    ),
    pytest.param(
        ANSWER,
        'body_bytes_max = "2 MiB"',
        "",
        'routes[0].body_bytes_max: "2 MiB" is not a whole number. Give a number of bytes: 2097152.',
    ),
    pytest.param(
        ANSWER,
        'rejected_when = ["4xx"]\nin_doubt_when = [404, "4xx"]',
        "in_doubt_when",
        'routes[0].in_doubt_when: "4xx" is in rejected_when too, and can mean only one thing.'
        " Leave it in one of them.",
    ),
    pytest.param(
        ANSWER,
        'confirmed_when = ["100"]',
        "",
        'routes[0].confirmed_when[0]: "100" is no answer\'s status. Write a code or a class:'
        ' "503", "4xx".',
    ),
    pytest.param(
        ANSWER,
        "attach_window_s = 400000",
        "",
        "routes[0].attach_window_s: outlasts retention_s, after which the answer is gone. Give at"
        " most 259200.",
    ),
    pytest.param(
        ANSWER,
        'invalidates = ["orders"]',
        "",
        'routes[0].invalidates[0]: "orders" is no path pattern. Write a path alone, as in'
        " /customers/*/orders.",
    ),
    pytest.param(
        ANSWER,
        'key = "attached"',
        "",
        'routes[0].key: "attached" is not one of attach, require. Did you mean "attach"?',
    ),
    pytest.param(
        'name = "rest"',
        'name = "place-order"',
        'name = "place-order"#2',
        'routes[1].name: "place-order" is also the name of routes[0]. Give each a name of its own.',
    ),
    pytest.param(
        'name = "rest"',
        'name = "the rest"',
        "",
        'routes[1].name: "the rest" is no name. Use 1 to 64 letters, digits, -, _ and . (it'
        " becomes a metric's label).",
    ),
    pytest.param(
        'match = "* /**"',
        MATCH,
        MATCH + "#2",
        'routes[1].match: no request gets here: routes[0] "place-order" (POST /orders) takes them'
        ' first. Put "rest" before "place-order".',
    ),
    pytest.param(
        'kind = "plain"',
        'kind = "plain"\nlookup_echo = "/key"',
        "lookup_echo",
        "routes[1].lookup_echo: a plain route has no lookup_echo. Leave it out, or write kind ="
        ' "order".',
    ),
    pytest.param(
        'kind = "plain"',
        "",
        "[[routes]]#2",
        "routes[1].kind: is missing.",
    ),
]


@pytest.mark.parametrize(("right", "wrong", "place", "problem"), BROKEN)
def test_one_mistake_in_a_route_is_one_problem_with_its_line(
    problems: Problems, right: str, wrong: str, place: str, problem: str
) -> None:
    text = GOOD.replace(right, wrong, 1)
    assert problems(text) == [f"{line_of(text, place or wrong)}: {problem}"]
