"""Processes: one gateway, or a supervisor and its workers.

With ``workers = 1`` the process is the gateway (``process``). With more it is a supervisor
(``supervising``) that starts workers (``worker``), each a gateway of its own; they share the
storefront port (SO_REUSEPORT) and the ledger, and the supervisor answers operators for them
(``admin``, ``scrapes``). Supervisor and worker talk over a socket pair (``channel``), and a worker
whose supervisor is gone drains and ends. ``reloading`` says what SIGHUP can change.
"""

import asyncio

from gateway.settings import Settings
from gateway.supervisor.logs import STDERR, Levels, Unfailing, configure_logging
from gateway.supervisor.process import EXIT_AGAIN, EXIT_REFUSED, loop_factory, run_alone
from gateway.supervisor.reloading import Reread

__all__ = ["EXIT_AGAIN", "EXIT_REFUSED", "STDERR", "Unfailing", "serve"]


def serve(settings: Settings, read: Reread) -> int:
    """Run until SIGTERM or SIGINT; the exit status. A second signal hurries the drain; SIGHUP
    reads the configuration anew by ``read``."""
    levels = configure_logging(settings.log)
    if settings.listen.workers == 1:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(run_alone(settings, read, levels))
    return asyncio.run(_supervise(settings, read, levels))


async def _supervise(settings: Settings, read: Reread, levels: Levels) -> int:
    from gateway.supervisor.supervising import Supervisor

    return await Supervisor(settings, read, levels).run()
