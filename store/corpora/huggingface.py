"""Folders of Hugging Face ``datasets``: what ``save_to_disk`` writes, and audio and video folders with metadata.

Read are (without the library `datasets`):

- a folder that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote (``state.json``,
  ``dataset_info.json``, ``data-*.arrow``; ``dataset_dict.json`` beside a folder per split);
- a folder with ``metadata.csv``, ``.jsonl`` or ``.parquet``, or folders per split with one each. The column
  `file_name` is the medium's path in that folder. Other metadata below those that are read, and a folder of media
  beside them that has none, are faults.

What becomes of the columns; the first that is there is taken, and all others are kept for slicing:

`utterance_id`
    `utterance_id`, `id`; without these, ``<split>-<row>`` (row from 0; ``row-<row>`` without a split): the order of
    the rows in such files is fixed.
`text`
    `text`, `transcript`, `transcription`, `sentence`
`label`
    `label`, `emotion`
`group`
    `group`, `speaker`, `speaker_id`
`speaker`
    `speaker`, `speaker_id`
`split`
    The split's name, where there are several or the data set tells its own; else a column `split`.
`media`
    The first column of the type Video, else Audio, else Image (see `huggingface_media`), or `file_name`.

Columns of the type ClassLabel become their names (-1 is none), lists of ClassLabel become names joined by ``|`` and
a multilabel target. Other columns of lists or structures, and other columns of media, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pandas as pd

from mixed_signals.store import cells
from mixed_signals.store.corpora.huggingface_saved import Part, is_saved, read_saved
from mixed_signals.store.corpora.published import (
    MEDIA,
    Faults,
    below,
    media_folder,
    occurring,
    visible_files,
)
from mixed_signals.store.corpora.reading import Rows, need_columns, read_rows
from mixed_signals.store.corpus import Corpus, as_media_root
from mixed_signals.store.errors import UsageError
from mixed_signals.store.targets import Target

KNOWN = {
    "utterance_id": ("utterance_id", "id"),
    "text": ("text", "transcript", "transcription", "sentence"),
    "label": ("label", "emotion"),
    "group": ("group", "speaker", "speaker_id"),
    "speaker": ("speaker", "speaker_id"),
}
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def read_corpus(
    source: Path,
    *,
    name: str | None = None,
    media_root: Path | str | None = None,
    targets: Sequence[Target] = (),
) -> Corpus:
    """Read a data set's folder; embedded media are unpacked below the media root.

    Parameters
    ----------
    source : Path
        The folder that ``save_to_disk`` wrote, or one with metadata.
    name : str, optional
        Name of the corpus; the folder's by default.
    media_root : Path or str, optional
        What media paths are relative to; `source` by default. Embedded media need a folder that is named.
    targets : sequence of Target
        What heads may learn, besides what the layout itself tells.

    Raises
    ------
    UsageError
        If the folder holds no data set, or embedded media have no folder to go to.
    InvalidCorpus
        If rows break the rules; each is listed with file, row, column and mend.
    """
    if not source.is_dir():
        raise UsageError(f"{source}: not a folder; SOURCE is the folder of a data set")
    name = name or source.resolve().name
    if is_saved(source):
        return _read_saved(source, name, media_root, targets)
    faults = Faults()
    parts = _read_metadata(source, faults)
    root = media_folder(source, media_root)
    folder = below(source, root)
    tables = [_under_our_names(part) for part in parts]
    for table in tables:
        table["media"] = _in_folder(folder, table.pop("file_name"))
    return _corpus(name, parts, tables, root, faults, {"media": "file_name"}, targets)


def _read_saved(source: Path, name: str, media_root: Path | str | None, targets: Sequence[Target]) -> Corpus:
    faults = Faults()
    parts = read_saved(source, faults)
    held = [part.media for part in parts if part.media is not None]
    embedded = any(media.embedded.any() for media in held)
    root = _unpacking_folder(source, media_root) if embedded else media_folder(source, media_root)
    tables = [_under_our_names(part) for part in parts]
    for part, table in zip(parts, tables, strict=True):
        if part.media is not None:
            ids = cells.texts(table["utterance_id"])
            table["media"] = part.media.entries(ids, root, part.rows, faults)
    corpus = _corpus(name, parts, tables, root, faults, {"media": held[0].column} if held else {}, targets)
    for part, table in zip(parts, tables, strict=True):
        if part.media is not None and embedded:
            part.media.unpack(table["media"], Path(root))
    return corpus


def _unpacking_folder(source: Path, media_root: Path | str | None) -> Path:
    root = None if media_root is None else as_media_root(media_root)
    if not isinstance(root, Path):
        raise UsageError(
            f"{source}: media are embedded in the data set; name a folder to unpack them into (--media-root)"
        )
    return root


def _read_metadata(source: Path, faults: Faults) -> list[Part]:
    """Return the rows of a folder with metadata, or of its folders; `file_name` is relative to `source`."""
    alone = _metadata_of(source)
    files = {"": alone} if alone else {path.name: _metadata_of(path) for path in sorted(source.iterdir())}
    parts = []
    for folder, file in files.items():
        if file is None:
            continue
        rows = read_rows(file)
        need_columns(file, rows.table, ("file_name",))
        rows.table["file_name"] = _in_folder(PurePosixPath(folder), rows.table["file_name"])
        parts.append(Part(folder, rows))
    if not parts:
        raise UsageError(
            f"{source}: neither a folder that save_to_disk wrote, nor one with {', '.join(_METADATA)} in it or in "
            "its folders; load the data set with the library datasets and call save_to_disk"
        )
    _note_left_out(source, [file for file in files.values() if file is not None], faults)
    return parts


def _in_folder(folder: PurePosixPath, paths: pd.Series) -> pd.Series:
    """Return paths in a folder as paths from where the folder is; cells that are no text, or empty, stay."""
    found = [str(folder / path.strip()) if isinstance(path, str) and path.strip() else path for path in paths]
    return pd.Series(found, index=paths.index, dtype=object)


def _note_left_out(source: Path, read: Sequence[Path], faults: Faults) -> None:
    """Note metadata that are not among those read, and folders of media beside them that have none."""
    files, folders = visible_files(source), {file.parent for file in read}
    mend = f"is not read beside {read[0]}; move its rows there, or import its folder alone"
    faults.lines += [f"{file}: {mend}" for file in files if file.name in _METADATA and file not in read]
    held = {source / file.relative_to(source).parts[0] for file in files if file.suffix.lower() in MEDIA}
    if source not in folders:
        mend = f"media without metadata; add {_METADATA[0]} with a column file_name, or move them elsewhere"
        faults.lines += [f"{path}: {mend}" for path in sorted(held - folders)]


def _metadata_of(folder: Path) -> Path | None:
    return next((folder / file for file in _METADATA if (folder / file).is_file()), None)


def _taken(table: pd.DataFrame) -> dict[str, str]:
    """Return which column of a table becomes which of ours."""
    choices = {ours: [theirs for theirs in known if theirs in table] for ours, known in KNOWN.items()}
    return {ours: found[0] for ours, found in choices.items() if found}


def _under_our_names(part: Part) -> pd.DataFrame:
    taken = _taken(part.rows.table)
    table = part.rows.table.drop(columns=list(set(taken.values())))
    table = table.assign(**{ours: part.rows.table[theirs] for ours, theirs in taken.items()})
    if "utterance_id" not in table:
        table["utterance_id"] = [f"{part.split or 'row'}-{row}" for row in range(len(table))]
    return table.assign(split=part.split) if part.split else table


def _corpus(
    name: str,
    parts: list[Part],
    tables: list[pd.DataFrame],
    root: Path | str,
    faults: Faults,
    columns: dict[str, str],
    declared: Sequence[Target],
) -> Corpus:
    """Return the corpus of all parts; its targets are those whose classes the data set names, and those declared."""
    table = pd.concat(tables, ignore_index=True)
    taken = _taken(parts[0].rows.table)
    ours = {theirs: our for our, theirs in taken.items()}
    targets: list[Target] = []
    for target in parts[0].targets.values():
        named = replace(target, name=ours.get(target.name, target.name))
        if named.kind == "nominal":
            named = replace(named, classes=occurring(named.classes, table[named.name]))
        if named.classes and (named.kind == "multilabel" or named.name == "label"):
            targets.append(named)
    places = [place for part in parts for place in part.rows.places]
    return faults.corpus(
        name,
        Rows(table, places),
        media_root=root,
        targets=[*targets, *declared],
        columns={**taken, **columns},
    )
