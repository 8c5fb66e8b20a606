"""Plots of utterances, one by one: confidence, raters, gates by type, calibration."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mixed_signals.analysis.panel import FUSION
from mixed_signals.analysis.plots import marks
from mixed_signals.analysis.plots.canvas import (
    EM,
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
from mixed_signals.analysis.plots.colours import FAMILY_COLOURS, FUSION_WRONG
from mixed_signals.analysis.plots.tables import checked, means, models_of
from mixed_signals.analysis.typology import FAMILIES
from mixed_signals.models.intervals import UNLIMITED
from mixed_signals.store.errors import UsageError

RASTERISE_FROM = 2_000
PARTS = 5
BINS = 8
ALL = "all utterances"


def confidence(
    table: pd.DataFrame,
    *,
    head: str | None = None,
    axes: Axes | Sequence[Axes] | None = None,
    width: float = TWO_COLUMNS,
    colours: Colours = None,
    style: Style = None,
) -> Figure:
    """Scatter the probability of the true label: each single modality's model against the fusion.

    Above the diagonal the fusion gives the truth more. Colours are families of types; crosses are utterances that the
    fusion gets wrong. Of an interval target, the values that the models give. From 2,000 utterances on, points are
    pixels in vector files.

    Parameters
    ----------
    table : DataFrame
        ``analysis.table("utterances")``: ``utterance_id, family, p_true_<modality>, p_true_fusion``; of an interval
        target ``utterance_id, y_<modality>, y_fusion``.
    head : str, optional
        Which head, where the table has several.
    axes : sequence of Axes, optional
        To draw into, one for each modality.
    width : float
        Inches; `ONE_COLUMN` and `TWO_COLUMNS` are those of print.
    colours : mapping, optional
        Family to colour.
    style : str, mapping or sequence of them, optional
        As for ``matplotlib.style.context``.

    Returns
    -------
    Figure
        Its ``data`` are those columns of the table; the figure of `axes` if given.

    Raises
    ------
    UsageError
        If the table lacks columns or rows, or has several heads and none is chosen.
    """
    classes = "p_true_fusion" in table or "y_fusion" not in table
    prefix = "p_true_" if classes else "y_"
    typed = classes and "family" in table
    needed = ["utterance_id", f"{prefix}{FUSION}", *(["family"] if typed else [])]
    rows = checked(table, "utterances", needed, head)
    if not typed:
        rows = rows.assign(family="")
    modalities = [m for m in models_of(rows, prefix) if m not in (FUSION, "true")]
    names = [name for name in FAMILIES if (rows["family"] == name).any()] if typed else [""]
    palette = {**FAMILY_COLOURS, "": "#0072B2", **(colours or {})}
    data = rows[[*needed, *(f"{prefix}{m}" for m in modalities)]]
    shown = [f"{prefix}{m}" for m in (*modalities, FUSION)]
    low, high = (0.0, 1.0) if classes else (float(rows[shown].min().min()), float(rows[shown].max().max()))
    edge = 0.02 * (high - low) or 1.0
    dense = len(rows) > RASTERISE_FROM
    words = "p(true label)" if classes else "value"
    across = max(1, min(len(modalities), int(width // 1.6)))
    fitting = int(width / across / EM)
    with canvas(
        data,
        modalities,
        width / across + 0.15,
        width=width,
        across=across,
        axes=axes,
        style=style,
        sharey=True,
    ) as (figure, panels):
        for ax, modality in zip(panels, modalities, strict=True):
            ax.plot([low, high], [low, high], color=QUIET, linewidth=0.9, zorder=0)
            for name in names:
                part = rows[rows["family"] == name]
                wrong = name in FUSION_WRONG
                ax.scatter(
                    part[f"{prefix}{modality}"],
                    part[f"{prefix}{FUSION}"],
                    s=6 if dense else 14,
                    alpha=0.25 if dense else 0.65,
                    color=palette[name],
                    marker="x" if wrong else "o",
                    linewidths=0.8 if wrong else 0,
                    rasterized=dense,
                    label=name,
                )
            ax.set(xlim=(low - edge, high + edge), ylim=(low - edge, high + edge), aspect="equal")
            ax.set_xlabel(f"{label(modality, fitting - len(words))}: {words}")
            if classes:
                ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
                ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        for ax in panels[::across]:
            ax.set_ylabel(f"fusion: {words}")
        if typed:
            legend(figure, panels)
    return figure


def raters(
    table: pd.DataFrame,
    *,
    head: str | None = None,
    ax: Axes | None = None,
    width: float = TWO_COLUMNS,
    colours: Colours = None,
    style: Style = None,
    resamples: int = 1000,
) -> Figure:
    """Scatter the raters' disagreement over that of the models of single modalities, with means of fifths.

    Fifths are of the rated utterances in the order of the models' disagreement; their means have 95% intervals over
    groups.

    Parameters
    ----------
    table : DataFrame
        ``analysis.table("utterances")`` of a corpus with ratings: ``utterance_id, group, jsd, vote_entropy``, both in
        bits; of an interval target ``utterance_id, group, spread, variance``.
    head, ax, width, style
        As for `confidence`.
    colours : mapping, optional
        Of ``"utterance"`` and ``"mean of a fifth"``.
    resamples : int
        Of groups, for intervals.

    Returns
    -------
    Figure
        Its ``data``: ``what`` (utterance, mean of a fifth), ``utterance_id, models, estimate, low, high, n, n_groups``,
        where `models` is their disagreement and `estimate` the raters'.

    Raises
    ------
    UsageError
        As `confidence`, or if no utterance is rated.
    """
    interval = "spread" in table and "jsd" not in table
    x, y = ("spread", "variance") if interval else ("jsd", "vote_entropy")
    rows = checked(table, "utterances", ("utterance_id", "group", x, y), head)
    rows = rows[rows[y].notna() & rows[x].notna()].sort_values([x, "utterance_id"]).reset_index(drop=True)
    if rows.empty:
        raise UsageError(f"no utterance has both {x} and {y}: the corpus has no ratings of these utterances")
    rows["fifth"] = np.arange(len(rows)) * PARTS // len(rows)
    fifths = means(rows, y, ["fifth"], resamples=resamples)
    fifths["models"] = rows.groupby("fifth")[x].mean().to_numpy()
    single = rows[["utterance_id"]].assign(what="utterance", models=rows[x], estimate=rows[y])
    data = pd.concat([single, fifths.assign(what="mean of a fifth")], ignore_index=True)
    data = data.reindex(
        columns=["what", "utterance_id", "models", "estimate", "low", "high", "n", "n_groups"]
    )
    palette = {"utterance": "#0072B2", "mean of a fifth": "#D55E00", **(colours or {})}
    dense = len(rows) > RASTERISE_FROM
    with canvas(data, ["raters"], max(2.7, 0.5 * width + 0.4), width=width, axes=ax, style=style) as (
        figure,
        (ax,),
    ):
        ax.scatter(
            rows[x],
            rows[y] + 0.0,
            s=6 if dense else 14,
            alpha=0.15 if dense else 0.3,
            color=palette["utterance"],
            linewidths=0,
            rasterized=dense,
            label="utterance",
        )
        marks.along(
            ax,
            fifths["models"],
            fifths,
            colour=palette["mean of a fifth"],
            marker="D",
            name="mean of a fifth",
        )
        if interval:
            ax.set(xlabel="spread of the modalities' values", ylabel="variance of the ratings")
        else:
            ax.set(xlabel="divergence of the modalities, bits", ylabel="vote entropy of the raters, bits")
        legend(figure, [ax])
    return figure


def gates(
    table: pd.DataFrame,
    *,
    head: str | None = None,
    axes: Axes | Sequence[Axes] | None = None,
    width: float = TWO_COLUMNS,
    colours: Colours = None,
    style: Style = None,
    resamples: int = 1000,
) -> Figure:
    """Draw the mean gate and the mean contribution of each modality, by what the fusion made of them.

    Parameters
    ----------
    table : DataFrame
        ``analysis.table("utterances")`` of a fusion with gates: ``utterance_id, group, family, gate_<modality>,
        contribution_<modality>``.
    head, width, style
        As for `confidence`.
    axes : sequence of 2 Axes, optional
        To draw into: of gates and of contributions.
    colours : mapping, optional
        Modality to colour.
    resamples : int
        Of groups, for intervals.

    Returns
    -------
    Figure
        Its ``data``: ``quantity`` (gate, contribution), ``family, modality, estimate, low, high, n, n_groups,
        method``, with 95% intervals over groups.

    Raises
    ------
    UsageError
        As `confidence`, or if the head has no gates.
    """
    rows = checked(table, "utterances", ("utterance_id", "group", "family"), head)
    modalities = models_of(rows, "gate_")
    names = [ALL, *(name for name in FAMILIES if (rows["family"] == name).any())]
    every = pd.concat([rows.assign(family=ALL), rows], ignore_index=True)
    every["family"] = pd.Categorical(every["family"], names)
    every = every.sort_values("family", kind="stable")
    parts = []
    for quantity, limits in {"gate": (0.0, 1.0), "contribution": UNLIMITED}.items():
        for modality in modalities:
            if (column := f"{quantity}_{modality}") in every:
                found = means(every, column, ["family"], limits=limits, resamples=resamples)
                parts.append(found.assign(quantity=quantity, modality=modality))
    data = pd.concat(parts, ignore_index=True)
    modalities = [m for m in modalities if (data["modality"] == m).any()]
    quantities = list(dict.fromkeys(data["quantity"]))
    if not modalities:
        raise UsageError("no utterance of this head has a gate: only some fusions have them")
    data["family"] = data["family"].astype(str)
    data = data[["quantity", "family", "modality", *data.columns.drop(["quantity", "family", "modality"])]]
    across = len(quantities) if width > 4 else 1
    height = 0.9 + 0.12 * len(names) * max(2, len(modalities))
    with canvas(
        data, quantities, height, width=width, across=across, axes=axes, style=style, sharey=across > 1
    ) as (figure, panels):
        palette, shapes = colour_of(modalities, colours), marker_of(modalities)
        kinds = {m: {"colour": palette[m], "marker": shapes[m], "name": label(m)} for m in modalities}
        for ax, quantity in zip(panels, quantities, strict=True):
            part = data[data["quantity"] == quantity]
            marks.name_rows(ax, names, width)
            marks.series(ax, part, rows=names, row="family", of="modality", kinds=kinds)
        panels[0].set_xlabel("mean gate")
        marks.from_zero(panels[0])
        for ax in panels[1:]:
            ax.set_xlabel("mean contribution")
            marks.zero(ax)
        legend(figure, panels)
    return figure


def reliability(
    table: pd.DataFrame,
    *,
    head: str | None = None,
    axes: Axes | Sequence[Axes] | None = None,
    width: float = TWO_COLUMNS,
    colours: Colours = None,
    style: Style = None,
    resamples: int = 1000,
) -> Figure:
    """Draw how often each model is right, by how sure it is: on the diagonal it keeps what it claims.

    Utterances are put into bins of equal mass by the probability of the label that the model gives; equal ones share a
    bin.

    Parameters
    ----------
    table : DataFrame
        ``analysis.table("utterances")``: ``utterance_id, group, label_true, label_<model>, p_label_<model>``.
    head, width, style
        As for `confidence`.
    axes : sequence of Axes, optional
        To draw into, one for each modality and one for the fusion.
    colours : mapping, optional
        Model to colour.
    resamples : int
        Of groups, for intervals.

    Returns
    -------
    Figure
        Its ``data``: ``model, bin, p`` (mean probability), ``estimate`` (share that is right), ``low, high, n,
        n_groups, method``.

    Raises
    ------
    UsageError
        As `confidence`.
    """
    rows = checked(table, "utterances", ("utterance_id", "group", "label_true"), head)
    models = models_of(rows, "p_label_")
    rows = checked(rows, "utterances", [f"label_{model}" for model in models])
    parts = []
    for model in models:
        p = rows[f"p_label_{model}"].to_numpy(np.float64)
        right = (rows[f"label_{model}"] == rows["label_true"]).to_numpy(np.float64)
        cuts = np.unique(np.quantile(p, np.arange(1, BINS) / BINS))
        mine = pd.DataFrame(
            {"bin": np.searchsorted(cuts, p), "p": p, "right": right, "group": rows["group"]}
        ).sort_values("p", kind="stable")
        found = means(mine, "right", ["bin"], limits=(0, 1), resamples=resamples)
        found["bin"] = range(len(found))
        found.insert(1, "p", mine.groupby("bin")["p"].mean().to_numpy())
        found.insert(0, "model", model)
        parts.append(found)
    data = pd.concat(parts, ignore_index=True)
    across = max(1, min(len(models), int(width // 1.6)))
    with canvas(
        data, models, width / across + 0.2, width=width, across=across, axes=axes, style=style, sharey=True
    ) as (figure, panels):
        palette, shapes = colour_of(models, colours), marker_of(models)
        start = min(0.95, float(np.floor(10 * data["p"].min()) / 10))
        for ax, model in zip(panels, models, strict=True):
            part = data[data["model"] == model]
            ax.plot([0, 1], [0, 1], color=QUIET, linewidth=mpl.rcParams["axes.linewidth"], zorder=0)
            marks.along(ax, part["p"], part, colour=palette[model], marker=shapes[model])
            ax.set(xlim=(start, 1.02), ylim=(-0.02, 1.02), title=label(model, int(width / across / EM)))
            ax.xaxis.set_major_locator(MaxNLocator(3))
        for ax in panels[-across:]:
            ax.set_xlabel("p(its label)")
        for ax in panels[::across]:
            ax.set_ylabel("share right")
    return figure
