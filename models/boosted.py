"""Gradient-boosted trees on quantised matrices that heads share, with the number of trees found on held-out groups.

Targets of every kind are boosted by the gradients of `Coding.losses` (for classes, XGBoost's own formulas), so that
shares of votes are learnt as they are: a row repeated for each class that has votes would cost K times the time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.special import expit, logit, softmax
from xgboost import Booster, QuantileDMatrix
from xgboost.core import XGBoostError

from mixed_signals.models.base import MEMORY, BaseHead, ClassifierHead, Fit, Problem, RegressorHead
from mixed_signals.models.coding import Coding
from mixed_signals.models.inner import inner_folds
from mixed_signals.models.saving import KEY, describe, rebuild
from mixed_signals.store.errors import MixedSignalsError

_OBJECTIVES = {
    "softmax": {"objective": "multi:softprob", "base_score": 0.0},
    "logistic": {"objective": "binary:logistic", "base_score": 0.5},
    "identity": {"objective": "reg:squarederror", "base_score": 0.0},
}  # with base scores that are 0 as outputs: heads keep their intercepts themselves
_MOST_UNSCOUTED = 50  # trees, where there are too few rows to hold any out


class _BoostedTrees(BaseHead):
    """What `XGBoostHead` and `XGBoostRegressor` share."""

    seeded: ClassVar[bool] = True
    n_trees_: int
    intercept_: np.ndarray
    booster_: Booster

    def __init__(
        self,
        max_trees: int = 300,
        learning_rate: float = 0.1,
        max_depth: int = 3,
        subsample: float = 0.5,
        colsample_bytree: float = 0.3,
        min_child_weight: float = 1.0,
        reg_lambda: float = 1.0,
        max_bin: int = 16,
        patience: int = 15,
        n_scouts: int = 2,
        random_state: int = 0,
        order: int = 0,
    ) -> None:
        self.max_trees = max_trees
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.min_child_weight = min_child_weight
        self.reg_lambda = reg_lambda
        self.max_bin = max_bin
        self.patience = patience
        self.n_scouts = n_scouts
        self.random_state = random_state
        self.order = order

    @classmethod
    def fit_many(
        cls, problem: Problem, fits: Sequence[Fit], *, device: str = "cpu", memory: int = MEMORY
    ) -> None:
        """Fit heads, those of the same rows and modalities on one quantised matrix.

        Trees are grown on the CPU and in one thread, whatever the device. Held at a time are one matrix of rows and
        modalities as it is, and quantised (a byte a value), whatever `memory` says.
        """
        alike: dict[Any, tuple[_Rows, list[_BoostedTrees]]] = {}
        for fit in fits:
            rows, encoded = fit.begin(problem)
            head: Any = fit.head
            key = (fit.modalities, rows.tobytes(), head.coding_, head.max_bin)
            if key not in alike:
                columns = fit.columns(problem)
                alike[key] = _Rows(problem, rows, columns, head.coding_, encoded, head.max_bin), []
            alike[key][1].append(head)
        while alike:
            shared, heads = alike.pop(next(iter(alike)))
            stops: dict[str, tuple[int, float]] = {}
            for head in heads:
                settings = repr({**head.get_params(), "random_state": None})
                if settings not in stops:
                    stops[settings] = head._scout(shared)
                head.n_trees_, head.inner_loss_ = stops[settings]
                growing = _Growing(head, shared.whole, (0, head.random_state))
                for _ in range(head.n_trees_):
                    growing.add()
                head.booster_, head.intercept_ = growing.booster, growing.intercept

    def _scout(self, shared: _Rows) -> tuple[int, float]:
        """Return how many trees do best on rows that inner folds hold out, and the mean loss of those rows then."""
        if not self.n_scouts:
            return self.max_trees, float("nan")
        pairs = shared.held_out(self.order, self.n_scouts)
        if not pairs:
            return min(_MOST_UNSCOUTED, self.max_trees), float("nan")
        scouts = [_Growing(self, trained, (1, self.order, n)) for n, (trained, _) in enumerate(pairs)]
        watched = [held for _, held in pairs]
        best, least = 0, np.inf
        for n_trees in range(self.max_trees + 1):
            losses = [
                self.coding_.losses(scout.outputs(held), held.encoded)
                for scout, held in zip(scouts, watched, strict=True)
            ]
            loss = float(np.concatenate(losses).mean())
            if loss < least:
                best, least = n_trees, loss
            elif n_trees - best >= self.patience:
                break
            for scout in scouts:
                scout.add()
        return best, least

    def save(self, stem: str) -> str:
        """Write the head in XGBoost's own format to ``<stem>.json`` and return that path."""
        values = {"n_trees_": self.n_trees_, "intercept_": self.intercept_}
        self.booster_.set_attr(**{KEY: describe(self, values)})
        path = Path(f"{stem}.json")
        path.write_bytes(
            self.booster_.save_raw("json")
        )  # a full disk is the system's error, not one of XGBoost
        return str(path)

    def _outputs(self, X: Any) -> np.ndarray:
        """Return what `coding_` decodes, shape (N, width): the intercepts alone for a row without any feature."""
        X = self._rows(X)
        grown = self.booster_.inplace_predict(X, predict_type="margin").reshape(len(X), -1)
        grown[np.isnan(X).all(axis=1)] = 0
        outputs: np.ndarray = grown + self.intercept_
        return outputs


