"""Plots of people: how often they give the label by what they are shown, and who gains and loses from more."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixed_signals.analysis.people.gains import HALVES
from mixed_signals.analysis.people.votes import TIE_RULES, TIES_WRONG
from mixed_signals.analysis.plots import marks
from mixed_signals.analysis.plots.canvas import (
    TWO_COLUMNS,
    Colours,
    Style,
    canvas,
    legend,
)
from mixed_signals.analysis.plots.tables import ESTIMATE, checked, chosen
from mixed_signals.store.errors import UsageError

MODEL = "model"
_RIGHT = {
    "ties wrong": ("#0072B2", "o", False, "most votes, ties wrong"),
    "ties shared": ("#56B4E9", "s", True, "most votes, ties shared"),
    "per response": ("#D55E00", "^", False, "single votes"),
    MODEL: ("#444444", "D", False, "model"),
}
_CHANGES = {
    "gain": ("#009E73", "^", False, "gained"),
    "flips_first": ("#009E73", "^", True, "vote noise of the first"),
    "loss": ("#D55E00", "v", False, "lost"),
    "flips_second": ("#D55E00", "v", True, "vote noise of the second"),
}
_BEYOND = {
    "net": ("#0072B2", "o", False, "net gain"),
    "gain_excess": ("#009E73", "^", False, "gains beyond vote noise"),
    "loss_excess": ("#D55E00", "v", False, "losses beyond vote noise"),
}


def people(
    table: pd.DataFrame,
    *,
    models: pd.DataFrame | None = None,
    head: str | None = None,
    ax: Axes | None = None,
    width: float = TWO_COLUMNS,
    colours: Colours = None,
    style: Style = None,
) -> Figure:
    """Draw how often people give the label, by what they were shown, and models beside them.

    Parameters
    ----------
    table : DataFrame
        ``analysis.table("people")``: ``channel, tie_rule, estimate, low, high``.
    models : DataFrame, optional
        ``analysis.run.metrics``: ``model, head, modalities, metric, estimate, low, high``, whose accuracies are drawn
        below; sentinels, which use no features, are left out.
    head : str, optional
        Whose models, where there are several.
    ax, width, style
        As for `confidence`.
    colours : mapping, optional
        Tie rule, or ``"model"``, to colour.

    Returns
    -------
    Figure
        Its ``data``: ``who, rule, estimate, low, high``, and ``n, n_groups`` where the tables have them.

    Raises
    ------
    UsageError
        As `confidence`.
    """
    rows = checked(table, "people", ("channel", "tie_rule", *ESTIMATE))
    people_rows = rows.assign(who="people: " + rows["channel"].astype(str), rule=rows["tie_rule"])
    parts = [people_rows]
    if models is not None:
        of_features = (
            models[models["modalities"].fillna("").astype(bool)] if "modalities" in models else models
        )
        scores = checked(of_features, "metrics", ("model", "modalities", "metric", *ESTIMATE), head)
        mine = scores[scores["metric"] == "accuracy"]
        parts.append(mine.assign(who="model: " + mine["modalities"].astype(str), rule=MODEL))
    data = pd.concat(parts, ignore_index=True)
    columns = [name for name in ("who", "rule", *ESTIMATE, "n", "n_groups", "method") if name in data]
    data = data[columns]
    who = list(dict.fromkeys(data["who"]))
    there = [rule for rule in (*TIE_RULES, MODEL) if (data["rule"] == rule).any()]
    n_people = len(set(people_rows["who"]))
    height = 0.85 + (0.38 if len(who) == n_people else 0.26) * len(who)
    with canvas(data, ["people"], height, width=width, axes=ax, style=style) as (figure, (ax,)):
        marks.name_rows(ax, who, width)
        looks = _looks({rule: _RIGHT[rule] for rule in there}, colours)
        below = {MODEL: looks.pop(MODEL)} if MODEL in looks else {}
        for kinds in (looks, below):
            marks.series(ax, data, rows=who, row="who", of="rule", kinds=kinds, scale=100)
        ax.set_xlabel("label given, % of utterances")
        legend(figure, [ax])
    return figure


def gains(
    table: pd.DataFrame,
    *,
    tie_rule: str = TIES_WRONG,
    axes: Axes | Sequence[Axes] | None = None,
    width: float = TWO_COLUMNS,
    colours: Colours = None,
    style: Style = None,
) -> Figure:
    """Draw which share of utterances people gain and lose when they are shown more, beside vote noise alone.

    Pairs of channels of which the second shows all of the first and more; where there are none, all pairs. On the left
    gains and losses between random halves of the votes, and, hollow, what two halves of one channel lose against each
    other: votes that change though nothing more is shown. On the right what is beyond that.

    Parameters
    ----------
    table : DataFrame
        ``analysis.table("channels")``: ``first, second, more, label, votes, tie_rule, quantity, estimate, low, high``.
    tie_rule : str
        "ties wrong" or "ties shared".
    axes : sequence of 2 Axes, optional
        To draw into.
    width, style
        As for `confidence`.
    colours : mapping, optional
        Quantity to colour.

    Returns
    -------
    Figure
        Its ``data`` are the rows of the table that are drawn.

    Raises
    ------
    UsageError
        As `confidence`, or if the table has no such tie rule.
    """
    needed = ("first", "second", "more", "label", "votes", "tie_rule", "quantity", *ESTIMATE)
    rows = checked(table, "channels", needed)
    rows = rows[
        (rows["votes"] == HALVES) & (rows["label"] == "") & rows["quantity"].isin([*_CHANGES, *_BEYOND])
    ]
    if rows.empty:
        raise UsageError("no two channels have votes enough to be halved: two of each utterance in both")
    rows = chosen(rows, "tie_rule", tie_rule)
    rows = rows[rows["more"]] if rows["more"].any() else rows
    rows = rows.assign(pair=rows["first"].astype(str) + " → " + rows["second"].astype(str))
    pairs = list(dict.fromkeys(rows["pair"]))
    across = 2 if width > 4 else 1
    with canvas(
        rows.drop(columns="pair"),
        ["changes", "beyond vote noise"],
        1.1 + 0.45 * len(pairs),
        width=width,
        across=across,
        axes=axes,
        style=style,
        sharey=across > 1,
    ) as (figure, panels):
        for ax, found in zip(panels, (_CHANGES, _BEYOND), strict=True):
            marks.name_rows(ax, pairs, width)
            looks = _looks(found, colours)
            marks.series(ax, rows, rows=pairs, row="pair", of="quantity", kinds=looks, scale=100)
        panels[0].set_xlabel("utterances, %")
        marks.from_zero(panels[0])
        panels[1].set_xlabel("utterances, points")
        marks.zero(panels[1])
        legend(figure, panels)
    return figure


def _looks(found: dict[str, tuple[str, str, bool, str]], colours: Colours) -> dict[str, dict[str, object]]:
    return {
        key: {"colour": (colours or {}).get(key, colour), "marker": marker, "hollow": hollow, "name": words}
        for key, (colour, marker, hollow, words) in found.items()
    }
