"""Gradient-boosted trees that stop early on grouped rows held out of the training fold."""

from __future__ import annotations

import json
from typing import Self

import numpy as np
from xgboost import Booster, DMatrix, train
from xgboost.core import XGBoostError

from mixed_signals.models.base import BaseHead
from mixed_signals.models.inner import inner_folds
from mixed_signals.store.errors import MixedSignalsError

_ATTRIBUTE = "mixed_signals"


class XGBoostHead(BaseHead):
    """XGBoost with settings for embeddings: shallow trees, row and column sampling, few bins, early stopping.

    Absent features (NaN) go the way that each split learns for them.

    Parameters
    ----------
    max_trees : int
        Most boosting rounds; at most 50 where there are too few rows to hold any out.
    max_depth : int
    learning_rate, subsample, colsample_bytree : float
        As in XGBoost.
    patience : int
        Rounds without a better validation log loss after which training ends.
    random_state : int
        Seed of the sampling and of which rows are held out for stopping.

    Attributes
    ----------
    classes_ : ndarray, shape (K,)
    n_trees_ : int
        Boosting rounds kept.
    """

    def __init__(
        self,
        max_trees: int = 300,
        learning_rate: float = 0.1,
        max_depth: int = 3,
        subsample: float = 0.8,
        colsample_bytree: float = 0.3,
        patience: int = 15,
        random_state: int = 0,
    ) -> None:
        self.max_trees = max_trees
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.patience = patience
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> Self:
        """Fit on X (N, D), labels y (N,); whole groups are held out for early stopping."""
        X, codes = self._training_rows(X, y)
        settings = {
            "objective": "multi:softprob",
            "num_class": len(self.classes_),
            "eta": self.learning_rate,
            "max_depth": self.max_depth,
            "subsample": self.subsample,
            "colsample_bytree": self.colsample_bytree,
            "tree_method": "hist",
            "max_bin": 64,
            "seed": self.random_state,
            "nthread": 1,
        }
        pairs = inner_folds(codes, groups, 4, self.random_state)
        if pairs:
            rows, held = pairs[0]
            booster = train(
                settings,
                DMatrix(X[rows], codes[rows], nthread=1),
                self.max_trees,
                evals=[(DMatrix(X[held], codes[held], nthread=1), "held")],
                early_stopping_rounds=self.patience,
                verbose_eval=False,
            )
            self.n_trees_ = booster.best_iteration + 1
            self.booster_ = booster[: self.n_trees_]
        else:  # too few rows to hold any out
            self.n_trees_ = min(50, self.max_trees)
            self.booster_ = train(settings, DMatrix(X, codes, nthread=1), self.n_trees_)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return class probabilities, shape (N, K)."""
        rows = DMatrix(self._rows(X), nthread=1)
        probabilities: np.ndarray = self.booster_.predict(rows).astype(np.float64)
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    def save(self, stem: str) -> str:
        """Write the head in XGBoost's own format to ``<stem>.json`` and return that path."""
        described = {
            "class": type(self).__name__,
            "params": self.get_params(),
            "classes": self.classes_.tolist(),
            "n_features_in": self.n_features_in_,
        }
        self.booster_.set_attr(**{_ATTRIBUTE: json.dumps(described)})
        path = f"{stem}.json"
        self.booster_.save_model(path)
        return path

    @classmethod
    def load(cls, path: str) -> Self:
        """Read a head that `save` wrote."""
        try:
            booster = Booster(model_file=path)
        except XGBoostError as error:
            raise MixedSignalsError(f"{path}: not readable as a head (XGBoost cannot load it)") from error
        text = booster.attr(_ATTRIBUTE)
        if text is None:
            raise MixedSignalsError(f"{path}: an XGBoost model, but not a head")
        described = json.loads(text)
        head = cls(**described["params"])
        head.booster_ = booster
        head.n_trees_ = booster.num_boosted_rounds()
        head.classes_ = np.array(described["classes"])
        head.n_features_in_ = described["n_features_in"]
        return head
