"""The command ``analyze-disagreement``: tables and sentences in the terminal, files, and the report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixed_signals.store.errors import UsageError
from mixed_signals.store.terminal import (
    Debug,
    interruptible,
    make_app,
    note,
    run_app,
    split_pairs,
    split_values,
    stdout,
    working,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.table import Table

    from mixed_signals.analysis.analysis import Analysis
    from mixed_signals.analysis.findings import Finding
    from mixed_signals.store import Store

MOST_SENTENCES = 1  # of one question and head, without --all

app = make_app()


@app.command()
def analyze_disagreement(
    store: Annotated[Path, typer.Argument(help="Folder of the store.", show_default=False)],
    run: Annotated[
        str | None,
        typer.Option(
            help="Name of the run, as given to fit-heads. (default: the only one; without any run, people alone)",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(help="Only these heads (commas or repetition).", show_default=False),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these questions: disagreement, typology, ambiguity, dominance, robustness, compare, "
            "agreement, people.",
            show_default=False,
        ),
    ] = None,
    primary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HEAD:QUANTITY",
            help="What the study is about, said beforehand; repeat for several. All else is exploratory.",
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Compare with another run of the same folds.", show_default=False),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RATING=LABEL",
            help="The label that a value of the ratings stands for (commas or repetition); itself, for an answer that "
            "is always wrong.",
            show_default=False,
        ),
    ] = None,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit/--no-refit",
            help="Whether heads are trained again for floors: on resampled groups and on halves of features.",
        ),
    ] = True,
    train_again: Annotated[
        bool,
        typer.Option("--train-again", help="Also train with rows weighted by disagreement, and compare."),
    ] = False,
    resamples: Annotated[
        int, typer.Option(min=100, help="Of groups for intervals, and permutations for tests.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of resampling and permuting.")] = 0,
    every: Annotated[
        bool,
        typer.Option("--all", help="Print every finding, not only the clearest answer to each question."),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder of the report; in the run's own folder if not given.", show_default=False),
    ] = None,
    clips: Annotated[
        bool,
        typer.Option(
            "--clips", help="Cut each utterance's clip into the report, so that it can be sent away."
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Find where and why the models of a run disagree, set that beside its raters, and write a report.

    Every finding is in findings.json with its interval, and all tables are beside it as Parquet, CSV and LaTeX.

    Example: [bold]analyze-disagreement my.store --run first --head gated[/]
    """
    from mixed_signals.analysis.analysis import analyze, analyze_people
    from mixed_signals.store import Store

    opened = Store.open(store)
    without_run = run is None and not opened.runs()
    if without_run and (report is not None or clips):
        raise UsageError("--report, --clips: the report is of a run, and this store has none; leave them out")
    if report is not None and only and "disagreement" not in split_values(only):
        raise UsageError("--report: the report shows disagreement; add it to --only, or leave --report out")
    if value and only and "people" not in split_values(only):
        raise UsageError(
            "--value: tells people what ratings mean; add people to --only, or leave --value out"
        )
    values = split_pairs(value, "--value")
    with interruptible("nothing was written"), working("reading") as update:
        if without_run:
            result = analyze_people(opened, resamples=resamples, seed=seed, values=values)
        else:
            result = analyze(
                opened,
                run or _only_run(opened),
                heads=split_values(head),
                questions=split_values(only),
                primary=primary or (),
                against=against,
                refit=refit,
                train_again=train_again,
                resamples=resamples,
                seed=seed,
                report=report,
                clips=clips,
                values=values,
                on_question=lambda question: update(f"analysing {question}"),
                on_step=lambda what: update(f"writing the report: {what}"),
            )
    console = stdout()
    for title, table in (*_metrics(result), *_rates(result), *_types(result)):
        console.print(title, style="bold")
        console.print(table)
        console.print()
    _sentences(console, result, every=every)
    for warning in result.warnings:
        note(warning)
    console.print(f"{len(result.findings)} findings, {len(result.tables)} tables")
    console.print(f"files: {result.folder}", soft_wrap=True)
    if result.report is not None:
        console.print(f"report: {result.report}", soft_wrap=True)


