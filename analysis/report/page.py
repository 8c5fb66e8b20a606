"""The report: a folder with one page that is complete without scripts, and what its scripts work with.

::

    index.html
    assets/*.css  *.js               this package's own
    assets/lib/                      Bokeh and DataTables (see `analysis.report.libraries`)
    assets/data/                     side files (see `analysis.report.side_files`)
    assets/figures/                  each figure as SVG and PNG, and the data behind it as CSV
    assets/tables/                   the findings as JSON, and the tables as CSV
    assets/clips/                    clips (see `analysis.report.media`)
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader

from mixed_signals.analysis.findings import by_quantity, percent, records, with_interval
from mixed_signals.analysis.outputs import TABLES, write_findings
from mixed_signals.analysis.panel import Panel
from mixed_signals.analysis.report import libraries, side_files
from mixed_signals.analysis.report.charts import charts
from mixed_signals.analysis.report.details import parts
from mixed_signals.analysis.report.folder import MARK, PAGE, new_report
from mixed_signals.analysis.report.media import describe_media
from mixed_signals.analysis.report.pictures import Picture, pictures
from mixed_signals.analysis.report.rows import Rows
from mixed_signals.analysis.report.story import tell
from mixed_signals.analysis.report.tuned_encoders import cross_fitting
from mixed_signals.store.terminal import counted

if TYPE_CHECKING:
    from mixed_signals.analysis.analysis import Analysis
    from mixed_signals.analysis.study import Study

POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file: 'unsafe-inline'; img-src 'self' file: data:; "
    "media-src 'self' file:; base-uri 'none'; form-action 'none'"
)
"""Content security policy of the page: nothing but files, and no code but theirs. Bokeh sets styles inline."""

SCRIPTS = (
    "side", "shown", "state", "elements", "filters", "heads", "explorer", "player", "detail", "keys",
    "chart_data", "charts",
)  # fmt: skip
"""Of this package, in the order in which they build on each other."""
STYLES = ("page", "charts")

_ASSETS = Path(__file__).parent / "assets"
_LARGEST_TABLE = 2_000_000  # bytes of a CSV that goes with the report
_FLOORS = {"seeds": "seed floor", "bags": "resampling floor", "": "floor"}


def write_report(
    analysis: Analysis,
    study: Study,
    folder: Path,
    *,
    clips: bool = False,
    on_step: Callable[[str], None] | None = None,
) -> Path:
    """Write the report of an analysis, in the place of an older one.

    Parameters
    ----------
    analysis : Analysis
        With the tables ``utterances`` and ``rates``; its folder has the tables and findings.
    study : Study
        What was analysed.
    folder : Path
        Of the report. If writing fails, what was there stays.
    clips : bool
        Whether each utterance's clip is cut into the report, so that it can be sent away.
    on_step : callable, optional
        Called with what is being written.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    UsageError
        If the folder holds something that is no report.
    MixedSignalsError
        If the packages that carry the page's libraries are not as they are known.
    """
    step = on_step or (lambda what: None)
    with new_report(folder) as new:
        assets = new / "assets"
        rows = Rows.of(analysis, study)
        step("scripts")
        libraries.write_libraries(assets / "lib")
        for name in (*(f"{script}.js" for script in SCRIPTS), *(f"{style}.css" for style in STYLES)):
            shutil.copyfile(_ASSETS / name, assets / name)
        tables = _write_tables(analysis, assets / TABLES)
        step("media")
        media = _media(rows, new, clips=clips, step=step)
        step("data")
        _write_data(rows, media, assets / "data")
        drawn = {}
        for panel in study.panels:
            step(f"pictures of {panel.head}")
            drawn[panel.head] = pictures(analysis, study, panel.head, assets / "figures")
        (new / PAGE).write_text(_render(rows, drawn, tables), encoding="utf-8", errors="replace")
    return folder / PAGE


def _media(rows: Rows, new: Path, *, clips: bool, step: Callable[[str], None]) -> list[dict[str, Any]]:
    store = rows.study.store
    if store is None:
        return [{"why": "The run is in no store, so that its recordings are not known."}] * len(rows.ids)
    return describe_media(
        store.corpus,
        rows.ids.tolist(),
        new,
        clips=clips,
        on_clip=lambda done, n: step(f"clips, {done:,} of {n:,}"),
    )


def _write_data(rows: Rows, media: list[dict[str, Any]], folder: Path) -> None:
    folder.mkdir(parents=True)

    def write(name: str, value: Any) -> None:
        side_files.write_side_file(folder, name, side_files.encode(value))

    write("rows", rows.shared())
    for k, panel in enumerate(rows.study.panels):
        write(f"head-{k}", rows.head(panel))
        write(f"charts-{k}", charts(rows.analysis, rows.study, panel.head))
    write("texts", rows.texts)
    for number, part in enumerate(parts(rows, media)):
        side_files.write_side_file(folder, side_files.part_name(number), part)


def _write_tables(analysis: Analysis, folder: Path) -> dict[str, bool]:
    """Write findings and tables into the report; return the tables' names, and whether each was not too large."""
    write_findings(folder / "findings.json", analysis.findings)
    files = [analysis.folder / TABLES / f"{name}.csv" for name in analysis.tables]
    small = {file.stem: file.stat().st_size <= _LARGEST_TABLE for file in files if file.is_file()}
    for name in (name for name, goes in small.items() if goes):
        shutil.copyfile(analysis.folder / TABLES / f"{name}.csv", folder / f"{name}.csv")
    return small


