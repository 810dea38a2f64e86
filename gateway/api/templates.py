"""Heads written in one go: what the rules of ``forwarding`` make of a head follows, but for the
values, from the names of its fields, and a sender writes the same names again and again.

So the rules are asked once for each set of names, with marks for values, and what they say is
remembered as a template. Where a value itself could change what they say there is none.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple, TypeAlias

from gateway.api.answers import Relayed
from gateway.api.forwarding import client_fields, upstream_fields, with_deadline
from gateway.api.proxies import Peer
from gateway.upstream import AnswerHead, Framing
from middleware.messages import NAMES_NO_FIELD, PHRASES, RawHeaders, names_of

REMEMBERED_MAX = 256
"""Of each kind: 256 of the largest heads are some MiB, whatever is sent."""

_NO_CONTENT = 204
_BODILESS = frozenset({_NO_CONTENT, 304})
_UPSTREAMS: RawHeaders = ((b"Gateway-Source", b"upstream"),)
_MARK = re.compile(rb"\0([0-9]+)\0")
"""No name and no value holds a NUL."""


Deadline: TypeAlias = tuple[bytes, float]
"""The field that tells an upstream how many seconds it is waited for, and how many."""


class Template(NamedTuple):
    """Field lines with ``%b`` for each value; ``pick`` takes those from all the values there are.
    ``connections``: where Connection fields are. Their values must name no other field."""

    text: bytes
    pick: Callable[[Sequence[bytes]], tuple[bytes, ...]]
    connections: tuple[int, ...]


def upstream_lines(
    headers: RawHeaders, peer: Peer, request_id: bytes, deadline: Deadline | None
) -> bytes | None:
    """What ``upstream_fields`` and ``UpstreamRequest`` make of the fields of a head that the server
    judged well formed; None: ask them."""
    template = _upstream_template(names_of(headers), peer.trusted, deadline)
    if template is None:
        return None
    values = [value for _, value in headers]
    if template.connections and not _names_no_field(headers, template):
        return None
    if peer.trusted and b"" in values:  # the rules take an empty field for none
        return None
    values += (peer.address.encode("latin-1", "replace"), request_id)
    return template.text % template.pick(values)


def client_head(head: AnswerHead, request_id: bytes, date: bytes, length: int) -> bytes:
    """What ``client_fields`` and the server write for a whole answer whose fields ``passes``, with
    a body of so many bytes."""
    template = _client_template(names_of(head.headers), names_of(_UPSTREAMS))
    lines = _client_lines(template, head.headers, _UPSTREAMS, request_id, date)
    phrase = head.phrase or PHRASES.get(head.status, b"")
    said = length if head.framing is not Framing.NO_BODY else head.content_length or None
    if said is None or head.status == _NO_CONTENT:
        return b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, phrase, lines)
    return b"HTTP/1.1 %d %b\r\n%bContent-Length: %d\r\n\r\n" % (head.status, phrase, lines, said)


def order_head(answer: Relayed, request_id: bytes, date: bytes) -> bytes | None:
    """The same for the answer to an order; None where ``client_fields`` is to be asked, or where
    the status says what length means."""
    template = _client_template(names_of(answer.fields), names_of(answer.own))
    if answer.status in _BODILESS or not _names_no_field(answer.fields, template):
        return None
    lines = _client_lines(template, answer.fields, answer.own, request_id, date)
    phrase = answer.phrase or PHRASES.get(answer.status, b"")
    parts = (answer.status, phrase, lines, len(answer.body))
    return b"HTTP/1.1 %d %b\r\n%bContent-Length: %d\r\n\r\n" % parts


def _client_lines(
    template: Template, headers: RawHeaders, own: RawHeaders, request_id: bytes, date: bytes
) -> bytes:
    values = [value for _, value in headers]
    values += (request_id, date)
    values += [value for _, value in own]
    return template.text % template.pick(values)


def passes(headers: RawHeaders) -> bool:
    """Whether these fields of an answer are ones for ``client_head``."""
    return _names_no_field(headers, _client_template(names_of(headers), names_of(_UPSTREAMS)))


def _names_no_field(headers: RawHeaders, template: Template) -> bool:
    return all(headers[at][1].lower() in NAMES_NO_FIELD for at in template.connections)


@lru_cache(REMEMBERED_MAX)
def _upstream_template(
    names: tuple[bytes, ...], trusted: bool, deadline: Deadline | None
) -> Template | None:
    lower = [name.lower() for name in names]
    if b"max-forwards" in lower or (trusted and b"forwarded" in lower):
        return None
    address, identity = len(names), len(names) + 1
    fields = upstream_fields(
        _marked(names),
        peer=Peer(_mark(address).decode(), trusted),
        request_id=_mark(identity).decode(),
    )
    return _template(fields if deadline is None else with_deadline(fields, *deadline), lower)


@lru_cache(REMEMBERED_MAX)
def _client_template(names: tuple[bytes, ...], own: tuple[bytes, ...]) -> Template:
    """The server writes the request's id instead of any that came, and a date where none did."""
    lower = [name.lower() for name in names]
    identity, date = len(names), len(names) + 1
    ours_marked = [(name, _mark(date + 1 + index)) for index, name in enumerate(own)]
    fields = client_fields(_marked(names), *ours_marked)
    kept = tuple(field for field in fields if field[0].lower() != b"request-id")
    ours: RawHeaders = ((b"Request-Id", _mark(identity)),)
    if b"date" not in lower:
        ours += ((b"Date", _mark(date)),)
    return _template((*kept, *ours), lower)


def _mark(index: int) -> bytes:
    return b"\0%d\0" % index


def _marked(names: tuple[bytes, ...]) -> RawHeaders:
    return tuple((name, _mark(index)) for index, name in enumerate(names))


def _template(fields: RawHeaders, lower: list[bytes]) -> Template:
    lines = b"".join(b"%b: %b\r\n" % field for field in fields)
    texts = _MARK.split(lines.replace(b"%", b"%%"))  # a text, a mark's index, a text …
    picked = tuple(int(index) for index in texts[1::2])
    pick = itemgetter(*picked) if len(picked) > 1 else lambda values: (values[picked[0]],)
    connections = tuple(index for index, name in enumerate(lower) if name == b"connection")
    return Template(b"%b".join(texts[::2]), pick, connections)
