"""``mixed-signals corpus``: bring a corpus into a store, and look at it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixed_signals.store.corpora import FORMATS
from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.terminal import Debug, counted, make_app, note, split_pairs, stdout, warn, working

if TYPE_CHECKING:
    from mixed_signals.store.corpus import Corpus

_FILLED_IN = {"rater": "", "shown": "", "count": 1}  # what stands in columns of ratings that a file lacks

app = make_app(help="Bring a corpus into a store.", no_args_is_help=True)

_IMPORT_HELP = """Make a store from a corpus: a table of utterances, or the folder of a published corpus.

FORMAT is what SOURCE is:

{formats}

In tables, columns that are already called as the flags below need none (ids: utterance_id).

[bold]Example:[/] mixed-signals corpus import csv clips.csv --store my.store --id clip --target arousal=interval:1..5
""".format(formats="\n".join(f"- {name}: {format_.about}" for name, format_ in FORMATS.items()))


@app.command("import", help=_IMPORT_HELP)
def import_(
    format_: Annotated[str, typer.Argument(metavar="FORMAT", help=f"One of: {', '.join(FORMATS)}.")],
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SOURCE...", help="Files with a row per utterance, or the corpus's folder."),
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
    speaker: Annotated[str | None, typer.Option(help="Column of speakers.")] = None,
    dialog: Annotated[str | None, typer.Option(help="Column of dialogs.")] = None,
    turn: Annotated[str | None, typer.Option(help="Column of the order in the dialog.")] = None,
    transcript_source: Annotated[
        str | None, typer.Option(help="Column that says who wrote the transcript: manual, or a recogniser.")
    ] = None,
    transcript_confidence: Annotated[
        str | None, typer.Option(help="Column of the recogniser's confidence, 0 to 1.")
    ] = None,
    ratings: Annotated[
        Path | None,
        typer.Option(help="File of ratings: utterance_id, value, and if known rater, shown, count."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=KIND[:WHAT]",
            help="What heads may learn, besides the label: a column as nominal, nominal:angry|sad, "
            "ordinal:low|mid|high, interval:1..5 or multilabel (classes joined by | in the cell); or of the ratings, "
            "under a new name, votes or votes:audio+video.",
        ),
    ] = None,
    media_root: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|URL",
            help="What media paths are relative to: a folder, or s3://bucket/folder (gs, hf, http, ...). "
            "(default: the first file's folder; where the corpus says)",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the corpus. (default: the first file's folder's name; the corpus's own)"),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put the corpus in the place of that of a store that is there.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Make a store from a corpus."""
    from mixed_signals.store.corpus import as_media_root
    from mixed_signals.store.folder import Store
    from mixed_signals.store.targets import parse_target

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
            "speaker": speaker,
            "dialog": dialog,
            "turn": turn,
            "transcript_source": transcript_source,
            "transcript_confidence": transcript_confidence,
        }.items()
        if theirs
    }
    _check_call(format_, sources, [*columns, *(["ratings"] if ratings else [])])
    targets = [parse_target(key, value) for key, value in split_pairs(target, "--target").items()]
    root = None if media_root is None else as_media_root(media_root)
    reader = import_module(f"mixed_signals.store.corpora.{FORMATS[format_].module}")
    with working(f"reading {sources[0]}"):
        if FORMATS[format_].is_table:
            corpus = reader.read_corpus(
                sources, columns, name=name, ratings=ratings, media_root=root, targets=targets
            )
        else:
            corpus = reader.read_corpus(sources[0], name=name, media_root=root, targets=targets)
        before = _corpus_of(store) if replace else None
        made = Store.create(store, corpus, replace=replace)
    console = stdout()
    console.print(str(made), soft_wrap=True)
    if before is not None:
        console.print(_changes(before, corpus), soft_wrap=True)
    if ratings is not None:
        _note_unknown_columns(ratings, corpus)
    _say_what_cells_may_not_mean(corpus)
    _warn_of_absent_media(corpus)


def _check_call(format_: str, sources: list[Path], table_flags: list[str]) -> None:
    """Refuse an unknown format, and what does not go with a known one."""
    if format_ not in FORMATS:
        raise UsageError(f"FORMAT {format_!r}: one of {', '.join(FORMATS)}")
    if FORMATS[format_].is_table:
        wrong = [source for source in sources if source.suffix.lower() != f".{format_}"]
        if wrong:
            raise UsageError(f"{wrong[0]}: not a .{format_} file")
        return
    if table_flags:
        flag = {"utterance_id": "id"}.get(table_flags[0], table_flags[0]).replace("_", "-")
        tables = ", ".join(name for name, known in FORMATS.items() if known.is_table)
        raise UsageError(f"--{flag}: goes with tables ({tables}); {format_} knows its own columns")
    if len(sources) > 1:
        raise UsageError(f"{sources[1]}: {format_} takes one SOURCE, the {FORMATS[format_].about}")


