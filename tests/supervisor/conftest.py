"""An order backend, and gateways of several workers that are stopped after each story."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.scenarios.backend import Backend
from tests.supervisor.processes import Workers

MakeWorkers = Callable[..., Workers]


@pytest.fixture
async def make_workers(tmp_path: Path, backend: Backend) -> AsyncIterator[MakeWorkers]:
    """``make_workers(2, drain_delay_s=1)``: a supervisor that is not started yet."""
    made: list[Workers] = []

    def make(workers: int = 2, **more: object) -> Workers:
        made.append(Workers(tmp_path, backend.port, workers, **more))
        return made[-1]

    yield make
    for each in made:
        await each.stop()


@pytest.fixture
async def workers(make_workers: MakeWorkers) -> Workers:
    """Two workers, both ready."""
    two = make_workers()
    await two.start()
    await two.all_ready()
    return two
