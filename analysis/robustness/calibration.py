"""Calibration: whether stated probabilities happen as often as they say.

Conventions
-----------
Top label: ``p`` is the model's highest probability, ``y`` whether its label is right. Class ``k``: ``p`` is the
probability of that class, ``y`` whether it is the true one. Utterances are put into bins of equal mass by ``p``; equal
``p`` share a bin. With ``d = y - p``, and ``n_b`` of the ``N`` utterances in bin ``b``::

    squared calibration error = sum_b n_b / N * (mean of d_i d_j over pairs i, j of bin b that are of different groups)

The plain square of a bin's mean ``d`` would be too large by its variance, even for a calibrated model. Products of
different utterances have no such term: with every utterance a group of its own, the sum is::

    sum_b n_b / N * (mean(d)^2 - var(d) / n_b)

which, where all ``p`` of a bin are equal, is the debiased estimator of Bröcker (2012) and of Kumar, Liang and Ma (2019,
section 5). Products of different *groups* also leave out what utterances of one speaker or dialog have in common. The
expectation is zero for a calibrated model, whatever the groups; so estimates may be negative, and are not clipped. It
is the error of the binned probabilities: what cancels within a bin is not seen.

*Overconfidence* is the mean of ``p - y`` for the top label: above zero where a model claims more than it keeps.

Outputs are averaged over seeds and partitions first, which makes probabilities less extreme than those of one seed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from mixed_signals.analysis.panel import Panel
from mixed_signals.models.intervals import blocks_jackknife, group_codes, mean_interval, sums_by
from mixed_signals.store.errors import UsageError

N_BINS = 15
TOP, OVERCONFIDENCE = "top label", "overconfidence"

Floats = NDArray[np.float64]


def validate(p: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Return probabilities and outcomes as arrays of one length.

    Raises
    ------
    UsageError
        If they are empty or not of one length, or something is not between 0 and 1.
    """
    stated, came = np.asarray(p, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if stated.ndim != 1 or stated.shape != came.shape or not stated.size:
        raise UsageError(
            f"calibration: probabilities {stated.shape} and outcomes {came.shape}; give one of each for every utterance"
        )
    if not all(((x >= 0) & (x <= 1)).all() for x in (stated, came)):
        raise UsageError("calibration: probabilities and outcomes must be between 0 and 1")
    return stated, came


def equal_mass_bins(p: ArrayLike, n_bins: int = N_BINS) -> NDArray[np.intp]:
    """Return the bin of each probability by its rank, shape (N,), from 0 on; equal probabilities share a bin.

    Examples
    --------
    >>> equal_mass_bins([0.1, 0.5, 0.5, 0.9], 2).tolist()
    [0, 1, 1, 1]
    """
    ranks = rankdata(np.asarray(p, dtype=np.float64))
    return ((ranks - 0.5) / len(ranks) * n_bins).astype(np.intp)


def squared_calibration_error(
    p: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None, *, n_bins: int = N_BINS
) -> float:
    """Return the debiased squared calibration error over bins of equal mass.

    Parameters
    ----------
    p : array-like of float, shape (N,)
    y : array-like of bool, shape (N,)
    groups : array-like of str, shape (N,), or None
        Products are taken between different groups.
    n_bins : int

    Returns
    -------
    float
        In squared probability, perhaps negative; NaN where no bin has two groups. Bins of a single group are left out.

    Examples
    --------
    >>> round(squared_calibration_error([0.9] * 6, [1, 1, 1, 1, 0, 0], n_bins=1), 4)
    0.01
    """
    stated, came = validate(p, y)
    blocks = group_codes(groups, len(stated))
    return float(_errors(stated, came, blocks, blocks, n_bins)[0])


def _errors(p: Floats, y: Floats, codes: NDArray[np.intp], blocks: NDArray[np.intp], n_bins: int) -> Floats:
    """Return the error of all utterances, then without each block of groups, shape (B + 1,)."""
    bins, d = equal_mass_bins(p, n_bins), y - p
    cells, cell_of = np.unique(codes * n_bins + bins, return_inverse=True)  # a group's utterances in a bin
    own = sums_by(cell_of, np.column_stack([d, np.ones(len(d))]))
    block_of = np.zeros(codes.max() + 1, dtype=np.intp)
    block_of[codes] = blocks
    place = block_of[cells // n_bins] * n_bins + cells % n_bins
    width = (blocks.max() + 1) * n_bins
    sums = np.array([np.bincount(place, weights=v, minlength=width) for v in (*own.T, *(own**2).T)])
    shares = sums.reshape(4, -1, n_bins)
    total = shares.sum(axis=1, keepdims=True)
    d_sum, n, d_squares, n_squares = np.concatenate([total, total - shares], axis=1)
    pairs = n**2 - n_squares
    known = pairs > 0.5
    products = np.where(known, (d_sum**2 - d_squares) / np.where(known, pairs, 1), 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (n * products).sum(axis=1) / (n * known).sum(axis=1)


def calibration_table(
    panel: Panel, *, n_bins: int = N_BINS, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Return the calibration of every unimodal model and the fusion.

    Parameters
    ----------
    panel : Panel
        Of a nominal or ordinal target.
    n_bins : int
    resamples, seed : int
        Of the interval of the overconfidence; those of the squared errors are by jackknife, as they are no smooth
        functions of sums where a model is calibrated.

    Returns
    -------
    DataFrame
        ``head, model, quantity, estimate, low, high, n, n_groups, method``, where `quantity` is ``top label``, ``class
        <name>`` or ``overconfidence``.
    """
    rows: list[dict[str, object]] = []
    codes = group_codes(panel.groups, len(panel.ids))
    for model in panel.models:
        said = panel.mean(model)
        right = (said.argmax(axis=1) == panel.truth).astype(np.float64)
        asked = {TOP: (said.max(axis=1), right)}
        for k, name in enumerate(panel.classes):
            asked[f"class {name}"] = (said[:, k], (panel.truth == k).astype(np.float64))

        def errors(blocks: NDArray[np.intp], asked: dict[str, tuple[Floats, Floats]] = asked) -> Floats:
            clipped = ((np.clip(p, 0, 1), y) for p, y in asked.values())
            return np.array([_errors(*validate(p, y), codes, blocks, n_bins) for p, y in clipped])

        found = dict(zip(asked, blocks_jackknife(errors, len(right), panel.groups), strict=True))
        claimed = said.max(axis=1) - right
        found[OVERCONFIDENCE] = mean_interval(
            claimed, panel.groups, limits=(-1, 1), resamples=resamples, seed=seed
        )
        rows += [{"head": panel.head, "model": model, "quantity": q, **vars(r)} for q, r in found.items()]
    return pd.DataFrame(rows)
