"""The plot of the costs: requests/s and CPU time of a request, by the bare proxy's."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.contestants import CONTESTANTS

mpl.use("Agg")
from matplotlib import pyplot as plt


def plot(summary: dict[str, Any], file: Path) -> None:
    """Bars by the first measure that took part; logarithmic, since nginx is far away."""
    measure = "bare" if "by_bare" in summary else "nginx"
    ratios = summary[f"by_{measure}"]
    names = list(ratios)
    figure, axes = plt.subplots(1, 2, figsize=(11, 0.5 * len(names) + 1.4), sharey=True)
    for axis, kind, title in zip(
        axes, ("requests", "cpu"), ("requests/s on one core", "CPU time of a request"), strict=True
    ):
        bars = axis.barh(
            [CONTESTANTS[name].title for name in names],
            [ratios[name][kind] for name in names],
            color=["#3a6ea5" if name in ("plain", "order") else "#b8c4cf" for name in names],
        )
        axis.bar_label(bars, fmt="%.2f", padding=3)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_xscale("log")
        axis.margins(x=0.15)
        axis.set_title(f"{title} ({CONTESTANTS[measure].title} = 1)", fontsize=10)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(file, dpi=120)