def _corpus_of(path: Path) -> Corpus | None:
    """Return the corpus of the store that is there, if one can be read."""
    from mixed_signals.store.folder import Store

    try:
        return Store.open(path).corpus
    except MixedSignalsError:
        return None


def _changes(before: Corpus, after: Corpus) -> str:
    """Say what a new table does to the rows of the old one."""
    old, new = (one.utterances.set_index("utterance_id") for one in (before, after))
    kept = new.index.intersection(old.index)
    clips = ["media", "start", "end"]
    changed = {
        "transcript": old.loc[kept, "text"] != new.loc[kept, "text"],
        "clip": (old.loc[kept, clips].fillna(-1) != new.loc[kept, clips].fillna(-1)).any(axis=1),
        "label": old.loc[kept, "label"] != new.loc[kept, "label"],
    }
    others = [f"another {what} in {differs.sum():,}" for what, differs in changed.items() if differs.any()]
    return (
        f"replaced {before.name}: {counted(len(kept), 'utterance')} as before by id"
        + (f" ({', '.join(others)})" if others else "")
        + f", {len(new) - len(kept):,} new, {len(old) - len(kept):,} gone; feature sets and runs stay, and "
        "extract-features makes what is new or changed"
    )


def _note_unknown_columns(source: Path, corpus: Corpus) -> None:
    """Note columns of a file of ratings that nothing reads, and which of those that are not there may be meant."""
    from difflib import get_close_matches

    from mixed_signals.store.checks import RATING_COLUMNS
    from mixed_signals.store.targets import shortened

    table = corpus.ratings
    unknown = [] if table is None else [column for column in table.columns if column not in RATING_COLUMNS]
    if table is None or not unknown:
        return
    absent = [column for column, filler in _FILLED_IN.items() if (table[column] == filler).all()]
    said = []
    for column in unknown:
        near = get_close_matches(column.casefold(), absent, n=1)
        said.append(column + (f" (did you mean {near[0]}?)" if near else ""))
    note(
        f"{source}: columns that nothing reads: {shortened(said, ', ')}; known are {', '.join(RATING_COLUMNS)}"
    )


def _say_what_cells_may_not_mean(corpus: Corpus) -> None:
    """Say in a line each what `store doctor` would of cells that are taken as they stand."""
    from mixed_signals.store.doctor import corpus_checks

    for check in (corpus_checks.words_for_nothing, corpus_checks.classes_alike):
        for symptom in check(corpus):
            warn(f"{symptom.severity}: {symptom.what}; {symptom.mend}")


def _warn_of_absent_media(corpus: Corpus) -> None:
    """Warn of files that are not on this machine; what stands at a URL is not looked at before it is read."""
    named = {media: corpus.media_path(media) for media in sorted(set(corpus.utterances["media"]) - {""})}
    absent = [media for media, path in named.items() if isinstance(path, Path) and not path.is_file()]
    if absent:
        root = corpus.media_root or "this folder"
        warn(f"warning: {len(absent):,} media files are not below {root}, e.g. {absent[0]}")


@app.command()
def show(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")], debug: Debug = False
) -> None:
    """Show the corpus of a store: targets, groups, splits, ratings, and the first utterances.

    [bold]Example:[/] mixed-signals corpus show my.store
    """
    from rich.box import SIMPLE
    from rich.table import Table

    from mixed_signals.store.checks import OPTIONAL_COLUMNS
    from mixed_signals.store.folder import Store

    corpus = Store.open(store).corpus
    console = stdout()
    console.print(str(corpus), soft_wrap=True)
    table = corpus.utterances
    for column in (c for c in OPTIONAL_COLUMNS if c in table):
        given = table[column][table[column].notna() & (table[column].astype(object) != "")]
        console.print(f"{column}: {len(given):,} utterances, {given.nunique():,} different")
    first = Table(box=SIMPLE)
    columns = [c for c in ("utterance_id", "media", "label", "group", "text") if (table[c] != "").any()]
    for column in columns:
        first.add_column(column, no_wrap=True)
    for row in table[columns].head(5).itertuples(index=False):
        first.add_row(*map(str, row))
    console.print(first)
