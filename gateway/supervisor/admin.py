"""The one admin listener of many workers: probes and metrics of all, the rest from one of them."""

from collections.abc import Callable, Iterable

import orjson
import structlog
from aiohttp import ClientConnectionError, ClientError, ClientTimeout, hdrs, web
from multidict import CIMultiDict
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from gateway.api.admin_access import token_check
from gateway.server.guarded import GuardedListener
from gateway.supervisor.asking import Asking, WorkerState, admin_url
from gateway.supervisor.workers import Worker
from middleware.problems import Problem, problems

BODY_BYTES_MAX = 1024 * 1024
"""An operator's request is a few lines of JSON."""

CONNECT_S_MAX = 1.0
QUIET_S_MAX = 120.0
"""Streams of events say something at least each minute, if only a comment."""

HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
        "transfer-encoding", "upgrade", "content-length",
    }
)  # fmt: skip
"""RFC 9110 section 7.6.1; the length is said anew."""

log = structlog.get_logger("ordergate", part="process")


class WorkerCounts:
    """The supervisor's own metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.configured = self._gauge("ordergate_workers", "Worker processes that should run")
        self.serving = self._gauge("ordergate_workers_serving", "Worker processes that serve")
        self.deaths = Counter(
            "ordergate_worker_deaths",
            "Worker processes that ended and were not asked to",
            registry=self.registry,
        )

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)


class AdminListener:
    """Serves operators for all workers.

    ``/readyz``: ready while at least one worker is, for the kernel and the ledger bring orders
    to those that are not ready too, and these say 503 themselves. ``/livez``: 503 once no worker
    that serves answers any more. Tokens are checked here, where it is known who guesses: workers
    see only right ones. All else is the first worker's that serves: what it shows is in
    the ledger, which they share.
    """

    def __init__(
        self,
        *,
        asking: Asking,
        workers: Callable[[], Iterable[Worker]],
        draining: Callable[[], bool],
        counts: WorkerCounts,
        token: Callable[[], str],
    ) -> None:
        self._asking = asking
        self._workers = workers
        self._draining = draining
        self._counts = counts
        self._token = token
        self._words: dict[str, bytes] = {}
        self._listener: GuardedListener | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; the bound address. Raises OSError."""
        application = web.Application(
            middlewares=[problems(on_failure=_failed), token_check(self._token)],
            client_max_size=BODY_BYTES_MAX,
        )
        application.router.add_get("/livez", self._livez)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_route("*", "/{rest:.*}", self._pass_on)
        self._listener = GuardedListener(application)
        return await self._listener.start(host, port)

    async def stop(self) -> None:
        if self._listener is not None:
            await self._listener.stop()

    async def _livez(self, _request: web.Request) -> web.Response:
        states = [state for state in await self._asking.states() if state.reasons != ("starting",)]
        if states and not any(state.answers for state in states):
            return web.Response(status=503, text="no worker answers\n")
        return web.Response(text="alive\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        states = await self._asking.states()
        reasons = _reasons(states, draining=self._draining())
        document = {
            "ready": not reasons,
            "reasons": reasons,
            "workers": [
                {
                    "worker": state.slot,
                    "pid": state.pid,
                    "ready": state.ready,
                    "reasons": state.reasons,
                }
                for state in states
            ],
        }
        return web.Response(
            status=503 if reasons else 200,
            body=orjson.dumps(document) + b"\n",
            content_type="application/json",
        )

    async def _metrics(self, _request: web.Request) -> web.Response:
        await self._asking.scrape()
        self._counts.serving.set(sum(worker.admin is not None for worker in self._workers()))
        return web.Response(
            body=self._asking.scrapes.page() + generate_latest(self._counts.registry),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        """To the first worker that takes the connection: until then nothing was sent."""
        body = await request.read()
        if request.method == "PUT":
            return await self._tell_all(request, body)
        for worker in sorted(self._workers(), key=lambda each: each.slot):
            url = admin_url(worker)
            if url is None:
                continue
            try:
                return await self._from(url, request, body)
            except ClientConnectionError as error:
                log.warning("a worker's admin listener broke off", pid=worker.pid, why=str(error))
                if not _never_sent(error):
                    raise Problem(
                        502,
                        "worker-broke-off",
                        "The worker that was asked is gone",
                        "What was asked of it may have been done. Look before you repeat it.",
                    ) from error
        raise _no_worker()

    async def _tell_all(self, request: web.Request, body: bytes) -> web.Response:
        """To every worker that serves: what is put holds in each process. The last one's answer;
        502 where one did not answer, and a repeat does no harm."""
        told: web.Response | None = None
        path, headers = request.raw_path, _passed(request.headers.items())
        before = self._words.get(path)
        self._words[path] = body  # a worker that begins to serve meanwhile is told, too
        for worker in sorted(self._workers(), key=lambda each: each.slot):
            url = admin_url(worker)
            if url is not None:
                told = await self._told(url, request.method, path, headers, body)
        if told is None or told.status != 200:
            self._words.pop(path)
            if before is not None:
                self._words[path] = before
        if told is None:
            raise _no_worker()
        return told

    async def tell_new(self, worker: Worker) -> None:
        """What was put while others served holds in a worker that was started since, too."""
        headers = CIMultiDict({"Authorization": f"Bearer {self._token()}"})
        for path, body in list(self._words.items()):
            url = admin_url(worker)
            if url is None:
                return
            try:
                told = await self._told(url, "PUT", path, headers, body)
            except Problem:
                return  # it has ended: the next is told
            if told.status != 200:  # a reload has taken what it speaks of away
                self._words.pop(path, None)

    async def _told(
        self, url: str, method: str, path: str, headers: CIMultiDict[str], body: bytes
    ) -> web.Response:
        try:
            async with self._asking.session.request(
                method,
                url + path,
                data=body or None,
                headers=headers,
                timeout=ClientTimeout(total=QUIET_S_MAX, sock_connect=CONNECT_S_MAX),
            ) as answer:
                headers = _passed(answer.headers.items())
                return web.Response(status=answer.status, headers=headers, body=await answer.read())
        except (ClientError, OSError, TimeoutError) as error:
            raise Problem(
                502,
                "worker-broke-off",
                "The worker that was asked is gone",
                "Others may have done what was asked. Repeat it.",
            ) from error

    async def _from(self, url: str, request: web.Request, body: bytes) -> web.StreamResponse:
        timeout = ClientTimeout(total=None, sock_connect=CONNECT_S_MAX, sock_read=QUIET_S_MAX)
        async with self._asking.session.request(
            request.method,
            url + request.raw_path,
            data=body or None,
            headers=_passed(request.headers.items()),
            skip_auto_headers=(hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.CONTENT_TYPE),
            allow_redirects=False,
            timeout=timeout,
        ) as answer:
            headers = _passed(answer.headers.items())
            response = web.StreamResponse(status=answer.status, headers=headers)
            try:
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    await response.write(piece)
                await response.write_eof()
            except (ClientError, OSError, TimeoutError):  # either side broke off
                if request.transport is not None:
                    request.transport.abort()  # a part must not pass for the whole
            return response


def _no_worker() -> Problem:
    return Problem(
        503, "no-worker", "No worker serves just now", "Nothing was done. Try again.",
        headers={"Retry-After": "1"}, repeat_is_safe=True,
    )  # fmt: skip


def _reasons(states: list[WorkerState], *, draining: bool) -> list[str]:
    """Why not ready; none where one worker is."""
    if draining:
        return ["draining"]
    if any(state.ready for state in states):
        return []
    each = [f"worker {state.slot}: {reason}" for state in states for reason in state.reasons]
    return ["no worker is ready", *each]


def _passed(headers: Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in headers:
        if name.lower() not in HOP_BY_HOP:
            kept.add(name, value)
    return kept


def _never_sent(error: Exception) -> bool:
    from aiohttp import ClientConnectorError, ConnectionTimeoutError

    return isinstance(error, ClientConnectorError | ConnectionTimeoutError)


def _failed(request: web.BaseRequest, error: BaseException) -> None:
    log.error("request failed", path=request.path, exc_info=error)
