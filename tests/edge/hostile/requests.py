"""Requests that a careless proxy forwards, splits, joins or dies of, and what becomes of each.

Written from RFC 9110, RFC 9112 and the known classes of request smuggling.
"""

from tests.edge.hostile import fields, framing, lines, orders
from tests.edge.hostile.case import Case


def cases() -> list[Case]:
    found = [
        *lines.request_lines(),
        *lines.targets(),
        *lines.paths_near_orders(),
        *fields.hosts(),
        *fields.fields(),
        *fields.sizes(),
        *fields.connections(),
        *fields.expectations(),
        *framing.lengths(),
        *framing.codings(),
        *framing.chunks(),
        *framing.trailers(),
        *orders.keys(),
        *orders.pipelines(),
        *orders.ordinary(),
    ]
    names = [(case.group, case.name) for case in found]
    assert len(set(names)) == len(names), "two cases of one name"
    return found
