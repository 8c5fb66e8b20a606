"""L2-penalised linear heads whose penalty is chosen inside the training fold: logistic regression and ridge."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from mixed_signals.models.base import MEMORY, BaseHead, ClassifierHead, Fit, Problem, RegressorHead
from mixed_signals.models.inner import inner_folds
from mixed_signals.models.linear import Axes, outputs, solve
from mixed_signals.models.scaling import standardized

if TYPE_CHECKING:
    import torch

    from mixed_signals.models.coding import Coding

    Solution = tuple[torch.Tensor, torch.Tensor]  # weights (P, width, R) and intercepts (P, width)

PENALTIES = tuple(10 ** (-5 + k / 2) for k in range(12))
RIDGE_PENALTIES = tuple(10 ** (-6 + k / 2) for k in range(12))
_ARRAYS = ("mean_", "scale_", "coef_", "intercept_")
_RACING: Any = {"tolerance": 1e-3, "max_iterations": 300}  # of all inner models, in float32
_CHOOSING: Any = {"tolerance": 1e-7, "max_iterations": 300}  # of those that may win, in float32
_KEPT: Any = {"tolerance": 1e-10, "max_iterations": 1000}  # of the model that is kept, in float64
_MAY_WIN = 1.1, 0.01  # times the smallest loss of the race, and on top: what a penalty may lose that goes on
_ARRAYS_AT_A_TIME = 16  # as large as the outputs, or the weights, of the problems in hand


class _LinearHead(BaseHead):
    """What both heads share: penalties, coefficients on standardised features, and how they are found."""

    penalties: Sequence[float]
    n_inner_folds: int
    mean_: np.ndarray
    scale_: np.ndarray
    coef_: np.ndarray
    intercept_: np.ndarray
    C_: float

    @classmethod
    def fit_many(
        cls, problem: Problem, fits: Sequence[Fit], *, device: str = "cpu", memory: int = MEMORY
    ) -> None:
        """Fit heads that share data; the principal axes of a modality are found once for all of the same rows."""
        held_out(problem, fits, device=device, memory=memory)

    def outputs(self, X: np.ndarray) -> np.ndarray:
        """Return the outputs before the link function, shape (N, width)."""
        Z = standardized(self._rows(X), self.mean_, self.scale_)
        result: np.ndarray = Z @ self.coef_.T + self.intercept_
        return result

    def save(self, stem: str) -> str:
        """Write the head to ``<stem>.safetensors`` and return that path."""
        from mixed_signals.models.saving import write_arrays

        return write_arrays(stem, self, {name: getattr(self, name) for name in _ARRAYS}, {"C_": self.C_})


class LogisticHead(ClassifierHead, _LinearHead):
    """L2-penalised logistic regression on standardised features.

    Softmax for a nominal target, independent columns for an ordinal or multilabel one (see `Coding`), which share one
    penalty. Absent features (NaN) take the training mean. The penalty is the one with the smallest mean loss over the
    rows that inner folds hold out; groups stay together in them.

    Parameters
    ----------
    penalties : sequence of float
        Inverse strengths ``C`` to choose from, as in scikit-learn: C multiplies the sum of the losses.
    n_inner_folds : int
        Inner folds of the choice; 0, or where no fold can be made, takes the middle of `penalties`.
    classes : sequence, optional
        See `ClassifierHead`.
    ordinal : bool
        See `ClassifierHead`.

    Attributes
    ----------
    coef_ : ndarray, shape (width, D)
        Weights on standardised features; width is 1 for two classes.
    intercept_ : ndarray, shape (width,)
    mean_, scale_ : ndarray, shape (D,)
        Of the training rows, as far as they have the feature.
    C_ : float
        The inverse strength chosen.
    inner_loss_ : float
        Its mean loss over the rows held out.
    """

    def __init__(
        self,
        penalties: Sequence[float] = PENALTIES,
        n_inner_folds: int = 4,
        classes: Sequence[Any] | None = None,
        ordinal: bool = False,
    ) -> None:
        self.penalties = penalties
        self.n_inner_folds = n_inner_folds
        self.classes = classes
        self.ordinal = ordinal

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the probability of each class, shape (N, K); rows sum to 1 unless the target is multilabel."""
        outputs_of_rows = self.outputs(X)
        return self.coding_.decode(outputs_of_rows)


