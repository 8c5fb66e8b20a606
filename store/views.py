"""Views: several feature sets and the labels, joined by utterance id and by nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mixed_signals.store.corpus import MODALITIES, Corpus
from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.features import FeatureSet, Status, read_side_by_side
from mixed_signals.store.targets import shortened

if TYPE_CHECKING:
    from typing import Literal

    from torch.utils.data import TensorDataset


@dataclass(frozen=True, repr=False, eq=False)
class Views:
    """Rows that belong together: one utterance each, its vectors side by side, its label and its metadata.

    Vectors stay in their files until they are used: `X`, an indexed modality, and what they are converted to read the
    rows that are selected, and no others.

    Attributes
    ----------
    utterances : DataFrame, N rows
        The corpus's columns for these rows, in corpus order.
    sources : dict of str to FeatureSet
        The feature set of each modality, in the order text, audio, video.
    rows : ndarray of int, shape (N, M)
        Where each utterance stands in each feature set; -1 where it has no vector there.
    target : str
        The name of the target.
    kind : str
        nominal, ordinal, interval or multilabel.
    classes : tuple of str
        The labels that occur (or have a vote), in order; empty for an interval target.
    y : ndarray, shape (N,) or (N, C)
        Labels as Python strings; numbers for an interval target; 0 and 1 for each class of a multilabel one.
    votes : ndarray of float64, shape (N, C), or None
        How many ratings speak for each class, where the target is made of votes.
    left_out : dict of str to int
        How many corpus utterances are not here, by reason.
    corpus : DataFrame
        The table of all utterances of the corpus, with those that are not here.
    """

    utterances: pd.DataFrame
    sources: dict[str, FeatureSet]
    rows: np.ndarray
    target: str
    kind: str
    classes: tuple[str, ...]
    y: np.ndarray
    votes: np.ndarray | None
    left_out: dict[str, int]
    corpus: pd.DataFrame = field(repr=False)

    def __len__(self) -> int:
        return len(self.utterances)

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __contains__(self, modality: object) -> bool:
        return modality in self.sources

    def __repr__(self) -> str:
        shares = self.present.mean(axis=0) if len(self) else np.zeros(len(self.sources))
        parts = [
            f"{modality} {_named(features)} ({features.shape[1]:,} dims, {share:.0%} present)"
            for (modality, features), share in zip(self.sources.items(), shares, strict=True)
        ]
        lines = [
            f"{len(self):,} utterances: {'; '.join(parts)}",
            f"{self.target}: {self._described_target()}",
        ]
        if self.groups is not None:
            lines.append(f"groups: {len(set(self.groups)):,}")
        if self.left_out:
            lines.append("left out: " + ", ".join(f"{n:,} {reason}" for reason, n in self.left_out.items()))
        return "\n".join(lines)

    @property
    def ids(self) -> np.ndarray:
        """Utterance ids, shape (N,), as Python strings."""
        return self.utterances["utterance_id"].to_numpy(dtype=object)

    @property
    def groups(self) -> np.ndarray | None:
        """The corpus's groups (speakers or dialogs), shape (N,), or None where it has none."""
        return self.groups_by("group") if (self.utterances["group"] != "").any() else None

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, in the order text, audio, video."""
        return tuple(self.sources)

    @property
    def blocks(self) -> dict[str, slice]:
        """Which columns of `X` belong to which modality."""
        stops = np.cumsum([features.shape[1] for features in self.sources.values()]).tolist()
        return {
            modality: slice(stop - features.shape[1], stop)
            for (modality, features), stop in zip(self.sources.items(), stops, strict=True)
        }

    @property
    def present(self) -> np.ndarray:
        """Which modalities each row has, in the order of `blocks`, shape (N, M), bool."""
        return self.rows >= 0

    @cached_property
    def X(self) -> np.ndarray:  # noqa: N802 - the field's name for a feature matrix
        """The modalities' vectors side by side, shape (N, sum of D), float32; NaN where a modality is absent."""
        X = np.empty((len(self), sum(features.shape[1] for features in self.sources.values())), np.float32)
        read_side_by_side(
            [
                (self.sources[modality], self.rows[:, column], X[:, block])
                for column, (modality, block) in enumerate(self.blocks.items())
            ]
        )
        return X

    def __getitem__(self, modality: str) -> np.ndarray:
        """Return one modality's vectors, shape (N, D), float32; mapped from the file where that is possible.

        Raises
        ------
        UsageError
            If the modality is not here.
        """
        if modality not in self.sources:
            raise UsageError(
                f"no modality {modality!r} in these views (they have: {', '.join(self.sources)})"
            )
        features, rows = self.sources[modality], self.rows[:, self.modalities.index(modality)]
        if len(rows) and features.dtype == np.float32 and rows[0] >= 0 and (np.diff(rows) == 1).all():
            return features.stored[rows[0] : rows[-1] + 1]
        vectors = np.empty((len(self), features.shape[1]), np.float32)
        features.read(rows, vectors)
        return vectors

    @property
    def features(self) -> dict[str, dict[str, str]]:
        """For each modality the feature set's ``name``, ``recipe`` and ``content`` fingerprints."""
        return {
            modality: {
                "name": features.name,
                "recipe": features.recipe_fingerprint,
                "content": features.content_fingerprint,
            }
            for modality, features in self.sources.items()
        }

    def trained_for(self, ids: Collection[str]) -> frozenset[str]:
        """Return the utterances that trained an encoder which made any vector of these ones."""
        return frozenset().union(*(features.trained_for(ids) for features in self.sources.values()))

    def groups_by(self, column: str) -> np.ndarray:
        """Return the values of an utterance column as groups, shape (N,).

        Raises
        ------
        UsageError
            If there is no such column, or a row has no value in it.
        """
        if column not in self.utterances.columns:
            known = ", ".join(map(str, self.utterances.columns))
            raise UsageError(f"no column {column!r} to group by; the utterances have: {known}")
        values = self.utterances[column].astype(object)
        empty = values.isna() | (values == "")
        if empty.any():
            raise UsageError(
                f"{int(empty.sum())} utterances have no {column}, e.g. {list(self.ids[empty][:3])}: "
                "rows without a group cannot be kept apart"
            )
        return values.map(str).to_numpy(dtype=object)

    def groups_in_corpus(self, column: str) -> dict[str, str]:
        """Return the value of an utterance column by utterance id, of all utterances of the corpus that have one.

        Encoders may have been trained on utterances that are not here, for want of a label or a vector.
        """
        values = self.corpus[column].astype(object)
        given = (values.notna() & (values != "")).to_numpy()
        ids = self.corpus["utterance_id"].to_numpy(dtype=object)[given]
        return dict(zip(ids.tolist(), values[given].map(str).tolist(), strict=True))

    def select(self, rows: Sequence[str] | np.ndarray) -> Views:
        """Return the rows with these utterance ids (in corpus order), or where a boolean mask is true.

        Raises
        ------
        MixedSignalsError
            If an id is not here, or the mask's length differs.
        """
        if isinstance(rows, str):
            raise UsageError(f"select({rows!r}): give a list of ids, or a boolean mask")
        rows = np.asarray(rows)
        if rows.dtype == bool or pd.api.types.infer_dtype(rows, skipna=False) == "boolean":
            rows = rows.astype(bool)
            if rows.shape != (len(self),):
                raise MixedSignalsError(f"a mask of {rows.shape} does not fit {len(self)} utterances")
            kept = np.flatnonzero(rows)
        else:
            found = self._index.get_indexer(pd.Index(rows, dtype=object))
            unknown = sorted(set(rows[found < 0]))
            if unknown:
                raise MixedSignalsError(
                    f"{len(unknown)} ids are not in these views, e.g. {', '.join(map(str, unknown[:3]))}"
                )
            kept = np.unique(found)
        return replace(
            self,
            utterances=self.utterances.iloc[kept].reset_index(drop=True),
            rows=self.rows[kept],
            y=self.y[kept],
            votes=None if self.votes is None else self.votes[kept],
        )

    def to_pandas(self) -> pd.DataFrame:
        """Return the vectors as a table: a row per utterance id, a column per (modality, dimension), float32."""
        columns = [(m, name) for m, features in self.sources.items() for name in features.dimensions]
        return pd.DataFrame(
            self.X,
            index=pd.Index(self.ids, name="utterance_id"),
            columns=pd.MultiIndex.from_tuples(columns, names=["modality", "dimension"]),
        )

    def to_torch(self) -> TensorDataset:
        """Return the rows as a torch dataset of (X, present, y).

        Returns
        -------
        TensorDataset
            `X` float32 (sum of D,), NaN where a modality is absent; `present` bool (M,); `y` the number of the class in
            `classes` as int64, or float32 for an interval target and (C,) for a multilabel one. The tensors of all
            rows are in ``.tensors``.
        """
        import torch
        from torch.utils.data import TensorDataset

        if self.kind in ("interval", "multilabel"):
            y = torch.from_numpy(self.y.astype(np.float32))
        else:
            y = torch.from_numpy(pd.Index(self.classes).get_indexer(pd.Index(self.y)).astype(np.int64))
        return TensorDataset(torch.from_numpy(self.X), torch.from_numpy(self.present), y)

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.ids, dtype=object)

    def _described_target(self) -> str:
        if self.kind == "interval":
            return f"{np.min(self.y):g} to {np.max(self.y):g}, mean {np.mean(self.y):.3g}"
        if self.kind == "multilabel":
            counts = self.y.sum(axis=0).astype(int).tolist()
        else:
            counts = [int((self.y == label).sum()) for label in self.classes]
        told = (f"{label} {count:,}" for label, count in zip(self.classes, counts, strict=True))
        return shortened(told, ", ")


