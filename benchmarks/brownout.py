"""A backend that gets twenty times slower for a while, and after: ``./run bench brownout``.

The same rush of orders and reads on a gateway as it is, and on one with every limit out of reach.
"""

import argparse
from typing import Any

from benchmarks.rushing import UNPROTECTED, per_second, rush, save, truth

USUAL_S, SLOW_S, WORKERS = 0.01, 0.2, 8
"""Eight requests of 10 ms at a time are 800 a second; of 200 ms, forty."""

BEFORE_S, AFTER_S = 10.0, 30.0


def arm(limits: str, upstream: str, options: argparse.Namespace) -> dict[str, Any]:
    ends = BEFORE_S + options.seconds
    commands = [{"at": BEFORE_S, "work_s": SLOW_S}, {"at": ends, "work_s": USUAL_S}]
    server = {"work_s": USUAL_S, "workers": WORKERS}
    with rush(limits=limits, upstream=upstream, server=server, reads=0.5) as gateway:
        gateway.run(rate=50, seconds=2)
        result = gateway.run(rate=options.rate, seconds=ends + AFTER_S, commands=commands)
        memory = round(gateway.rss_mib)
    good = per_second(result, "order ok", "read ok")
    usual = sum(good[1 : int(BEFORE_S)]) / (BEFORE_S - 1)
    recovered = next(
        (second for second in range(int(ends), len(good)) if good[second] >= 0.9 * usual), None
    )
    return {
        "totals": result["totals"],
        "usual_per_s": round(usual, 1),
        "recovered_after_s": None if recovered is None else recovered - int(ends),
        "refused_p99_ms": {
            kind: result["p99_ms"].get(f"{kind} refused", 0.0) for kind in ("order", "read")
        },
        "rss_mib": memory,
        "good_each_second": good,
        "refused_each_second": per_second(result, "order refused", "read refused"),
        **truth(result),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long it is slow")
    parser.add_argument("--rate", type=float, default=120.0)
    options = parser.parse_args()
    arms = {
        "protected": arm("adaptive = true\nrequests_min = 16", "breaker_slow_s = 1.0", options),
        "unprotected": arm(UNPROTECTED, "breaker_calls_min = 1000000", options),
    }

    def plot(pyplot: Any) -> Any:
        figure, axes = pyplot.subplots(figsize=(8, 4))
        for name, found in arms.items():
            axes.plot(found["good_each_second"], label=f"{name}: answered")
        axes.plot(arms["protected"]["refused_each_second"], ":", label="protected: refused")
        axes.axvspan(BEFORE_S, BEFORE_S + options.seconds, alpha=0.1)
        axes.set_xlabel("seconds")
        axes.set_ylabel("requests a second")
        axes.legend()
        return figure

    save("brownout", {"rate": options.rate, **arms}, plot)


if __name__ == "__main__":
    main()
