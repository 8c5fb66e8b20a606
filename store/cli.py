"""``mixed-signals store``: look at a store, and bring feature sets into it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mixed_signals.store.errors import MixedSignalsError
from mixed_signals.store.terminal import Debug, make_app, stderr, stdout

app = make_app(help="Look at a store, and bring feature sets into it.", no_args_is_help=True)

StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")]


@app.command()
def ls(store: StorePath, debug: Debug = False) -> None:
    """List the feature sets and runs of a store.

    [bold]Example:[/] mixed-signals store ls my.store
    """
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from mixed_signals.store.folder import Store

    opened = Store.open(store)
    console = stdout()
    console.print(str(opened.corpus), highlight=False, markup=False)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("feature set", "dims", "ok", "missing", "failed", "pending", "recipe"):
        numeric = column not in ("feature set", "recipe")
        table.add_column(column, justify="right" if numeric else "left", no_wrap=True)
    for key in opened.feature_sets():
        try:
            features = opened[key]
        except MixedSignalsError as error:
            stderr().print(f"[yellow]{escape(str(error))}[/]", highlight=False, soft_wrap=True)
            continue
        counts = [f"{features.coverage[status]:,}" for status in ("ok", "missing", "failed", "pending")]
        table.add_row(key, f"{features.shape[1]:,}", *counts, features.recipe_fingerprint[:8])
    if table.row_count:
        console.print(table)
    else:
        console.print("no feature sets yet; make one with extract-features")
    console.print(
        "runs: " + (", ".join(opened.runs()) or "none yet; make one with fit-heads"), highlight=False
    )


@app.command()
def show(
    store: StorePath,
    features: Annotated[str, typer.Argument(metavar="FEATURES", help="A feature set, e.g. text/minilm.")],
    debug: Debug = False,
) -> None:
    """Show where a feature set comes from, its dimensions, and the rows that have no vector.

    [bold]Example:[/] mixed-signals store show my.store video/blendshapes
    """
    from rich.pretty import Pretty

    from mixed_signals.store.folder import Store

    found = Store.open(store)[features]
    console = stdout()
    console.print(repr(found), highlight=False, markup=False)
    console.print(Pretty({**found.provenance, "content_fingerprint": found.content_fingerprint}))
    names = list(found.dimensions)
    console.print(f"dimensions: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}", highlight=False)
    for status, reason, ids in found.gaps():
        line = f"{len(ids):,} {status.name.lower()}{f': {reason}' if reason else ''}: {', '.join(ids)}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command("import")
def import_(
    store: StorePath,
    source: Annotated[Path, typer.Argument(help="A .npz, .csv or .parquet file with utterance ids.")],
    modality: Annotated[str, typer.Option(help="text, audio or video.")],
    name: Annotated[str, typer.Option(help="Name of the new feature set.")],
    ignore_extra: Annotated[
        bool,
        typer.Option("--ignore-extra", help="Leave out rows of utterances that the corpus does not have."),
    ] = False,
    debug: Debug = False,
) -> None:
    """Bring in vectors made elsewhere, joined by utterance id.

    An .npz holds utterance_id (N) and embedding (N x D); a table holds utterance_id and a column per dimension.

    [bold]Example:[/] mixed-signals store import my.store openface.npz --modality video --name openface
    """
    from mixed_signals.store.exchange import import_features
    from mixed_signals.store.folder import Store

    found = import_features(Store.open(store), source, modality, name, ignore_extra=ignore_extra)
    stdout().print(repr(found), highlight=False, markup=False, soft_wrap=True)