class XGBoostHead(ClassifierHead, _BoostedTrees):
    """XGBoost with settings for embeddings: shallow trees, few bins, row and column sampling, stopped in time.

    A nominal target has a tree for each class and round, an ordinal one for each threshold, a multilabel one for each
    class that may apply. Absent features (NaN) go the way that each split learns for them.

    Parameters
    ----------
    classes : sequence, optional
        All labels, in the order of the columns of `votes`; rising where the target is ordinal. Those of `y` by default.
    ordinal : bool
        Whether the classes are in rising order.
    max_trees : int
        Most boosting rounds.
    learning_rate, max_depth, subsample, colsample_bytree, min_child_weight, reg_lambda : float
        As in XGBoost.
    max_bin : int
        Into how many values each feature is quantised, with cuts from the training rows. The time for a tree grows
        with it; nothing was gained by more than the default.
    patience : int
        Rounds without a smaller loss on held-out rows after which no more are tried.
    n_scouts : int
        How many inner folds are held out to find the number of rounds, 4 at most. The head is then trained on all rows
        for as many rounds as did best; for 50 at most where there are too few rows to hold any out. With 0 it is
        trained for `max_trees`.
    random_state : int
        Seed of the row and column sampling.
    order : int
        Seed of which rows are held out, and of the sampling while the number of rounds is looked for.

    Attributes
    ----------
    classes_ : ndarray, shape (K,)
    n_trees_ : int
        Boosting rounds; 0 where training rows do not tell anything of those held out.
    intercept_ : ndarray, shape (width,)
        The outputs before the first tree: what the shares in the training rows say.
    booster_ : xgboost.Booster
        Without the intercepts.
    """

    def __init__(
        self,
        classes: Sequence[Any] | None = None,
        ordinal: bool = False,
        max_trees: int = 300,
        learning_rate: float = 0.1,
        max_depth: int = 3,
        subsample: float = 0.5,
        colsample_bytree: float = 0.3,
        min_child_weight: float = 1.0,
        reg_lambda: float = 1.0,
        max_bin: int = 16,
        patience: int = 15,
        n_scouts: int = 2,
        random_state: int = 0,
        order: int = 0,
    ) -> None:
        super().__init__(
            max_trees,
            learning_rate,
            max_depth,
            subsample,
            colsample_bytree,
            min_child_weight,
            reg_lambda,
            max_bin,
            patience,
            n_scouts,
            random_state,
            order,
        )
        self.classes = classes
        self.ordinal = ordinal

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the probability of each class, shape (N, K); rows sum to 1 unless the target is multilabel."""
        outputs = self._outputs(X)
        return self.coding_.decode(outputs)


class XGBoostRegressor(RegressorHead, _BoostedTrees):
    """`XGBoostHead` for interval targets: squared error, on standardised values.

    Its parameters and attributes are those of `XGBoostHead`, but for the classes.
    """

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the values, shape (N,)."""
        outputs = self._outputs(X)
        return self.coding_.decode(outputs)


