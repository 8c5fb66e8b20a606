"""Figures of the report. Each function takes tables and returns a matplotlib figure; none reads or writes a file.

Colours are those of Okabe and Ito, which people with the common colour blindnesses tell apart; marks differ too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixed_signals.analysis.panel import FUSION
from mixed_signals.analysis.typology import FAMILIES
from mixed_signals.models.intervals import mean_interval

FAMILY_COLOURS = dict(
    zip(
        FAMILIES,
        ("#8c8c8c", "#56B4E9", "#009E73", "#000000", "#CC79A7", "#D55E00", "#E69F00"),
        strict=True,
    )
)
FUSION_WRONG = {"agree wrong", "all wrong", "misled by", "harmed"}
SERIES_COLOURS = ("#0072B2", "#E69F00", "#009E73")
RASTERISE_FROM = 2_000

STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "mixed-signals",
    "savefig.transparent": True,
}


def save(figure: Figure, name: str) -> dict[str, bytes]:
    """Return a figure as files: ``{"<name>.svg": ..., "<name>.png": ...}``, the same bytes each time."""
    files = {}
    with mpl.rc_context(STYLE):
        for suffix, options in {
            "svg": {"metadata": dict.fromkeys(("Creator", "Date", "Format", "Type"))},
            "png": {"dpi": 200, "transparent": False, "metadata": {"Software": None}},
        }.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, **options)  # type: ignore[arg-type]
            files[f"{name}.{suffix}"] = buffer.getvalue()
    return files


def inline(svg: bytes, name: str) -> str:
    """Return an SVG file as markup for a page: no prologue, and ids that no other figure has."""
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)


def _axes(columns: int, width: float, height: float, **options: object) -> tuple[Figure, list[Axes]]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False, **options)  # type: ignore[call-overload]
    return figure, list(axes[0])


def _errors(table: pd.DataFrame) -> np.ndarray:
    """Return distances from the estimate to its ends, shape (2, rows), zero where there is no interval."""
    return np.nan_to_num(
        np.array([table["estimate"] - table["low"], table["high"] - table["estimate"]], dtype=float)
    )


def confidence(utterances: pd.DataFrame, modalities: Sequence[str]) -> Figure:
    """Scatter the probability of the true label, each unimodal's against the fusion's, coloured by type."""
    figure, axes = _axes(len(modalities), 7.6, 3.4, sharey=True)
    dense = len(utterances) > RASTERISE_FROM
    for ax, modality in zip(axes, modalities, strict=True):
        ax.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, zorder=0)
        for name in FAMILIES:
            part = utterances[utterances["family"] == name]
            ax.scatter(
                part[f"p_true_{modality}"],
                part[f"p_true_{FUSION}"],
                s=8 if dense else 16,
                alpha=0.35 if dense else 0.6,
                color=FAMILY_COLOURS[name],
                marker="x" if name in FUSION_WRONG else "o",
                linewidths=0.8 if name in FUSION_WRONG else 0,
                rasterized=dense,
                label=name if len(part) else None,
            )
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=f"{modality}: p(true label)", aspect="equal")
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes[0].set_ylabel("fusion: p(true label)")
    handles, labels = axes[0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)
    return figure


def rates(table: pd.DataFrame) -> Figure:
    """Draw one head's disagreement rates beside the seed floor, with intervals."""
    pairs = list(dict.fromkeys(zip(table["first"], table["second"], strict=True)))
    series = [
        ("rate", "two models, seeds averaged"),
        ("between", "two models, single trainings"),
        ("floor", "one model, two trainings (floor)"),
    ]
    series = [
        (q, label) for q, label in series if table.loc[table["quantity"] == q, "estimate"].notna().any()
    ]
    figure, (ax,) = _axes(1, 7.6, 0.9 + 0.5 * len(pairs) + 0.3 * len(series))
    height = 0.8 / len(series)
    for i, ((quantity, label), colour) in enumerate(zip(series, SERIES_COLOURS, strict=False)):
        part = table[table["quantity"] == quantity]
        y = np.arange(len(pairs)) + (i - (len(series) - 1) / 2) * height
        ax.barh(y, 100 * part["estimate"], height * 0.9, color=colour, label=label)
        ax.errorbar(
            100 * part["estimate"], y, xerr=100 * _errors(part), fmt="none", ecolor="#222222", elinewidth=1
        )
    ax.set_yticks(range(len(pairs)), [f"{a} / {b}" for a, b in pairs])
    ax.invert_yaxis()
    ax.set(xlabel="utterances with different labels, %", xlim=(0, None))
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def shares(table: pd.DataFrame) -> Figure:
    """Draw the share of each type of one head, with intervals."""
    figure, (ax,) = _axes(1, 7.6, 0.9 + 0.3 * len(table))
    y = np.arange(len(table))
    ax.barh(y, 100 * table["estimate"], 0.75, color=[FAMILY_COLOURS[name] for name in table["family"]])
    ax.errorbar(
        100 * table["estimate"], y, xerr=100 * _errors(table), fmt="none", ecolor="#777777", elinewidth=1.2
    )
    ax.set_yticks(y, table["type"])
    ax.invert_yaxis()
    ax.set(xlabel="share of utterances, %", xlim=(0, None))
    return figure


