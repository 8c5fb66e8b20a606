"""Late fusion, which every claim of a better fusion has to beat: what unimodal heads say, put together.

mean
    The mean of the probabilities (values) of the modalities that a row has.
stacking
    A logistic (interval: ridge) regression on the outputs of the unimodal heads. It is trained on what inner models put
    out for rows held out of their training, groups kept together (Wolpert 1992, "Stacked generalization", Neural
    Networks 5). A modality that a row lacks has its training mean.

The unimodal heads are `LogisticHead` and `RidgeHead`; with one modality both heads are the plain one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import numpy as np

from mixed_signals.models.base import MEMORY, BaseHead, Blocks, ClassifierHead, Fit, Problem, RegressorHead
from mixed_signals.models.coding import Coding
from mixed_signals.models.contributions import by_leaving_out, support
from mixed_signals.models.logistic import LogisticHead, RidgeHead, held_out
from mixed_signals.models.saving import describe, rebuild, write_arrays

HeldOut = tuple[np.ndarray, np.ndarray]
"""Rows (n,) that inner folds held out, and what the inner models put out for them (n, width)."""


class _Late(BaseHead):
    """Unimodal heads and their mean: what all heads here share."""

    blocks: Blocks | None
    heads_: list[Any]

    @property
    def modalities_(self) -> tuple[str, ...]:
        """Names of the blocks, the order of gates and contributions."""
        return tuple(self._own_blocks())

    @classmethod
    def fit_many(
        cls, problem: Problem, fits: Sequence[Fit], *, device: str = "cpu", memory: int = MEMORY
    ) -> None:
        """Fit the unimodal heads, each once for all heads that need it; see `BaseHead.fit_many`."""
        _fit_unimodal(problem, fits, device, memory)

    def explain(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what each modality does in each prediction.

        Returns
        -------
        gates : ndarray, shape (N, M)
            Weights of the modalities, summing to 1; 0 where a modality is absent. All are equal in a mean; in stacking
            they go by the norms of the modalities' coefficients (for standardised outputs).
        contributions : ndarray, shape (N, M)
            How far a modality speaks for what is predicted, in log odds or values (see `contributions.support`). In
            stacking exactly what it adds; in a mean its own log odds times its gate.
        """
        parts, present = self._unimodal(X)
        gates = present * self._weights()
        gates /= np.maximum(gates.sum(axis=1, keepdims=True), 1e-300)
        return gates, self._contributions(parts, present, gates)

    def save(self, stem: str) -> str:
        """Write the head, and the heads in it, to ``<stem>.safetensors``, and return that path."""
        inside = self._inside()
        arrays = {f"{n}.{name}": getattr(head, name) for n, head in enumerate(inside) for name in _ARRAYS}
        described = [json.loads(describe(head, {"C_": head.C_})) for head in inside]
        return write_arrays(stem, self, arrays, {"heads_": described})

    def take_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back the arrays that `save` wrote, by name, into the heads that it described."""
        self._put_inside([rebuild(described) for described in self.heads_])
        for number, head in enumerate(self._inside()):
            head.take_arrays({name: arrays[f"{number}.{name}"] for name in _ARRAYS})

    def _inside(self) -> list[Any]:
        """Return all heads in this one."""
        return self.heads_

    def _put_inside(self, heads: list[Any]) -> None:
        """Take the heads that `_inside` gave."""
        self.heads_ = heads

    def _weights(self) -> np.ndarray:
        """Return how much each modality counts, shape (M,)."""
        return np.ones(len(self.heads_))

    def _unimodal(self, X: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the outputs of each unimodal head (N, width), and which modalities are present (N, M)."""
        X = self._rows(X)
        parts = [X[:, start:stop] for start, stop in self._own_blocks().values()]
        outputs = [head.outputs(part) for head, part in zip(self.heads_, parts, strict=True)]
        return outputs, np.stack([np.isfinite(part).any(axis=1) for part in parts], axis=1)

    def _outputs(self, parts: Sequence[np.ndarray], present: np.ndarray) -> np.ndarray:
        """Return the head's outputs (N, width), of unimodal ones of modalities that are present (N, M)."""
        return self._mean(parts, present)

    def _contributions(
        self, parts: Sequence[np.ndarray], present: np.ndarray, gates: np.ndarray
    ) -> np.ndarray:
        own = [_undecoded(self.coding_, P) for P in self._decoded(parts)]
        outputs = self._mean(parts, present)
        return support(self.coding_, outputs, gates[:, :, None] * np.stack(own, axis=1))

    def _mean(self, parts: Sequence[np.ndarray], present: np.ndarray) -> np.ndarray:
        """Return the outputs that say the mean of what unimodal ones do; the mean of all where none is present."""
        weights = np.where(present.any(axis=1, keepdims=True), present, True).astype(np.float64)
        weights /= weights.sum(axis=1, keepdims=True)
        mean = np.einsum("mn...,nm->n...", np.stack(self._decoded(parts)), weights)
        return _undecoded(self.coding_, mean)

    def _decoded(self, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return what unimodal outputs say of this head's classes; 0 of one that a modality's rows do not have."""
        decoded = []
        for head, z in zip(self.heads_, parts, strict=True):
            P = head.coding_.decode(z)
            if head.coding_.classes != self.coding_.classes:
                place = [self.coding_.classes.index(label) for label in head.coding_.classes]
                P, known = np.zeros((len(z), len(self.coding_.classes))), P
                P[:, place] = known
            decoded.append(P)
        return decoded

    def _decoded_rows(self, X: np.ndarray) -> np.ndarray:
        outputs = self._outputs(*self._unimodal(X))
        return self.coding_.decode(outputs)


class _Stacking(_Late):
    """Unimodal heads and a regression on their outputs; their mean where no row could be held out to train it."""

    final_: Any

    @classmethod
    def fit_many(
        cls, problem: Problem, fits: Sequence[Fit], *, device: str = "cpu", memory: int = MEMORY
    ) -> None:
        """Fit the unimodal heads once, and then the regressions on the same rows together."""
        held = _fit_unimodal(problem, fits, device, memory)
        together: dict[tuple[bytes, str], list[int]] = {}
        for number, fit in enumerate(fits):
            cast("_Stacking", fit.head).final_ = None
            if len(fit.modalities) > 1:
                together.setdefault(_key(fit), []).append(number)
        for numbers in together.values():
            second = _second_level(problem, [fits[n] for n in numbers], [held[n] for n in numbers])
            finals = {n: Fit(_plain(fits[n].head), fits[n].modalities, fits[n].rows) for n in numbers}
            finals = {n: final for n, final in finals.items() if _trainable(second, final, fits[n].head)}
            if finals:
                kind = type(_plain(fits[numbers[0]].head))
                kind.fit_many(second, list(finals.values()), device=device, memory=memory)
            for n, final in finals.items():
                head = cast("_Stacking", fits[n].head)
                head.final_, head.inner_loss_ = final.head, final.head.inner_loss_
                head.coding_ = final.head.coding_  # an interval target is standardised by the rows held out

    def _inside(self) -> list[Any]:
        return self.heads_ if self.final_ is None else [*self.heads_, self.final_]

    def _put_inside(self, heads: list[Any]) -> None:
        n = len(self.modalities_)
        self.heads_, self.final_ = heads[:n], heads[n] if len(heads) > n else None

    def _weights(self) -> np.ndarray:
        if self.final_ is None:
            return super()._weights()
        stops = np.cumsum([head.coding_.width for head in self.heads_])[:-1]
        return np.array([np.linalg.norm(part) for part in np.split(self.final_.coef_, stops, axis=1)])

    def _outputs(self, parts: Sequence[np.ndarray], present: np.ndarray) -> np.ndarray:
        if self.final_ is None:
            return self._mean(parts, present)
        bounded = [_bounded(self.coding_, z) for z in parts]
        columns = [np.where(here[:, None], z, np.nan) for z, here in zip(bounded, present.T, strict=True)]
        outputs: np.ndarray = self.final_.outputs(np.concatenate(columns, axis=1))
        return outputs

    def _contributions(
        self, parts: Sequence[np.ndarray], present: np.ndarray, gates: np.ndarray
    ) -> np.ndarray:
        if self.final_ is None:
            return super()._contributions(parts, present, gates)
        return by_leaving_out(self.coding_, lambda here: self._outputs(parts, here), present)


class MeanHead(ClassifierHead, _Late):
    """The mean of the probabilities that unimodal `LogisticHead` give, over the modalities that a row has.

    Parameters
    ----------
    blocks : mapping of str to (start, stop), optional
        Which columns belong to which modality; all columns are one block by default.
    classes : sequence, optional
    ordinal : bool
        See `ClassifierHead`.

    Attributes
    ----------
    heads_ : list of LogisticHead
        The unimodal heads, in the order of the blocks.
    """

    def __init__(
        self, blocks: Blocks | None = None, classes: Sequence[Any] | None = None, ordinal: bool = False
    ) -> None:
        self.blocks = blocks
        self.classes = classes
        self.ordinal = ordinal

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the probability of each class, shape (N, K); rows sum to 1 unless the target is multilabel."""
        return self._decoded_rows(X)


class MeanRegressor(RegressorHead, _Late):
    """The mean of the values that unimodal `RidgeHead` give, over the modalities that a row has; see `MeanHead`."""

    def __init__(self, blocks: Blocks | None = None) -> None:
        self.blocks = blocks

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the values, shape (N,)."""
        return self._decoded_rows(X)


class StackingHead(ClassifierHead, _Stacking):
    """Logistic regression on the out-of-fold outputs of unimodal `LogisticHead`.

    Where the rows that inner folds held out do not have all classes, it is the mean of the unimodal probabilities.

    Parameters
    ----------
    blocks : mapping of str to (start, stop), optional
        Which columns belong to which modality; all columns are one block by default.
    classes : sequence, optional
    ordinal : bool
        See `ClassifierHead`.

    Attributes
    ----------
    heads_ : list of LogisticHead
        The unimodal heads, in the order of the blocks.
    final_ : LogisticHead or None
        The regression on their outputs; None where it is a mean, or there is one modality.
    """

    def __init__(
        self, blocks: Blocks | None = None, classes: Sequence[Any] | None = None, ordinal: bool = False
    ) -> None:
        self.blocks = blocks
        self.classes = classes
        self.ordinal = ordinal

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the probability of each class, shape (N, K); rows sum to 1 unless the target is multilabel."""
        return self._decoded_rows(X)


class StackingRegressor(RegressorHead, _Stacking):
    """Ridge regression on the out-of-fold values of unimodal `RidgeHead`; see `StackingHead`."""

    def __init__(self, blocks: Blocks | None = None) -> None:
        self.blocks = blocks

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the values, shape (N,)."""
        return self._decoded_rows(X)


_ARRAYS = ("mean_", "scale_", "coef_", "intercept_")
_FURTHEST = 10.0  # log odds


def _plain(head: BaseHead) -> BaseHead:
    """Return an unfitted plain head for the target of a late one."""
    if isinstance(head, ClassifierHead):
        return LogisticHead(classes=head.classes, ordinal=head.ordinal)
    return RidgeHead()


def _key(fit: Fit) -> tuple[bytes, str]:
    """Return what late heads must have in common to share unimodal ones: rows and settings."""
    return fit.rows.tobytes(), str(_plain(fit.head).get_params())


def _fit_unimodal(problem: Problem, fits: Sequence[Fit], device: str, memory: int) -> list[list[HeldOut]]:
    """Fit the unimodal heads of late heads, and return what was held out, for each fit and modality."""
    singles: dict[tuple[tuple[bytes, str], str], Fit] = {}
    keys = [[(key, name) for name in fit.modalities] for fit in fits for key in [_key(fit)]]
    for fit, own in zip(fits, keys, strict=True):
        for key in own:
            singles.setdefault(key, Fit(_plain(fit.head), (key[1],), fit.rows))
    parts = held_out(problem, list(singles.values()), device=device, memory=memory)
    by_key = dict(zip(singles, parts, strict=True))
    held = [[by_key[key] for key in own] for own in keys]
    for fit, own, found in zip(fits, keys, held, strict=True):
        rows, encoded = fit.begin(problem)
        head = cast("_Late", fit.head)
        head.heads_ = [singles[key].head for key in own]
        outputs = [_placed(part, len(problem.y))[rows] for part in found]
        present = np.stack([np.isfinite(z[:, 0]) for z in outputs], axis=1)
        seen = present.any(axis=1)
        if seen.any():
            mean = head._mean([np.nan_to_num(z[seen]) for z in outputs], present[seen])
            head.inner_loss_ = float(head.coding_.losses(mean, encoded[seen]).mean())
    return held


def _second_level(problem: Problem, fits: Sequence[Fit], held: Sequence[Sequence[HeldOut]]) -> Problem:
    """Return the problem whose features are what was held out, NaN elsewhere; each modality's are a block."""
    found = {
        name: part
        for fit, parts in zip(fits, held, strict=True)
        for name, part in zip(fit.modalities, parts, strict=True)
    }
    ends = np.cumsum([0, *(outputs.shape[1] for _, outputs in found.values())]).tolist()
    coding = fits[0].head.coding_
    columns = [_bounded(coding, _placed(part, len(problem.y))) for part in found.values()]
    blocks = dict(zip(found, pairwise(ends), strict=True))
    return replace(problem, X=np.concatenate(columns, axis=1), blocks=blocks)


def _bounded(coding: Coding, outputs: np.ndarray) -> np.ndarray:
    """Return outputs as a regression is to see them: those of a class that no row has lie anywhere far out."""
    return outputs if coding.link == "identity" else outputs.clip(-_FURTHEST, _FURTHEST)


def _placed(part: HeldOut, n: int) -> np.ndarray:
    """Return outputs in a matrix of all `n` rows of the problem, NaN where a row was not held out."""
    rows, outputs = part
    placed = np.full((n, outputs.shape[1]), np.nan)
    placed[rows] = outputs
    return placed


def _trainable(second: Problem, final: Fit, head: BaseHead) -> bool:
    """Return whether rows of all the classes that the late head knows were held out."""
    try:
        final.begin(second)
    except ValueError:  # no row, or one class only
        return False
    return final.head.coding_.classes == head.coding_.classes


def _undecoded(coding: Coding, decoded: np.ndarray) -> np.ndarray:
    """Return outputs (N, width) that `coding` decodes to these probabilities (N, K) or values (N,)."""
    if coding.link == "identity":
        return ((decoded - coding.mean) / coding.scale)[:, None]
    if coding.link == "softmax":
        return _log(decoded)
    if coding.kind == "multilabel":
        return _log(decoded) - _log(1 - decoded)
    up_to, above = decoded.cumsum(axis=1)[:, :-1], decoded[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    return _log(above) - _log(up_to)


def _log(P: np.ndarray) -> np.ndarray:
    """Return logarithms of probabilities; those that rounding made 0 are taken as the smallest that it leaves."""
    logs: np.ndarray = np.log(np.maximum(P, 1e-16))
    return logs
