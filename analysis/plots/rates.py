"""Plots of rates and shares: disagreement beside its floors, types, how contested utterances are, dominance, seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mixed_signals.analysis.panel import FUSION
from mixed_signals.analysis.plots import marks
from mixed_signals.analysis.plots.canvas import (
    QUIET,
    TWO_COLUMNS,
    Colours,
    Style,
    canvas,
    colour_of,
    label,
    legend,
    marker_of,
)
from mixed_signals.analysis.plots.colours import FAMILY_COLOURS
from mixed_signals.analysis.plots.tables import ESTIMATE, checked, chosen
from mixed_signals.store.errors import UsageError

WORDS = {
    "rate": "rate, seeds averaged",
    "between": "rate, single trainings",
    "floor": "seed floor: one model, two trainings",
    "same_modality": "two models of one modality",
    "chance": "independent models with the same mistakes",
    "excess": "beyond the seed floor",
    "beyond_same_modality": "beyond two models of one modality",
    "beyond_chance": "beyond independent models",
}
_LOOKS = {
    "rate": ("#0072B2", "o", False),
    "between": ("#E69F00", "s", False),
    "floor": ("#666666", "D", True),
    "same_modality": ("#009E73", "^", True),
    "chance": ("#666666", "v", True),
    "excess": ("#E69F00", "s", False),
    "beyond_same_modality": ("#009E73", "^", False),
    "beyond_chance": ("#666666", "v", False),
}
_UNITS = {
    "label": (100.0, "utterances with different labels, %", "points"),
    "jsd": (1.0, "Jensen-Shannon divergence, bits", "bits"),
    "margin": (1.0, "margin shift", "margin"),
    "p_true": (1.0, "difference of p(true label)", "probability"),
    "difference": (1.0, "difference, SDs of the truth", "SDs"),
}
SMALLEST_CHANCE = 0.005
IMPORTANCE = ("shapley share", "leave-one-out", "permutation", "gate", "contribution")


def floor(
    table: pd.DataFrame,
    *,
    head: str | None = None,
    measure: str | None = None,
    axes: Axes | Sequence[Axes] | None = None,
    width: float = TWO_COLUMNS,
    colours: Colours = None,
    style: Style = None,
) -> Figure:
    """Draw how often models disagree beside how often they have to, and how much is left beyond that.

    On the left rates of each pair of models and their floors: of one model in two trainings, and, where they were
    measured, of two models of one modality. On the right what is beyond them; left of zero there is nothing to
    explain. Where no floor was measured, chance stands in: independent models with the same mistakes.

    Parameters
    ----------
    table : DataFrame
        ``analysis.table("rates")``: ``head, first, second, measure, quantity, estimate, low, high``.
    head, width, style
        As for `confidence`.
    measure : str, optional
        Distance of two models: label (the first of the table by default), jsd, margin, p_true; of an interval target
        difference.
    axes : sequence of 2 Axes, optional
        To draw into.
    colours : mapping, optional
        Quantity to colour, such as ``{"floor": "black"}``.

    Returns
    -------
    Figure
        Its ``data`` are the rows of the table that are drawn.

    Raises
    ------
    UsageError
        As `confidence`, or if the table has no such measure.
    """
    needed = ("first", "second", "measure", "quantity", *ESTIMATE)
    rows = chosen(checked(table, "rates", needed, head), "measure", measure)
    rows = rows[rows["estimate"].notna()]
    there = set(rows["quantity"])
    left = [name for name in ("rate", "between", "floor", "same_modality") if name in there]
    right = [name for name in ("excess", "beyond_same_modality") if name in there]
    if not right:
        left += [name for name in ("chance",) if name in there]
        right = [name for name in ("beyond_chance",) if name in there]
    rows = rows[rows["quantity"].isin([*left, *right])]
    fused = rows["second"].eq(FUSION)
    rows = pd.concat([rows[fused], rows[~fused]])
    rows = rows.assign(pair=rows["first"].astype(str) + " / " + rows["second"].astype(str))
    pairs = list(dict.fromkeys(rows["pair"]))
    scale, words, points = _UNITS.get(str(rows["measure"].iloc[0]), (1.0, "distance", "distance"))
    panels = [name for name, kinds in (("rates", left), ("beyond", right)) if kinds]
    across = len(panels) if width > 4 else 1
    height = 0.95 + len(pairs) * 0.105 * max(3, len(left))
    with canvas(
        rows.drop(columns="pair"),
        panels,
        height,
        width=width,
        across=across,
        axes=axes,
        style=style,
        sharey=across > 1,
    ) as (figure, drawn):
        for ax, names in zip(drawn, (left, right), strict=False):
            kinds = {}
            for name in names:
                colour, shape, hollow = _LOOKS[name]
                colour = (colours or {}).get(name, colour)
                kinds[name] = {"colour": colour, "marker": shape, "hollow": hollow, "name": WORDS[name]}
            marks.name_rows(ax, pairs, width)
            marks.series(ax, rows, rows=pairs, row="pair", of="quantity", kinds=kinds, scale=scale)
        drawn[0].set_xlabel(words)
        marks.from_zero(drawn[0])
        for ax in drawn[1:]:
            ax.set_xlabel(f"beyond, {points}")
            marks.zero(ax)
        legend(figure, drawn, columns=3)
    return figure


def types(
    table: pd.DataFrame,
    *,
    head: str | None = None,
    ax: Axes | None = None,
    width: float = TWO_COLUMNS,
    colours: Colours = None,
    style: Style = None,
) -> Figure:
    """Draw the share of each type of utterance with its interval, beside its share by chance.

    Types that do not occur are left out where chance gives them less than 0.5%.

    Parameters
    ----------
    table : DataFrame
        ``analysis.table("typology")``: ``head, type, family, count, estimate, low, high, chance``.
    head, ax, width, style
        As for `confidence`.
    colours : mapping, optional
        Family to colour.

    Returns
    -------
    Figure
        Its ``data`` are the rows of the table that are drawn.

    Raises
    ------
    UsageError
        As `confidence`.
    """
    rows = checked(table, "typology", ("type", "family", "count", *ESTIMATE, "chance"), head)
    rows = rows[(rows["count"] > 0) | (rows["chance"] >= SMALLEST_CHANCE)].reset_index(drop=True)
    palette = {**FAMILY_COLOURS, **(colours or {})}
    with canvas(rows, ["types"], 0.8 + 0.19 * len(rows), width=width, axes=ax, style=style) as (
        figure,
        (ax,),
    ):
        marks.name_rows(ax, rows["type"].tolist(), width)
        y = np.arange(len(rows))
        ax.plot([], [], "o-", color=QUIET, label="share, with 95% interval")
        ax.plot(
            100 * rows["chance"],
            y,
            "d",
            color=QUIET,
            markerfacecolor="none",
            label="if models were independent",
        )
        for name in dict.fromkeys(rows["family"]):
            mine = (rows["family"] == name).to_numpy()
            marks.across(ax, rows[mine], y[mine], colour=palette.get(name, QUIET), scale=100)
        ax.set_xlabel("share of utterances, %")
        marks.from_zero(ax)
        legend(figure, [ax])
    return figure


def thresholds(
    table: pd.DataFrame,
    *,
    head: str | None = None,
    axes: Axes | Sequence[Axes] | None = None,
    width: float = TWO_COLUMNS,
    colours: Colours = None,
    style: Style = None,
) -> Figure:
    """Draw what hangs on where votes count as contested: how many utterances are, and how well they are found.

    Parameters
    ----------
    table : DataFrame
        ``analysis.table("thresholds")``: ``head, threshold, quantity`` (share, auroc), ``estimate, low, high``.
    head, width, style
        As for `confidence`.
    axes : sequence of 2 Axes, optional
        To draw into: of shares and of AUROC.
    colours : mapping, optional
        Of ``"share"`` and ``"auroc"``.

    Returns
    -------
    Figure
        Its ``data`` is the table.

    Raises
    ------
    UsageError
        As `confidence`.
    """
    rows = checked(table, "thresholds", ("threshold", "quantity", *ESTIMATE), head)
    rows = rows[rows["estimate"].notna()]
    panels = [name for name in ("share", "auroc") if (rows["quantity"] == name).any()]
    across = len(panels) if width > 4 else 1
    palette = {"share": "#0072B2", "auroc": "#D55E00", **(colours or {})}
    with canvas(rows, panels, 2.4, width=width, across=across, axes=axes, style=style) as (figure, drawn):
        for ax, name, marker in zip(drawn, panels, "os", strict=False):
            part = rows[rows["quantity"] == name]
            scale = 100 if name == "share" else 1
            marks.along(ax, 100 * part["threshold"], part, colour=palette[name], marker=marker, scale=scale)
            ax.set_xlabel("contested: no value has more\nthan this share of votes, %")
            ax.set_xticks(100 * part["threshold"].unique())
            if name == "share":
                ax.set(ylabel="contested utterances, %", ylim=(0, None))
            else:
                ax.axhline(0.5, color=QUIET, linewidth=0.9, zorder=0)
                ax.set_ylabel("AUROC of the divergence")
    return figure


def dominance(
    table: pd.DataFrame,
    *,
    head: str | None = None,
    measures: Sequence[str] = IMPORTANCE,
    axes: Axes | Sequence[Axes] | None = None,
    width: float = TWO_COLUMNS,
    colours: Colours = None,
    style: Style = None,
) -> Figure:
    """Draw several measures of how much each modality matters side by side, since one alone misleads.

    Parameters
    ----------
    table : DataFrame
        ``analysis.table("dominance")``: ``head, modality, measure, estimate, low, high``.
    head, width, style
        As for `confidence`.
    measures : sequence of str
        Of the table, in this order; those that it lacks are left out.
    axes : sequence of Axes, optional
        To draw into, one for each of the measures that the table has.
    colours : mapping, optional
        Modality to colour.

    Returns
    -------
    Figure
        Its ``data`` are the rows of the table that are drawn.

    Raises
    ------
    UsageError
        As `confidence`, or if the table has none of the measures.
    """
    rows = checked(table, "dominance", ("modality", "measure", *ESTIMATE), head)
    rows = rows[rows["estimate"].notna()]
    names = [name for name in measures if (rows["measure"] == name).any()]
    if not names:
        raise UsageError(f"measures=: the table has {', '.join(rows['measure'].unique())}")
    rows = rows[rows["measure"].isin(names)]
    modalities = list(dict.fromkeys(rows["modality"]))
    across = max(1, min(len(names), int(width // 1.3)))
    height = 0.75 + 0.24 * len(modalities)
    with canvas(rows, names, height, width=width, across=across, axes=axes, style=style, sharey=True) as (
        figure,
        panels,
    ):
        palette, shapes = colour_of(modalities, colours), marker_of(modalities)
        for ax, name in zip(panels, names, strict=True):
            marks.name_rows(ax, modalities, width)
            for y, modality in enumerate(modalities):
                part = rows[(rows["measure"] == name) & (rows["modality"] == modality)]
                marks.across(ax, part, [y] * len(part), colour=palette[modality], marker=shapes[modality])
            marks.zero(ax)
            ax.set_title(label(name))
            ax.margins(x=0.12)
            ax.xaxis.set_major_locator(MaxNLocator(3))
    return figure


def seeds(
    table: pd.DataFrame,
    *,
    head: str | None = None,
    axes: Axes | Sequence[Axes] | None = None,
    width: float = TWO_COLUMNS,
    colours: Colours = None,
    style: Style = None,
) -> Figure:
    """Draw how much training again changes each model's scores: means over seeds, and one standard deviation.

    Parameters
    ----------
    table : DataFrame
        ``analysis.table("seed_spread")``: ``model, metric, n_seeds, mean, sd``.
    head : str, optional
        Its models alone; those of all heads by default.
    axes : sequence of Axes, optional
        To draw into, one for each metric.
    width, style
        As for `confidence`.
    colours : mapping, optional
        Metric to colour.

    Returns
    -------
    Figure
        Its ``data``: ``model, metric, estimate, low, high, n_seeds``, where ``low`` and ``high`` are one standard
        deviation away.

    Raises
    ------
    UsageError
        If the table lacks columns or rows, or has no model of the head.
    """
    rows = checked(table, "seed_spread", ("model", "metric", "n_seeds", "mean", "sd"))
    if head is not None:
        rows = rows[rows["model"].astype(str).str.startswith(f"{head}:")]
        if rows.empty:
            raise UsageError(f"head={head!r}: no model of it was trained with two seeds or more")
    data = pd.DataFrame(
        {
            "model": rows["model"].astype(str),
            "metric": rows["metric"],
            "estimate": rows["mean"],
            "low": rows["mean"] - rows["sd"],
            "high": rows["mean"] + rows["sd"],
            "n_seeds": rows["n_seeds"],
        }
    ).reset_index(drop=True)
    models, metrics = list(dict.fromkeys(data["model"])), list(dict.fromkeys(data["metric"]))
    across = len(metrics) if width > 4 else 1
    with canvas(
        data,
        metrics,
        0.7 + 0.22 * len(models),
        width=width,
        across=across,
        axes=axes,
        style=style,
        sharey=across > 1,
    ) as (figure, panels):
        palette, shapes = colour_of(metrics, colours), marker_of(metrics)
        for ax, metric in zip(panels, metrics, strict=True):
            part = data[data["metric"] == metric]
            shown = [name.removeprefix(f"{head}:") for name in models]
            marks.name_rows(ax, shown, width)
            y = part["model"].map({name: i for i, name in enumerate(models)})
            marks.across(ax, part, y, colour=palette[metric], marker=shapes[metric])
            ax.set_xlabel(f"{label(metric)}, mean and SD")
    return figure
