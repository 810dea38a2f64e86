"""What ten thousand orders that wait cost those that come: ``./run bench pendings``.

As much as the gateway takes is offered before the outage, while they are worked off, and after;
between that, little, so that the drain can use the time. Medians of several runs each: one run
differs from the next by a tenth. Four minutes.
"""

import argparse
import statistics
import time
from itertools import pairwise
from typing import Any

from benchmarks.rushing import Rush, Verdicts, rate, rush, save

ROUTE = "settle_s = 2\nattempt_timeout_s = 1\nanswer_within_s = 3"
OUTAGE_RATE, DRAIN_PER_S_MAX, SHARE_MIN, DRAINED_S_MAX = 1000.0, 450.0, 0.9, 150.0


def pressed(gateway: Rush, options: argparse.Namespace) -> dict[str, float]:
    """Live orders a second where more are offered than can be taken, and how many that waited
    were settled in a second meanwhile."""
    before, began = gateway.pending(), time.monotonic()
    live = [
        rate(gateway.run(rate=options.rate, seconds=options.seconds), "order ok")
        for _ in range(options.rounds)
    ]
    drained = (before - gateway.pending()) / (time.monotonic() - began)
    return {
        "live_per_s": round(statistics.median(live), 1),
        "drained_per_s": round(drained, 1),
        "live_least": round(min(live), 1),
        "live_most": round(max(live), 1),
    }


def drain(gateway: Rush) -> list[tuple[float, int]]:
    """Seconds and what still waits, while nothing else is asked."""
    began, found = time.monotonic(), []
    while True:
        found.append((round(time.monotonic() - began, 1), gateway.pending()))
        if not found[-1][1] or found[-1][0] > DRAINED_S_MAX:
            return found
        time.sleep(1.0)  # a sample a second


def main() -> None:
    parser = argparse.ArgumentParser(prog="./run bench pendings", description=__doc__)
    parser.add_argument("--pendings", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=6000.0)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3, help="before, meanwhile and after")
    options = parser.parse_args()
    with rush(route=ROUTE, upstream="breaker_calls_min = 1000000") as gateway:
        gateway.run(rate=200, seconds=2)
        first = pressed(gateway, options)
        outage_s = options.pendings / OUTAGE_RATE + 1
        commands = [{"at": 0.0, "dead": True}, {"at": outage_s + 2, "dead": False}]
        gateway.run(rate=OUTAGE_RATE, seconds=outage_s, commands=commands)
        waiting = gateway.pending()
        meanwhile = pressed(gateway, options)
        drained = drain(gateway)
        last = pressed(gateway, options)
        truth = gateway.truth()
    alone = (first["live_per_s"] + last["live_per_s"]) / 2
    share = meanwhile["live_per_s"] / alone
    steps = [then - now for (_, then), (_, now) in pairwise(drained)]
    verdicts = Verdicts()
    verdicts.add(f"{waiting} orders wait ({options.pendings})", waiting >= 0.9 * options.pendings)
    verdicts.add(f"live orders meanwhile: {share:.0%} of those without (90 %)", share >= SHARE_MIN)
    most = max(steps, default=0)
    verdicts.add(
        f"{meanwhile['drained_per_s']}/s are worked off beside them, at most {most}/s alone"
        f" ({DRAIN_PER_S_MAX:.0f})",
        most <= DRAIN_PER_S_MAX * 1.2,
    )
    verdicts.add(f"all are settled {drained[-1][0]} s after the rush", drained[-1][1] == 0)
    wrong = {name: truth[name] for name in ("doubled", "lost", "contradicted", "pending")}
    verdicts.add(f"orders that were accepted finish: {wrong}", not any(wrong.values()))
    summary: dict[str, Any] = {
        "waiting": waiting,
        "before": first,
        "meanwhile": meanwhile,
        "after": last,
        "drain": drained,
        **truth,
    }

    def draw(pyplot: Any) -> Any:
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 4))
        rates = [each["live_per_s"] for each in (first, meanwhile, last)]
        left.bar(["before", "while many wait", "after"], rates)
        left.set_ylabel("live orders a second")
        right.plot(*zip(*drained, strict=True))
        right.set_xlabel("seconds after the rush")
        right.set_ylabel("orders that wait")
        return figure

    save("pendings", {"verdicts": verdicts.told, **summary}, draw)
    verdicts.end()


if __name__ == "__main__":
    main()
