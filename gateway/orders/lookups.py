"""What an upstream's answer to a lookup says about one order."""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias
from urllib.parse import quote

from gateway.orders.attempts import Answer
from gateway.orders.entry import KeptAnswer
from gateway.orders.outcomes import at_pointer
from gateway.orders.promise import LookupPlan

FOUND_STATUS = 201
"""An order that a lookup found is told as what the first answer would have been: created."""


class NoEvidenceReason(StrEnum):
    """Why a lookup says neither yes nor no."""

    STATUS = "status"
    UNREADABLE = "unreadable"
    ECHO_DIFFERS = "echo_differs"
    NOT_PROVED = "lookup_not_proved"
    NO_ANSWER = "no_answer"
    NOT_SENT = "not_sent"


@dataclass(frozen=True, slots=True)
class Found:
    """The upstream holds the order; ``several``: more than one for this key."""

    answer: KeptAnswer
    several: bool = False


@dataclass(frozen=True, slots=True)
class Absent:
    """The upstream said that it holds no such order. Proof only if asked after quiet."""


@dataclass(frozen=True, slots=True)
class NoEvidence:
    reason: NoEvidenceReason
    detail: str = ""


LookupResult: TypeAlias = Found | Absent | NoEvidence


def lookup_target(plan: LookupPlan, upstream_key: str) -> bytes:
    """The request target for one key, percent-encoded (RFC 3986 section 2.1)."""
    return plan.target.replace("{key}", quote(upstream_key, safe="")).encode("ascii")


def read_lookup(answer: Answer, plan: LookupPlan, upstream_key: str) -> LookupResult:
    """Found: 200 with an object or a non-empty list. Absent: 404, or 200 with an empty list.
    Everything else proves nothing."""
    if answer.status == 404:
        return Absent()
    if answer.status != 200:
        return NoEvidence(NoEvidenceReason.STATUS, str(answer.status))
    if not answer.framed or answer.oversize:
        return NoEvidence(NoEvidenceReason.UNREADABLE, "not whole")
    try:
        text = answer.body.decode("utf-8-sig")  # RFC 8259 section 8.1
        matches = _matches(text)
    except (ValueError, RecursionError) as error:
        return NoEvidence(NoEvidenceReason.UNREADABLE, str(error)[:100])
    if not matches:
        return Absent()
    document, raw = matches[0]
    if plan.echo is not None and at_pointer(document, plan.echo) != upstream_key:
        return NoEvidence(NoEvidenceReason.ECHO_DIFFERS)
    return Found(_kept(raw), several=len(matches) > 1)


def _matches(text: str) -> list[tuple[Any, str]]:
    """Each order in the document with its own text, which is never written anew."""
    decoder = json.JSONDecoder()
    start = len(text) - len(text.lstrip())
    document, end = decoder.raw_decode(text, start)
    if text[end:].strip():
        raise ValueError("more than one JSON document")
    if isinstance(document, dict):
        return [(document, text[start:end])]
    if not isinstance(document, list):
        raise ValueError("neither an object nor a list")
    return _elements(text, start + 1, len(document), decoder)


def _elements(
    text: str, position: int, count: int, decoder: json.JSONDecoder
) -> list[tuple[Any, str]]:
    elements: list[tuple[Any, str]] = []
    for _ in range(count):
        while text[position] in " \t\r\n,":
            position += 1
        element, end = decoder.raw_decode(text, position)
        if not isinstance(element, dict):
            raise ValueError("a list of something else than objects")
        elements.append((element, text[position:end]))
        position = end
    return elements


def _kept(raw: str) -> KeptAnswer:
    body = raw.encode("utf-8")
    return KeptAnswer(
        status=FOUND_STATUS,
        phrase=b"Created",
        headers=((b"Content-Type", b"application/json"),),
        body=body,
        digest=hashlib.sha256(body).hexdigest(),
        source="lookup",
    )