class RidgeHead(RegressorHead, _LinearHead):
    """Ridge regression on standardised features, for interval targets.

    Absent features (NaN) take the training mean. The penalty is the one with the smallest mean squared error over the
    rows that inner folds hold out; groups stay together in them.

    Parameters
    ----------
    penalties : sequence of float
        Inverse strengths ``C`` to choose from: 1 / alpha of scikit-learn's `Ridge`.
    n_inner_folds : int
        Inner folds of the choice; 0, or where no fold can be made, takes the middle of `penalties`.

    Attributes
    ----------
    coef_ : ndarray, shape (1, D)
        Weights of the standardised target (see `Coding`) on standardised features.
    intercept_ : ndarray, shape (1,)
    mean_, scale_ : ndarray, shape (D,)
        Of the training rows, as far as they have the feature.
    C_ : float
        The inverse strength chosen.
    inner_loss_ : float
        Half its mean squared error over the rows held out, of the standardised target.
    """

    def __init__(self, penalties: Sequence[float] = RIDGE_PENALTIES, n_inner_folds: int = 4) -> None:
        self.penalties = penalties
        self.n_inner_folds = n_inner_folds

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the values, shape (N,)."""
        outputs_of_rows = self.outputs(X)
        return self.coding_.decode(outputs_of_rows)


def held_out(
    problem: Problem, fits: Sequence[Fit], *, device: str = "cpu", memory: int = MEMORY
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Fit linear heads, and return what their inner models say of the rows that they did not see.

    Parameters
    ----------
    problem : Problem
    fits : sequence of Fit
        Of `LogisticHead` or `RidgeHead`.
    device : str
    memory : int
        Bytes for the problems that are solved at a time; the matrices (8 bytes for each value of the training rows, at
        most) come on top.

    Returns
    -------
    list of (ndarray of int, shape (n,); ndarray, shape (n, width))
        For each head the rows of `problem` that its inner folds held out, and the outputs for them of the inner model
        that was trained without them, at the penalty that was chosen.
    """
    by_rows: dict[bytes, list[int]] = {}
    for number, fit in enumerate(fits):
        by_rows.setdefault(fit.rows.tobytes(), []).append(number)
    results = {}
    for numbers in by_rows.values():
        rows = fits[numbers[0]].rows
        names = dict.fromkeys(name for number in numbers for name in fits[number].modalities)
        axes = {name: Axes.of(problem.X[rows, slice(*problem.blocks[name])], device) for name in names}
        for number in numbers:
            results[number] = _fit(problem, fits[number], axes, memory)
    return [results[number] for number in range(len(fits))]


