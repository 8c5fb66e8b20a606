"""How probable something is of an utterance, by logistic regressions that have not seen its group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixed_signals.models.intervals import group_codes

N_FOLDS = 5
PENALTY = (
    1.0  # C of scikit-learn; with 0.01, scores are shrunk so far that what merely goes with one seems to add
)

Floats = NDArray[np.float64]


class CrossFitted(NamedTuple):
    """What `cross_fit` gives back.

    Attributes
    ----------
    chances : array, shape (N, K)
        Of each utterance by each of K regressions.
    fold : array of int, shape (N,)
        The fold that each utterance was held out in.
    complete : bool
        Whether the training rows of every fold had some that are positive and some that are not.
    """

    chances: Floats
    fold: NDArray[np.intp]
    complete: bool


def cross_fit(
    positive: ArrayLike, designs: Sequence[ArrayLike], groups: ArrayLike | None = None, *, seed: int = 0
) -> CrossFitted | None:
    """Fit logistic regressions without each fold's groups and apply them to it.

    Groups are dealt to `N_FOLDS` folds (to fewer, if there are fewer groups) as evenly as their sizes allow. Columns
    are brought to mean 0 and deviation 1, over all rows, since outcomes play no part in that, and their weights have
    the unit normal prior (scikit-learn's ``LogisticRegression``, C = 1). Where the other folds' rows are all positive,
    or none is, their share of positives is the chance.

    Parameters
    ----------
    positive : array-like of bool, shape (N,)
    designs : sequence of K array-like of float, shape (N, D)
        What each regression is given.
    groups : array-like of shape (N,) or None
    seed : int
        Of dealing groups of one size to folds.

    Returns
    -------
    CrossFitted, or None where there are fewer than two groups.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    y = np.asarray(positive, dtype=bool)
    codes = np.unique(group_codes(groups, len(y)), return_inverse=True)[1]
    n_groups = int(codes.max(initial=-1)) + 1
    if n_groups < 2:
        return None
    codes = np.random.default_rng(seed).permutation(n_groups)[codes]
    standard = [standardised(np.asarray(X, dtype=np.float64)) for X in designs]
    chances, fold, complete = np.empty((len(y), len(standard))), np.empty(len(y), dtype=np.intp), True
    splitter = GroupKFold(min(N_FOLDS, n_groups))
    for number, (train, test) in enumerate(splitter.split(y, groups=codes)):
        fold[test] = number
        if y[train].all() or not y[train].any():
            chances[test], complete = y[train].mean(), False
            continue
        for k, X in enumerate(standard):
            model = LogisticRegression(C=PENALTY, solver="newton-cholesky").fit(X[train], y[train])
            chances[test, k] = model.predict_proba(X[test])[:, 1]
    return CrossFitted(chances, fold, complete)


def standardised(X: Floats) -> Floats:
    """Return columns (N, D) of mean 0 and deviation 1; 0 where they do not vary."""
    deviation = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(deviation > 1e-12, deviation, 1.0)
