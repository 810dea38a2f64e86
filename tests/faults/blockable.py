"""A gateway whose event loop SIGUSR1 blocks until a file appears beside its configuration."""

import signal
import sys
import time
from pathlib import Path

from gateway.cli import main

GO_ON = "go-on"
BLOCKED = "blocked"


def _block(_number: int, _frame: object) -> None:
    """In the main thread, between two steps of the loop: its other threads go on."""
    folder = Path(sys.argv[sys.argv.index("--config") + 1]).parent
    (folder / BLOCKED).touch()
    while not (folder / GO_ON).exists():
        time.sleep(0.02)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _block)
    main()
