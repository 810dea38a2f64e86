"""Goodput at 1 to 5 times what a gateway can do, protected and not: ``./run bench overload``.

Orders at a fixed rate, whatever becomes of those before them; a customer leaves after two seconds.
"""

import argparse
from typing import Any

from benchmarks.rushing import UNPROTECTED, per_second, rate, rush, save, truth

TIMES = (0.5, 1.0, 2.0, 3.0, 5.0)


def peak(seconds: float) -> float:
    """The highest rate of orders that are answered: offered more and more until it falls."""
    best = 0.0
    with rush(reads=0.0) as gateway:
        gateway.run(rate=100, seconds=2)
        offered, fallen = 200.0, 0
        while fallen < 2:  # once may be the machine
            result = gateway.run(rate=offered, seconds=seconds)
            good = rate(result, "order ok")
            best = max(best, good)
            print(f"offered {offered:.0f}/s: {good:.0f}/s answered", flush=True)
            fallen += good < offered * 0.9
            offered *= 1.25
    return best


def arm(limits: str, at_peak: float, seconds: float) -> list[dict[str, Any]]:
    found = []
    for times in TIMES:
        with rush(limits=limits, reads=0.0) as gateway:
            gateway.run(rate=min(100, at_peak), seconds=2)
            result = gateway.run(rate=at_peak * times, seconds=seconds)
            found.append(
                {
                    "times": times,
                    "offered": round(result["offered"] / len(result["seconds"]), 1),
                    "goodput": round(rate(result, "order ok"), 1),
                    "pending": round(rate(result, "order pending"), 1),
                    "refused": round(rate(result, "order refused"), 1),
                    "left": round(rate(result, "order left", "order other"), 1),
                    "ok_p99_ms": result["p99_ms"].get("order ok", 0.0),
                    "refused_p50_ms": result["p50_ms"].get("order refused", 0.0),
                    "refused_p99_ms": result["p99_ms"].get("order refused", 0.0),
                    "each_second": per_second(result, "order ok"),
                    "rush_late_ms": result["rush_late_ms"],
                    "rss_mib": round(gateway.rss_mib),
                    **truth(result),
                }
            )
            print(limits.splitlines()[:1] or "protected", found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    at_peak = peak(max(3.0, options.seconds / 3))
    arms = {
        "protected": arm("", at_peak, options.seconds),
        "unprotected": arm(UNPROTECTED, at_peak, options.seconds),
    }
    summary = {"peak_per_s": round(at_peak, 1), **arms}

    def plot(pyplot: Any) -> Any:
        figure, axes = pyplot.subplots(figsize=(7, 4))
        for name, found in arms.items():
            axes.plot(TIMES, [each["goodput"] for each in found], marker="o", label=name)
        axes.axhline(at_peak * 0.8, linestyle=":", label="80 % of peak")
        axes.set_xlabel("offered, in times of the peak")
        axes.set_ylabel("orders answered in 2 s, per second")
        axes.legend()
        return figure

    save("overload", summary, plot)


if __name__ == "__main__":
    main()
