"""The command ``analyze-disagreement``: tables in the terminal, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixed_signals.store.errors import UsageError
from mixed_signals.store.terminal import Debug, interruptible, make_app, run_app, split_values, stderr, stdout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.table import Table

    from mixed_signals.analysis.analysis import Analysis
    from mixed_signals.store import Store

app = make_app()


@app.command()
def analyze_disagreement(
    store: Annotated[Path, typer.Argument(help="Folder of the store.", show_default=False)],
    run: Annotated[
        str | None,
        typer.Option(
            help="Name of the run, as given to fit-heads. (default: the only one)", show_default=False
        ),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(help="Only these heads (commas or repetition).", show_default=False),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder of the report; in the run's own folder if not given.", show_default=False),
    ] = None,
    debug: Debug = False,
) -> None:
    """Find where and why the models of a run disagree, set that beside its raters, and write a report.

    Example: [bold]analyze-disagreement my.store --run first --head gated[/]
    """
    from mixed_signals.analysis.analysis import analyze
    from mixed_signals.store import Store

    opened = Store.open(store)
    if report is not None and report.exists() and not report.is_dir():
        raise UsageError(f"--report {report}: is a file; name a folder")
    name = run or _only_run(opened)
    with interruptible("no report was written"), stderr().status(f"analysing run {name}"):
        result = analyze(opened, name, heads=split_values(head), report=report)
    console = stdout()
    for title, table in (*_metrics(result), *_rates(result), *_types(result), *_link(result)):
        console.print(title, style="bold", highlight=False, markup=False)
        console.print(table)
        console.print()
    _sentences(console, result)
    for warning in result.warnings:
        stderr().print(f"[yellow]note:[/] {warning}", highlight=False, soft_wrap=True)
    console.print(f"report: {result.report}", highlight=False, markup=False, soft_wrap=True)


def _only_run(store: Store) -> str:
    runs = store.runs()
    if len(runs) != 1:
        known = ", ".join(runs) or "none yet; make one with fit-heads"
        raise UsageError(f"--run: say which run of {store.path} (runs: {known})")
    return runs[0]


def _table(*columns: str) -> Table:
    """Return an empty table; every column but the first is right-aligned."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left", overflow="fold")
    return table


def _metrics(result: Analysis) -> Iterator[tuple[str, Table]]:
    from mixed_signals.analysis.findings import with_interval
    from mixed_signals.analysis.report.page import metrics_by_model

    names = list(dict.fromkeys(result.run.metrics["metric"]))[:2]
    analysed = {
        f"{head}:{subset}"
        for head in result.heads
        for subset in (*result.modalities(head), "+".join(result.modalities(head)))
    }
    table = _table("model", *names)
    for row in metrics_by_model(result.run.metrics):
        if row["sentinel"] or row["model"] in analysed:
            values = [with_interval(row["values"][name]) if name in row["values"] else "" for name in names]
            table.add_row(row["model"], *values, style="italic" if row["sentinel"] else None)
    if names:
        yield "Out-of-fold metrics (in italics, sentinels that use no features)", table


def _rates(result: Analysis) -> Iterator[tuple[str, Table]]:
    from mixed_signals.analysis.findings import by_quantity, with_interval

    for head, rates in result.rates.groupby("head", sort=False):
        table = _table("models", "seeds averaged", "one seed", "floor", "excess")
        for pair in by_quantity(rates):
            cells = [with_interval(pair["rate"], "%").replace("%", "")]
            if pair["excess"]["n_seeds"] >= 2:
                cells += [f"{100 * pair[name]['estimate']:.1f}" for name in ("between", "floor")]
                cells += [with_interval(pair["excess"], "%").replace("%", "")]
            else:
                cells += ["-"] * 3
            table.add_row(f"{pair['first']} / {pair['second']}", *cells)
        yield f"{head}: utterances with different labels, %", table


def _types(result: Analysis) -> Iterator[tuple[str, Table]]:
    from mixed_signals.analysis.findings import records, with_interval

    for head, types in result.typology.groupby("head", sort=False):
        table = _table("type", "utterances", "share", "stable")
        for row in records(types):
            steady = f"{row['stability']:.0%}" if row["stability"] >= 0 else "-"
            table.add_row(row["type"], f"{row['count']:,}", with_interval(row, "%"), steady)
        yield f"{head}: what the fusion made of its modalities", table


def _link(result: Analysis) -> Iterator[tuple[str, Table]]:
    from mixed_signals.analysis.findings import records, with_interval

    if result.link.empty:
        return
    table = _table("head", "rank correlation", "AUROC, contested", "entropy gap, bits")
    for head, link in result.link.groupby("head", sort=False):
        table.add_row(str(head), *map(with_interval, records(link)))
    yield "Divergence of the modalities beside the raters", table


def _sentences(console: Console, result: Analysis) -> None:
    """Print what the tables cannot say: on which side of its reference each finding is."""
    from rich.padding import Padding
    from rich.text import Text

    from mixed_signals.analysis.findings import FLOOR, LINK

    for question in (FLOOR, LINK):
        verdicts = [finding.verdict for finding in result.findings if finding.question == question]
        if verdicts:
            console.print(question, style="bold", highlight=False)
            console.print(*(Padding(Text(verdict), (0, 0, 0, 2)) for verdict in verdicts), sep="")
            console.print()


def main() -> None:
    """Run the command line."""
    run_app(app)


if __name__ == "__main__":
    main()
