"""Estimates with their intervals, as points with lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from mixed_signals.analysis.plots.canvas import QUIET, label

Floats = NDArray[np.float64]


def lengths(table: pd.DataFrame, scale: float = 1.0) -> Floats:
    """Return how far an interval reaches below and above its estimate, shape (2, rows); 0 where there is none."""
    ends = [table["estimate"] - table["low"], table["high"] - table["estimate"]]
    return np.maximum(np.nan_to_num(scale * np.array(ends, dtype=np.float64)), 0.0)


def across(
    ax: Axes,
    table: pd.DataFrame,
    y: ArrayLike,
    *,
    colour: Any,
    marker: str = "o",
    scale: float = 1.0,
    hollow: bool = False,
    name: str | None = None,
) -> None:
    """Draw estimates as points on a horizontal scale, with their intervals."""
    ax.errorbar(
        scale * table["estimate"].to_numpy(np.float64),
        np.asarray(y, dtype=np.float64),
        xerr=lengths(table, scale),
        fmt=marker,
        color=colour,
        markerfacecolor=ax.get_facecolor() if hollow else colour,
        elinewidth=1.2,
        label=name,
    )


def along(
    ax: Axes,
    x: ArrayLike,
    table: pd.DataFrame,
    *,
    colour: Any,
    marker: str = "o",
    scale: float = 1.0,
    name: str | None = None,
) -> None:
    """Draw estimates as points joined by a line, with their intervals."""
    ax.errorbar(
        np.asarray(x, dtype=np.float64),
        scale * table["estimate"].to_numpy(np.float64),
        yerr=lengths(table, scale),
        fmt=f"{marker}-",
        color=colour,
        elinewidth=1.2,
        label=name,
    )


def series(
    ax: Axes,
    table: pd.DataFrame,
    *,
    rows: Sequence[Any],
    row: str,
    of: str,
    kinds: Mapping[str, Mapping[str, Any]],
    scale: float = 1.0,
) -> None:
    """Draw several kinds of estimates below each other within each row.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        ``estimate, low, high`` and the columns `row` and `of`.
    rows : sequence
        What rows there are, from the top.
    row, of : str
        Columns that say the row and the kind.
    kinds : mapping of str to mapping
        Options of `across` for each kind.
    scale : float
        100 for percent.
    """
    place = {name: i for i, name in enumerate(rows)}
    step = 0.7 / max(len(kinds), 1)
    for i, (kind, options) in enumerate(kinds.items()):
        part = table[(table[of] == kind) & table["estimate"].notna()]
        offset = (i - (len(kinds) - 1) / 2) * step
        across(ax, part, part[row].map(place).to_numpy(float) + offset, scale=scale, **options)


def name_rows(ax: Axes, names: Sequence[object], width: float) -> None:
    """Name the rows of a plot, from the top, and part them by faint lines."""
    ax.set_yticks(range(len(names)), [label(name) for name in names], fontsize="small" if width < 4 else None)
    ax.set_ylim(len(names) - 0.45, -0.55)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(4 if width < 4 else 7, steps=[1, 2, 5, 10]))
    for y in range(1, len(names)):
        ax.axhline(y - 0.5, color=QUIET, linewidth=0.4, alpha=0.4, zorder=0)


def from_zero(ax: Axes) -> None:
    """Begin a horizontal scale at zero, with room for a mark that stands there."""
    high = ax.get_xlim()[1]
    ax.set_xlim(-0.015 * high, high)


def zero(ax: Axes) -> None:
    """Draw the line of no difference."""
    ax.axvline(0, color=QUIET, linewidth=0.9, zorder=0)
