"""Orders that are begun before a request is made of the bytes, and answered as they settle.

A submission that is here whole is checked and its placing begun, as the handler would; the answer
that settles it is written straight back. Whatever else becomes of it (a key that was used, a
refusal, doubt, a client that is slow, a drain) is the handler's, which takes it over where it
stands. Placing is a task of its own in either case.
"""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from gateway.api.answers import Relayed
from gateway.api.orders import BEGUN_ORDER, Arrival, Begun, OrderRoute, OrdersApi
from gateway.api.proxies import Peer
from gateway.api.straight_lines import BYTES_MAX, Back, Handler, Line, StraightLog
from gateway.api.templates import order_head
from gateway.placement import Settled
from gateway.telemetry import Telemetry
from middleware.admission import Admission
from middleware.idempotency.gate import GatePolicy, submission_at_hand
from middleware.problems import BEGAN, REQUEST_ID, Problem
from middleware.tasks import Tasks, result_of


class Submits(NamedTuple):
    """An order route whose submissions may go straight, and what it asks of them."""

    route: OrderRoute
    policy: GatePolicy


class StraightOrders:
    """``handler`` takes what goes on; ``failed`` is told of what nobody foresaw."""

    def __init__(
        self,
        *,
        orders: OrdersApi,
        handler: Handler,
        admission: Admission,
        telemetry: Telemetry,
        tasks: Tasks,
        log: StraightLog,
        failed: Callable[[BaseException], None],
    ) -> None:
        self.orders = orders
        self.handler = handler
        self.admission = admission
        self.telemetry = telemetry
        self.tasks = tasks
        self.log = log
        self.failed = failed

    def begin(
        self, to: Submits, line: Line, peer: Peer, body: bytes, back: Back
    ) -> "OrderCourse | HandedOver | None":
        """Check it and place it; None, where nobody foresaw what happens: the handler meets it
        again, and tells."""
        arrival = Arrival(line.fields, peer, line.identity, back.transport)
        method, began = line.method.decode("ascii"), back.now()
        try:
            submission = submission_at_hand(line.fields, method, line.target, body, to.policy)
            begun = self.orders.made(submission, to.route, arrival, began)
        except Problem as refused:
            return self._hand_over(line, back, began, refused)
        except Exception:  # noqa: BLE001 - as above
            return None
        if not begun.counted:
            return self._hand_over(line, back, began, begun)
        try:
            placing = self.orders.begin(begun)
        except Exception:  # noqa: BLE001 - as above
            return None
        self.admission.enter()
        return OrderCourse(self, line, back, begun, placing.task)

    def _hand_over(
        self, line: Line, back: Back, began: float, begun: Begun | Problem
    ) -> "HandedOver":
        self.admission.enter()
        return HandedOver(self, line, back, began, begun)


class _Course:
    """A submission of which a request may be made."""

    __slots__ = ("_back", "_began", "_begun", "_lane", "_line")

    def __init__(
        self, lane: StraightOrders, line: Line, back: Back, began: float, begun: Begun | Problem
    ) -> None:
        self._lane = lane
        self._line = line
        self._back = back
        self._began = began
        self._begun = begun

    @property
    def handler(self) -> Handler:
        return self._lane.handler

    def marks(self) -> dict[Any, Any]:
        """What the request that goes on has: an id, a place at work and what was begun."""
        identity = self._line.identity
        return {REQUEST_ID: identity, BEGAN: self._began, BEGUN_ORDER: self._begun}

    def _end(self, status: int | None, size: int, order: str | None = None) -> None:
        took_s = self._back.now() - self._began
        self._lane.admission.ended(took_s)
        if status is not None:
            self._lane.telemetry.answered("order", status)
        self._lane.log(self._line, status, size, took_s, order)


class HandedOver(_Course):
    """One that is refused, or more than its client may make: the handler tells, and judges it no
    second time."""

    __slots__ = ("_soon",)

    def __init__(
        self, lane: StraightOrders, line: Line, back: Back, began: float, begun: Begun | Problem
    ) -> None:
        super().__init__(lane, line, back, began, begun)
        self._soon = asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        if not self._back.goes_on():
            self.abandoned()

    def abandoned(self) -> None:
        self._end(None, 0)
        self._back.answered(b"")

    def cancel(self) -> None:
        self._soon.cancel()
        self._end(None, 0)


class OrderCourse(_Course):
    """One order on its way; ends once, by ``Back.answered``, ``Back.goes_on`` or ``cancel``."""

    __slots__ = ("_left", "_order", "_seeing_out", "_task", "_timer")

    def __init__(
        self,
        lane: StraightOrders,
        line: Line,
        back: Back,
        begun: Begun,
        task: "asyncio.Task[Any]",
    ) -> None:
        super().__init__(lane, line, back, begun.began, begun)
        self._order = begun
        self._task = task
        self._left = False
        self._seeing_out: asyncio.Task[tuple[int, str | None]] | None = None
        self._timer = task.get_loop().call_at(begun.answer_by, self._go_on)
        task.add_done_callback(self._placed)

    def _placed(self, _: object) -> None:
        if self._left:  # in this very turn of the loop
            return
        try:
            whole = self._whole()
        except Exception as error:  # noqa: BLE001 - the last line of defence: the handler tells
            self._lane.failed(error)
            whole = None
        if whole is None:
            self._go_on()
        else:
            self._came(*whole)

    def _came(self, placed: Settled, answer: Relayed, head: bytes) -> None:
        self._leave()
        try:
            try:
                self._lane.orders.count(self._order, placed)
            finally:
                self._end(answer.status, len(answer.body), placed.entry.id)
        except Exception as error:  # noqa: BLE001 - what was answered is told, counted or not
            self._lane.failed(error)
        self._back.answered(head + answer.body)

    def _whole(self) -> tuple[Settled, Relayed, bytes] | None:
        """The outcome, the answer and its head, where they may be written straight back."""
        found = self._lane.orders.whole(self._order, self._line.fields)
        if found is None or len(found[1].body) > BYTES_MAX or not self._back.may_be_answered():
            return None
        head = order_head(found[1], self._line.identity.encode("ascii"), self._back.date())
        return None if head is None else (*found, head)

    def _go_on(self) -> None:
        self._leave()
        if not self._back.goes_on():
            self.abandoned()

    def _leave(self) -> None:
        """Nothing more is to be heard of the task or of time."""
        self._left = True
        self._timer.cancel()
        self._task.remove_done_callback(self._placed)

    def abandoned(self) -> None:
        """The client has left before the handler had it. What becomes of the order is counted."""
        unheard = self._lane.orders.unheard(self._order)
        self._seeing_out = self._lane.tasks.start(unheard, name="order seen out")
        self._seeing_out.add_done_callback(self._seen_out)

    def _seen_out(self, task: "asyncio.Task[tuple[int, str | None]]") -> None:
        status, order = result_of(task) or (None, None)
        self._end(status, 0, order)
        self._back.answered(b"")

    def cancel(self) -> None:
        """The drain is over. Placing it goes on for as long as anything does."""
        if self._seeing_out is not None:
            self._seeing_out.cancel()
            return
        self._leave()
        self._end(None, 0)
