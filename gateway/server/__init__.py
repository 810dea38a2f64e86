"""The storefront listener: aiohttp's server behind a strict reading, raw bytes in and out.

``heads`` and ``chunks`` judge bytes and are pure. ``connection`` puts them in front of aiohttp's
request handler, ``turns`` answers its requests in order, ``outgoing`` writes, ``at_once`` is for
what needs none of that, ``sluice`` and ``shapes`` for when there is too much to do. ``requests``
and ``answers`` are what handlers see and return; ``listener`` takes connections and drains.
``limits`` bounds all of it.
"""

from gateway.server.answers import (
    AnswerBroken,
    RawResponse,
    RawStream,
    raw_response,
    send_interim,
)
from gateway.server.limits import ServerLimits
from gateway.server.listener import ParserMissing, StorefrontServer, compose, never_again
from gateway.server.requests import address_of, body_at_hand, raw_headers, raw_target
from gateway.server.tunnels import Switched, client_end
from middleware.bodies import read_body, stream_body

__all__ = [
    "AnswerBroken",
    "ParserMissing",
    "RawResponse",
    "RawStream",
    "ServerLimits",
    "StorefrontServer",
    "Switched",
    "address_of",
    "body_at_hand",
    "client_end",
    "compose",
    "never_again",
    "raw_headers",
    "raw_response",
    "raw_target",
    "read_body",
    "send_interim",
    "stream_body",
]
