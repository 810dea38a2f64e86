"""``python -m gateway``: the same as ``ordergate``."""

import signal
import sys

if sys.argv[1:2] == ["serve"]:  # as early as can be: the rest takes a while to be imported
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # until ``heed_hangups``

from gateway.cli import main

if __name__ == "__main__":
    main()
