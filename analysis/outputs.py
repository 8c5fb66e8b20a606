"""What an analysis leaves on disk: findings, tables in three formats, and a section on methods.

::

    runs/<name>/analysis/
      findings.json  methods.md
      report/  (or report.json, which says where it is)
      tables.md  (what every column means)
      tables/<table>.parquet  <table>.csv  <table>.tex
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from mixed_signals.analysis.columns import dictionary
from mixed_signals.analysis.findings import Finding
from mixed_signals.analysis.sources import SOURCES
from mixed_signals.store.errors import MixedSignalsError
from mixed_signals.store.files import read_parquet, replacing, write_json, write_parquet

TABLES = "tables"
MOST_ROWS = 200  # of a LaTeX table: longer ones are data, which nobody prints
_WITH_INTERVAL = "estimate (95% CI)"
_CITED = re.compile(r"\[([^\[\]]+ \d{4})\]")
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Write ``findings.json``: a list of objects, null for numbers that do not exist."""
    write_json(path, [asdict(finding) for finding in findings])


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """Read back a table that `write_tables` wrote into an analysis's folder."""
    return read_parquet(folder / TABLES / f"{name}.parquet")


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write tables into an analysis's folder as Parquet and CSV, and short ones as LaTeX; older ones go.

    Beside them, ``tables.md`` says what their columns mean.
    """
    with replacing(folder / "tables.md") as temporary:
        temporary.write_text(dictionary(tables), encoding="utf-8")
    folder = folder / TABLES
    if folder.exists():
        shutil.rmtree(folder)
    for name, table in tables.items():
        write_parquet(folder / f"{name}.parquet", table)
        with replacing(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
        if len(table) <= MOST_ROWS:
            with replacing(folder / f"{name}.tex") as temporary:
                temporary.write_text(latex(table), encoding="utf-8")


def latex(table: pd.DataFrame) -> str:
    r"""Return a table for LaTeX with the package booktabs.

    Numbers have three digits, whole ones none, and nothing stands where there is none. An estimate and its interval are
    one column; how they were made is in the other formats.

    Examples
    --------
    >>> print(latex(pd.DataFrame({"model": ["a_b"], "n": [3], "rate": [0.25]})))
    \begin{tabular}{lrr}
    \toprule
    model & n & rate \\
    \midrule
    a\_b & 3 & 0.250 \\
    \bottomrule
    \end{tabular}
    <BLANKLINE>
    """
    table = _for_print(table)
    numeric = [pd.api.types.is_numeric_dtype(table[name]) or name == _WITH_INTERVAL for name in table]
    lines = [
        rf"\begin{{tabular}}{{{''.join('r' if is_number else 'l' for is_number in numeric)}}}",
        r"\toprule",
        " & ".join(_escaped(str(name)) for name in table) + r" \\",
        r"\midrule",
        *(" & ".join(map(_cell, row)) + r" \\" for row in table.itertuples(index=False)),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _for_print(table: pd.DataFrame) -> pd.DataFrame:
    shown = table.drop(columns="method", errors="ignore")
    for name in shown.select_dtypes("float"):
        if (shown[name].dropna() % 1 == 0).all():
            shown[name] = shown[name].astype("Int64")
    if {"estimate", "low", "high"} <= set(table):
        cells = [
            f"{_cell(e)} ({_cell(low)} to {_cell(high)})" if np.isfinite(low) else _cell(e)
            for e, low, high in zip(
                *(table[name].astype(float) for name in ("estimate", "low", "high")), strict=True
            )
        ]
        place = list(shown).index("estimate")
        shown = shown.drop(columns=["estimate", "low", "high"])
        shown.insert(place, _WITH_INTERVAL, cells)
    return shown


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if np.isfinite(value) else ""
    return "" if value is None or value is pd.NA else _escaped(str(value))


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)


def methods_section(paragraphs: Sequence[Sequence[str]]) -> str:
    """Return paragraphs of sentences, each said once, with the references that they cite by key, ``[Lin 1991]``.

    Raises
    ------
    MixedSignalsError
        If a sentence cites what is not in `analysis.sources.SOURCES`.
    """
    said: set[str] = set()
    written = []
    for sentences in paragraphs:
        if new := [sentence for sentence in dict.fromkeys(sentences) if sentence not in said]:
            written.append(" ".join(new))
        said.update(sentences)
    text = "\n\n".join(written)
    cited = sorted({key for found in _CITED.findall(text) for key in found.split("; ")})
    if unknown := [key for key in cited if key not in SOURCES]:
        raise MixedSignalsError(f"methods: no source {unknown[0]!r}")
    references = "\n".join(f"- [{key}] {SOURCES[key]}" for key in cited)
    return f"# Methods\n\n{text}\n\n# References\n\n{references}\n"