def raters(utterances: pd.DataFrame) -> Figure:
    """Scatter the raters' vote entropy over the divergence of the unimodals, with means of fifths."""
    part = utterances[utterances["vote_entropy"].notna()].sort_values("jsd")
    figure, (ax,) = _axes(1, 7.6, 3.6)
    x, y = part["jsd"].to_numpy(float), part["vote_entropy"].to_numpy(float)
    dense = len(part) > RASTERISE_FROM
    ax.scatter(x, y, s=14, alpha=0.3, color="#0072B2", linewidths=0, rasterized=dense, label="utterance")
    fifths = [rows for rows in np.array_split(np.arange(len(part)), 5) if len(rows)]
    means = np.array([[x[rows].mean(), y[rows].mean()] for rows in fifths])
    ax.plot(means[:, 0], means[:, 1], "D-", color="#D55E00", label="mean of each fifth")
    ax.set(xlabel="divergence of the modalities, bits", ylabel="vote entropy of the raters, bits")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def gates(utterances: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Draw the mean gate of each modality within each family of types, with intervals.

    Parameters
    ----------
    utterances : DataFrame
        One head's utterances, with ``utterance_id, group, family``.
    table : DataFrame
        Gates of that head's fusion, long: ``utterance_id, modality, gate``.
    """
    wide = table.pivot_table(index="utterance_id", columns="modality", values="gate", aggfunc="mean")
    modalities = [m for m in ("text", "audio", "video") if m in wide]
    joined = utterances[["utterance_id", "group", "family"]].merge(wide, on="utterance_id")
    families = [name for name in FAMILIES if (joined["family"] == name).any()]
    figure, (ax,) = _axes(1, 7.6, 3.4)
    width = 0.8 / len(modalities)
    for i, (modality, colour) in enumerate(zip(modalities, SERIES_COLOURS, strict=False)):
        means = []
        for name in families:
            part = joined[(joined["family"] == name) & joined[modality].notna()]
            means.append(vars(mean_interval(part[modality], part["group"], limits=(0, 1))))
        part = pd.DataFrame(means)
        at = np.arange(len(families)) + (i - (len(modalities) - 1) / 2) * width
        ax.bar(at, part["estimate"], width * 0.9, color=colour, label=modality)
        ax.errorbar(at, part["estimate"], yerr=_errors(part), fmt="none", ecolor="#222222", elinewidth=1)
    ax.set_xticks(range(len(families)), [name.replace(" ", "\n") for name in families])
    ax.set(ylabel="mean gate", ylim=(0, None))
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure
