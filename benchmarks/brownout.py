"""A backend that gets twenty times slower for a minute, and after: ``./run bench brownout``.

The same rush of orders and reads on a gateway that adapts (``adaptive``, ``breaker_slow_s``), and
on one with every limit out of reach. Four minutes.
"""

import argparse
from typing import Any

from benchmarks.rushing import UNPROTECTED, Verdicts, per_second, rush, save

USUAL_S, SLOW_S, WORKERS = 0.01, 0.2, 8
"""Eight requests of 10 ms at a time are 800 a second; of 200 ms, forty."""

CAN_PER_S = WORKERS / SLOW_S
BEFORE_S, AFTER_S = 10.0, 30.0
SHARE_MIN, RECOVERED_S_MAX, REFUSED_P99_MS_MAX = 0.8, 5, 100.0
ADAPTIVE = "adaptive = true\nrequests_min = 16"


def arm(name: str, limits: str, upstream: str, options: argparse.Namespace) -> dict[str, Any]:
    ends = BEFORE_S + options.seconds
    commands = [{"at": BEFORE_S, "work_s": SLOW_S}, {"at": ends, "work_s": USUAL_S}]
    server = {"work_s": USUAL_S, "workers": WORKERS}
    with rush(limits=limits, upstream=upstream, server=server, reads=0.5) as gateway:
        gateway.run(rate=50, seconds=2)
        result = gateway.run(rate=options.rate, seconds=ends + AFTER_S, commands=commands)
        truth = gateway.truth()
    good = per_second(result, "order ok", "read ok")
    usual = sum(good[1 : int(BEFORE_S)]) / (BEFORE_S - 1)
    slow = good[int(BEFORE_S) + 2 : int(ends)]
    recovered = next(
        (second for second in range(int(ends), len(good)) if good[second] >= 0.9 * usual), None
    )
    found = {
        "fates": {fate: count for fate, count in result["totals"].items() if " " in fate},
        "usual_per_s": round(usual, 1),
        "meanwhile_per_s": round(sum(slow) / len(slow), 1),
        "recovered_after_s": None if recovered is None else recovered - int(ends),
        "refused_p99_ms": max(
            result["p99_ms"].get(f"{kind} refused", 0.0) for kind in ("order", "read")
        ),
        "asked_of_backend": result["taken"][0],
        "good_each_second": good,
        "refused_each_second": per_second(result, "order refused", "read refused"),
        "pending_each_second": per_second(result, "order pending"),
        "left_each_second": per_second(result, "order left", "read left"),
        "p99_ms_each_second": [each["p99_ms"] for each in result["seconds"]],
        "rss_mib": result["rss_mib"],
        **truth,
    }
    print(name, {key: each for key, each in found.items() if not isinstance(each, list)})
    return found


def judged(protected: Any, bare: Any) -> Verdicts:
    verdicts = Verdicts()
    share = protected["meanwhile_per_s"] / CAN_PER_S
    verdicts.add(
        f"meanwhile {protected['meanwhile_per_s']}/s are answered in time, {share:.0%} of what the"
        f" backend can (80 %); without limits {bare['meanwhile_per_s']}/s",
        share >= SHARE_MIN,
    )
    after = protected["recovered_after_s"]
    verdicts.add(
        f"well again {after} s after the backend ({RECOVERED_S_MAX} s); without limits"
        f" {bare['recovered_after_s']} s",
        after is not None and after <= RECOVERED_S_MAX,
    )
    late = protected["refused_p99_ms"]
    verdicts.add(
        f"refusals: 99 % within {late} ms ({REFUSED_P99_MS_MAX:.0f} ms)", late < REFUSED_P99_MS_MAX
    )
    wrong = {name: protected[name] for name in ("doubled", "lost", "contradicted", "pending")}
    verdicts.add(f"orders that were accepted finish: {wrong}", not any(wrong.values()))
    return verdicts


def draw(pyplot: Any, protected: Any, bare: Any, options: argparse.Namespace) -> Any:
    figure, (upper, lower) = pyplot.subplots(2, 1, sharex=True, figsize=(9, 6))
    upper.plot(protected["good_each_second"], label="protected: answered")
    upper.plot(bare["good_each_second"], label="without limits: answered")
    upper.plot(protected["refused_each_second"], ":", label="protected: refused")
    upper.plot(protected["pending_each_second"], ":", label="protected: 202")
    upper.plot(bare["left_each_second"], ":", label="without limits: customers who left")
    upper.set_ylabel("requests a second")
    lower.plot(protected["p99_ms_each_second"], label="protected")
    lower.plot(bare["p99_ms_each_second"], label="without limits")
    lower.set_ylabel("99 % of the answers within, ms")
    lower.set_xlabel("seconds")
    for axes in (upper, lower):
        axes.axvspan(BEFORE_S, BEFORE_S + options.seconds, alpha=0.1)
        axes.legend()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(prog="./run bench brownout", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long it is slow")
    parser.add_argument("--rate", type=float, default=120.0)
    options = parser.parse_args()
    protected = arm("protected", ADAPTIVE, "breaker_slow_s = 1.0", options)
    bare = arm("unprotected", UNPROTECTED, "breaker_calls_min = 1000000", options)
    verdicts = judged(protected, bare)
    summary = {"rate": options.rate, "protected": protected, "unprotected": bare}
    save(
        "brownout",
        {"verdicts": verdicts.told, **summary},
        lambda pyplot: draw(pyplot, protected, bare, options),
    )
    verdicts.end()


if __name__ == "__main__":
    main()