def _render(rows: Rows, drawn: dict[str, list[Picture]], tables: dict[str, bool]) -> str:
    """Return the page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "interval": with_interval, "counted": counted}
    analysis, run = rows.analysis, rows.study.run
    return environment.get_template("page.html").render(
        mark=MARK,
        policy=POLICY,
        styles=[*(f"lib/{name}" for name in libraries.STYLES), *(f"{name}.css" for name in STYLES)],
        scripts=[*(f"lib/{name}" for name in libraries.SCRIPTS), *(f"{name}.js" for name in SCRIPTS)],
        analysis=analysis,
        run=run,
        kind=rows.study.panels[0].kind,
        n_utterances=len(rows.ids),
        n_groups=rows.n_groups,
        folds=_folds(rows.study),
        cross_fitting=cross_fitting(rows.study, len(rows.ids)),
        story=tell(analysis.findings),
        metrics=metrics_by_model(run.metrics),
        metric_names=list(dict.fromkeys(run.metrics["metric"])),
        heads=[_head(analysis, panel, drawn[panel.head]) for panel in rows.study.panels],
        methods=[block for block in analysis.methods.split("\n\n") if block],
        tables=[name for name, goes in tables.items() if goes],
        left_out=[name for name, goes in tables.items() if not goes],
    )


def _folds(study: Study) -> str:
    """Return how often the run was divided into how many folds."""
    n_partitions = len(study.panels[0].folds)
    said = counted(len(set(study.panels[0].folds[0])), "fold")
    return said if n_partitions == 1 else f"{said}, in {counted(n_partitions, 'partition')}"


def metrics_by_model(metrics: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the metrics, one dictionary for each model: ``model``, ``sentinel`` and ``values`` by metric."""
    models: dict[str, dict[str, Any]] = {}
    for row in records(metrics):
        new = {"model": row["model"], "sentinel": not row["modalities"], "values": {}}
        models.setdefault(row["model"], new)["values"][row["metric"]] = row
    return list(models.values())


def _head(analysis: Analysis, panel: Panel, drawn: list[Picture]) -> dict[str, Any]:
    """Return what the page shows of one head."""
    rates, types = (_of_head(analysis.table(name), panel.head) for name in ("rates", "typology"))
    rates = rates[rates["measure"].isin(["label", "difference"]) & (rates["first"] != rates["second"])]
    repeats = rates.loc[rates["quantity"] == "floor", "repeats"].iloc[0]
    return {
        "name": panel.head,
        "modalities": panel.unimodals,
        "n_trainings": len(panel.seeds),
        "pictures": drawn,
        "pairs": by_quantity(rates),
        "measured_floor": bool(rates.loc[rates["quantity"] == "excess", "estimate"].notna().all()),
        "floor": _FLOORS[repeats],
        "types": records(types[types["count"] > 0]) if len(types) else [],
    }


def _of_head(table: pd.DataFrame, head: str) -> pd.DataFrame:
    return table[table["head"] == head] if len(table) else table
