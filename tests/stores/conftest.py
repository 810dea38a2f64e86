import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.ledger import Ledger

from .making import Stores
from .servers import stop_shared, store_url

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def quick_folder() -> Iterator[Path]:
    """A folder where a sync costs nothing, for what does not depend on the disk."""
    usable = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK)
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY if usable else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _stop_servers() -> Iterator[None]:
    yield
    stop_shared()


KINDS = ["memory", "sqlite", "sqlite inline", "valkey", "redis 6.2", "sentinel", "cluster"]


@pytest.fixture(params=KINDS)
async def stores(request: pytest.FixtureRequest, quick_folder: Path) -> AsyncIterator[Stores]:
    """One store of each kind, on which a test opens as many replicas as it wants."""
    opened = Stores(request.param, quick_folder / "ledger.db", store_url(request.param))
    yield opened
    await opened.close()


@pytest.fixture
async def ledger(stores: Stores) -> Ledger:
    return await stores.replica()
