"""The plot of growth: what large ledgers cost by empty ones, a row for each store."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

LINES = {
    "order_us": "an order",
    "together_us": "orders, 32 at once",
    "together_cpu_us": "their CPU",
    "pass_us": "a pass of the reconciler",
}


def plot(summary: dict[str, Any], ratio_max: float, file: Path) -> None:
    stores = summary["stores"]
    figure, rows = plt.subplots(len(stores), 2, figsize=(10, 3.6 * len(stores)), squeeze=False)
    for (store, steps), (ratios, sizes) in zip(stores.items(), rows, strict=True):
        settled = [max(step["settled"], 100) for step in steps]
        for name, label in LINES.items():
            taken = [step["ratios"][name] for step in steps]
            ratios.plot(settled, taken, marker="o", label=label)
        ratios.axhline(ratio_max, linestyle=":", color="grey")
        ratios.set(ylim=(0, 2), ylabel="by an empty ledger's")
        memory = [step["full"]["rss_mib"] for step in steps]
        sizes.plot(settled, memory, marker="o", label="memory of the gateway, MiB")
        opening = [step["full"]["open_s"] * 100 for step in steps]
        sizes.plot(settled, opening, marker="o", label="opening, 10 ms")
        sizes.set(ylim=(0, None))
        title = f"{store}, with {summary['pending']:,} pending orders"
        for axis in (ratios, sizes):
            axis.set(xscale="log", xlabel="settled orders")
            axis.set_title(title, fontsize=10)
            axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=100)
