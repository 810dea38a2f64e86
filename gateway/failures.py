"""What fails unforeseen is told in the log, and nowhere else."""

from aiohttp import web

from gateway.ledger import LedgerUnavailable
from gateway.telemetry import Telemetry


class Failures:
    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def task_failed(self, name: str, error: BaseException) -> None:
        if isinstance(error, LedgerUnavailable):
            self._telemetry.log_of("ledger").warning(
                "ledger unavailable", task=name, reason=str(error)
            )
        else:
            self._telemetry.log_of("process").error("task failed", task=name, exc_info=error)

    def surprised(self, error: BaseException) -> None:
        self._telemetry.log_of("requests").error("request failed", exc_info=error)

    def request_failed(self, request: web.BaseRequest, error: BaseException) -> None:
        log = self._telemetry.log_of("requests")
        path = request.raw_path.partition("?")[0]
        if isinstance(error, ConnectionError):  # of the client: an upstream's is translated
            log.info("client left before its answer was whole", path=path, why=str(error))
        else:
            log.error("request failed", path=path, exc_info=error)
