"""The plan of a sweep: blocks of heads that are trained together, and the folds that it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from mixed_signals.models.heads import HeadSpec
from mixed_signals.models.material import Choice, Material, Subset
from mixed_signals.store import Fold, UsageError, Views

Weights = Mapping[tuple[int, int], np.ndarray]
"""For each (partition, fold) the weights of its training rows, in their order."""

EVERYTHING = -1  # the fold number of heads that are trained on all rows and tested on none
# How many subsets of modalities are trained in one block: heads that share large products stay together, those that
# share nothing are spread.
_SUBSETS_OF_A_BLOCK = {"logistic": 7, "ridge": 7, "mean": 7, "stacking": 7, "gated": 4}


@dataclass(frozen=True)
class Member:
    """One head of a block."""

    spec: HeadSpec
    subset: Subset
    order: int
    seed: int

    def stem(self, fold: Fold) -> str:
        """Return the name of the head's file, without its ending: head, modalities, then fold, order and seed."""
        return f"{self.spec.name}.{'+'.join(self.subset)}.{_place(fold)}.o{self.order}.s{self.seed}"


@dataclass(frozen=True)
class Block:
    """Heads of one class and one fold that are trained together.

    Attributes
    ----------
    base : str
        A key of `mixed_signals.models.heads.HEADS`.
    part : int
        Which of the fold's blocks of this class it is.
    fold : Fold
    train, test : ndarray of int
        Rows of the material.
    members : tuple of Member
    weights : ndarray, shape (len(train),), optional
        Of the training rows; see `Problem`.
    choice : mapping of modality to int, optional
        The candidate that stands for each modality; without, the training rows choose.
    """

    base: str
    part: int
    fold: Fold
    train: np.ndarray
    test: np.ndarray
    members: tuple[Member, ...]
    weights: np.ndarray | None = None
    choice: Choice | None = None

    @property
    def key(self) -> str:
        """The block's name in a sweep."""
        return f"{self.base}.{_place(self.fold)}.{self.part}"

    @property
    def place(self) -> str:
        """The block's fold, in words."""
        if self.fold.fold == EVERYTHING:
            return "all rows"
        return f"fold {self.fold.fold} of partition {self.fold.partition}"


def _place(fold: Fold) -> str:
    return "all" if fold.fold == EVERYTHING else f"p{fold.partition}.f{fold.fold}"


def all_subsets(modalities: Sequence[str]) -> list[Subset]:
    """Return every non-empty subset, small ones first, modalities in their given order.

    Examples
    --------
    >>> all_subsets(["text", "audio"])
    [('text',), ('audio',), ('text', 'audio')]
    """
    return [subset for size in range(1, len(modalities) + 1) for subset in combinations(modalities, size)]


def named_subsets(modalities: Sequence[str], subsets: str | Sequence[Subset]) -> list[Subset]:
    """Return the subsets that a call names, or all, each with its modalities in their given order.

    Raises
    ------
    UsageError
        If one has an unknown modality or none, or comes twice, or there is no subset.
    """
    if subsets == "all":
        return all_subsets(modalities)
    chosen = []
    for subset in subsets:
        if unknown := set(subset) - set(modalities):
            raise UsageError(f"subset {'+'.join(subset)}: no {unknown.pop()!r} among {', '.join(modalities)}")
        chosen.append(tuple(m for m in modalities if m in subset))
    if not chosen or len(set(chosen)) < len(chosen) or () in chosen:
        raise UsageError("name at least one subset of modalities, each once and none empty")
    return chosen


