"""``mixed-signals corpus``: bring a corpus into a store, and look at it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from mixed_signals.store.corpora import FORMATS
from mixed_signals.store.errors import UsageError
from mixed_signals.store.terminal import Debug, make_app, stderr, stdout

app = make_app(help="Bring a corpus into a store.", no_args_is_help=True)


@app.command("import")
def import_(
    format_: Annotated[str, typer.Argument(metavar="FORMAT", help=f"One of: {', '.join(FORMATS)}.")],
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help="Files with a row per utterance.")
    ],
    store: Annotated[Path, typer.Option(help="Folder to make the store in.")],
    id_: Annotated[str | None, typer.Option("--id", help="Column of ids.")] = None,
    media: Annotated[str | None, typer.Option(help="Column of media paths.")] = None,
    text: Annotated[str | None, typer.Option(help="Column of transcripts.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of labels.")] = None,
    group: Annotated[str | None, typer.Option(help="Column of speakers or dialogs.")] = None,
    split: Annotated[str | None, typer.Option(help="Column of predefined splits.")] = None,
    start: Annotated[str | None, typer.Option(help="Column of start times, in seconds.")] = None,
    end: Annotated[str | None, typer.Option(help="Column of end times, in seconds.")] = None,
    ratings: Annotated[
        Path | None,
        typer.Option(help="File of ratings: utterance_id, value, and if known rater, shown, count."),
    ] = None,
    media_root: Annotated[
        Path | None,
        typer.Option(help="What media paths are relative to. (default: the first file's folder)"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the corpus. (default: the first file's folder's name)")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put the corpus in the place of that of a store that is there.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Make a store from a table of utterances.

    Columns that are already called utterance_id, media, text, label, group, split, start or end need no flag.

    [bold]Example:[/] mixed-signals corpus import csv clips.csv --store my.store --id clip --group speaker
    """
    from mixed_signals.store.folder import Store

    if format_ not in FORMATS:
        raise UsageError(f"FORMAT {format_!r}: one of {', '.join(FORMATS)}")
    wrong = [source for source in sources if source.suffix.lower() != f".{format_}"]
    if wrong:
        raise UsageError(f"{wrong[0]}: not a .{format_} file")
    columns = {
        ours: theirs
        for ours, theirs in {
            "utterance_id": id_,
            "media": media,
            "text": text,
            "label": label,
            "group": group,
            "split": split,
            "start": start,
            "end": end,
        }.items()
        if theirs
    }
    reader = import_module(f"mixed_signals.store.corpora.{FORMATS[format_]}")
    corpus = reader.read_corpus(
        sources,
        columns,
        name=name or sources[0].resolve().parent.name,
        ratings=ratings,
        media_root=media_root,
    )
    made = Store.create(store, corpus, replace=replace)
    console = stdout()
    console.print(str(made), highlight=False, markup=False, soft_wrap=True)
    named = sorted(set(corpus.utterances["media"]) - {""})
    absent = [media for media in named if not (corpus.media_path(media) or Path()).is_file()]
    if absent:
        stderr().print(
            f"warning: {len(absent)} media files are not below {made.corpus.media_root}, e.g. {absent[0]}",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )


@app.command()
def show(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")], debug: Debug = False
) -> None:
    """Show the corpus of a store: labels, groups, ratings, and the first utterances.

    [bold]Example:[/] mixed-signals corpus show my.store
    """
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    from mixed_signals.store.folder import Store

    corpus = Store.open(store).corpus
    console = stdout()
    console.print(str(corpus), highlight=False, markup=False)
    table = Table(box=SIMPLE)
    columns = [
        c for c in ("utterance_id", "media", "label", "group", "text") if (corpus.utterances[c] != "").any()
    ]
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in corpus.utterances[columns].head(5).itertuples(index=False):
        table.add_row(*(escape(str(value)) for value in row))
    console.print(table)