def read_booster(path: str) -> Any:
    """Read a head that `save` wrote in XGBoost's format.

    Raises
    ------
    MixedSignalsError
        If the file is not a model of XGBoost's, not one of a head, or damaged.
    """
    try:
        booster = Booster({"nthread": 1}, model_file=path)
    except XGBoostError as error:
        raise MixedSignalsError(f"{path}: not readable as a head (XGBoost cannot load it)") from error
    text = booster.attr(KEY)
    if text is None:
        raise MixedSignalsError(f"{path}: an XGBoost model, but not a head")
    try:
        head: Any = rebuild(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise MixedSignalsError(f"{path}: not readable as a head ({error!r} in what describes it)") from error
    head.booster_, head.intercept_ = booster, np.array(head.intercept_)
    return head


class _Quantised(NamedTuple):
    """Rows as trees see them, their encoded targets, shape (n, width), and their weights, shape (n, 1)."""

    matrix: QuantileDMatrix
    encoded: np.ndarray
    weights: np.ndarray | None


@dataclass
class _Rows:
    """Training rows that heads share: `rows` and `columns` of a problem, with encoded targets (n, width)."""

    problem: Problem
    rows: np.ndarray
    columns: np.ndarray
    coding: Coding
    encoded: np.ndarray
    max_bin: int
    _held_out: dict[tuple[int, int], list[tuple[_Quantised, _Quantised]]] = field(default_factory=dict)

    @cached_property
    def vectors(self) -> np.ndarray:
        return self.problem.X[np.ix_(self.rows, self.columns)]

    @cached_property
    def whole(self) -> _Quantised:
        """All of the rows."""
        return self._quantised(np.arange(len(self.rows)))

    def held_out(self, order: int, n: int) -> list[tuple[_Quantised, _Quantised]]:
        """Return the first `n` pairs of inner folds: rows to train on, and rows held out, cut as the former are."""
        if (order, n) not in self._held_out:
            place = np.empty(len(self.problem.y), np.intp)
            place[self.rows] = np.arange(len(self.rows))
            pairs = self._held_out[order, n] = []
            for train, held in inner_folds(self.problem, self.rows, self.coding, 4, order)[:n]:
                trained = self._quantised(place[train])
                pairs.append((trained, self._quantised(place[held], trained.matrix)))
        return self._held_out[order, n]

    def _quantised(self, some: np.ndarray, cuts: QuantileDMatrix | None = None) -> _Quantised:
        encoded = self.encoded[some]
        # Labels are there to tell how many outputs there are; of a softmax that is `num_class`.
        label = None if self.coding.link == "softmax" else encoded
        matrix = QuantileDMatrix(self.vectors[some], label=label, max_bin=self.max_bin, nthread=1, ref=cuts)
        given = self.problem.weights
        return _Quantised(matrix, encoded, None if given is None else given[self.rows[some], None])


class _Growing:
    """A booster in training."""

    def __init__(self, head: _BoostedTrees, data: _Quantised, seed: Sequence[int]) -> None:
        self.data, self.link = data, head.coding_.link
        if data.weights is None:
            self.intercept = data.encoded.mean(axis=0)
        else:
            self.intercept = (data.weights * data.encoded).sum(axis=0) / data.weights.sum()
        if self.link != "identity":
            half = 0.5 / len(data.encoded)
            shares = self.intercept.clip(half, 1 - half)  # none is 0 or 1
            self.intercept = np.log(shares) if self.link == "softmax" else logit(shares)
        settings = {
            **_OBJECTIVES[self.link],
            "eta": head.learning_rate,
            "max_depth": head.max_depth,
            "subsample": head.subsample,
            "colsample_bytree": head.colsample_bytree,
            "min_child_weight": head.min_child_weight,
            "lambda": head.reg_lambda,
            "tree_method": "hist",
            "max_bin": head.max_bin,
            "nthread": 1,
            "seed": int(np.random.SeedSequence(seed).generate_state(1)[0] // 2),
            "seed_per_iteration": True,  # else boosters that grow by turns would draw from one stream
        }
        if self.link == "softmax":
            settings["num_class"] = data.encoded.shape[1]
        self.booster = Booster(settings, [data.matrix])
        self.booster.predict(data.matrix)  # so that it can be used before its first tree

    def outputs(self, data: _Quantised) -> np.ndarray:
        """Return the outputs for rows, shape (n, width)."""
        grown = self.booster.predict(data.matrix, output_margin=True)  # of known rows only the new trees
        return grown.reshape(data.encoded.shape) + self.intercept

    def add(self) -> None:
        """Add the trees of a round."""
        z, encoded = self.outputs(self.data), self.data.encoded
        if self.link == "identity":
            gradient, curvature = z - encoded, np.ones_like(z)
        else:
            p = softmax(z, axis=1) if self.link == "softmax" else expit(z)
            gradient, curvature = p - encoded, (2 if self.link == "softmax" else 1) * p * (1 - p)
        curvature = curvature.clip(1e-16)
        if self.data.weights is not None:  # not in the matrix, where they would move the cuts
            gradient, curvature = self.data.weights * gradient, self.data.weights * curvature
        self.booster.boost(
            self.data.matrix,
            self.booster.num_boosted_rounds(),
            grad=gradient.astype(np.float32),
            hess=curvature.astype(np.float32),
        )
