"""A worker that ends by itself in the moment it is killed."""

import asyncio
import os
import signal
import socket
import threading

import pytest

from gateway.supervisor.channel import Channel
from gateway.supervisor.workers import Worker


async def test_a_kill_leaves_the_status_of_a_worker_that_has_just_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a machine so busy that a worker ends, and nobody has come to see it in time."""
    seen = threading.Event()
    waitpid = os.waitpid

    def seen_late(pid: int, options: int) -> tuple[int, int]:
        if threading.current_thread() is not threading.main_thread():
            seen.wait(20)
        return waitpid(pid, options)

    monkeypatch.setattr(os, "waitpid", seen_late)
    worker, ours = await _worker("read line; exit 7")
    ours.shutdown(socket.SHUT_WR)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - the loop must not see it
    worker.kill()
    seen.set()
    status, _ = await worker.life(lambda _: None)
    assert status == 7


async def test_a_kill_ends_a_worker_that_hangs() -> None:
    worker, _ = await _worker("exec sleep 20")
    worker.kill()
    status, _ = await worker.life(lambda _: None)
    assert status == -signal.SIGKILL


async def _worker(script: str) -> tuple[Worker, socket.socket]:
    """A shell in a worker's place, and our end of the channel, which is its input."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec("sh", "-c", script, stdin=theirs.fileno())
    return Worker(1, 1, process, await Channel.on(ours)), ours
