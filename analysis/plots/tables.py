"""The tables that plots take: checked before anything is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from mixed_signals.models.intervals import UNLIMITED, Limits, mean_interval
from mixed_signals.store.errors import UsageError

ESTIMATE = ("estimate", "low", "high")


def checked(table: pd.DataFrame, name: str, needed: Iterable[str], head: str | None = None) -> pd.DataFrame:
    """Return the rows of one head of a table of an analysis.

    Parameters
    ----------
    table : DataFrame
    name : str
        Which table of an analysis it should be.
    needed : iterable of str
        Its columns.
    head : str, optional
        Which of its heads; may be left out where there is one.

    Raises
    ------
    UsageError
        If it is no table, has no rows or lacks columns, or has several heads and none is chosen.
    """
    if not isinstance(table, pd.DataFrame):
        raise UsageError(f"this plot takes a table, analysis.table({name!r}), not {type(table).__name__}")
    if table.empty:
        raise UsageError(
            f"table {name!r} has no rows: its question was not asked, or the study cannot answer it "
            "(analysis.warnings says why)"
        )
    needed = list(needed)
    if missing := [column for column in needed if column not in table]:
        raise UsageError(
            f"the table has no column {', '.join(missing)}; this plot takes the table {name!r} of an analysis"
        )
    if "head" not in table:
        return table.reset_index(drop=True)
    heads = list(dict.fromkeys(table["head"].astype(str)))
    if head is None and len(heads) > 1:
        raise UsageError(f"the table has the heads {', '.join(heads)}: choose one, head={heads[0]!r}")
    if head is not None and head not in heads:
        raise UsageError(f"head={head!r}: the table has {', '.join(heads)}")
    return table[table["head"].astype(str) == (head or heads[0])].reset_index(drop=True)


def models_of(table: pd.DataFrame, prefix: str) -> list[str]:
    """Return of which single modalities and, last, fusion a table has a column ``<prefix><model>``.

    Raises
    ------
    UsageError
        If it has none.
    """
    found = [str(c).removeprefix(prefix) for c in table if str(c).startswith(prefix) and "+" not in str(c)]
    if not found:
        raise UsageError(
            f"the table has no column {prefix}<model>; this plot takes the table 'utterances' of an analysis"
        )
    return sorted(found, key=lambda model: model == "fusion")


def chosen(table: pd.DataFrame, column: str, value: str | None) -> pd.DataFrame:
    """Return the rows with a value of a column, or with its first value where none is asked for.

    Raises
    ------
    UsageError
        If no row has that value.
    """
    values = list(dict.fromkeys(table[column].astype(str)))
    if value is not None and value not in values:
        raise UsageError(f"{column}={value!r}: the table has {', '.join(values)}")
    return table[table[column].astype(str) == (value or values[0])]


def means(
    table: pd.DataFrame,
    column: str,
    by: Sequence[str],
    *,
    limits: Limits = UNLIMITED,
    resamples: int = 1000,
) -> pd.DataFrame:
    """Return the mean of a column in each part of a table of utterances, with an interval over groups.

    Parameters
    ----------
    table : DataFrame
        With ``group``, and the columns `by`.
    column : str
    by : sequence of str
        What makes a part.
    limits, resamples
        As for `mixed_signals.models.intervals.mean_interval`.

    Returns
    -------
    DataFrame
        `by`, then ``estimate, low, high, n, n_groups, method``, in the order of the parts' first rows.
    """
    rows: list[dict[str, Any]] = []
    for key, part in table[table[column].notna()].groupby(list(by), sort=False, observed=True):
        found = mean_interval(
            part[column].to_numpy(float), part["group"].to_numpy(object), limits=limits, resamples=resamples
        )
        rows.append({**dict(zip(by, key, strict=True)), **vars(found)})
    return pd.DataFrame(rows, columns=[*by, *ESTIMATE, "n", "n_groups", "method"])
