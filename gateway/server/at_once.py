"""Requests that need no parser, no request object and no task."""

from abc import abstractmethod

from aiohttp.streams import EMPTY_PAYLOAD

from gateway.server.failing import Failing
from gateway.server.heads import Head
from gateway.server.intake import Intake
from gateway.server.shapes import Shape, shape_of
from gateway.server.whole import Whole


class AtOnce(Failing):
    """Answers what the listener has at hand, and sends straight on what it can, where nothing else
    is under way on the connection and this request doesn't end it.

    One request goes straight at a time; what is asked meanwhile waits for its turn behind it.
    """

    _intake: Intake
    _straight: Whole | None = None
    _refused_shape: Shape | None = None
    """Of the last request that was turned off."""

    @abstractmethod
    def one_less(self) -> None:
        """A request was answered."""

    def _answer_at_once(self, head: Head, raw: bytes) -> bool:
        if head.method != b"GET" or head.body_bytes != 0:
            return False
        return self._answered_with(self._listening.at_hand(head, raw, self._address, self._limits))

    def _turn_off(self, head: Head) -> bool:
        """Where there is too much to do, that is all that is done: no request, no task. Its body
        came along with it, or there is none."""
        if self._intake.in_body:
            return False
        if not self._answered_with(self._listening.turned_off(head)):
            return False
        self._refused_shape = shape_of(head.fields) if head.body_bytes else None
        return True

    def _turn_off_again(self, raw: bytes) -> bool:
        """The same for a request much like the last one that was turned off: not even its head is
        judged anew. Only where all that has come is looked at together."""
        shape = self._refused_shape
        if shape is None or not self._intake.between or not self._is_free():
            return False
        found = shape.look(raw) if len(raw) <= self._limits.head_bytes_max else None
        if found is None:
            return False
        method, target, key, length = found.group(1, 2, shape.key, shape.length)
        body_bytes = int(length or b"0")
        if not body_bytes or found.end() + body_bytes != len(raw):
            return False  # what has no body may be at hand
        return self._answered_with(self._listening.turn_off_again(method, target, key))

    def _is_free_for(self, head: Head) -> bool:
        """Whether this request may be answered without a turn: what the others here ask first."""
        return not head.closes and head.minor > 0 and self._is_free()

    def _is_free(self) -> bool:
        transport = self._raw
        if self._queued > self._answered:
            return False
        if self._waiter is None:  # the last answer is out, but may have been the last of all
            return False
        if transport is None or transport.is_closing() or self._paused or self._half_closed:
            return False
        last = self._answered + 1 >= self._limits.requests_per_connection_max
        return not (last or self._listening.draining)

    def _answered_with(self, answer: bytes | None) -> bool:
        if answer is None or self._raw is None:
            return False
        self._listening.sluice.write(self._raw, answer)
        self._queued += 1
        self._answered += 1
        self._await_next()
        return True

    # -- a request that goes straight --------------------------------------------------------

    def _go_straight(self, head: Head, raw: bytes) -> bool:
        if not head.ordinary or self._intake.in_body:
            return False
        course = self._listening.straight(head, raw, self._address, self)
        if course is None:
            return False
        self._queued += 1
        self._course = course
        self._straight = Whole(head, raw, course)
        return True

    def now(self) -> float:
        return self._loop.time()

    def may_be_answered(self) -> bool:
        transport = self._raw
        if transport is None or transport.is_closing():
            return True
        if self._paused or self._half_closed or self._listening.draining:
            return False
        return self._answered + 1 < self._limits.requests_per_connection_max

    def answered(self, answer: bytes) -> None:
        transport = self._raw
        left = transport is None or transport.is_closing()
        if transport is not None and not left:
            transport.write(answer)
        self._over()
        self.one_less()
        if left:
            return
        if self._messages:
            self._wake()
        else:
            self._await_next()

    def goes_on(self) -> bool:
        """Ahead of whatever else waits for its turn."""
        whole = self._straight
        if whole is None or self._raw is None or self._raw.is_closing():
            return False
        self._over()
        self._messages.appendleft((whole, EMPTY_PAYLOAD))
        self._wake()
        return True

    def _over(self) -> None:
        if self._course is not None:
            self._listening.went_straight(self._course)
        self._course = self._straight = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def start(self) -> None:
        try:
            await super().start()
        finally:
            for message, _ in self._messages:
                if isinstance(message, Whole) and message.course is not None:
                    message.course.abandoned()
