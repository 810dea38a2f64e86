"""Orders at 1 to 5 times what a gateway can do, protected and not: ``./run bench overload``.

At a constant rate whatever becomes of those before; a customer leaves after two seconds. The peak
is the most that was answered of any rate, each offered three times. Five minutes.
"""

import argparse
import statistics
from typing import Any

from benchmarks.rushing import UNPROTECTED, Verdicts, per_second, rate, rush, save

TIMES = (1.0, 2.0, 3.0, 5.0)
STEPS = (0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
"""Of what is answered where far too much is offered: the peak lies among them."""

GOODPUT_MIN, REFUSED_P99_MS_MAX, GROWTH_MIB_MAX = 0.8, 50.0, 16.0
FIRST_RATE = 6000.0


def peak(options: argparse.Namespace) -> dict[str, Any]:
    """What is answered at each of the steps, the medians of several runs, and the most of it; and
    what is left of that at five times it, each time between two runs at the peak: a machine whose
    speed goes up and down says little by runs that are minutes apart."""
    with rush() as gateway:
        gateway.run(rate=200, seconds=2)
        about = rate(gateway.run(rate=FIRST_RATE, seconds=4), "order ok")
        found: dict[float, list[float]] = {round(step * about): [] for step in STEPS}
        cost_us = []
        for _ in range(options.rounds):
            for offered, goods in found.items():
                result = gateway.run(rate=offered, seconds=options.step_s)
                goods.append(round(rate(result, "order ok"), 1))
                cost_us.append(1e6 * result["cpu_s"] / result["totals"]["order ok"])
            print("answered a second, by what was offered:", found, flush=True)
        medians = {offered: statistics.median(goods) for offered, goods in found.items()}
        per_s = max(medians.values())
        turns = []
        for _ in range(options.rounds):
            beside = [gateway.run(rate=per_s * by, seconds=options.step_s) for by in (1, 5, 1)]
            before, most, after = (rate(each, "order ok") for each in beside)
            turns.append(round(2 * most / (before + after), 3))
            print("left at five times the peak, between two runs at it:", turns, flush=True)
    return {
        "steps": found,
        "per_s": per_s,
        "left_in_turns": turns,
        "cpu_us_of_an_order": round(min(cost_us)),
    }


def refusal_us() -> float:
    """CPU time of a refusal, where nothing else is done."""
    limits = "requests_max = 1\nrequests_min = 1\nqueue_max = 0"
    with rush(limits=limits, server={"work_s": 60.0, "workers": 1}) as gateway:
        gateway.run(rate=100, seconds=1)
        result = gateway.run(rate=8000, seconds=3)
    return round(1e6 * result["cpu_s"] / result["totals"]["order refused"], 1)


def arm(name: str, limits: str, at_peak: float, options: argparse.Namespace) -> list[Any]:
    found = []
    for times in TIMES:
        with rush(limits=limits) as gateway:
            gateway.run(rate=200, seconds=2)
            seconds = options.seconds if times == TIMES[-1] else options.step_s
            result = gateway.run(rate=at_peak * times, seconds=seconds)
            found.append({"times": times, **told_of(result), **gateway.truth()})
        shown = {key: value for key, value in found[-1].items() if not isinstance(value, list)}
        print(name, shown, flush=True)
    return found


def told_of(result: Any) -> dict[str, Any]:
    fates = {fate: count for fate, count in result["totals"].items() if " " in fate}
    return {
        "offered": round(result["offered"] / len(result["seconds"])),
        "goodput": round(rate(result, "order ok")),
        "fates": fates,
        "refused_by_status": {
            status: count for status, count in result["totals"].items() if status.isdigit()
        },
        "ok_p50_ms": result["p50_ms"].get("order ok", 0.0),
        "ok_p99_ms": result["p99_ms"].get("order ok", 0.0),
        "refused_p50_ms": result["p50_ms"].get("order refused", 0.0),
        "refused_p99_ms": result["p99_ms"].get("order refused", 0.0),
        "customers_late_ms": result["late_ms"],
        "connections": result["connections"],
        "cpu_s": result["cpu_s"],
        "each_second": per_second(result, "order ok"),
        "refused_p99_ms_each_second": [each["refused_p99_ms"] for each in result["seconds"]],
        "rss_mib": result["rss_mib"],
    }


def judged(summary: Any) -> Verdicts:
    """The issue's aims, at five times the peak."""
    verdicts = Verdicts()
    most, bare = summary["protected"][-1], summary["unprotected"][-1]
    at_peak = summary["peak"]["per_s"]
    share = most["goodput"] / at_peak
    verdicts.add(f"{share:.0%} of the peak is answered at 5 times it (80 %)", share >= GOODPUT_MIN)
    in_turns = statistics.median(summary["peak"]["left_in_turns"])
    verdicts.add(
        f"{in_turns:.0%} of it, between two runs at the peak (80 %)", in_turns >= GOODPUT_MIN
    )
    late = most["refused_p99_ms"]
    verdicts.add(f"refusals: 99 % within {late} ms (50 ms)", late < REFUSED_P99_MS_MAX)
    wrong = {name: most[name] for name in ("doubled", "lost", "contradicted", "pending")}
    verdicts.add(f"orders that were accepted finish: {wrong}", not any(wrong.values()))
    memory = [mib for _, mib in most["rss_mib"]]
    grown = round(memory[-1] - memory[len(memory) // 4], 1)
    verdicts.add(
        f"memory: {max(memory)} MiB at most, {grown} MiB more after the first quarter"
        f" (without limits {max(mib for _, mib in bare['rss_mib'])} MiB)",
        grown <= GROWTH_MIB_MAX,
    )
    verdicts.add(
        f"without limits {bare['goodput'] / at_peak:.0%} of the peak is answered in time",
        bare["goodput"] < most["goodput"],
    )
    cost = summary["refusal_cpu_us"] / summary["peak"]["cpu_us_of_an_order"]
    verdicts.add(f"a refusal costs {cost:.0%} of an order's CPU time", cost < 0.25)
    return verdicts


def draw(pyplot: Any, summary: Any) -> Any:
    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7))
    (by_offer, by_second), (refused, memory) = axes
    at_peak = summary["peak"]["per_s"]
    for name in ("protected", "unprotected"):
        found = summary[name]
        times = [each["times"] for each in found]
        by_offer.plot(times, [each["goodput"] for each in found], marker="o", label=name)
        by_second.plot(found[-1]["each_second"], label=name)
        refused.plot(found[-1]["refused_p99_ms_each_second"], label=f"{name}: refusals")
        memory.plot(*zip(*found[-1]["rss_mib"], strict=True), label=name)
    for each in (by_offer, by_second):
        each.axhline(at_peak * GOODPUT_MIN, linestyle=":", color="grey", label="80 % of the peak")
        each.set_ylabel("orders answered in 2 s, per second")
        each.set_ylim(bottom=0)
    by_offer.set_xlabel("offered, in times of the peak")
    by_second.set_xlabel("seconds at 5 times the peak")
    refused.axhline(REFUSED_P99_MS_MAX, linestyle=":", color="grey", label="50 ms")
    refused.set_yscale("log")
    refused.set_ylabel("99 % of the refusals within, ms")
    memory.set_ylabel("resident memory, MiB")
    for each in (refused, memory):
        each.set_xlabel("seconds at 5 times the peak")
    for each in (by_offer, by_second, refused, memory):
        each.legend()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(prog="./run bench overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=25.0, help="at five times the peak")
    parser.add_argument("--step-s", type=float, default=6.0, help="of every other run")
    parser.add_argument("--rounds", type=int, default=3, help="of the search for the peak")
    options = parser.parse_args()
    found = peak(options)
    summary = {
        "peak": found,
        "refusal_cpu_us": refusal_us(),
        "protected": arm("protected", "", found["per_s"], options),
        "unprotected": arm("unprotected", UNPROTECTED, found["per_s"], options),
    }
    verdicts = judged(summary)
    save("overload", {"verdicts": verdicts.told, **summary}, lambda plot: draw(plot, summary))
    verdicts.end()


if __name__ == "__main__":
    main()
