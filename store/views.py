"""Views: several feature sets and the labels, joined by utterance id and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mixed_signals.store.corpus import MODALITIES, Corpus
from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.features import FeatureSet, Status
from mixed_signals.store.provenance import text_hash

if TYPE_CHECKING:
    from typing import Literal


@dataclass(frozen=True, repr=False)
class Views:
    """Rows that belong together: one utterance each, its vectors side by side, its label and its metadata.

    Attributes
    ----------
    utterances : DataFrame, N rows
        The corpus's columns for these rows, in corpus order.
    X : ndarray of float32, shape (N, sum of D)
        The modalities' vectors in the order text, audio, video; NaN where a modality is absent.
    blocks : dict of str to slice
        Which columns of `X` belong to which modality.
    present : ndarray of bool, shape (N, M)
        Which modalities each row has, in the order of `blocks`.
    target : str
        The name of the label column.
    classes : tuple of str
        The labels, in order.
    features : dict of str to dict
        For each modality the feature set's ``name``, ``recipe`` and ``content`` fingerprints.
    left_out : dict of str to int
        How many corpus utterances are not here, by reason.
    """

    utterances: pd.DataFrame
    X: np.ndarray
    blocks: dict[str, slice]
    present: np.ndarray
    target: str
    classes: tuple[str, ...]
    features: dict[str, dict[str, str]]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.utterances)

    def __repr__(self) -> str:
        parts = [
            f"{modality} {self.features[modality]['name']} ({block.stop - block.start} dims, "
            f"{share:.0%} present)"
            for (modality, block), share in zip(self.blocks.items(), self.present.mean(axis=0), strict=True)
        ]
        counts = ", ".join(f"{label} {int((self.y == label).sum()):,}" for label in self.classes)
        lines = [f"{len(self):,} utterances: {'; '.join(parts)}", f"{self.target}: {counts}"]
        if self.groups is not None:
            lines.append(f"groups: {len(set(self.groups)):,}")
        if self.left_out:
            lines.append("left out: " + ", ".join(f"{n:,} {reason}" for reason, n in self.left_out.items()))
        return "\n".join(lines)

    @property
    def ids(self) -> np.ndarray:
        """Utterance ids, shape (N,)."""
        return self.utterances["utterance_id"].to_numpy(dtype=object)

    @property
    def y(self) -> np.ndarray:
        """Labels, shape (N,), as Python strings."""
        return self.utterances[self.target].to_numpy(dtype=object)

    @property
    def groups(self) -> np.ndarray | None:
        """The corpus's groups (speakers or dialogs), shape (N,), or None where it has none."""
        return self.groups_by("group") if (self.utterances["group"] != "").any() else None

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, in the order text, audio, video."""
        return tuple(self.blocks)

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

    def select(self, rows: Sequence[str] | np.ndarray) -> Views:
        """Return the rows with these utterance ids (in corpus order), or where a boolean mask is true.

        Raises
        ------
        MixedSignalsError
            If an id is not here, or the mask's length differs.
        """
        rows = np.asarray(rows)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise MixedSignalsError(f"a mask of {rows.shape} does not fit {len(self)} utterances")
            mask = rows
        else:
            mask = self.utterances["utterance_id"].isin(list(rows)).to_numpy()
            unknown = set(rows) - set(self.ids[mask])
            if unknown:
                raise MixedSignalsError(
                    f"{len(unknown)} ids are not in these views, e.g. {sorted(unknown)[:3]}"
                )
        return replace(
            self,
            utterances=self.utterances[mask].reset_index(drop=True),
            X=self.X[mask],
            present=self.present[mask],
        )


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
        The label column.
    missing : {"drop", "mask"}
        Keep only utterances that have every modality, or keep those that have at least one and leave NaN.

    Raises
    ------
    MixedSignalsError
        If a feature set has ids that are not in the corpus, was made from other texts than the corpus has now,
        or no utterance is left.
    UsageError
        If a feature set belongs to another modality, or `missing` is neither word.
    """
    if missing not in ("drop", "mask"):
        raise UsageError(f"missing: 'drop' or 'mask', not {missing!r}")
    if not feature_sets:
        raise UsageError("name at least one feature set")
    ordered = {modality: feature_sets[modality] for modality in MODALITIES if modality in feature_sets}
    known = set(corpus.ids)
    widths = {modality: features.shape[1] for modality, features in ordered.items()}
    stops = np.cumsum(list(widths.values()))
    blocks = {
        modality: slice(int(stop) - widths[modality], int(stop))
        for modality, stop in zip(ordered, stops, strict=True)
    }
    rows = np.full((len(corpus), len(ordered)), -1)
    pending = np.zeros(rows.shape, dtype=bool)
    for column, (modality, features) in enumerate(ordered.items()):
        if features.modality != modality:
            raise UsageError(f"{features.name} is a feature set of {features.modality}, not of {modality}")
        strangers = [utterance for utterance in features.ids if utterance not in known]
        if strangers:
            raise MixedSignalsError(
                f"{features.key}: {len(strangers)} of {len(features)} ids are not in corpus "
                f"{corpus.name}, e.g. {strangers[:3]}; it was made for other utterances"
            )
        _refuse_changed_texts(corpus, features)
        found = pd.Index(features.ids).get_indexer(pd.Index(corpus.ids))
        rows[:, column] = np.where((found >= 0) & features.ok[found], found, -1)
        pending[:, column] = (found < 0) | (features.status[found] == Status.PENDING)
    present = rows >= 0
    labels = corpus.labels(target)
    labelled = labels != ""
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
    X = np.full((int(keep.sum()), int(stops[-1])), np.nan, np.float32)
    for column, (modality, features) in enumerate(ordered.items()):
        source = rows[keep, column]
        X[source >= 0, blocks[modality]] = features.embedding[source[source >= 0]]
    return Views(
        utterances=corpus.utterances[keep].assign(**{target: labels[keep]}).reset_index(drop=True),
        X=X,
        blocks=blocks,
        present=present[keep],
        target=target,
        classes=tuple(c for c in corpus.target(target).classes if (labels[keep] == c).any()),
        features={
            modality: {
                "name": features.name,
                "recipe": features.recipe_fingerprint,
                "content": features.content_fingerprint,
            }
            for modality, features in ordered.items()
        },
        left_out={reason: n for reason, n in left_out.items() if n},
    )


def _refuse_changed_texts(corpus: Corpus, features: FeatureSet) -> None:
    """Refuse vectors of texts that the corpus no longer has (vectors made elsewhere do not say of what)."""
    if features.modality != "text" or "imported_from" in features.provenance:
        return
    now = dict(zip(corpus.ids, corpus.utterances["text"], strict=True))
    made_of = zip(features.ids, features.row_hashes, features.ok, strict=True)
    changed = [utterance for utterance, of, ok in made_of if ok and text_hash(now[utterance]) != of]
    if changed:
        raise MixedSignalsError(
            f"{features.key}: {len(changed)} texts changed since it was made, e.g. of {changed[:3]}; "
            "run extract-features again"
        )
