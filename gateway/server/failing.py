"""Errors that no middleware answered: refusals, and failures of the handler."""

from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError, _ErrInfo

from gateway.server.answers import AnswerBroken, raw_response
from gateway.server.heads import Refused
from gateway.server.outgoing import Outgoing
from gateway.server.refusals import problem
from middleware.problems import REQUEST_ID, Problem, ProblemType
from middleware.request_id import FIELD


class _Refusal(Exception):
    """Carries a refusal through aiohttp's error path."""

    def __init__(self, reason: Refused) -> None:
        super().__init__(reason)
        self.reason = reason


def refusal(reason: Refused) -> _ErrInfo:
    return _ErrInfo(status=400, exc=_Refusal(reason), message="")


def is_error(message: object) -> bool:
    return isinstance(message, _ErrInfo)


class Failing(Outgoing):
    """Answers them as problem details."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002 - aiohttp's guess; ours follows from the exception
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - as above
    ) -> web.StreamResponse:
        """aiohttp asks for the answer to a request that came to nothing."""
        identity = request.get(REQUEST_ID) or self._listening.make_id()
        told = self._judge(exc, identity)
        if getattr(request, "answer", None) is not None:
            self.abort()
            raise AnswerBroken("an answer had already begun")
        text = told.render(identity)
        response = raw_response(text.status, text.fields, text.body)
        response.headers[FIELD] = identity
        response.force_close()
        return response

    def _judge(self, exc: BaseException | None, identity: str) -> Problem:
        match exc:
            case _Refusal(reason=reason):
                return self._tell(reason, identity)
            case Problem():
                return exc
            case _:
                self._listening.failed(exc or TimeoutError("in the handler"), identity)
                return Problem.of(ProblemType.INTERNAL_ERROR)

    def _tell(self, reason: Refused, identity: str) -> Problem:
        peer = self.peername
        self._listening.refused(reason, identity, str(peer[0]) if peer else "")
        return problem(reason)

    def log_exception(self, *_: Any, **kw: Any) -> None:
        """aiohttp reports here what it could not place; bodies that broke off are not news."""
        error = kw.get("exc_info")
        if isinstance(error, BaseException) and not isinstance(error, RequestPayloadError):
            self._listening.failed(error, "")