def _fit(
    problem: Problem, fit: Fit, axes_by_name: Mapping[str, Axes], memory: int
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the penalty of one head, fit it, and return the rows that were held out and the outputs for them."""
    head = cast("_LinearHead", fit.head)
    kept, encoded = fit.begin(problem)
    place = np.zeros(len(problem.X), dtype=np.intp)
    place[fit.rows] = np.arange(len(fit.rows))
    targets = np.zeros((encoded.shape[1], len(fit.rows)))
    targets[:, place[kept]] = encoded.T
    axes = [axes_by_name[name] for name in fit.modalities]
    system = _System(axes, head.coding_.link, targets, problem.weights_of(fit.rows), memory)

    path = sorted(head.penalties)
    head.C_ = path[len(path) // 2]
    pairs = inner_folds(problem, kept, head.coding_, head.n_inner_folds, seed=0) if head.n_inner_folds else []
    held_rows, held_outputs = kept[:0], encoded[:0]
    begin = None
    if pairs:
        held_rows = np.concatenate([held for _, held in pairs])
        parts = [(place[train], place[held]) for train, held in pairs]
        inner = _Inner(system, parts, head.coding_, targets[:, place[held_rows]].T)
        head.C_, head.inner_loss_, held_outputs, begin = inner.best(path)

    W, b, converged = system.solve([place[kept]], [head.C_], "float64", **_KEPT, begin=begin)
    if not converged.all():
        warnings.warn(
            f"C={head.C_:g} did not converge; give smaller penalties", ConvergenceWarning, stacklevel=2
        )
    ends = np.cumsum([len(part.spectrum) for part in axes])[:-1].tolist()
    rotated = W[0].tensor_split(ends, dim=1)
    coefficients = [part @ own.basis.T for part, own in zip(rotated, axes, strict=True)]
    head.coef_ = np.concatenate([part.cpu().numpy() for part in coefficients], axis=1)
    head.intercept_ = b[0].cpu().numpy()
    head.mean_ = np.concatenate([part.mean for part in axes])
    head.scale_ = np.concatenate([part.scale for part in axes])
    return held_rows, held_outputs


class _System(NamedTuple):
    """The problems of one head: its matrix, link, targets (width, N), row weights (N,), and bytes to solve them in."""

    axes: list[Axes]
    link: str
    targets: np.ndarray
    row_weights: np.ndarray
    memory: int

    def solve(
        self,
        trained: Sequence[np.ndarray],
        penalties: Sequence[float],
        torch_type: str,
        tolerance: float,
        max_iterations: int,
        begin: Solution | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Solve a problem for each set of training rows and penalty: weights (P, width, R), intercepts, converged."""
        import torch

        like = {"dtype": getattr(torch, torch_type), "device": self.axes[0].matrix.device}
        width, n = self.targets.shape
        columns = width if self.link == "logistic" else 1  # logistic columns are problems of their own
        targets = torch.as_tensor(self.targets, **like)
        rank = sum(len(part.spectrum) for part in self.axes)
        each = _ARRAYS_AT_A_TIME * like["dtype"].itemsize * width * (n + rank)
        at_a_time = max(1, self.memory // each)
        axes = self.axes
        if n * rank * like["dtype"].itemsize <= self.memory:
            axes = [replace(part, matrix=part.matrix.to(like["dtype"])) for part in axes]
        found = []
        for first in range(0, len(trained), at_a_time):
            chosen = trained[first : first + at_a_time]
            weights = torch.zeros((len(chosen), 1, n), **like)
            for number, rows in enumerate(chosen):
                own = torch.as_tensor(self.row_weights[rows], **like)
                weights[number, 0, torch.as_tensor(rows, device=weights.device)] = own
            at = None
            if begin is not None:
                W, b = (part[first : first + at_a_time].to(**like) for part in begin)
                shape = len(chosen) * columns, width // columns
                at = W.reshape(*shape, rank), b.reshape(shape)
            W, b, converged = solve(
                axes,
                targets.repeat(len(chosen), 1)[:, None] if columns > 1 else targets[None],
                weights.repeat_interleave(columns, dim=0),
                torch.tensor(penalties[first : first + at_a_time], **like).repeat_interleave(columns),
                self.link,
                tolerance=tolerance,
                max_iterations=max_iterations,
                begin=at,
            )
            found.append(
                (
                    W.view(len(chosen), width, rank),
                    b.view(len(chosen), width),
                    converged.view(len(chosen), columns).all(dim=1),
                )
            )
        W, b, converged = (torch.cat(parts) for parts in zip(*found, strict=True))
        return W, b, converged


class _Inner(NamedTuple):
    """The inner folds of a head: pairs of training and held-out rows, and the encoded targets (n, width) of the latter.

    A penalty is chosen by a race: all are solved loosely, and only those that may still win are solved further.
    """

    system: _System
    pairs: Sequence[tuple[np.ndarray, np.ndarray]]
    coding: Coding
    held_targets: np.ndarray

    def best(self, path: Sequence[float]) -> tuple[float, float, np.ndarray, Solution]:
        """Return the best penalty, its loss, its outputs (n, width) of held-out rows, and where to begin with all."""
        import torch

        begin = None
        if self.system.link != "identity":  # ridge needs few iterations
            found = self._solve(path, _RACING, None)
            losses = [self._loss(self._outputs(found, number)) for number in range(len(path))]
            factor, beyond = _MAY_WIN
            left = [number for number, loss in enumerate(losses) if loss <= factor * min(losses) + beyond]
            W, b = (torch.cat([part[self._at(number)] for number in left]) for part in found)
            path, begin = [path[number] for number in left], (W, b)
        found = self._solve(path, _CHOOSING, begin)
        losses = [self._loss(self._outputs(found, number)) for number in range(len(path))]
        number = int(np.argmin(losses))
        W, b = (part[self._at(number)].mean(dim=0, keepdim=True) for part in found)
        return path[number], losses[number], self._outputs(found, number), (W, b)

    def _solve(self, path: Sequence[float], how: Mapping[str, Any], begin: Solution | None) -> Solution:
        trained = [train for _ in path for train, _ in self.pairs]
        each = [C for C in path for _ in self.pairs]
        W, b, _ = self.system.solve(trained, each, "float32", **how, begin=begin)
        return W, b

    def _at(self, number: int) -> slice:
        return slice(number * len(self.pairs), (number + 1) * len(self.pairs))

    def _outputs(self, found: Solution, number: int) -> np.ndarray:
        """Return the outputs (n, width) of held-out rows at a penalty, one pair after the other."""
        W, b = (part[self._at(number)] for part in found)
        z = outputs(self.system.axes, W, b).cpu().numpy()
        return np.concatenate([own[:, held].T for own, (_, held) in zip(z, self.pairs, strict=True)])

    def _loss(self, held_outputs: np.ndarray) -> float:
        return float(self.coding.losses(held_outputs, self.held_targets).mean())