def join(
    corpus: Corpus,
    feature_sets: Mapping[str, FeatureSet],
    *,
    target: str = "label",
    missing: Literal["drop", "mask"] = "drop",
) -> Views:
    """Join feature sets to a corpus by utterance id.

    Parameters
    ----------
    corpus : Corpus
    feature_sets : mapping of modality to FeatureSet
    target : str
        A declared target, or any column of labels.
    missing : {"drop", "mask"}
        Keep only utterances that have every modality, or keep those that have at least one and leave NaN.

    Raises
    ------
    MixedSignalsError
        If a feature set has ids that are not in the corpus, was made from other texts or cuts than the corpus has now,
        or no utterance is left.
    UsageError
        If a feature set belongs to another modality, or `missing` is neither word.
    """
    if missing not in ("drop", "mask"):
        raise UsageError(f"missing: 'drop' or 'mask', not {missing!r}")
    if not feature_sets or set(feature_sets) - set(MODALITIES):
        raise UsageError(f"name at least one feature set, by modality ({', '.join(MODALITIES)})")
    ordered, rows, pending = _found(corpus, feature_sets)
    present = rows >= 0
    labelled = _labelled(corpus.labels(target))
    enough = present.all(axis=1) if missing == "drop" else present.any(axis=1)
    keep = labelled & enough
    left_out = {"without a label": int((~labelled).sum())}
    for column, modality in enumerate(ordered):
        absent = labelled & ~enough & ~present[:, column]
        left_out[f"without {modality}"] = int((absent & ~pending[:, column]).sum())
        left_out[f"with {modality} not yet extracted"] = int((absent & pending[:, column]).sum())
    if not keep.any():
        reasons = ", ".join(f"{n} {reason}" for reason, n in left_out.items() if n)
        raise MixedSignalsError(f"no utterance is left after joining ({reasons})")
    return _of_rows(corpus, ordered, rows, keep, target, {reason: n for reason, n in left_out.items() if n})


