"""A run's scores as a table for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from math import isnan
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from mixed_signals.store import Run

SHOWN = {
    "nominal": ("accuracy", "macro F1", "AUROC", "log loss"),
    "ordinal": ("QWK", "rank MAE", "accuracy", "log loss"),
    "multilabel": ("macro F1", "subset accuracy", "AUROC", "log loss"),
    "interval": ("CCC", "Pearson", "MAE", "RMSE"),
}


def metrics_table(run: Run) -> Table:
    """Return the scores of a run as a table: a row per model, sentinels first, the first score with its interval.

    Names of heads wrap where the terminal is too narrow; the scores never do.
    """
    shown = SHOWN[run.kind]
    metrics = run.metrics[run.metrics["metric"].isin(shown)]
    table = Table(
        title=f"out-of-fold scores of {run.info['target']} ({run.kind}; dim: 95% interval over "
        f"{run.info['interval_unit']})",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("head", overflow="fold")
    table.add_column("modalities", no_wrap=True)
    for metric in shown:
        table.add_column(metric.replace(" ", "\n"), no_wrap=True)
    sentinels = metrics["modalities"] == ""
    previous = None
    for part in (metrics[sentinels], metrics[~sentinels]):
        for _, scores in part.groupby("model", sort=False):
            head, modalities = scores["head"].iloc[0], scores["modalities"].iloc[0]
            if previous is not None and modalities and head != previous:
                table.add_section()
            rows = {row["metric"]: row for row in scores.to_dict("records")}
            cells = [_cell(rows[metric], interval=metric == shown[0]) for metric in shown]
            table.add_row(head if head != previous else "", modalities or "(none)", *cells)
            previous = head
    return table


def choice_lines(run: Run) -> list[Text]:
    """Return which feature set stood for a modality, and which head was chosen, in how many folds."""
    lines = []
    kinds = [("chosen_features", "modality"), ("chosen_heads", "modalities")]
    if run.info.get("views_by_fold"):
        kinds.pop(0)
        lines.append(
            Text(
                "each fold has cross-fitted features of its own, on rows and folds that finetune-encoders set"
            )
        )
    for kind, key in kinds:
        chosen: dict[str, Counter[str]] = {}
        for choice in run.info.get(kind, ()):
            if choice["fold"] >= 0:
                name = choice["features" if kind == "chosen_features" else "head"]
                chosen.setdefault(choice[key], Counter())[name] += 1
        for of, counts in chosen.items():
            told = ", ".join(f"{name} in {n} of {counts.total()} folds" for name, n in counts.most_common())
            lines.append(Text(f"chosen for {of}: {told}"))
    return lines


def row_lines(run: Run) -> list[Text]:
    """Return what weakens all scores: tested rows of one class, rows that are not the same for all models."""
    return [*_one_class(run), *_other_rows(run)]


def _one_class(run: Run) -> list[Text]:
    """Return a warning where all tested rows have one class: a head that always says it is scored 1."""
    if run.kind not in ("nominal", "ordinal"):
        return []
    labels = run.predictions.drop_duplicates("utterance_id")["label_true"]
    if labels.nunique() != 1:
        return []
    told = f"all {len(labels):,} tested rows are of one class ({labels.iloc[0]}): accuracy and F1 say only how often "
    return [
        Text(
            f"{told}it is named, and AUROC is undefined (-); test on rows of other classes too",
            style="yellow",
        )
    ]


def _other_rows(run: Run) -> list[Text]:
    rows = run.metrics[run.metrics["modalities"] != ""].drop_duplicates("modalities")
    if rows["n"].nunique() < 2:
        return []
    told = ", ".join(f"{m} {n:,}" for m, n in zip(rows["modalities"], rows["n"], strict=True))
    return [
        Text(f"rows scored differ ({told}): compare models only on the rows that they share", style="yellow")
    ]


def override_lines(run: Run) -> list[Text]:
    """Return what was overridden for this run, such as test rows that an encoder was trained on, to print with it."""
    return [Text(sentence, style="yellow") for sentence in run.info.get("overrides", ())]


def _cell(row: Mapping[Hashable, Any], *, interval: bool) -> Text:
    cell = Text(_number(row["estimate"]))
    if interval and not isnan(row["low"]):
        cell.append(f" {row['low']:.2f} to {row['high']:.2f}", style="dim")
    return cell


def _number(value: float) -> str:
    """Return three decimals, or fewer of a large number."""
    if isnan(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"