def plan(
    material: Material,
    specs: Sequence[HeadSpec],
    subsets: Sequence[Subset],
    folds: Sequence[Fold],
    seeds: Sequence[int],
    orders: int,
    *,
    refit: bool,
    weights: Weights | None = None,
    choices: Mapping[tuple[int, int], Choice] | None = None,
) -> list[Block]:
    """Return the blocks of a sweep, those first that take longest.

    Parameters
    ----------
    material : Material
    specs : sequence of HeadSpec
    subsets : sequence of tuples
    folds : sequence of Fold
    seeds : sequence of int
        Heads whose result does not depend on a seed are fitted with the first only.
    orders : int
        How many orders of the training rows each seed is trained in.
    refit : bool
        Whether heads are also trained on all rows.
    weights : mapping, optional
        Those of each fold's training rows, as `check_weights` returns them.
    choices : mapping of (partition, fold) to mapping, optional
        Which candidate stands for each modality in each fold; without, training rows choose.
    """
    position = {utterance: row for row, utterance in enumerate(material.ids)}

    def rows(ids: np.ndarray) -> np.ndarray:
        return np.array([position[i] for i in ids], dtype=np.intp)

    places = [(fold, rows(fold.train_ids), rows(fold.test_ids)) for fold in folds]
    if refit:
        everything = Fold(folds[0].partition, EVERYTHING, material.ids, material.ids[:0])
        places.append((everything, np.arange(len(material.ids)), np.arange(0)))
    blocks = []
    for base in dict.fromkeys(spec.base for spec in specs):
        own = [spec for spec in specs if spec.base == base]
        fitting = [s for s in subsets if len(s) > 1 or not own[0].head_kind.several]
        size = _SUBSETS_OF_A_BLOCK.get(base, 1)
        for fold, train, test in places:
            for part, chunk in enumerate(_chunks(fitting, size)):
                members = tuple(
                    Member(spec, subset, order, seed)
                    for spec in own
                    for subset in chunk
                    for order, seed in _replicates(spec, material.kind, seeds, orders)
                )
                place = fold.partition, fold.fold
                own_weights = None if weights is None else weights[place]
                choice = None if choices is None else choices[place]
                blocks.append(Block(base, part, fold, train, test, members, own_weights, choice))
    if idle := [spec.base for spec in specs if spec.base not in {block.base for block in blocks}]:
        raise UsageError(f"head {idle[0]!r} needs two modalities or more, and no subset has them")
    return sorted(blocks, key=lambda block: -sum(len(member.subset) for member in block.members))


def _chunks(subsets: Sequence[Subset], size: int) -> Iterator[Sequence[Subset]]:
    for start in range(0, len(subsets), size):
        yield subsets[start : start + size]


def _replicates(spec: HeadSpec, kind: str, seeds: Sequence[int], orders: int) -> Iterator[tuple[int, int]]:
    if spec.cls(kind).seeded:
        yield from ((order, seed) for order in range(orders) for seed in seeds)
    else:
        yield 0, seeds[0]


def check_folds(folds: Sequence[Fold], ids: np.ndarray) -> None:
    """Refuse folds of one number, ids that are not in the views, and a fold that names an utterance twice.

    Raises
    ------
    UsageError
    """
    if not folds:
        raise UsageError("no folds: make some with mixed_signals.store.folds")
    if len({(fold.partition, fold.fold) for fold in folds}) < len(folds):
        raise UsageError("two folds have the same partition and number; number each one")
    if least := [fold.fold for fold in folds if fold.fold < 0]:
        raise UsageError(f"fold {least[0]}: folds are numbered from 0")
    known = set(ids)
    for fold in folds:
        both = [*fold.train_ids, *fold.test_ids]
        if unknown := [i for i in both if i not in known]:
            raise UsageError(
                f"fold {fold.fold}: {len(unknown)} ids are not in the views, e.g. {', '.join(map(str, unknown[:3]))}"
            )
        if len(set(both)) < len(both):
            raise UsageError(
                f"fold {fold.fold} of partition {fold.partition} names an utterance twice; "
                "make folds with mixed_signals.store.folds"
            )


def check_weights(weights: Mapping[tuple[int, int], pd.Series], folds: Sequence[Fold]) -> Weights:
    """Return the weights of each fold's training rows, in the order of its `train_ids`.

    Parameters
    ----------
    weights : mapping of (partition, fold) to Series
        Weights by utterance id; those of other utterances than the fold's training rows are passed over.
    folds : sequence of Fold

    Raises
    ------
    UsageError
        If a fold or a training row has no weight, one is negative or not finite, or all of a fold are 0.
    """
    found = {}
    for fold in folds:
        key = fold.partition, fold.fold
        place = f"weights of fold {fold.fold} of partition {fold.partition}"
        if key not in weights:
            raise UsageError(f"{place}: none are given; give a Series by utterance id under the key {key}")
        given = weights[key]
        if not given.index.is_unique:
            raise UsageError(f"{place}: an utterance has two; give one for each")
        own = given.reindex(fold.train_ids).to_numpy(dtype=np.float64)
        if (bad := ~(np.isfinite(own) & (own >= 0))).any():
            raise UsageError(
                f"{place}: {int(bad.sum())} training rows have none, or one below 0, e.g. "
                f"{list(fold.train_ids[bad][:3])}; give each training row a number of at least 0"
            )
        if not own.any():
            raise UsageError(f"{place}: all are 0; at least one training row must count")
        found[key] = own
    return found