def join_several(
    corpus: Corpus, several: Sequence[Mapping[str, FeatureSet]], *, target: str = "label"
) -> list[Views]:
    """Join several groups of feature sets to the same utterances: those that have a vector in any of them.

    Parameters
    ----------
    corpus : Corpus
    several : sequence of mappings of modality to FeatureSet
    target : str

    Raises
    ------
    UsageError, MixedSignalsError
        As `join` does.
    """
    joined = [_found(corpus, feature_sets) for feature_sets in several]
    keep = np.logical_or.reduce([(rows >= 0).any(axis=1) for _, rows, _ in joined])
    keep &= _labelled(corpus.labels(target))
    if not keep.any():
        raise MixedSignalsError("no utterance is left after joining")
    return [_of_rows(corpus, ordered, rows, keep, target, {}) for ordered, rows, _ in joined]


def labelled_rows(corpus: Corpus, target: str = "label") -> Views:
    """Return the utterances that have a label, without any vectors: what folds are made of before there are any.

    Raises
    ------
    MixedSignalsError
        If none has a label.
    """
    keep = _labelled(corpus.labels(target))
    if not keep.any():
        raise MixedSignalsError(f"no utterance of corpus {corpus.name} has a label ({target})")
    unlabelled = int((~keep).sum())
    left_out = {"without a label": unlabelled} if unlabelled else {}
    return _of_rows(corpus, {}, np.empty((len(corpus), 0), dtype=int), keep, target, left_out)


