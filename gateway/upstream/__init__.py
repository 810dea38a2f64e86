"""Our own HTTP/1.1 hop to the order backend: connections, the pool, strict response reading.

It never sends anything twice, never makes an answer up, and says for every attempt how far it
got. Errors of sockets and of name resolution are translated here and nowhere else.

The way of a request, file by file: ``origins`` (where to), ``requests`` (what is written),
``servers`` (which server, with ``balancing`` and ``breaking``), ``pool``, ``opening`` and
``connecting`` (a place and a connection), ``connections`` (who speaks on it), ``exchanges`` (one
order attempt), ``brief`` (anything else, while it is one piece each way) or ``streaming``,
``reading`` and ``heads`` (what may count as an answer).
"""

from gateway.upstream.connecting import ConnectFailed
from gateway.upstream.connections import Connection
from gateway.upstream.exchanges import Exchange, Progress
from gateway.upstream.heads import AnswerHead, Framing
from gateway.upstream.limits import HopLimits, StreamTimeouts
from gateway.upstream.opening import Tls
from gateway.upstream.origins import Origin
from gateway.upstream.pool import Pool, PoolStats
from gateway.upstream.pools import Pools, UpstreamUnknown
from gateway.upstream.requests import IllFormedRequest, UpstreamRequest
from gateway.upstream.servers import Upstream
from gateway.upstream.streaming import BodyMismatch, StreamedAnswer, UpstreamBroke
from gateway.upstream.upgrading import UpstreamEnd

__all__ = [
    "AnswerHead",
    "BodyMismatch",
    "ConnectFailed",
    "Connection",
    "Exchange",
    "Framing",
    "HopLimits",
    "IllFormedRequest",
    "Origin",
    "Pool",
    "PoolStats",
    "Pools",
    "Progress",
    "StreamTimeouts",
    "StreamedAnswer",
    "Tls",
    "Upstream",
    "UpstreamBroke",
    "UpstreamEnd",
    "UpstreamRequest",
    "UpstreamUnknown",
]