def _only_run(store: Store) -> str:
    runs = store.runs()
    if len(runs) != 1:
        raise UsageError(f"--run: say which run of {store.path} (runs: {', '.join(runs)})")
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

    if result.run is None:
        return
    names = list(dict.fromkeys(result.run.metrics["metric"]))[:2]
    table = _table("model", *names)
    analysed = set()
    for head in result.heads:
        modalities = result.modalities[head]
        analysed |= {f"{head}:{subset}" for subset in (*modalities, "+".join(modalities))}
    for row in metrics_by_model(result.run.metrics):
        if row["sentinel"] or row["model"] in analysed:
            values = [with_interval(row["values"][name]) if name in row["values"] else "" for name in names]
            table.add_row(row["model"], *values, style="italic" if row["sentinel"] else None)
    if names:
        yield "Out-of-fold metrics (in italics, sentinels that use no features)", table


def _rates(result: Analysis) -> Iterator[tuple[str, Table]]:
    from mixed_signals.analysis.findings import by_quantity, with_interval

    rates = result.table("rates")
    if rates.empty or not (rates["measure"] == "label").any():
        return
    for head, mine in rates[rates["measure"] == "label"].groupby("head", sort=False):
        table = _table("models", "seeds averaged", "one seed", "floor", "excess")
        for pair in by_quantity(mine):
            cells = [with_interval(pair["rate"], "%").replace("%", "")]
            if math.isfinite(pair["excess"]["estimate"]):
                cells += [f"{100 * pair[name]['estimate']:.1f}" for name in ("between", "floor")]
                cells += [with_interval(pair["excess"], "%").replace("%", "")]
            else:
                cells += ["-"] * 3
            table.add_row(f"{pair['first']} / {pair['second']}", *cells)
        yield f"{head}: utterances with different labels, %", table


def _types(result: Analysis) -> Iterator[tuple[str, Table]]:
    from mixed_signals.analysis.findings import records, with_interval

    typology = result.table("typology")
    if typology.empty:
        return
    for head, types in typology.groupby("head", sort=False):
        table = _table("type", "utterances", "share", "stable")
        for row in records(types):
            steady = f"{row['stability']:.0%}" if row["stability"] >= 0 else "-"
            table.add_row(row["type"], f"{row['count']:,}", with_interval(row, "%"), steady)
        yield f"{head}: what the fusion made of its modalities", table


def _sentences(console: Console, result: Analysis, *, every: bool) -> None:
    """Print what was found in sentences: what is primary in full, of the rest the clearest answer to each question."""
    from rich.padding import Padding
    from rich.text import Text

    from mixed_signals.analysis.findings import DISAGREE, TYPES

    prefix = f"{result.heads[0]}: " if len(result.heads) == 1 else "\0"

    def tell(title: str, sentences: list[str], more: int = 0) -> None:
        console.print(title, style="bold")
        console.print(
            *(Padding(Text(sentence.removeprefix(prefix)), (0, 0, 0, 2)) for sentence in sentences), sep=""
        )
        if more:
            console.print(f"  ({more} more: --all, findings.json)", style="dim")
        console.print()

    primary = [finding for finding in result.findings if finding.primary]
    if primary:
        tell("What this study is about (Holm's correction)", [_with_p(finding) for finding in primary])
    questions: dict[str, dict[str, list[Finding]]] = {}
    for finding in result.findings:
        if not finding.primary and (
            every or finding.question not in (DISAGREE, TYPES)
        ):  # which the tables show
            questions.setdefault(finding.question, {}).setdefault(finding.head, []).append(finding)
    for question, by_head in questions.items():
        shown = []
        for findings in by_head.values():
            clearest = sorted(findings, key=lambda f: f.p_adjusted if f.p_adjusted >= 0 else 1.0)
            shown += [f.verdict for f in (findings if every else clearest[:MOST_SENTENCES])]
        tell(question, shown, sum(map(len, by_head.values())) - len(shown))


def _with_p(finding: Finding) -> str:
    from mixed_signals.analysis.findings import p_value

    said = p_value(finding.p_adjusted)
    return f"{finding.verdict} Corrected {said}." if said else finding.verdict


def main() -> None:
    """Run the command line."""
    run_app(app)


if __name__ == "__main__":
    main()