def _named(features: FeatureSet) -> str:
    """Return what a feature set is called; one of those that were made for a fold each, what they are together."""
    fold = features.provenance.get("cross_fitted")
    return f"{fold['name']} (cross-fitted)" if fold else features.name


def _found(
    corpus: Corpus, feature_sets: Mapping[str, FeatureSet]
) -> tuple[dict[str, FeatureSet], np.ndarray, np.ndarray]:
    """Return feature sets in order, where each utterance stands in them, and which are not made yet, (N, M) each."""
    ordered = {modality: feature_sets[modality] for modality in MODALITIES if modality in feature_sets}
    rows = np.full((len(corpus), len(ordered)), -1)
    pending = np.zeros(rows.shape, dtype=bool)
    for column, (modality, features) in enumerate(ordered.items()):
        if features.modality != modality:
            raise UsageError(f"{features.name} is a feature set of {features.modality}, not of {modality}")
        found = positions(corpus, features)
        rows[:, column] = np.where((found >= 0) & features.ok[found], found, -1)
        pending[:, column] = (found < 0) | (features.status[found] == Status.PENDING)
    return ordered, rows, pending


def _of_rows(
    corpus: Corpus,
    ordered: dict[str, FeatureSet],
    rows: np.ndarray,
    keep: np.ndarray,
    target: str,
    left_out: dict[str, int],
) -> Views:
    """Return the views of the utterances that are kept, (N,) bool."""
    described = corpus.target(target)
    y, classes = corpus.labels(target)[keep], described.classes
    votes = corpus.votes(target)[keep] if described.votes is not None else None
    if described.kind in ("nominal", "ordinal"):
        here = set(y)
        occur = np.array([label in here for label in classes])
        if votes is not None:
            occur |= votes.any(axis=0)
        classes = tuple(label for label, occurs in zip(classes, occur, strict=True) if occurs)
        votes = None if votes is None else votes[:, occur]
    return Views(
        utterances=corpus.utterances[keep].reset_index(drop=True),
        sources=ordered,
        rows=rows[keep],
        target=target,
        kind=described.kind,
        classes=classes,
        y=y,
        votes=votes,
        left_out=left_out,
        corpus=corpus.utterances,
    )


def positions(corpus: Corpus, features: FeatureSet) -> np.ndarray:
    """Return where each corpus utterance stands in a feature set, -1 where it does not.

    Raises
    ------
    MixedSignalsError
        If the set has ids that are not in the corpus, or was made from other texts or cuts than the corpus has now.
    """
    found = features.find(corpus.id_bytes)
    if np.count_nonzero(found >= 0) < len(features):
        strange = ~np.isin(features.id_bytes, corpus.id_bytes)
        raise MixedSignalsError(
            f"{features.key}: {int(strange.sum())} of {len(features)} ids are not in corpus "
            f"{corpus.name}, e.g. {list(features.ids[strange][:3])}; it was made for other utterances: "
            + (
                "remove it and import it again"
                if features.imported
                else f"run {features.command} again, which drops them"
            )
        )
    _refuse_changed(corpus, features, found)
    return found


def _labelled(y: np.ndarray) -> np.ndarray:
    """Return which rows have a label, shape (N,)."""
    return y != "" if y.dtype == object else ~np.isnan(y.reshape(len(y), -1)).any(axis=1)


def _refuse_changed(corpus: Corpus, features: FeatureSet, found: np.ndarray) -> None:
    """Refuse vectors of texts or cuts that the corpus no longer has."""
    made_of = features.entry_hash_bytes[found]
    done = (found >= 0) & (features.status[found] != Status.PENDING) & (made_of != b"")
    changed = done & (made_of != corpus.entry_hash_bytes(features.modality))
    if changed.any():
        what = "text" if features.modality == "text" else "media, start or end"
        mend = "remove it and import it again" if features.imported else f"run {features.command} again"
        raise MixedSignalsError(
            f"{features.key}: the {what} of {int(changed.sum())} utterances changed since it was made, e.g. of "
            f"{list(corpus.ids[changed][:3])}; {mend}"
        )
