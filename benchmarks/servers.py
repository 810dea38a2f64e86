"""One of three servers slow, then dead, then back: ``./run bench servers``.

What orders and reads notice of it, and how much the ill server is still asked. Two minutes.
"""

import argparse
from typing import Any

from benchmarks.rushing import Verdicts, per_second, rush, save

USUAL_S, SLOW_S, WORKERS = 0.01, 0.5, 8
PARTS = ("all well", "one slow", "one dead", "back")
BAD = ("refused", "pending", "left", "other")
P99_MS_MAX = 2 * SLOW_S * 1000
"""Who is sent to the slow server waits for it, and never much longer."""


def story(options: argparse.Namespace) -> dict[str, Any]:
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
        truth = gateway.truth()
    good = per_second(result, "order ok", "read ok")
    bad = per_second(result, *(f"{kind} {fate}" for kind in ("order", "read") for fate in BAD))
    p99 = [each["p99_ms"] for each in result["seconds"]]
    parts = {}
    for at, name in enumerate(PARTS):
        seconds = slice(int(at * part), int((at + 1) * part))
        parts[name] = {
            "good": sum(good[seconds]),
            "bad": sum(bad[seconds]),
            "p99_ms_median": sorted(p99[seconds])[int(part) // 2],
            "p99_ms_worst": max(p99[seconds]),
        }
    return {
        "rate": options.rate,
        "parts": parts,
        "taken_by_server": result["taken"],
        "good_each_second": good,
        "bad_each_second": bad,
        "p99_ms_each_second": p99,
        **truth,
    }


def judged(found: Any) -> Verdicts:
    verdicts = Verdicts()
    for name, part in found["parts"].items():
        verdicts.add(
            f"{name}: {part['good']} answered, {part['bad']} not; 99 % within"
            f" {part['p99_ms_median']} ms in the median second, {part['p99_ms_worst']} in another",
            part["bad"] == 0 and part["p99_ms_worst"] <= P99_MS_MAX,
        )
    wrong = {name: found[name] for name in ("doubled", "lost", "contradicted", "pending")}
    verdicts.add(f"orders that were accepted finish: {wrong}", not any(wrong.values()))
    return verdicts


def draw(pyplot: Any, found: Any, part: float) -> Any:
    figure, (upper, lower) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 5))
    upper.plot(found["good_each_second"], label="answered")
    upper.plot(found["bad_each_second"], label="refused, pending, left")
    upper.set_ylabel("requests a second")
    lower.plot(found["p99_ms_each_second"], label="99 % of the answers within, ms")
    for axes in (upper, lower):
        for at, name in enumerate(PARTS):
            axes.axvline(at * part, linestyle=":", color="grey")
            axes.text(at * part, 0, name)
        axes.legend()
    lower.set_xlabel("seconds")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(prog="./run bench servers", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of the four parts")
    parser.add_argument("--rate", type=float, default=150.0)
    options = parser.parse_args()
    found = story(options)
    verdicts = judged(found)
    save(
        "servers",
        {"verdicts": verdicts.told, **found},
        lambda pyplot: draw(pyplot, found, options.seconds),
    )
    verdicts.end()


if __name__ == "__main__":
    main()
