"""Checks of the vectors themselves, fed by one pass over a feature set's rows in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mixed_signals.store.blocks import row_blocks
from mixed_signals.store.corpus import Corpus
from mixed_signals.store.doctor.findings import Symptom, examples
from mixed_signals.store.features import FeatureSet, Status

FLOAT16_MAX = 65504.0  # the largest finite float16


@dataclass(frozen=True)
class Scan:
    """What one pass over the rows of a feature set that count as `ok` found.

    Attributes
    ----------
    rows : ndarray of int, shape (K,)
        Positions of the `ok` rows whose values are all finite.
    bad, overflowed : ndarray of int
        Positions of the `ok` rows with a NaN or infinite value, and of those whose only fault is an infinite value in
        float16.
    zero : ndarray of int
        Positions of the rows of `rows` whose values are all zero.
    low, high : ndarray, shape (D,)
        Lowest and highest finite value of every dimension over `rows`; infinite where there is no row.
    """

    rows: np.ndarray
    bad: np.ndarray
    overflowed: np.ndarray
    zero: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def constant(self) -> np.ndarray:
        """Which dimensions have one value in every row, shape (D,); none where there are fewer than two rows."""
        return (self.low == self.high) & (len(self.rows) > 1)


@dataclass(frozen=True)
class Subject:
    """A feature set under examination.

    Attributes
    ----------
    features : FeatureSet
    corpus : Corpus
    position : ndarray of int, shape (N,)
        The corpus row of each row of the set, or -1.
    scan : Scan
    """

    features: FeatureSet
    corpus: Corpus
    position: np.ndarray
    scan: Scan

    @property
    def imported(self) -> bool:
        """Whether the vectors were made elsewhere."""
        return self.features.imported

    @property
    def changed(self) -> np.ndarray:
        """Of which rows the corpus says something else than when they were made, shape (N,), bool."""
        features = self.features
        before = features.entry_hash_bytes
        now = self.corpus.entry_hash_bytes(features.modality)[self.position]
        known = (before != b"") & (features.status != Status.PENDING) & (self.position >= 0)
        changed: np.ndarray = known & (before != now)
        return changed

    @property
    def remake(self) -> str:
        """What to do when the file is no good."""
        if self.imported:
            return "remove the file, and import a mended source with mixed-signals store import"
        return f"remove the file and run {self.features.command} again"


def scan(features: FeatureSet, on_progress: Callable[[int], None] | None = None) -> Scan:
    """Read a feature set's rows once, block by block.

    Parameters
    ----------
    features : FeatureSet
    on_progress : callable, optional
        Called with the number of rows just read.
    """
    ok = features.ok
    low, high = np.full(features.shape[1], np.inf), np.full(features.shape[1], -np.inf)
    bad: list[np.ndarray] = []
    overflowed: list[np.ndarray] = []
    zero: list[np.ndarray] = []
    for start, block in row_blocks(features):
        rows = start + np.flatnonzero(ok[start : start + len(block)])
        values = block[rows - start] if len(rows) < len(block) else block
        if features.dtype == np.float16:
            values = values.astype(np.float32)  # numpy compares these many times faster
        if len(rows):
            begins = np.flatnonzero(values[:, 0] == 0)
            zero.append(rows[begins[~values[begins].any(axis=1)]])
            lowest, highest = values.min(axis=0), values.max(axis=0)
            if not (np.isfinite(lowest).all() and np.isfinite(highest).all()):
                finite = np.isfinite(values).all(axis=1)
                only_infinite = ~finite & ~np.isnan(values).any(axis=1) & (features.dtype == np.float16)
                overflowed.append(rows[only_infinite])
                bad.append(rows[~finite & ~only_infinite])
                lowest = values[finite].min(axis=0, initial=np.inf)
                highest = values[finite].max(axis=0, initial=-np.inf)
            np.minimum(low, lowest, out=low)
            np.maximum(high, highest, out=high)
        if on_progress is not None:
            on_progress(len(block))
    none = np.array([], dtype=np.intp)
    faulty = np.concatenate([none, *bad, *overflowed])
    return Scan(
        rows=np.setdiff1d(np.flatnonzero(ok), faulty, assume_unique=True),
        bad=np.concatenate([none, *bad]),
        overflowed=np.concatenate([none, *overflowed]),
        zero=np.concatenate([none, *zero]),
        low=low,
        high=high,
    )


def not_finite(subject: Subject) -> Iterator[Symptom]:
    """See NaN or infinite values in rows that count as `ok`."""
    rows = subject.scan.bad
    if len(rows):
        named = examples(subject.features.ids[rows])
        what = f"NaN or infinite values in {len(rows):,} rows that count as ok, {named}"
        yield Symptom("error", len(rows), what, subject.remake)


def float16_overflow(subject: Subject) -> Iterator[Symptom]:
    """See values that float16 turned into infinity."""
    rows = subject.scan.overflowed
    if len(rows):
        named = examples(subject.features.ids[rows])
        what = f"values that were too large for float16, and are infinite, in {len(rows):,} rows, {named}"
        yield Symptom("error", len(rows), what, f"{subject.remake}, kept as float32")


def too_large_for_float16(subject: Subject) -> Iterator[Symptom]:
    """See dimensions whose values float16 could not hold, in a set that is kept in more."""
    scan = subject.scan
    if subject.features.dtype == np.float16 or not len(scan.rows):
        return
    wide = np.flatnonzero(np.maximum(scan.high, -scan.low) > FLOAT16_MAX)
    if len(wide):
        named = examples(subject.features.dimensions[wide])
        what = f"values beyond {FLOAT16_MAX:,.0f} in {len(wide):,} dimensions, {named}"
        yield Symptom("note", len(wide), what, "keep this set as float32; float16 would make them infinite")


def one_vector(subject: Subject) -> Iterator[Symptom]:
    """See a set whose rows are all the same vector."""
    scan = subject.scan
    if scan.constant.all():
        what = f"all {len(scan.rows):,} ok rows are the same vector"
        yield Symptom("error", len(scan.rows), what, subject.remake)


def zero_vectors(subject: Subject) -> Iterator[Symptom]:
    """See rows that count as `ok` and are all zero: most likely what stood for nothing."""
    rows = subject.scan.zero
    if len(rows) and not subject.scan.constant.all():
        what = f"{len(rows):,} ok rows all zero, {examples(subject.features.ids[rows])}"
        mend = "see whether there was anything to see; where there was not, leave the row out of the source, or empty"
        yield Symptom("warning", len(rows), what, f"{mend}, and {subject.remake}")


def zero_dimensions(subject: Subject) -> Iterator[Symptom]:
    """See dimensions that are zero in every row: most likely never filled."""
    scan = subject.scan
    zero = np.flatnonzero(scan.constant & (scan.low == 0))
    if len(zero) and not scan.constant.all():
        named = examples(subject.features.dimensions[zero])
        what = f"{len(zero):,} of {len(scan.low):,} dimensions zero in every row, {named}"
        mend = f"see whether what makes them was at work; if it was not, {subject.remake}"
        yield Symptom("warning", len(zero), what, mend)


def constant_dimensions(subject: Subject) -> Iterator[Symptom]:
    """See dimensions with one value, other than zero, in every row."""
    scan = subject.scan
    constant = np.flatnonzero(scan.constant & (scan.low != 0))
    if len(constant) and not scan.constant.all():
        named = examples(subject.features.dimensions[constant])
        what = f"{len(constant):,} of {len(scan.low):,} dimensions with one value in every row, {named}"
        yield Symptom(
            "note", len(constant), what, "nothing, unless they should vary; heads learn nothing from them"
        )


def identical_vectors(subject: Subject) -> Iterator[Symptom]:
    """See one vector at several utterances: that were made of different things, or of the same."""
    if subject.scan.constant.all():
        return
    features = subject.features
    same_source: list[np.ndarray] = []
    other_source: list[np.ndarray] = []
    rows = np.setdiff1d(subject.scan.rows, subject.scan.zero, assume_unique=True)
    rows_of_corpus = rows[(subject.position[rows] >= 0) & ~subject.changed[rows]]
    for rows in _rows_with_one_vector(features, rows_of_corpus):
        (same_source if len(set(_sources(subject, rows))) == 1 else other_source).append(rows)
    if other_source:
        n = sum(map(len, other_source))
        made = "that was made of something else"
        if subject.imported:  # of what, nobody said
            made = f"with which they share no {_source_names(features)} in the corpus"
        what = f"{n:,} utterances with the vector of another one {made}, {_pairs(features, other_source)}"
        yield Symptom(
            "warning", n, what, "see whether the encoder saw them at all; if it did not, " + subject.remake
        )
    if same_source:
        n = sum(map(len, same_source))
        what = f"{n:,} utterances with the same {_source_names(features)} as another, {_pairs(features, same_source)}"
        mend = "nothing, as long as folds keep the utterances that share on one side"
        yield Symptom("note", n, what, mend)


def _rows_with_one_vector(features: FeatureSet, rows: np.ndarray) -> list[np.ndarray]:
    """Group the rows whose vectors are the same, as their checksums tell (64 bits: chance makes none of them equal)."""
    _, code, counts = np.unique(features.checksums[rows], return_inverse=True, return_counts=True)
    rows = rows[counts[code] > 1]
    rows = rows[np.argsort(features.checksums[rows], kind="stable")]
    groups = np.split(rows, np.flatnonzero(np.diff(features.checksums[rows])) + 1)
    return groups if len(rows) else []


def _sources(subject: Subject, rows: np.ndarray) -> list[object]:
    """Say what the vectors of these rows were made of.

    Texts are compared as an uncased encoder reads them. Vectors made elsewhere do not say of what, so the corpus does.
    """
    features, table = subject.features, subject.corpus.utterances
    if features.modality != "text" and not subject.imported:
        return list(features.row_hashes[rows])
    known = table.iloc[subject.position[rows]]
    if features.modality == "text":
        read: list[object] = [" ".join(text.split()).casefold() for text in known["text"]]
        if not subject.imported:
            return read
        return [text or (one,) for text, one in zip(read, known["utterance_id"], strict=True)]
    named = known["media"].where(known["media"] != "", known["utterance_id"])
    return list(zip(named, known["start"].fillna(-1), known["end"].fillna(-1), strict=True))


def _source_names(features: FeatureSet) -> str:
    return "text" if features.modality == "text" else "media and times"


def _pairs(features: FeatureSet, groups: list[np.ndarray]) -> str:
    return examples([" = ".join(features.ids[rows[:2]]) for rows in groups])
