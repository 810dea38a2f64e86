"""``./run test --simulate N [--simulate-from SEED]``: many histories, in parallel processes.

A range of seeds is played in chunks; the sums of each whole chunk are kept in ``.simulation/`` by
the code that was played (``kept``). So a run that was killed goes on where it was, and ranges
played on different days add up. A failing seed prints the command that plays it again, and the
life of its order.
"""

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from . import kept
from .histories import play
from .kept import Exercised, exercised
from .plans import plan
from .safeguards import SAFEGUARDS, TABLE_HEAD, row_of
from .tally import Tally

STALLED_S = 900.0
"""A chunk takes seconds; a machine that is busy with other things may take a hundred times that."""

SAID_EVERY_S = 15.0
"""Where nobody watches a bar."""

BAR_CHARACTERS = 30


def main(arguments: Sequence[str]) -> int:
    """The exit status: 1 where any history had a flaw."""
    asked = _asked(arguments)
    if asked.safeguards:
        return _show_safeguards(asked.processes)
    first, end = asked.simulate_from, asked.simulate_from + asked.simulate
    code = exercised()
    known = kept.kept(code.key)
    chunks = list(_chunks(first, end))
    left = [chunk for chunk in chunks if not _done(chunk, known)]
    tally, began = Tally(), time.monotonic()
    progress = Progress(sum(map(len, chunks)), sum(map(len, chunks)) - sum(map(len, left)))
    gc.collect()
    gc.freeze()  # what is loaded is shared by all processes, and never looked through again
    # A process plays one chunk and ends: its garbage is never collected, since that took a tenth
    # of the time, and fifty histories leave some 150 MB.
    forking = multiprocessing.get_context("fork")
    with forking.Pool(asked.processes, initializer=gc.disable, maxtasksperchild=1) as pool:
        played = pool.imap_unordered(play_chunk, left)
        for _ in left:
            chunk, sums = played.next(STALLED_S)
            tally += sums
            kept.keep(code.key, chunk, sums)
            progress.show(tally)
    progress.end()
    _report(tally, time.monotonic() - began, asked.processes)
    _report_all(code)
    return 1 if tally.failing else 0


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run test", description=(__doc__ or "").split("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--simulate", type=int, metavar="N", help="play N histories")
    what.add_argument(
        "--safeguards", action="store_true", help="switch each safeguard off, and say what finds it"
    )
    parser.add_argument(
        "--simulate-from", type=int, default=0, metavar="SEED", help="the first seed (default 0)"
    )
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), metavar="P")
    return parser.parse_args(arguments)


def _show_safeguards(processes: int) -> int:
    """Print the table; 1 where one is not missed."""
    print(*TABLE_HEAD, sep="\n", flush=True)
    missed = True
    with multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=1) as pool:
        for row in pool.imap(row_of, range(len(SAFEGUARDS))):
            print(row, flush=True)
            missed = missed and "not found" not in row
    return 0 if missed else 1


def _chunks(first: int, end: int) -> Iterator[range]:
    while first < end:
        chunk = range(first, min(end, first - first % kept.CHUNK + kept.CHUNK))
        yield chunk
        first = chunk.stop


def _done(chunk: range, known: dict[int, Tally]) -> bool:
    """Whether it is known to be clean. One that failed is played again, for its report."""
    sums = known.get(chunk.start)
    return sums is not None and len(chunk) == sums.histories and not sums.failing


def play_chunk(chunk: range) -> tuple[range, Tally]:
    """Play these seeds and sum up."""
    tally, began = Tally(), time.process_time()
    for seed in chunk:
        try:
            played = play(plan(seed))
        except Exception as error:  # noqa: BLE001 - one history that breaks off is one that fails
            tally.break_off(seed, error)
        else:
            tally.add(played)
    tally.seconds = time.process_time() - began
    return chunk, tally


class Progress:
    """A bar on a terminal, else a line now and then."""

    def __init__(self, wanted: int, known: int, say: Callable[[str], None] | None = None) -> None:
        self._wanted = wanted
        self._known = known
        self._began = time.monotonic()
        self._said = self._began
        self._live = sys.stderr.isatty()
        self._say = say or (lambda text: print(text, end="", file=sys.stderr, flush=True))
        if known:
            self._say(f"{known:,} of these histories were played before, without a flaw\n")

    def show(self, tally: Tally) -> None:
        """Say how far it is."""
        now = time.monotonic()
        if not self._live and now - self._said < SAID_EVERY_S:
            return
        self._said = now
        done = self._known + tally.histories
        rate = tally.histories / (now - self._began)
        left_s = (self._wanted - done) / rate
        filled = BAR_CHARACTERS * done // self._wanted
        bar = "#" * filled + "-" * (BAR_CHARACTERS - filled)
        text = f"[{bar}] {done:,}/{self._wanted:,} {rate:.1f}/s, {left_s:.0f} s left"
        text += f", {len(tally.failing)} failing"
        self._say(f"\r\x1b[K{text}" if self._live else f"{text}\n")

    def end(self) -> None:
        if self._live:
            self._say("\r\x1b[K")


def _report(tally: Tally, took_s: float, processes: int) -> None:
    for report in tally.reports:
        print(report, end="\n\n")
    if tally.histories:
        rate = tally.histories / took_s
        print(f"{rate:.1f} histories/s, {processes} processes, {took_s:.0f} s")
        print(*tally.lines(), sep="\n")
    if tally.failing:
        print(f"{len(tally.failing)} histories failed: seeds {tally.failing}")


def _report_all(code: Exercised) -> None:
    """All that was ever played of this code, in whole chunks."""
    print(f"\ncode {code}")
    chunks = kept.kept(code.key)
    if chunks:
        total = Tally()
        for sums in chunks.values():
            total += sums
        print(f"of it in all: seeds {kept.ranges(chunks)} ({total.seconds:,.0f} processor seconds)")
        print(*total.lines(), sep="\n")
        if total.failing:
            print(f"failing: {total.failing}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
