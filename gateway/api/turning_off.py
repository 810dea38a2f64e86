"""Refusals where there is too much to do, given before a request is made of the bytes.

A refusal must cost far less than an answer, or refusing takes up the time that was to be kept for
those who were let in: no request object, no task, no middleware. What they would have done (an id,
the counts, what is said on order routes) is done here in the same way; request rates are not
counted, and the log has one line a second for all of them.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from gateway.api.answers import order_members
from gateway.telemetry import Telemetry
from middleware.admission import Admission, Priority, Shed
from middleware.idempotency.rules import ORDINARY_KEY, Key, parse_key
from middleware.messages import RawHeaders, first

LOG_EVERY_S = 1.0
"""A rush of ten thousand a second must not fill the disk."""

_ID = "request-id-goes-here"
_STATUS = 503
_KEY_LINE = b"Idempotency-Key: %b\r\n"
_ORDINARY_KEY = re.compile(ORDINARY_KEY)


@dataclass(slots=True)
class _Form:
    """A refusal but for the request's own id and key; ``count`` were given in this turn."""

    kind: str
    priority: Priority
    why: Shed
    head: bytes
    before: bytes
    after: bytes
    count: int = 0


class TurningOff:
    """``ranked(method, target)``: the kind of the route and the request's priority; None for one
    that is refused for another reason.

    Within a turn of the loop nothing becomes free: what is found of a target holds for all who ask
    for it in that turn."""

    def __init__(
        self,
        *,
        ranked: Callable[[bytes, bytes], tuple[str, Priority] | None],
        admission: Admission,
        telemetry: Telemetry,
        make_id: Callable[[], str],
    ) -> None:
        self._ranked = ranked
        self._admission = admission
        self._telemetry = telemetry
        self._make_id = make_id
        self._texts: dict[tuple[bool, Shed], tuple[bytes, bytes, bytes]] = {}
        self._forms: dict[tuple[bytes, bytes], _Form] = {}
        self._untold: Counter[tuple[str, Shed]] = Counter()

    def __call__(
        self, method: bytes, target: bytes, fields: RawHeaders, date: Callable[[], bytes]
    ) -> bytes | None:
        """The answer's bytes, or None: then the request goes the usual way."""
        if self._admission.is_wide_open:
            return None
        form = self._forms.get((method, target)) or self._form(method, target, date)
        if form is None:
            return None
        return self._refusal(form, _key_line(fields) if form.kind == "order" else b"")

    def again(self, method: bytes, target: bytes, key: bytes) -> bytes | None:
        """The same where it was refused to another in this turn of the loop; else None. ``key``:
        an ordinary Idempotency-Key, or nothing."""
        form = self._forms.get((method, target))
        if form is None:
            return None
        return self._refusal(form, _KEY_LINE % key if key and form.kind == "order" else b"")

    def _refusal(self, form: _Form, key_line: bytes) -> bytes:
        form.count += 1
        identity = self._make_id().encode("ascii")
        parts = form.head, key_line, identity, form.before, identity, form.after
        return b"%b%bRequest-Id: %b\r\n%b%b%b" % parts

    def _form(self, method: bytes, target: bytes, date: Callable[[], bytes]) -> _Form | None:
        ranked = self._ranked(method, target) if method != b"HEAD" else None
        if ranked is None:
            return None
        kind, priority = ranked
        why = self._admission.turn_off(priority)
        if why is None:
            return None
        head, before, after = self._text(why, of_order=kind == "order")
        size = len(before) + len(self._make_id()) + len(after)
        before = b"Date: %b\r\nContent-Length: %d\r\n\r\n%b" % (date(), size, before)
        if not self._forms:
            asyncio.get_running_loop().call_soon(self._turn_ends)
        form = self._forms[method, target] = _Form(kind, priority, why, head, before, after)
        return form

    def _turn_ends(self) -> None:
        forms, self._forms = self._forms, {}
        if not self._untold:
            asyncio.get_running_loop().call_later(LOG_EVERY_S, self._log)
        for form in forms.values():
            self._telemetry.answered(form.kind, _STATUS, form.count)
            self._admission.turned_off(form.priority, form.why, form.count)
            self._untold[form.kind, form.why] += form.count

    def _log(self) -> None:
        untold, self._untold = self._untold, Counter()
        for (kind, why), count in untold.items():
            self._telemetry.log_of("requests").warning(
                "requests refused for load", kind=kind, reason=why.value, count=count
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


def _key_line(fields: RawHeaders) -> bytes:
    """The key as the client wrote it, if it is one."""
    sent = first(fields, b"idempotency-key")
    if sent is None:
        return b""
    if not _ORDINARY_KEY.fullmatch(sent) and not isinstance(parse_key([sent]), Key):
        return b""
    return _KEY_LINE % sent
