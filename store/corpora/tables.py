"""Corpora as tables: CSV, JSON lines or Parquet, with any column names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mixed_signals.store import cells
from mixed_signals.store.corpora.reading import Rows, corpus_of, need_columns, read_rows
from mixed_signals.store.corpus import Corpus, as_media_root
from mixed_signals.store.errors import UsageError
from mixed_signals.store.targets import Target
from mixed_signals.store.urls import folder_of


def read_corpus(
    sources: Sequence[Path],
    columns: Mapping[str, str],
    *,
    name: str | None = None,
    ratings: Path | None = None,
    media_root: Path | str | None = None,
    targets: Sequence[Target] = (),
) -> Corpus:
    """Read utterances, and ratings if there are any.

    Parameters
    ----------
    sources : sequence of Path
        One or several files with a row per utterance (``.csv``, ``.jsonl``, ``.parquet``).
    columns : mapping
        From our column names (see `mixed_signals.store.corpus`) to the files', for those that are called otherwise.
    name : str, optional
        Name of the corpus; that of the first source's folder by default.
    ratings : Path, optional
        A file with the columns `utterance_id` and `value`, and if known `rater`, `shown`, `count`.
    media_root : Path or str, optional
        The folder or URL that media paths are relative to; the folder of the first source by default.
    targets : sequence of Target
        What heads may learn, besides the labels.

    Raises
    ------
    UsageError
        If a file, the media root or a named column is not there.
    InvalidCorpus
        If rows break the rules; each is listed with file, line, column and mend.
    """
    folder = sources[0].resolve().parent
    root = sources[0].parent if media_root is None else as_media_root(media_root)
    if isinstance(root, Path) and not root.is_dir():
        raise UsageError(f"{root}: the media root is not a folder (--media-root)")
    parts = [_utterances(source, columns, root) for source in sources]
    rows = Rows(
        pd.concat([part.table for part in parts], ignore_index=True),
        [place for part in parts for place in part.places],
    )
    rated = None if ratings is None else _ratings(ratings)
    return corpus_of(name or folder.name, rows, rated, media_root=root, targets=targets, columns=columns)


def _utterances(source: Path, columns: Mapping[str, str], media_root: Path | str) -> Rows:
    """Return the rows under our column names, with media below the root."""
    table, places = read_rows(source)
    has = ", ".join(map(str, table.columns))
    for ours, theirs in columns.items():
        if theirs not in table.columns:
            raise UsageError(f"{source}: no column {theirs!r} ({_flag(ours)}); it has: {has}")
        if ours in table.columns and ours not in columns.values():
            raise UsageError(
                f"{source}: has a column {ours!r} beside {theirs!r} ({_flag(ours)}); rename one of them"
            )
    if "utterance_id" not in columns and "utterance_id" not in table.columns:
        raise UsageError(
            f"{source}: no column 'utterance_id'; name the column that holds ids with --id (it has: {has})"
        )
    taken = {ours: table[theirs] for ours, theirs in columns.items()}
    # The group and the label keep their own names too (fit-heads --group who); others were only renamed.
    renamed = set(columns.values()) - {columns.get("group"), columns.get("label")}
    table = table.drop(columns=[*renamed]).assign(**taken)
    if "media" in table.columns:
        table["media"] = _below(table["media"], media_root)
    return Rows(table, places)


def _ratings(source: Path) -> Rows:
    table, places = read_rows(source)
    need_columns(source, table, ("utterance_id", "value"))
    return Rows(table, places)


def _below(media: pd.Series, root: Path | str) -> pd.Series:
    """Return absolute paths (or URLs, also ``file://``) below the media root as relative ones, all else as it is."""
    bases = (root,) if isinstance(root, str) else (root.absolute().as_posix(), root.resolve().as_posix())
    below = cells.texts(media).str.strip()
    if below.str.startswith("file:").any():
        below = below.map(lambda entry: folder_of(entry) or entry)
    for base in bases:
        below = below.str.removeprefix(base.rstrip("/") + "/")
    return below.where(np.array([isinstance(cell, str) for cell in media]), media)


def _flag(column: str) -> str:
    return "--id" if column == "utterance_id" else f"--{column.replace('_', '-')}"
