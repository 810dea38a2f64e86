"""Two tests that run side by side never get one port."""

import errno
import random
import socket

import pytest

from tests.ports import HELD_MAX, free_port


def test_a_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [free_port() for _ in range(3)]
    chosen, choice = iter(ports), random.choice
    monkeypatch.setattr(random, "choice", lambda others: next(chosen, None) or choice(others))
    assert free_port() not in ports
    assert next(chosen, None) is None


def test_no_more_are_held_than_a_process_has_room_for() -> None:
    assert len({free_port() for _ in range(HELD_MAX + 50)}) > HELD_MAX


def test_a_server_can_listen_there_and_nobody_else_then() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(OSError) as refused:
        socket.create_server(("127.0.0.1", port))
    assert refused.value.errno == errno.EADDRINUSE
