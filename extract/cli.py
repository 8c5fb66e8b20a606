"""``extract-features``: run encoders over a store's corpus, one feature set each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixed_signals.extract.encoders import PRESETS
from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.terminal import (
    Debug,
    describe_gap,
    describe_ids,
    interruptible,
    make_app,
    progress,
    run_app,
    split_values,
    stderr,
    stdout,
)

if TYPE_CHECKING:
    from mixed_signals.extract.job import Outcome

app = make_app()


def _names(modality: str) -> str:
    return ", ".join(name for name, preset in PRESETS.items() if preset.modality == modality)


def _print_list(wanted: bool) -> None:
    if not wanted:
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from mixed_signals.extract import weights

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("encoder", "modality", "dims", "licence", "cached", "what it gives"):
        table.add_column(
            column, justify="right" if column == "dims" else "left", no_wrap=column != "what it gives"
        )
    for name, preset in PRESETS.items():
        here = ("yes" if weights.is_cached(preset.weights) else "no") if preset.weights else "built in"
        table.add_row(name, preset.modality, str(preset.dimensions), preset.licence, here, preset.about)
    stdout().print(table)
    raise typer.Exit


@app.command()
def extract_features(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")],
    text: Annotated[list[str] | None, typer.Option(help=f"Text encoders: {_names('text')}.")] = None,
    audio: Annotated[list[str] | None, typer.Option(help=f"Audio encoders: {_names('audio')}.")] = None,
    video: Annotated[list[str] | None, typer.Option(help=f"Video encoders: {_names('video')}.")] = None,
    name: Annotated[
        str, typer.Option(help="Tell these feature sets apart from others of the same encoders.")
    ] = "",
    store_dtype: Annotated[
        str, typer.Option(help="Precision of what is kept: float32 or float16.")
    ] = "float32",
    media_root: Annotated[
        Path | None, typer.Option(help="Where the media are now. (default: where the corpus says)")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes for decoding encoders. (default: all cores)")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try rows again that failed before.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would run and why; do nothing.")] = False,
    list_: Annotated[
        bool,
        typer.Option("--list", help="List the encoders.", callback=_print_list, is_eager=True),
    ] = False,
    debug: Debug = False,
) -> None:
    """Turn the utterances of a store into vectors: one feature set per encoder, one row per utterance.

    What is done already is not done again; an interrupted job goes on where it was.

    [bold]Example:[/] extract-features my.store --text minilm --audio egemaps --video blendshapes
    """
    from mixed_signals.extract import job
    from mixed_signals.store import Store

    opened = Store.open(store, media_root=media_root)
    wanted = [
        (modality, name)
        for modality, values in (("text", text), ("audio", audio), ("video", video))
        for name in split_values(values)
    ]
    if not wanted:
        raise UsageError("name at least one encoder: --text, --audio or --video (--list shows them)")
    tasks = job.plan(opened, wanted, name=name, store_dtype=store_dtype, retry_failed=retry_failed)
    console = stdout()
    for task in tasks:
        why = ", ".join(
            f"{n:,} of {len(opened.corpus):,}: {reason}" for reason, n in task.plan.reasons.items()
        )
        if task.plan.dropped:
            why += f"{', ' if why else ''}{task.plan.dropped:,} no longer in the corpus: dropped"
        if task.without:
            why += f" ({task.without:,} without {'text' if task.recipe.modality == 'text' else 'media'})"
        console.print(f"{task.key}: {why or 'nothing to do'}", highlight=False)
        if len(task.gone):
            line = f"{task.key}: vectors are kept whose media are gone: {describe_ids(task.gone.tolist())}"
            stderr().print(line, style="yellow", highlight=False, soft_wrap=True)
    if plan:
        return
    outcomes = []
    with interruptible("what is done is kept, and the same command goes on from there"):
        job.prepare(tasks)
        for task in tasks:
            with progress(task.key, len(task.plan.rows)) as advance:
                outcomes.append(job.run(opened, task, workers=workers, on_progress=advance))
    _report(outcomes)


def main() -> None:
    """Entry point of ``extract-features``."""
    run_app(app)


def _report(outcomes: list[Outcome]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("feature set", "dims", "ok", "missing", "failed", "seconds", "rows/s"):
        table.add_column(column, justify="left" if column == "feature set" else "right")
    for outcome in outcomes:
        features = outcome.features
        counts = features.coverage
        rate = f"{len(outcome.rows) / outcome.seconds:.1f}" if len(outcome.rows) else ""
        table.add_row(
            features.key,
            str(features.shape[1]),
            *(f"{counts[status]:,}" for status in ("ok", "missing", "failed")),
            f"{outcome.seconds:.1f}",
            rate,
        )
    stdout().print(table)
    hopeless = []
    for outcome in outcomes:
        features = outcome.features
        for status, reason, ids in features.gaps():
            line = f"{features.key}: {describe_gap(status.name, reason, ids)}"
            stderr().print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)
        if features.coverage["failed"] == len(features):
            hopeless.append(features.key)
    if hopeless:
        raise MixedSignalsError(f"every utterance failed in {', '.join(hopeless)}")
