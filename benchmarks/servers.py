"""One of three servers slow, then dead, then back: ``./run bench servers``.

What orders and reads notice of it, and how much the ill server is still asked.
"""

import argparse
from typing import Any

from benchmarks.rushing import per_second, rush, save, truth

USUAL_S, SLOW_S, WORKERS = 0.01, 0.5, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each of the four parts")
    parser.add_argument("--rate", type=float, default=150.0)
    options = parser.parse_args()
    part = options.seconds
    commands = [
        {"at": part, "servers": [1], "work_s": SLOW_S},
        {"at": 2 * part, "servers": [1], "dead": True},
        {"at": 3 * part, "servers": [1], "dead": False, "work_s": USUAL_S},
    ]
    server = {"work_s": USUAL_S, "workers": WORKERS}
    with rush(servers=3, server=server, reads=0.5) as gateway:
        gateway.run(rate=50, seconds=2)
        result = gateway.run(rate=options.rate, seconds=4 * part, commands=commands)
    good = per_second(result, "order ok", "read ok")
    bad = per_second(result, *(f"{kind} {fate}" for kind in ("order", "read") for fate in BAD))
    p99 = [each["p99_ms"] for each in result["seconds"]]
    names = ("all well", "one slow", "one dead", "back")
    parts = {
        name: {
            "good": sum(good[int(at * part) : int((at + 1) * part)]),
            "bad": sum(bad[int(at * part) : int((at + 1) * part)]),
            "p99_ms_median": sorted(p99[int(at * part) : int((at + 1) * part)])[int(part) // 2],
        }
        for at, name in enumerate(names)
    }
    summary = {
        "rate": options.rate,
        "parts": parts,
        "totals": result["totals"],
        "taken": result["taken"],
        **truth(result),
    }

    def plot(pyplot: Any) -> Any:
        figure, (upper, lower) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 5))
        upper.plot(good, label="answered a second")
        upper.plot(bad, label="refused, pending, left")
        lower.plot(p99, label="99 % within, ms")
        for axes in (upper, lower):
            for at, name in enumerate(names):
                axes.axvline(at * part, linestyle=":", color="grey")
                axes.text(at * part, 0, name)
            axes.legend()
        lower.set_xlabel("seconds")
        return figure

    save("servers", summary, plot)


BAD = ("refused", "pending", "left", "other")

if __name__ == "__main__":
    main()
