"""Refusals where there is too much to do, given before a request is made of the bytes.

A refusal must cost far less than an answer, or refusing takes up the time that was to be kept for
those let in. What stands between the listener and the limit of requests at work (an id, the log,
the counts, what is said on order routes) is done here in the same way; request rates are not
counted.
"""

from collections.abc import Callable
from time import perf_counter

from gateway.api.answers import order_members
from gateway.telemetry import Telemetry
from middleware.admission import Admission, Priority, Shed
from middleware.idempotency.rules import Key, parse_key
from middleware.messages import RawHeaders, first

_ID = "request-id-goes-here"
_STATUS = 503


class TurningOff:
    """``ranked(method, target)``: the kind of the route and the request's priority; None for one
    that is refused for another reason."""

    def __init__(
        self,
        *,
        ranked: Callable[[bytes, bytes], tuple[str, Priority] | None],
        admission: Admission,
        telemetry: Telemetry,
        make_id: Callable[[], str],
        client: Callable[[str, RawHeaders], str],
    ) -> None:
        self._ranked = ranked
        self._admission = admission
        self._telemetry = telemetry
        self._make_id = make_id
        self._client = client
        self._texts: dict[tuple[bool, Shed], tuple[bytes, bytes, bytes]] = {}

    def __call__(
        self, method: bytes, target: bytes, fields: RawHeaders, address: str, date: bytes
    ) -> bytes | None:
        """The answer's bytes, or None: then the request goes the usual way."""
        if self._admission.is_open or method == b"HEAD":
            return None
        began = perf_counter()
        ranked = self._ranked(method, target)
        if ranked is None:
            return None
        kind, priority = ranked
        why = self._admission.turn_off(priority)
        if why is None:
            return None
        identity = self._make_id()
        of_order = kind == "order"
        head, before, after = self._text(why, of_order=of_order)
        body = before + identity.encode("ascii") + after
        self._telemetry.answered(kind, _STATUS)
        if not self._telemetry.is_silent("requests", "info"):
            self._log(method, target, fields, address, identity, len(body), began)
        return b"%b%bRequest-Id: %b\r\nDate: %b\r\nContent-Length: %d\r\n\r\n%b" % (
            head,
            _key_line(fields) if of_order else b"",
            identity.encode("ascii"),
            date,
            len(body),
            body,
        )

    def _text(self, why: Shed, *, of_order: bool) -> tuple[bytes, bytes, bytes]:
        """The head's first lines, and the body before and after the id; made once."""
        text = self._texts.get((of_order, why))
        if text is None:
            problem = self._admission.problem(why)
            if of_order:
                problem.members = {**order_members(None), **problem.members}
            told = problem.render(_ID)
            lines = "".join(f"{name}: {value}\r\n" for name, value in told.fields)
            before, after = told.body.split(_ID.encode("ascii"))
            head = f"HTTP/1.1 {_STATUS} Service Unavailable\r\n{lines}".encode("ascii")
            text = self._texts[of_order, why] = head, before, after
        return text

    def _log(
        self,
        method: bytes,
        target: bytes,
        fields: RawHeaders,
        address: str,
        identity: str,
        size: int,
        began: float,
    ) -> None:
        self._telemetry.log_of("requests").info(
            "request",
            method=method.decode("ascii"),
            path=target.partition(b"?")[0].decode("ascii"),
            status=_STATUS,
            duration_ms=round((perf_counter() - began) * 1000, 3),
            bytes=size,
            request_id=identity,
            client=self._client(address, fields),
        )


def _key_line(fields: RawHeaders) -> bytes:
    """The key as the client wrote it, if it is one."""
    sent = first(fields, b"idempotency-key")
    if sent is None or not isinstance(parse_key([sent]), Key):
        return b""
    return b"Idempotency-Key: %b\r\n" % sent.strip()