def shared_groups(
    views_of_folds: Sequence[tuple[Fold, Sequence[Views]]], column: str | None, *, allowed: bool
) -> list[str]:
    """Refuse folds that have rows of one group on both sides; return what has to be said where that is allowed.

    What trained an encoder of a fold's vectors is trained on, as what trains its heads is, wherever in the corpus it
    stands. Rows that did so themselves are left to `trained_rows`.

    Parameters
    ----------
    views_of_folds : sequence of (Fold, sequence of Views)
        Each fold, and all views that its heads may see.
    column : str or None
        The utterance column that says which group an utterance is of; None where there are none.
    allowed : bool

    Raises
    ------
    UsageError
        If there are such folds, and they are not allowed.
    """
    if column is None:
        return []
    by_id = views_of_folds[0][1][0].groups_in_corpus(column) if views_of_folds else {}
    tainted, names = set[str](), set[str]()
    for fold, several in views_of_folds:
        taught = _taught(fold, several)
        trained = {by_id[i] for i in fold.train_ids} | {by_id[i] for i in taught.intersection(by_id)}
        shared = [i for i in fold.test_ids if by_id[i] in trained and i not in taught]
        tainted.update(shared)
        names.update(by_id[i] for i in shared)
    if not names:
        return []
    some = ", ".join(sorted(names)[:3])
    said = f"{len(tainted)} test rows are of groups ({len(names)}, e.g. {some}) that are trained on too"
    if not allowed:
        raise UsageError(
            f"{said}: scores would say how well speakers are known, not how well the target is; make folds with "
            "mixed_signals.store.folds (fit-heads --group; where folds come with tuned features, finetune-encoders "
            "again), or say --allow-shared-groups"
        )
    return [f"{said} (--allow-shared-groups)"]


def views_of_folds(
    views: Sequence[Views], folds: Sequence[Fold], *, by_fold: bool
) -> list[tuple[Fold, list[Views]]]:
    """Return each fold with the views that its heads may see: all of them, or ``views[i]`` for ``folds[i]``.

    Raises
    ------
    UsageError
        If each fold is to have views of its own, and there are not as many.
    """
    if not by_fold:
        return [(fold, list(views)) for fold in folds]
    if len(views) != len(folds):
        raise UsageError(f"views by fold: {len(views)} views for {len(folds)} folds; give one for each")
    return [(fold, [own]) for fold, own in zip(folds, views, strict=True)]


def trained_rows(views_of_folds: Sequence[tuple[Fold, Sequence[Views]]], *, allowed: bool) -> list[str]:
    """Refuse folds that test on rows an encoder was trained on; return what has to be said where that is allowed.

    No test row may be a training row of any encoder that made a vector which a head of the fold is trained or tested
    on.

    Parameters
    ----------
    views_of_folds : sequence of (Fold, sequence of Views)
        Each fold, and all views that its heads may see.
    allowed : bool

    Raises
    ------
    UsageError
        If there are such rows, and they are not allowed.
    """
    found = set[str]()
    for fold, several in views_of_folds:
        found |= _taught(fold, several).intersection(fold.test_ids)
    if not found:
        return []
    tainted = sorted(found)
    said = (
        f"{len(tainted)} test utterances are among those that an encoder's weights were trained on, "
        f"e.g. {', '.join(tainted[:3])}"
    )
    if not allowed:
        raise UsageError(
            f"{said}: any head looks good on them; test on others, extract with weights that saw none of them, or say "
            "--allow-trained-rows"
        )
    return [f"{said} (--allow-trained-rows)"]


def _taught(fold: Fold, several: Sequence[Views]) -> frozenset[str]:
    """Return the utterances that trained an encoder of any vector that a fold's heads are trained or tested on."""
    seen = {*fold.train_ids, *fold.test_ids}
    return frozenset[str]().union(*(views.trained_for(seen) for views in several))
