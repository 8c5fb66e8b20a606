"""Many L2-penalised linear heads at once: one preconditioned conjugate gradient for all that share a matrix.

Each problem is, over weights W (width, D) and intercepts b::

    min  sum_rows w_i loss(W z_i + b, t_i)  +  |W|^2 / (2 C)

which is scikit-learn's objective: C multiplies the sum of losses, the intercept is not penalised. Problems differ in
row weights w (the training rows of inner folds), penalties C and targets; they share the standardised matrix.

Each modality is rotated to its principal axes once (of its D x D or N x N Gram matrix, whichever is smaller), for all
subsets of modalities. The penalty does not see the rotation, and in these axes the Hessian is bounded by a diagonal: of
Z'Z / 4 for a logistic column and Z'Z / 2 for softmax (Boehning 1992, Ann. Inst. Statist. Math. 44) times the number
of modalities. The bound's constants are replaced by the mean curvature of the rows, column by column, which makes it a
preconditioner instead of a bound. Steps are nonlinear conjugate gradients (Polak and Ribiere 1969, restarted when beta
would be negative) with a line search by Newton's method inside a bracket: outputs are linear along a step, so that a
trial costs no product. An iteration costs two products with the matrix, 4 N D operations a column; problems that have
converged leave the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from mixed_signals.models.scaling import standardization, standardized

if TYPE_CHECKING:
    import torch

_ROWS = 8192  # rows that are standardised, or turned to another precision, at a time
_TRIALS = 10  # of a line search
_SLOPE = 0.2  # a line search ends where the slope is this share of what it was


@dataclass(frozen=True)
class Axes:
    """One modality over one set of training rows, rotated to its principal axes.

    Attributes
    ----------
    mean, scale : ndarray, shape (D,)
        What its columns are standardised by.
    basis : Tensor, shape (D, r), float64
        Principal axes, in columns; r is the rank.
    spectrum : Tensor, shape (r,), float64
        The sums of squares along them.
    matrix : Tensor, shape (N, r), float32
        The rows, standardised and rotated; zero where the modality is absent.
    """

    mean: np.ndarray
    scale: np.ndarray
    basis: torch.Tensor
    spectrum: torch.Tensor
    matrix: torch.Tensor

    @classmethod
    def of(cls, X: np.ndarray, device: str) -> Self:
        """Return the axes of X (N, D), NaN where a feature is absent."""
        import torch

        mean, scale = standardization(X)
        Z = torch.empty(X.shape, dtype=torch.float32, device=device)
        for start in range(0, len(Z), _ROWS):
            Z[start : start + _ROWS] = torch.from_numpy(standardized(X[start : start + _ROWS], mean, scale))
        if len(Z) >= Z.shape[1]:
            spectrum, basis = torch.linalg.eigh(Z.T @ Z)
            return cls(mean, scale, basis.double(), spectrum.double().clamp_min(0), Z @ basis)
        wide = Z.double()
        spectrum, vectors = torch.linalg.eigh(wide @ wide.T)
        kept = spectrum > 1e-10 * spectrum[-1]
        spectrum = spectrum[kept]
        basis = wide.T @ (vectors[:, kept] / spectrum.sqrt())
        return cls(mean, scale, basis, spectrum, Z @ basis.float())


def solve(
    axes: Sequence[Axes],
    targets: torch.Tensor,
    weights: torch.Tensor,
    penalties: torch.Tensor,
    link: str,
    *,
    tolerance: float,
    max_iterations: int,
    begin: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Solve P problems over the modalities `axes`, in the precision of `weights`.

    Parameters
    ----------
    axes : sequence of Axes
        Of the same rows.
    targets : Tensor, shape (P, width, N) or (1, width, N)
    weights : Tensor, shape (P, 1, N)
        Row weights, of which some are positive: 0 for a row that is held out.
    penalties : Tensor, shape (P,)
        Inverse strengths C.
    link : str
        softmax, logistic or identity (see `Coding.link`).
    tolerance : float
        A problem has converged where about this much of the mean loss can still be gained.
    max_iterations : int
    begin : (Tensor, shape (P, width, R); Tensor, shape (P, width)), optional
        Weights and intercepts to begin with; no weights by default.

    Returns
    -------
    weights : Tensor, shape (P, width, R)
        On the principal axes of the modalities, side by side.
    intercepts : Tensor, shape (P, width)
    converged : Tensor, shape (P,), bool
    """
    import torch

    n_problems, width = len(weights), targets.shape[1]
    spectrum = torch.cat([part.spectrum for part in axes]).to(weights.dtype)
    W_of_all = weights.new_zeros(n_problems, width, len(spectrum))
    b_of_all = weights.new_zeros(n_problems, width)
    converged = torch.zeros(n_problems, dtype=torch.bool, device=weights.device)
    now = _Batch.start(axes, targets, weights, penalties, link, begin)
    for iteration in range(max_iterations + 1):
        if iteration & (iteration - 1) == 0:  # the curvature changes less and less
            now.precondition(spectrum, link)
        residuals = now.weights * (now.fitted - now.targets)
        gradient, slope_b = _transposed(axes, residuals).add_(now.W * now.inverse), residuals.sum(dim=2)
        z, z_b = gradient * now.scaling, slope_b * now.scaling_b
        size = _dot(gradient, z) + (slope_b * z_b).sum(dim=1)
        finished = size <= 2 * tolerance * now.n_rows
        if finished.any() or iteration == max_iterations:
            ended = now.numbers if iteration == max_iterations else now.numbers[finished]
            at = slice(None) if iteration == max_iterations else finished
            W_of_all[ended], b_of_all[ended] = now.W[at], now.b[at]
            converged[now.numbers[finished]] = True
            left = torch.nonzero(~finished)[:, 0]
            if not len(left) or iteration == max_iterations:
                break
            now = now.only(left)
            gradient, slope_b, z, z_b, size = (part[left] for part in (gradient, slope_b, z, z_b, size))
        if iteration == 0:
            now.step, now.step_b = -z, -z_b
        else:
            overlap = _dot(now.gradient, z) + (now.slope_b * z_b).sum(dim=1)
            beta = ((size - overlap) / now.size).clamp_min(0)
            now.step = torch.addcmul(-z, beta[:, None, None], now.step)
            now.step_b = torch.addcmul(-z_b, beta[:, None], now.step_b)
        slope = _dot(gradient, now.step) + (slope_b * now.step_b).sum(dim=1)
        uphill = slope >= 0
        if uphill.any():
            now.step[uphill], now.step_b[uphill], slope[uphill] = -z[uphill], -z_b[uphill], -size[uphill]
        now.gradient, now.slope_b, now.size = gradient, slope_b, size
        change = outputs(axes, now.step, now.step_b)
        _search(now, change, slope, link)
    return W_of_all, b_of_all, converged


