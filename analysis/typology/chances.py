"""How often each type of the typology would come about by chance.

Conventions
-----------
By chance: all models, the fusion with them, are independent of each other given the true class ``y``, each with its own
confusions (see `analysis.disagreement.chance`). Then the share of a type is ``sum_y P(y) P(type | y)``, where the
probability of a type is the sum, over all combinations of labels that are of it, of the product of each model's
``P(label | y)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixed_signals.analysis.disagreement.chance import confusion


def type_chances(
    truth: ArrayLike, unimodals: Sequence[ArrayLike], fusion: ArrayLike, names: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Return the probability of each type where labels are drawn independently.

    Exact: of all combinations of labels those of one type are summed by what makes them so. With ``r_m`` the
    probability that unimodal m is right, ``p_m(c)`` that it gives label c, and ``f`` the fusion's, for instance::

        P(misled by S) = sum over c wrong of f(c) prod_{m in S} p_m(c)
                         (prod_{m not in S} (1 - p_m(c)) - prod_{m not in S} (1 - p_m(c) - r_m))

    Parameters
    ----------
    truth : array-like of int, shape (...)
        True labels.
    unimodals : sequence of M array-like, shape (..., C)
        Probabilities of each unimodal's labels.
    fusion : array-like, shape (..., C)
    names : sequence of M str

    Returns
    -------
    dict of str to array of shape (...)
        They sum to 1.

    Examples
    --------
    >>> half = [0.5, 0.5]
    >>> float(type_chances(0, [half, half], half, ["text", "audio"])["misled by text"])
    0.125
    """
    y = np.asarray(truth)[..., None]
    p = [np.asarray(each, dtype=np.float64) for each in unimodals]
    f = np.asarray(fusion, dtype=np.float64)
    right = [np.take_along_axis(each, y, axis=-1) for each in p]  # (..., 1)
    fusion_right = np.take_along_axis(f, y, axis=-1)[..., 0]
    wrong = np.arange(f.shape[-1]) != y
    chances = {}
    for size in range(len(names) + 1):
        for members in combinations(range(len(names)), size):
            rest = [m for m in range(len(names)) if m not in members]
            named = "+".join(names[m] for m in members)
            these = _product([right[m] for m in members] + [1 - right[m] for m in rest])[..., 0]
            family = {0: "fusion rescues", len(names): "agree right"}.get(size, f"follows {named}")
            chances[family] = fusion_right * these
            if rest:
                some_right = _product([1 - p[m] for m in rest]) - _product(
                    [1 - p[m] - right[m] for m in rest]
                )
                with_fusion = _product([wrong * f, *(p[m] for m in members)])
                chances[f"misled by {named}" if members else "harmed"] = (with_fusion * some_right).sum(
                    axis=-1
                )
    none_right = _product([1 - r for r in right])[..., 0]
    one_label = (wrong * _product(p)).sum(axis=-1)
    chances["agree wrong"] = (1 - fusion_right) * one_label
    chances["all wrong"] = (1 - fusion_right) * (none_right - one_label)
    return chances


def _product(factors: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return product


def chance_values(
    truth: NDArray[np.intp],
    unimodals: Sequence[NDArray[np.intp]],
    fusion: NDArray[np.intp],
    names: Sequence[str],
) -> dict[str, NDArray[np.float64]]:
    """Return, by utterance, each type's share where the models are independent given the true class.

    Parameters
    ----------
    truth, fusion : arrays of int, shape (N,)
        Labels from 0.
    unimodals : sequence of M arrays of int, shape (N,)
    names : sequence of M str

    Returns
    -------
    dict of str to array of shape (N,)
        The mean is the share by chance. As in `analysis.disagreement.chance` it varies by utterance as its influence
        does: the sum, over the M + 1 models, of the probability of the type given the utterance's true class and this
        one model's label, less M times that given the true class alone.
    """
    labels = [*unimodals, fusion]
    n_classes = 1 + max(int(each.max(initial=0)) for each in (*labels, truth))
    tables = [confusion(each, truth, n_classes) for each in labels]
    classes = np.arange(len(tables[0]))
    alone = type_chances(classes, tables[:-1], tables[-1], names)
    values = {name: -len(names) * p[truth] for name, p in alone.items()}
    for model, given in enumerate(labels):
        wide = [table[:, None, :] for table in tables]  # (true class, this model's label, its label)
        wide[model] = np.broadcast_to(np.eye(n_classes), (len(classes), n_classes, n_classes))
        wide = [np.broadcast_to(table, wide[model].shape) for table in wide]
        truths = np.broadcast_to(classes[:, None], wide[model].shape[:-1])
        for name, p in type_chances(truths, wide[:-1], wide[-1], names).items():
            values[name] += p[truth, given]
    return values
