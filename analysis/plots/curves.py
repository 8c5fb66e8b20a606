"""Risk-coverage curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixed_signals.analysis.plots.canvas import (
    QUIET,
    TWO_COLUMNS,
    Colours,
    Style,
    canvas,
    colour_of,
    legend,
    plain_text,
)
from mixed_signals.analysis.plots.tables import checked
from mixed_signals.analysis.robustness.selective import ORACLE, RANDOM

NOISY = 0.05
_DASHES = ("-", (0, (5, 1.5)), "-.", (0, (1, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)))


def risk_coverage(
    table: pd.DataFrame,
    *,
    head: str | None = None,
    axes: Axes | Sequence[Axes] | None = None,
    width: float = TWO_COLUMNS,
    colours: Colours = None,
    style: Style = None,
) -> Figure:
    """Draw the fusion's risk among the utterances that it keeps, by how many it keeps, for each score to abstain by.

    The oracle, which knows the errors, is the best that can be had, a random order the line that any score has to be
    below. Scores with the same curve share one line. The curves have no intervals of their own; those of the areas
    under them are in ``analysis.table("selective")``.

    Parameters
    ----------
    table : DataFrame
        ``analysis.table("risk_coverage")``: ``head, loss, score, coverage, risk``.
    head, width, style
        As for `confidence`.
    axes : sequence of Axes, optional
        To draw into, one for each loss (classes have one: errors).
    colours : mapping, optional
        Score to colour.

    Returns
    -------
    Figure
        Its ``data``: ``loss, score`` (several joined by commas), ``coverage, risk``.

    Raises
    ------
    UsageError
        As `confidence`.
    """
    rows = checked(table, "risk_coverage", ("loss", "score", "coverage", "risk"), head)
    losses = list(dict.fromkeys(rows["loss"]))
    data = pd.concat([_joined(rows[rows["loss"] == loss]) for loss in losses], ignore_index=True)
    names = [name for name in dict.fromkeys(data["score"]) if name not in (ORACLE, RANDOM)]
    across = len(losses) if width > 4 else 1
    height = 2.9 if len(losses) > 1 else min(3.6, 0.75 * width + 0.5)
    with canvas(data, losses, height, width=width, across=across, axes=axes, style=style) as (figure, panels):
        first = {name: name.split(", ")[0] for name in names}
        palette = colour_of(list(first.values()), colours)
        for ax, loss in zip(panels, losses, strict=True):
            part = data[data["loss"] == loss]
            scale = 100 if loss == "error" else 1
            for name, curve in part.groupby("score", sort=False):
                text = plain_text(name)
                if name in (ORACLE, RANDOM):
                    look: dict[str, Any] = {"color": (colours or {}).get(str(name), QUIET), "linewidth": 1.0}
                    look["linestyle"] = ":" if name == ORACLE else "--"
                else:
                    place = names.index(str(name))
                    look = {"color": palette[first[str(name)]], "linestyle": _DASHES[place % len(_DASHES)]}
                    look["linewidth"] = 1.5
                ax.plot(100 * curve["coverage"], scale * curve["risk"], label=text[:60], **look)
            settled = part.loc[
                part["coverage"] >= NOISY, "risk"
            ].max()  # the first few decide on what is before
            ax.set(xlabel="utterances kept, %", xlim=(0, 100), ylim=(0, 1.06 * scale * settled or None))
            ax.set_ylabel("errors among them, %" if scale == 100 else f"mean {plain_text(loss)} among them")
        legend(figure, panels, columns=3)
    return figure


def _joined(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the curves of a loss, equal ones once under all of their names, and that of a random order."""
    curves: dict[bytes, tuple[list[str], pd.DataFrame]] = {}
    for name, curve in rows.groupby("score", sort=False):
        key = np.round(curve[["coverage", "risk"]].to_numpy(np.float64), 9).tobytes()
        if name in (ORACLE, RANDOM):
            key += str(name).encode()
        curves.setdefault(key, ([], curve))[0].append(str(name))
    found = [
        curve[["loss", "coverage", "risk"]].assign(score=", ".join(names)) for names, curve in curves.values()
    ]
    if RANDOM not in set(rows["score"]):
        coverage = np.sort(rows["coverage"].unique())[[0, -1]]
        overall = rows["risk"].to_numpy()[rows["coverage"].to_numpy().argmax()]
        loss = rows["loss"].iloc[0]
        found.append(pd.DataFrame({"loss": loss, "coverage": coverage, "risk": overall, "score": RANDOM}))
    return pd.concat(found, ignore_index=True)[["loss", "score", "coverage", "risk"]]
