"""``mixed-signals store``: look at a store, check it, and bring feature sets in and out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.terminal import (
    Debug,
    counted,
    interruptible,
    make_app,
    progress,
    split_pairs,
    stdout,
    warn,
    working,
)

app = make_app(help="Look at a store, check it, and bring feature sets in and out.", no_args_is_help=True)

StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]

_SLOW_BYTES = 500_000_000  # more than this may take over two seconds to read


@app.command()
def ls(store: StorePath, as_json: Json = False, debug: Debug = False) -> None:
    """List the feature sets and runs of a store.

    [bold]Example:[/] mixed-signals store ls my.store
    """
    from mixed_signals.store.folder import Store
    from mixed_signals.store.listing import describe_corpus, list_feature_sets, list_runs, list_shards

    opened = Store.open(store)
    corpus, sets, runs = describe_corpus(opened), list_feature_sets(opened), list_runs(opened)
    shards = list_shards(opened)
    if as_json:
        _print_json({"corpus": corpus, "feature_sets": sets, "shards": shards, "runs": runs})
        return
    from mixed_signals.store.tables import feature_set_table, note_lines, run_table, shard_lines

    console = stdout()
    console.print(corpus["summary"])
    for found, table, none in (
        (sets, feature_set_table, "no feature sets yet; make one with extract-features"),
        (runs, run_table, "no runs yet; make one with fit-heads"),
    ):
        readable = [one for one in found if "error" not in one]
        console.print(table(readable) if readable else none)
        for one in found:
            if "error" in one:
                warn(one["error"])
    for line in note_lines(*([one for one in found if "error" not in one] for found in (sets, runs))):
        warn(line)
    for line in shard_lines(shards):
        console.print(f"{line}: see mixed-signals store merge", soft_wrap=True)


@app.command()
def show(
    store: StorePath,
    features: Annotated[
        str | None,
        typer.Argument(
            metavar="FEATURES", help="A feature set, e.g. text/minilm. (default: the whole store)"
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Name every dimension, and every utterance without a vector.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show where a feature set comes from, its dimensions, and the rows that have no vector.

    [bold]Example:[/] mixed-signals store show my.store video/blendshapes
    """
    from mixed_signals.store.folder import Store

    if features is None:
        if as_json:
            ls(store, as_json=True)
        else:
            stdout().print(str(Store.open(store)))
        return
    from mixed_signals.store.listing import describe_features

    described = describe_features(Store.open(store)[features])
    if as_json:
        _print_json(described)
        return
    from mixed_signals.store.tables import describe_gaps, provenance_table

    console = stdout()
    console.print(provenance_table(described, everything=everything))
    for line in describe_gaps(described["gaps"], everything=everything):
        console.print(line, soft_wrap=True)


