"""What the readers of published layouts share: the files of a layout, its media, and telling all faults at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from mixed_signals.store import cells
from mixed_signals.store.corpora.reading import Rows, corpus_of, need_columns, read_rows
from mixed_signals.store.corpus import Corpus, InvalidCorpus, as_media_root
from mixed_signals.store.errors import UsageError
from mixed_signals.store.targets import Target

MEDIA = {".mp4", ".wav", ".flac", ".mp3", ".m4a", ".mov", ".avi", ".mkv", ".ogg"}


def need_files(source: Path, files: Collection[str]) -> None:
    """Raise `UsageError` if `source` is not a folder that holds these files."""
    mend = f"SOURCE is the folder that holds {', '.join(files)}"
    if not source.is_dir():
        raise UsageError(f"{source}: not a folder; {mend}")
    missing = [file for file in files if not (source / file).is_file()]
    if missing:
        raise UsageError(f"{source}: lacks {', '.join(missing)}; {mend}")


def media_folder(source: Path, media_root: Path | str | None) -> Path | str:
    """Return the media root, a folder or a URL: as given, else the folder of the layout itself.

    Raises
    ------
    UsageError
        If it is no folder that is there.
    """
    if media_root is None:
        return source
    root = as_media_root(media_root)
    if isinstance(root, Path) and not root.is_dir():
        raise UsageError(f"{root}: the media root is not a folder (--media-root)")
    return root


def below(source: Path, root: Path | str) -> PurePosixPath:
    """Return where `source` lies below the media root; a URL is taken to hold what `source` holds.

    Raises
    ------
    UsageError
        If `source` is not below the media root.
    """
    if isinstance(root, str):
        return PurePosixPath()
    try:
        return PurePosixPath(source.resolve().relative_to(root.resolve()).as_posix())
    except ValueError:
        raise UsageError(
            f"{source}: not below the media root {root}; name a folder that holds it (--media-root)"
        ) from None


def visible_files(source: Path) -> list[Path]:
    """Return the files below a folder, sorted, without hidden ones (macOS leaves ``._`` files beside others)."""
    found: list[Path] = []
    for folder, below, files in os.walk(source):
        below[:] = [name for name in below if name[0] != "."]
        found += [Path(folder, name) for name in files if name[0] != "."]
    return sorted(path for path in found if path.is_file())


def there(root: Path | str, media: Iterable[str]) -> list[str]:
    """Return the media entries, empty where the folder has no such file; at a URL nobody looks."""
    if isinstance(root, str):
        return list(media)
    return [entry if os.path.isfile(os.path.join(root, entry)) else "" for entry in media]


def read_splits(
    source: Path,
    files: Mapping[str, str],
    columns: Sequence[str],
    read: Callable[[Path], Rows] = read_rows,
) -> Rows:
    """Return the rows of one file per split, stacked, with a column `split`.

    Parameters
    ----------
    source : Path
        The folder of the files.
    files : mapping
        From the name of a split to its file's.
    columns : sequence of str
        What every file must have.
    read : callable
        Reads one file.
    """
    need_files(source, files.values())
    tables: list[pd.DataFrame] = []
    places: list[str] = []
    for split, file in files.items():
        rows = read(source / file)
        need_columns(source / file, rows.table, columns)
        tables.append(rows.table.assign(split=split))
        places += rows.places
    return Rows(pd.concat(tables, ignore_index=True), places)


def names(rows: Rows, column: str) -> pd.Series:
    """Return a column as text without spaces around it; empty where there is nothing."""
    return cells.texts(rows.table[column]).str.strip()


def occurring(classes: Iterable[str], labels: Iterable[str]) -> tuple[str, ...]:
    """Return those of the published classes that occur, in the published order."""
    found = set(labels)
    return tuple(name for name in classes if name in found)


class Faults:
    """Collects the faults of a layout's files, so that one error tells them all.

    Attributes
    ----------
    lines : list of str
        One line for every fault: file, line, column, what is wrong and how to mend it.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(
        self, rows: Rows, wrong: pd.Series | np.ndarray, column: str, fault: Callable[[int], str]
    ) -> None:
        """Note `fault(row)` for every row (from 0) where `wrong` is true."""
        self.lines += [
            f"{rows.places[row]}, column {column}: {fault(row)}" for row in np.flatnonzero(wrong).tolist()
        ]

    def numbers(self, rows: Rows, column: str) -> np.ndarray:
        """Return a column of numbers, shape (N,); a cell that is none, or is empty, is noted, and NaN."""
        values, faults = cells.numbers(rows.table[column], needed=True)
        told = dict(faults)
        self.add(rows, np.isnan(values), column, lambda row: told.get(row, "is empty; a number is needed"))
        return values

    def one_of(self, rows: Rows, column: str, choices: Collection[str]) -> None:
        """Note every cell that is none of `choices`."""
        found = names(rows, column)
        mend = f"is none of {', '.join(choices)}; correct the cell"
        self.add(rows, ~found.isin(list(choices)), column, lambda row: f"{found[row]!r} {mend}")

    def corpus(
        self,
        name: str,
        utterances: Rows,
        ratings: Rows | None = None,
        *,
        media_root: Path | str,
        targets: Sequence[Target] = (),
        columns: Mapping[str, str],
    ) -> Corpus:
        """Return the corpus if nothing was noted and it is valid.

        Parameters are those of `reading.corpus_of`.

        Raises
        ------
        InvalidCorpus
            With what was noted and what the corpus itself finds wrong.
        """
        try:
            corpus = corpus_of(
                name, utterances, ratings, media_root=media_root, targets=targets, columns=columns
            )
        except InvalidCorpus as error:
            told = {line.split(": ")[0] for line in self.lines}
            more = [line for line in error.lines if line.split(": ")[0] not in told]
            raise InvalidCorpus(name, self.lines + more) from None
        except UsageError:  # bad rows were left out, and nothing is left for a target
            if not self.lines:
                raise
        if self.lines:
            raise InvalidCorpus(name, self.lines)
        return corpus
