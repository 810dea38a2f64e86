"""What a client is told of a request that was refused before anything looked at what it wants."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from gateway.server.heads import Refused
from middleware.problems import Problem, ProblemType

_P = ProblemType

_PROBLEMS: Mapping[Refused, tuple[ProblemType, str]] = MappingProxyType(
    {
        Refused.NOT_HTTP: (_P.MALFORMED_REQUEST, "This port speaks HTTP/1.1 without TLS."),
        Refused.BARE_LINE_FEED: (_P.MALFORMED_REQUEST, "End lines with CR LF."),
        Refused.REQUEST_LINE: (_P.MALFORMED_REQUEST, "The request line is not HTTP/1.1."),
        Refused.SIMPLE_REQUEST: (_P.HTTP_VERSION, "Use HTTP/1.1."),
        Refused.VERSION: (_P.HTTP_VERSION, "Use HTTP/1.1."),
        Refused.METHOD_UNKNOWN: (
            _P.NOT_IMPLEMENTED,
            "The method is unknown: write known ones in capitals, others in 32 plain characters.",
        ),
        Refused.METHOD_REFUSED: (_P.NOT_IMPLEMENTED, "The method is not implemented here."),
        Refused.TARGET_FORM: (_P.MALFORMED_REQUEST, "Send the target as /path?query."),
        Refused.TARGET_CHARACTERS: (
            _P.MALFORMED_REQUEST,
            "Percent-encode what may not stand in a target; leave the fragment out.",
        ),
        Refused.TARGET_DOTS: (_P.MALFORMED_REQUEST, "Resolve . and .. in the path before sending."),
        Refused.TARGET_SLASH: (
            _P.MALFORMED_REQUEST,
            "Send no %2F or %5C in the path; in the query they may stand.",
        ),
        Refused.TARGET_ESCAPE: (_P.MALFORMED_REQUEST, "Two hex digits follow each %."),
        Refused.TARGET_TOO_LONG: (_P.TARGET_TOO_LONG, "Send a shorter target."),
        Refused.HEAD_TOO_LARGE: (_P.FIELDS_TOO_LARGE, "Send a smaller header."),
        Refused.TOO_MANY_FIELDS: (_P.FIELDS_TOO_LARGE, "Send fewer fields."),
        Refused.FIELD_LINE: (_P.MALFORMED_REQUEST, "A field line is malformed."),
        Refused.FOLDED: (_P.MALFORMED_REQUEST, "Field lines may not be folded."),
        Refused.UNDERSCORE: (_P.MALFORMED_REQUEST, "Field names may not hold underscores."),
        Refused.HOST_MISSING: (_P.MALFORMED_REQUEST, "Send a Host field."),
        Refused.HOST_REPEATED: (_P.MALFORMED_REQUEST, "Send the Host field once."),
        Refused.HOST_INVALID: (_P.MALFORMED_REQUEST, "The Host field is no host."),
        Refused.LENGTH_INVALID: (_P.MALFORMED_REQUEST, "Content-Length is no number."),
        Refused.LENGTH_REPEATED: (_P.MALFORMED_REQUEST, "Send Content-Length once."),
        Refused.LENGTH_AND_CODING: (
            _P.MALFORMED_REQUEST,
            "Send either Content-Length or Transfer-Encoding.",
        ),
        Refused.CODING_INVALID: (_P.MALFORMED_REQUEST, "Transfer-Encoding must be chunked."),
        Refused.CODING_UNKNOWN: (_P.NOT_IMPLEMENTED, "Transfer-Encoding must be chunked."),
        Refused.CODING_ON_1_0: (_P.MALFORMED_REQUEST, "HTTP/1.0 has no Transfer-Encoding."),
        Refused.CONNECTION_OPTION: (
            _P.MALFORMED_REQUEST,
            "Connection may not name a field that is meant for the recipient.",
        ),
        Refused.UPGRADE: (_P.NOT_IMPLEMENTED, "Other protocols are not spoken here."),
        Refused.EXPECTATION: (_P.EXPECTATION_FAILED, "Only 100-continue can be met."),
        Refused.HEADER_TIMEOUT: (_P.REQUEST_TIMEOUT, "The header did not arrive in time."),
        Refused.PARSER_DISAGREES: (_P.MALFORMED_REQUEST, "The request is ambiguous."),
        Refused.CONNECTIONS: (_P.OVERLOADED, "Too many clients are connected. Try again later."),
        Refused.CONNECTIONS_OF_ADDRESS: (
            _P.TOO_MANY_CONNECTIONS,
            "Close connections, or use one that is open.",
        ),
    }
)


def problem(reason: Refused) -> Problem:
    """What the client is told. Nothing of a refused request is forwarded: a repeat is safe."""
    kind, detail = _PROBLEMS[reason]
    # Which route it would have taken is unknown: as on an order route, no new key is called safe.
    members = {"reason": reason.value, "order": None, "order_status": None, "safe_new_key": False}
    headers = {"Retry-After": "1"} if reason in TURNED_AWAY else None
    return Problem.of(kind, detail, members=members, headers=headers, repeat_is_safe=True)


TURNED_AWAY = frozenset({Refused.CONNECTIONS, Refused.CONNECTIONS_OF_ADDRESS})
"""Told without a request: the connection is not even read."""


def turned_away(reason: Refused, identity: str, date: bytes) -> bytes:
    """A whole answer to a connection that is not taken."""
    told = problem(reason).render(identity)
    fields = (*told.fields, ("Request-Id", identity), ("Connection", "close"))
    lines = [f"{name}: {value}\r\n".encode() for name, value in fields]
    phrase = HTTPStatus(told.status).phrase.encode("ascii")
    return b"".join(
        (
            b"HTTP/1.1 %d %b\r\n" % (told.status, phrase),
            *lines,
            b"Date: %b\r\nContent-Length: %d\r\n\r\n" % (date, len(told.body)),
            told.body,
        )
    )