@app.command()
def doctor(
    store: StorePath,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with exit code 1 if there is an error or a warning.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Look for what would spoil results: vectors, labels, groups and splits; each with what mends it.

    Errors cannot be used as they are, warnings would mislead, notes are worth knowing.

    [bold]Example:[/] mixed-signals store doctor my.store --strict
    """
    from dataclasses import asdict

    from mixed_signals.store.doctor import N_CHECKS, examine
    from mixed_signals.store.folder import Store
    from mixed_signals.store.listing import list_feature_sets

    opened = Store.open(store)
    with _progress_over_rows("examining", list_feature_sets(opened)) as advance:
        findings = examine(opened, advance)
    if as_json:
        _print_json([asdict(finding) for finding in findings])
    else:
        from mixed_signals.store.tables import finding_table

        looked = f"{N_CHECKS} checks over {counted(len(opened.feature_sets()), 'feature set')}"
        console = stdout()
        if findings:
            console.print(finding_table(findings))
        severities = [finding.severity for finding in findings]
        found = [counted(severities.count(one), one) for one in dict.fromkeys(severities)]
        console.print(f"{', '.join(found) or 'nothing found'} in {looked}")
    if strict and any(finding.severity != "note" for finding in findings):
        raise typer.Exit(1)


@app.command()
def verify(store: StorePath, as_json: Json = False, debug: Debug = False) -> None:
    """Read every file of a store again and hold it against what was written; exit code 1 if one is corrupt.

    [bold]Example:[/] mixed-signals store verify my.store
    """
    from dataclasses import asdict

    from mixed_signals.store.folder import Store
    from mixed_signals.store.listing import list_feature_sets, list_shards
    from mixed_signals.store.verify import check_files

    opened = Store.open(store)
    with _progress_over_rows("verifying", [*list_feature_sets(opened), *list_shards(opened)]) as advance:
        files = list(check_files(opened, advance))
    if as_json:
        _print_json([{"ok": file.ok, **asdict(file)} for file in files])
    else:
        from rich.filesize import decimal

        from mixed_signals.store.tables import file_table

        console = stdout()
        console.print(file_table(files))
        n_corrupt = sum(not file.ok for file in files)
        size = decimal(sum(file.bytes for file in files))
        console.print(
            f"{size} in {counted(len(files), 'file')} read: {f'{n_corrupt:,} corrupt' if n_corrupt else 'all ok'}",
        )
    if not all(file.ok for file in files):
        raise typer.Exit(1)


@app.command()
def merge(
    store: StorePath,
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FEATURES",
            help="Feature sets, e.g. text/minilm. (default: all that have shards from which no set reads)",
        ),
    ] = None,
    virtual: Annotated[
        bool,
        typer.Option(
            "--virtual", help="Leave the shards where they are; the feature set reads its vectors from them."
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Make one feature set of its shards (extract-features --shard), when they are complete; each is verified first.

    The shards are removed when all is written; run it again where it was interrupted. With --virtual they stay, and no
    space is doubled; the same command without it makes one file of them later, if the feature set is named.

    [bold]Example:[/] mixed-signals store merge my.store text/minilm
    """
    from mixed_signals.store.folder import Store
    from mixed_signals.store.listing import list_feature_sets, list_shards
    from mixed_signals.store.merging import merge as merge_shards

    opened = Store.open(store)
    shards = list_shards(opened)
    if not shards and not keys:
        apart = [one["key"] for one in list_feature_sets(opened) if one.get("files", 1) > 1]
        named = f"; named, {', '.join(apart)} would be copied from shards into one file" if apart else ""
        stdout().print(f"no shards to merge{named}", soft_wrap=True)
    times = 1 if virtual else 2  # each row is read, then written
    refused = []
    with interruptible("what is merged stays; run the same command again"):
        for key in dict.fromkeys(keys or [one["key"] for one in shards]):
            mine = [one for one in shards if one["key"] == key]
            try:
                with _progress_over_rows(f"merging {key}", mine * times) as advance:
                    merged = merge_shards(opened, key, virtual=virtual, on_progress=advance)
                stdout().print(repr(merged), soft_wrap=True)
            except MixedSignalsError as error:
                refused.append(error)
    for earlier in refused[:-1]:
        warn(str(earlier))
    if refused:
        raise refused[-1]


@app.command("import")
def import_(
    store: StorePath,
    source: Annotated[
        Path,
        typer.Argument(
            help="A .npz, .csv, .parquet, .h5ad, .pt, .pkl (MMSA) or .csd file with utterance ids."
        ),
    ],
    modality: Annotated[str, typer.Option(help="text, audio or video.")],
    name: Annotated[str, typer.Option(help="Name of the new feature set.")],
    ignore_extra: Annotated[
        bool,
        typer.Option("--ignore-extra", help="Leave out rows of utterances that the corpus does not have."),
    ] = False,
    key: Annotated[
        str | None, typer.Option(help="What the file calls the vectors, where it is not the usual name.")
    ] = None,
    entry: Annotated[
        str | None,
        typer.Option(
            help="For .csd: the corpus column that names its entries, e.g. the video.", metavar="COLUMN"
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Bring in vectors made elsewhere, joined by utterance id.

    An .npz or .pt holds utterance_id (N) and embedding (N x D); a table, utterance_id and a column per dimension.

    Sequences (MMSA's .pkl, the CMU Multimodal SDK's .csd) become their mean over time.

    [bold]Example:[/] mixed-signals store import my.store openface.npz --modality video --name openface
    """
    from mixed_signals.store.cross_fits import alignment_notes
    from mixed_signals.store.exchange.incoming import import_features
    from mixed_signals.store.folder import Store

    with interruptible("nothing was imported"), working(f"reading {source}"):
        found = import_features(
            Store.open(store), source, modality, name, ignore_extra=ignore_extra, key=key, entry=entry
        )
    stdout().print(repr(found), soft_wrap=True)
    for line in alignment_notes([found.key] if found.aligned else []):
        warn(line)


@app.command()
def export(
    store: StorePath,
    to: Annotated[Path, typer.Option(help="The .npz, .parquet or .h5ad file to write.")],
    key: Annotated[
        str | None, typer.Argument(metavar="[FEATURES]", help="A feature set, e.g. text/minilm.")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODALITY=NAME", help="Feature sets of several modalities, joined, instead of one."
        ),
    ] = None,
    target: Annotated[str, typer.Option(help="With --features: the labels that a row needs.")] = "label",
    missing: Annotated[
        Literal["drop", "mask"],
        typer.Option(help="With --features: leave out utterances that lack a modality, or keep them masked."),
    ] = "drop",
    replace: Annotated[bool, typer.Option("--replace", help="Replace a file that is there.")] = False,
    debug: Debug = False,
) -> None:
    """Write vectors to a file for other tools, with their ids, dimensions, gaps and provenance.

    [bold]Example:[/] mixed-signals store export my.store text/minilm --to minilm.npz
    """
    from mixed_signals.store.cross_fits import alignment_notes
    from mixed_signals.store.exchange.outgoing import export_features, export_views
    from mixed_signals.store.folder import Store
    from mixed_signals.store.targets import MODALITIES

    names = split_pairs(features, "--features")
    if (key is None) == (not names):
        raise UsageError(
            "name one feature set (FEATURES, e.g. text/minilm), or several joined with --features"
        )
    opened = Store.open(store)
    if key is not None:
        with interruptible("nothing was written"), working(f"writing {to}"):
            written = export_features(opened, key, to, replace=replace)
        exported = [opened[key]]
    else:
        if unknown := set(names) - set(MODALITIES):
            raise UsageError(f"--features: {unknown.pop()!r} is none of {', '.join(MODALITIES)}")
        views = opened.views(**names, target=target, missing=missing)
        stdout().print(repr(views), soft_wrap=True)
        with interruptible("nothing was written"), working(f"writing {to}"):
            written = export_views(views, to, replace=replace)
        exported = list(views.sources.values())
    for line in alignment_notes(features.key for features in exported if features.aligned):
        warn(line)
    stdout().print(f"written: {written}", soft_wrap=True)


def _print_json(content: object) -> None:
    from mixed_signals.store.files import plain

    text = json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    typer.echo(text.encode(errors="backslashreplace").decode())  # halves of characters, as JSON escapes them


@contextmanager
def _progress_over_rows(
    description: str, found: Iterable[Mapping[str, Any]]
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar over the rows of listed feature sets or shards, unless there is little to read."""
    readable = [one for one in found if "error" not in one]
    n_rows = sum(sum(one["coverage"].values()) for one in readable)
    if sum(one["bytes"] for one in readable) < _SLOW_BYTES:
        yield lambda rows: None
        return
    with progress(description, n_rows) as advance:
        yield advance
