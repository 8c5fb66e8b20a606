"""Folds that never share a group between training and test rows."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from mixed_signals.store.errors import UsageError
from mixed_signals.store.views import Views

_CLASSES = ("nominal", "ordinal")  # kinds of target of which a head must see two classes or more


@dataclass(frozen=True)
class Fold:
    """One split into training and test utterances.

    Attributes
    ----------
    partition, fold : int
        Which shuffle of the groups, and which fold of it.
    train_ids, test_ids : ndarray of str
        Utterance ids.
    """

    partition: int
    fold: int
    train_ids: np.ndarray
    test_ids: np.ndarray


def folds(views: Views, n_folds: int = 5, *, group: str | None = "group", partition: int = 0) -> list[Fold]:
    """Split the utterances of `views` into folds, each utterance tested once.

    Folds are stratified by the classes of a nominal or ordinal target, by fifths of an interval one, and by how many
    classes apply in a multilabel one.

    Parameters
    ----------
    views : Views
    n_folds : int
        At least 2.
    group : str or None
        The utterance column whose values stay together (speaker, dialog). None splits utterances
        freely: rows of one speaker then stand on both sides.
    partition : int
        Seed of the shuffle. Other seeds (of heads) never change the folds.

    Returns
    -------
    list of Fold, length `n_folds`

    Raises
    ------
    UsageError
        If there are fewer groups than folds, or some fold would train or test on nothing, or train on
        a single class.
    """
    if n_folds < 2:
        raise UsageError(f"folds: at least 2, not {n_folds}")
    ids = views.ids
    if group is None:
        groups = ids
    elif group == "group" and views.groups is None:
        raise UsageError("the corpus has no groups; name a column that holds speakers or dialogs (--group)")
    else:
        groups = views.groups_by(group)
    if views.kind in _CLASSES and len(views.classes) < 2:
        raise UsageError(
            f"{views.target} has one class only ({views.classes[0]!r}): there is nothing to predict"
        )
    n_groups = len(set(groups))
    if n_groups < n_folds:
        raise UsageError(
            f"{n_groups} groups cannot make {n_folds} folds; ask for {n_groups} or fewer (--folds)"
        )
    codes_of_rows = _strata(views, n_folds)
    split = split_groups(ids, codes_of_rows, groups, n_folds, partition)
    made = []
    for number, (train_rows, test_rows) in enumerate(split):
        if not len(test_rows) or (views.kind in _CLASSES and len(np.unique(codes_of_rows[train_rows])) < 2):
            raise UsageError(
                f"fold {number} of {n_folds} has {len(test_rows)} test rows and trains on "
                f"{len(np.unique(codes_of_rows[train_rows]))} of {len(views.classes)} classes; ask for fewer folds"
            )
        made.append(Fold(partition, number, ids[train_rows], ids[test_rows]))
    return made


def predefined_folds(views: Views, column: str = "split") -> list[Fold]:
    """Return the folds that a column of the corpus says.

    Where some row says ``test`` there is one fold: those rows are tested, and the others that say anything are trained
    on (heads hold out validation rows by themselves). Otherwise each value is a fold, whose rows are tested by heads
    that are trained on all others.

    Parameters
    ----------
    views : Views
    column : str
        Rows without a value in it are left out.

    Raises
    ------
    UsageError
        If there is no such column, or it has fewer than two values.
    """
    if column not in views.utterances.columns:
        known = ", ".join(map(str, views.utterances.columns))
        raise UsageError(f"no column {column!r} to split by; the utterances have: {known}")
    values = views.utterances[column].astype(object).fillna("").map(str).to_numpy(dtype=object)
    found = sorted(set(values) - {""})
    if len(found) < 2:
        raise UsageError(f"column {column!r} has {len(found)} values; folds need two or more")
    tested = ["test"] if "test" in found else found
    said = values != ""
    return [
        Fold(0, number, views.ids[said & (values != value)], views.ids[values == value])
        for number, value in enumerate(tested)
    ]


def strata(kind: str, y: np.ndarray) -> np.ndarray:
    """Return what folds are to have their shares of, shape (N,), as whole numbers from 0.

    Parameters
    ----------
    kind : str
        Of the target: shares of the classes of a nominal or ordinal one, of the fifths of an interval one, and of how
        many classes apply in a multilabel one.
    y : ndarray, shape (N,) or (N, C)
    """
    if kind == "interval":
        values = np.searchsorted(np.quantile(y, [0.2, 0.4, 0.6, 0.8]), y)
    elif kind == "multilabel":
        values = y.sum(axis=1).astype(int)
    else:
        values = y.astype(str)
    codes: np.ndarray = np.unique(values, return_inverse=True)[1]
    return codes


def split_groups(
    ids: np.ndarray, codes: np.ndarray, groups: np.ndarray, n_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the training and the test positions of folds that keep groups whole and strata in their shares.

    The folds depend on ids and not on the order of the rows.

    Parameters
    ----------
    ids, groups : ndarray of str, shape (N,)
    codes : ndarray of int, shape (N,)
        From `strata`; one of them occurs `n_folds` times at least.
    n_folds : int
    seed : int
        Of the shuffle of the groups.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    # Groups are shuffled here as well, so that the folds depend on ids and not on the order of the rows.
    by_id = np.argsort(ids.astype(str))
    group_codes = np.unique(groups.astype(str), return_inverse=True)[1]
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # store doctor says which are rare
        split = list(splitter.split(by_id, codes[by_id], group_codes[by_id]))
    return [(np.sort(by_id[train]), np.sort(by_id[test])) for train, test in split]


def _strata(views: Views, n_folds: int) -> np.ndarray:
    codes = strata(views.kind, views.y)
    if np.bincount(codes).max() >= n_folds:
        return codes
    if views.kind in _CLASSES:
        raise UsageError(
            f"no class of {views.target} has {n_folds} utterances; ask for fewer folds (--folds)"
        )
    return np.zeros_like(codes)  # too few rows for shares