def outputs(axes: Sequence[Axes], W: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the outputs (P, width, N) of weights (P, width, R) and intercepts (P, width) on the rows of `axes`."""
    result = b[:, :, None].repeat(1, 1, len(axes[0].matrix))
    flat, start = result.flatten(0, 1), 0
    for part in axes:
        stop = start + part.matrix.shape[1]
        columns = W[:, :, start:stop].flatten(0, 1)
        for first in range(0, len(part.matrix), _step(part, W)):
            rows = slice(first, first + _step(part, W))
            flat[:, rows].addmm_(columns, part.matrix[rows].to(W.dtype).T)
        start = stop
    return result


def _transposed(axes: Sequence[Axes], residuals: torch.Tensor) -> torch.Tensor:
    """Return the products (P, width, R) of residuals (P, width, N) with the matrix."""
    import torch

    flat = residuals.flatten(0, 1)
    parts = []
    for part in axes:
        total = residuals.new_zeros(len(flat), part.matrix.shape[1])
        for first in range(0, len(part.matrix), _step(part, residuals)):
            rows = slice(first, first + _step(part, residuals))
            total.addmm_(flat[:, rows], part.matrix[rows].to(residuals.dtype))
        parts.append(total)
    return torch.cat(parts, dim=1).unflatten(0, residuals.shape[:2])


def _step(part: Axes, like: torch.Tensor) -> int:
    """Return how many rows to take at a time: all, unless they must be turned to another precision."""
    return len(part.matrix) if part.matrix.dtype == like.dtype else _ROWS


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the inner products (P,) of (P, width, R) with another such."""
    return (a * b).sum(dim=(1, 2))


def _fitted(outputs: torch.Tensor, link: str) -> torch.Tensor:
    """Return what outputs (P, width, N) say is expected of the targets."""
    if link == "softmax":
        return outputs.softmax(dim=1)
    return outputs.sigmoid() if link == "logistic" else outputs


def _curvature(fitted: torch.Tensor, change: torch.Tensor, weights: torch.Tensor, link: str) -> torch.Tensor:
    """Return the second derivatives (P,) of the summed losses along a change (P, width, N) of the outputs."""
    if link == "identity":
        return _dot(weights * change, change)
    moved = fitted * change
    if link == "logistic":
        return _dot(weights * moved, change - moved)
    return (weights * ((moved * change).sum(1, keepdim=True) - moved.sum(1, keepdim=True) ** 2)).sum((1, 2))


@dataclass
class _Batch:
    """The problems that have not converged, and where each stands; the first axis of every array is theirs."""

    numbers: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    inverse: torch.Tensor  # 1 / C, shape (P, 1, 1)
    n_rows: torch.Tensor
    W: torch.Tensor
    b: torch.Tensor
    outputs: torch.Tensor
    fitted: torch.Tensor
    scaling: torch.Tensor
    scaling_b: torch.Tensor
    step: torch.Tensor
    step_b: torch.Tensor
    gradient: torch.Tensor
    slope_b: torch.Tensor
    size: torch.Tensor

    @classmethod
    def start(
        cls,
        axes: Sequence[Axes],
        targets: torch.Tensor,
        weights: torch.Tensor,
        penalties: torch.Tensor,
        link: str,
        begin: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> Self:
        """Begin at given weights and intercepts, or without weights, at the intercepts that are best then."""
        import torch

        n_rows = weights.sum(dim=(1, 2))
        if begin is not None:
            W, b = begin
            at = outputs(axes, W, b)
        else:
            b = (targets * weights).sum(dim=2) / n_rows[:, None]
            if link != "identity":
                b = b.clamp(1e-3, 1 - 1e-3)
                b = b.log() if link == "softmax" else b.logit()
            W = weights.new_zeros(*b.shape, sum(len(part.spectrum) for part in axes))
            at = b[:, :, None].expand(-1, -1, weights.shape[2])
        return cls(
            numbers=torch.arange(len(weights), device=weights.device),
            targets=targets,
            weights=weights,
            inverse=1 / penalties[:, None, None],
            n_rows=n_rows,
            W=W,
            b=b,
            outputs=at,
            fitted=_fitted(at, link),
            scaling=W,
            scaling_b=b,
            step=W,
            step_b=b,
            gradient=W,
            slope_b=b,
            size=n_rows,
        )

    def only(self, left: torch.Tensor) -> Self:
        """Return the batch with some of its problems."""
        shared = len(self.targets) != len(self.numbers)
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(
            self,
            **{
                name: value if shared and name == "targets" else value.index_select(0, left)
                for name, value in kept.items()
            },
        )

    def precondition(self, spectrum: torch.Tensor, link: str) -> None:
        """Take the inverse of the Hessian's diagonal, with the mean curvature of the rows for that of each row."""
        if link == "identity":
            curvature = self.n_rows[:, None].expand_as(self.b)
        else:
            curvature = (self.weights * self.fitted * (1 - self.fitted)).sum(dim=2)
        curvature = curvature.clamp_min(1e-6 * self.weights.shape[2])
        self.scaling_b = 1 / curvature
        mean = curvature[:, :, None] / self.weights.shape[2]
        self.scaling = 1 / (mean * spectrum + self.inverse)


def _search(now: _Batch, change: torch.Tensor, slope: torch.Tensor, link: str) -> None:
    """Go along the step, which changes the outputs by `change`, to where the slope (P,) is nearly zero."""
    import torch

    inverse = now.inverse[:, 0, 0]
    drift, growth = _dot(now.W, now.step) * inverse, _dot(now.step, now.step) * inverse
    length = -slope / (_curvature(now.fitted, change, now.weights, link) + growth)
    low, high = torch.zeros_like(length), torch.full_like(length, torch.inf)
    pull = now.weights * change
    at_rest = (pull * now.targets).sum(dim=(1, 2))
    for trial in range(_TRIALS):
        there = torch.addcmul(now.outputs, length[:, None, None], change)
        fitted = _fitted(there, link)
        slope_there = _dot(fitted, pull) - at_rest + drift + length * growth
        settled = slope_there.abs() <= _SLOPE * slope.abs()
        if trial == _TRIALS - 1 or settled.all():
            break
        low = torch.where(slope_there < 0, length, low)
        high = torch.where(slope_there > 0, length, high)
        newton = length - slope_there / (_curvature(fitted, change, now.weights, link) + growth)
        halved = torch.where(high.isinf(), 2 * length, (low + high) / 2)
        inside = (newton > low) & (newton < high)
        length = torch.where(settled, length, torch.where(inside, newton, halved))
    now.W = torch.addcmul(now.W, length[:, None, None], now.step)
    now.b = torch.addcmul(now.b, length[:, None], now.step_b)
    now.outputs, now.fitted = there, fitted
