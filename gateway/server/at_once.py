"""Requests that need no parser, no request object and no task."""

from gateway.server.failing import Failing
from gateway.server.heads import Head
from gateway.server.intake import Intake


class AtOnce(Failing):
    """Answers what the listener has at hand, where nothing else is under way on the connection and
    this request doesn't end it."""

    _intake: Intake

    def _answer_at_once(self, head: Head, raw: bytes) -> bool:
        if head.method != b"GET" or head.body_bytes != 0 or not self._is_free_for(head):
            return False
        return self._answered_with(self._listening.at_hand(head, raw, self._address))

    def _turn_off(self, head: Head) -> bool:
        """Where there is too much to do, that is all that is done: no request, no task. Its body
        came along with it, or there is none."""
        if self._intake.in_body or not self._is_free_for(head):
            return False
        return self._answered_with(self._listening.turned_off(head))

    def _is_free_for(self, head: Head) -> bool:
        transport = self._raw
        if self.at_work or head.closes or not head.minor:
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
