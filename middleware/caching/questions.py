"""What is asked upstream on behalf of a request, given what is kept (RFC 9111 section 4.3.1).
Pure."""

from enum import Enum, auto
from typing import NamedTuple

from middleware.caching.asked import Asked
from middleware.caching.entries import Entry
from middleware.caching.rules import Forwarded
from middleware.caching.validating import conditional, has_validator, rest_of
from middleware.caching.variants import naming
from middleware.messages import RawHeaders


class Asks(Enum):
    """What the answer will be about."""

    FOR_IT = auto()
    """What the client asks for, as it asks."""
    WHETHER_IT_HOLDS = auto()
    """The kept answer that the request selects."""
    WHICH_HOLDS = auto()
    """One of the kept answers that it doesn't select, or a new one."""
    FOR_THE_REST = auto()
    """What a kept part lacks."""


class Question(NamedTuple):
    asks: Asks
    headers: RawHeaders


def question(
    asked: Asked, why: Forwarded, entry: Entry | None, variants: tuple[Entry, ...]
) -> Question:
    if why is Forwarded.PARTIAL:
        rest = rest_of(asked, entry)
        if rest is not None:
            return Question(Asks.FOR_THE_REST, rest)
    elif entry is not None and has_validator(entry):
        return Question(Asks.WHETHER_IT_HOLDS, conditional(asked.headers, entry))
    elif variants:
        return Question(Asks.WHICH_HOLDS, naming(asked, variants))
    return Question(Asks.FOR_IT, asked.headers)
