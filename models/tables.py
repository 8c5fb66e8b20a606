"""A run's scores as a table for the terminal."""

from __future__ import annotations

from math import isnan

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mixed_signals.store import Run

SHOWN = ("accuracy", "AUROC", "log loss")


def metrics_table(run: Run) -> Table:
    """Return the scores of a run as a table: a row per model, an interval where there is one."""
    table = Table(
        title=f"out-of-fold scores (accuracy with its 95% interval over {run.info['interval_unit']})",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("head", "modalities", *SHOWN):
        table.add_column(column, no_wrap=True)
    metrics = run.metrics.set_index(["model", "metric"])
    previous = None
    for model in dict.fromkeys(run.metrics["model"]):
        cells = []
        for metric in SHOWN:
            row = metrics.loc[(model, metric)]
            cell = f"{row['estimate']:.3f}"
            if metric == "accuracy" and not isnan(row["low"]):
                cell += f" [dim]{row['low']:.2f} to {row['high']:.2f}[/]"
            cells.append(cell)
        head, modalities = (str(metrics.loc[(model, "accuracy"), key]) for key in ("head", "modalities"))
        if head != previous and previous is not None:
            table.add_section()
        table.add_row(head if head != previous else "", modalities or "(none)", *cells)
        previous = head
    return table
