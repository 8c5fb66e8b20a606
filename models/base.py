"""What every head shares: the scikit-learn contract over named column blocks that may be absent.

A head is fitted alone, by `BaseHead.fit`, or together with others that share data, by its class's `fit_many`. Both are
one path: `fit` calls `fit_many` with a single head, so that a head is the same trained alone and among others.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from mixed_signals.models.coding import Coding
from mixed_signals.models.threads import one_thread

Blocks = Mapping[str, tuple[int, int]]
_SMALL = 5_000_000  # values of a matrix on which a head alone is fitted in one thread
MEMORY = 2 * 2**30  # bytes that one call of `fit_many` may take for what it computes, by default


@dataclass(frozen=True)
class Problem:
    """What heads that are trained together share.

    Attributes
    ----------
    X : ndarray, shape (N, D)
        NaN where a feature is absent.
    y : ndarray, shape (N,) or (N, C)
        Labels, values of an interval target, or 0 and 1 for each class of a multilabel one.
    blocks : dict of str to (start, stop)
        Which columns belong to which modality.
    groups : ndarray, shape (N,), optional
        Rows of one group stay together in inner folds.
    votes : ndarray, shape (N, K), optional
        Votes for each class, in the order of the heads' `classes`.
    weights : ndarray of float64, shape (N,), optional
        What the losses of training rows are multiplied by: at least 0, with mean 1 or so (twice the weights are half
        the penalty). Nothing else is weighted: a row of weight 0 still has its part in standardisation and bins, and
        losses of rows that inner folds hold out count the same, since tested rows do.
    splits : dict
        The inner folds that were made so far; heads that ask for the same get the same.
    """

    X: np.ndarray
    y: np.ndarray
    blocks: dict[str, tuple[int, int]]
    groups: np.ndarray | None = None
    votes: np.ndarray | None = None
    weights: np.ndarray | None = None
    splits: dict[Any, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def present(self) -> dict[str, np.ndarray]:
        """For each modality which rows have a value in it, shape (N,), bool."""
        return {name: np.isfinite(self.X[:, a:b]).any(axis=1) for name, (a, b) in self.blocks.items()}

    def weights_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the weights of some rows (n,), 1 where none are given; float64."""
        return np.ones(len(rows)) if self.weights is None else self.weights[rows]


class Fit(NamedTuple):
    """One head to be fitted on some rows and modalities of a `Problem`.

    Attributes
    ----------
    head : BaseHead
        Not fitted yet; its own `blocks`, where it has such, are those of `modalities` side by side.
    modalities : tuple of str
    rows : ndarray of int
        The training rows; those that have none of the modalities are passed over.
    """

    head: BaseHead
    modalities: tuple[str, ...]
    rows: np.ndarray

    def columns(self, problem: Problem) -> np.ndarray:
        """Return the columns of `problem.X` that the head sees, in its order."""
        return np.concatenate([np.arange(*problem.blocks[name]) for name in self.modalities])

    def begin(self, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
        """Give the head what it knows before it is trained: its coding, its classes, how many features it sees.

        Returns
        -------
        rows : ndarray of int, shape (n,)
            The training rows that have at least one of the modalities.
        encoded : ndarray, shape (n, width)
            Their targets, as the head's `coding_` puts them.

        Raises
        ------
        ValueError
            If there is no such row, none with a weight above 0, or they hold one class only.
        """
        seen = np.logical_or.reduce([problem.present[name] for name in self.modalities])
        rows = self.rows[seen[self.rows]]
        if not len(rows):
            raise ValueError(
                f"no training row has {' or '.join(self.modalities)}; leave it out (--subsets), or make other folds"
            )
        if not problem.weights_of(rows).any():
            raise ValueError(f"all training rows that have {' or '.join(self.modalities)} have weight 0")
        head, y = self.head, problem.y[rows]
        votes = None if problem.votes is None else problem.votes[rows]
        given = getattr(head, "classes", None)
        classes = () if given is None else tuple(given)
        head.coding_ = Coding.of(head.kind_of(y), y, classes, votes)
        head.n_features_in_ = sum(b - a for a, b in (problem.blocks[name] for name in self.modalities))
        head.inner_loss_ = float("nan")
        head.features_ = {}
        if isinstance(head, ClassifierHead):
            head.classes_ = np.array(head.coding_.classes)
        return rows, head.coding_.encode(y, votes, classes)


class BaseHead(BaseEstimator):
    """A head over a matrix (N, D) in which NaN means that a feature is absent.

    Attributes
    ----------
    coding_ : Coding
        How the target is learnt.
    inner_loss_ : float
        Mean loss (see `Coding.losses`) of training rows that inner folds held out, for the settings that were kept; NaN
        where none was held out.
    features_ : dict
        For each modality ``name`` and ``recipe`` of the feature set that a sweep fitted the head on; empty otherwise.
    """

    coding_: Coding
    inner_loss_: float
    features_: dict[str, dict[str, str]]
    n_features_in_: int
    seeded: ClassVar[bool] = False  # whether the result depends on `random_state`

    @abstractmethod
    def kind_of(self, y: np.ndarray) -> str:
        """Return the kind of target that labels of this form are to this head."""

    @classmethod
    @abstractmethod
    def fit_many(
        cls, problem: Problem, fits: Sequence[Fit], *, device: str = "cpu", memory: int = MEMORY
    ) -> None:
        """Fit heads of this class that share data, each as if it were alone.

        Parameters
        ----------
        problem : Problem
        fits : sequence of Fit
            Their heads may differ in settings, seeds, modalities and rows.
        device : str
            Where heads are trained that can be trained elsewhere than on the CPU.
        memory : int
            Bytes that may be taken for what is computed.
        """

    @abstractmethod
    def save(self, stem: str) -> str:
        """Write the fitted head to a file whose name begins with `stem`, and return its path."""

    def take_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back the arrays that `save` wrote, by name."""
        for name, array in arrays.items():
            setattr(self, name, array)

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        groups: np.ndarray | None = None,
        votes: np.ndarray | None = None,
    ) -> Self:
        """Fit the head.

        Parameters
        ----------
        X : array-like, shape (N, D)
            NaN where a feature is absent.
        y : array-like, shape (N,) or (N, C)
            Labels or values; for several labels at once 0 and 1 for each.
        groups : array-like, shape (N,), optional
            Rows of one group stay together wherever training rows are held out.
        votes : array-like, shape (N, K), optional
            Votes for each class, in the order of the parameter `classes`: what is learnt are their shares.

        Raises
        ------
        ValueError
            If these do not fit together.
        """
        X, y = self._checked(X, y)
        check_consistent_length(X, groups, votes)
        if votes is not None:
            classes, shape = getattr(self, "classes", None), np.shape(votes)
            if classes is None or shape[1:] != (len(classes),) or not (np.asarray(votes) >= 0).all():
                raise ValueError(
                    f"votes of shape {shape}: they need the parameter `classes`, one for each column, "
                    "and none is negative"
                )
        problem = Problem(
            X,
            y,
            self._own_blocks(),
            None if groups is None else column_or_1d(groups),
            None if votes is None else np.asarray(votes),
        )
        with one_thread() if X.size < _SMALL else nullcontext():
            self.fit_many(problem, [Fit(self, tuple(problem.blocks), np.arange(len(y)))])
        return self

    def _checked(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        shape = np.asarray(y).shape
        multi_output = len(shape) == 2 and shape[1] > 1
        X, y = validate_data(
            self,
            X,
            y,
            ensure_all_finite="allow-nan",
            multi_output=multi_output,
            y_numeric=isinstance(self, RegressorMixin),
        )
        return X, y

    def _rows(self, X: Any) -> np.ndarray:
        """Check what a fitted head is to predict."""
        check_is_fitted(self)
        checked: np.ndarray = validate_data(self, X, reset=False, ensure_all_finite="allow-nan")
        return checked

    def _own_blocks(self) -> dict[str, tuple[int, int]]:
        """Return the head's blocks; all columns are one block where it has none."""
        blocks: Blocks | None = getattr(self, "blocks", None)
        if blocks is None:
            return {"all": (0, self.n_features_in_)}
        own = {name: (int(start), int(stop)) for name, (start, stop) in blocks.items()}
        ends = np.cumsum([0, *(stop - start for start, stop in own.values())]).tolist()
        if list(own.values()) != list(pairwise(ends)) or ends[-1] != self.n_features_in_:
            raise ValueError(
                f"blocks {own}: they must follow one another and cover the {self.n_features_in_} columns"
            )
        return own

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class ClassifierHead(ClassifierMixin, BaseHead):
    """A head for nominal, ordinal and multilabel targets.

    Parameters (of every such head)
    -------------------------------
    classes : sequence, optional
        All labels, in the order of the columns of `votes`; rising where the target is ordinal. Those of `y` by default.
    ordinal : bool
        Whether the classes are in rising order.

    Attributes
    ----------
    classes_ : ndarray, shape (K,)
        The labels that the training rows hold: the order of the probability columns.
    """

    classes_: np.ndarray
    classes: Sequence[Any] | None
    ordinal: bool

    @abstractmethod
    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the probability of each class, shape (N, K); rows sum to 1 unless the target is multilabel."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable labels, shape (N,); multilabel: 0 and 1 for each class, shape (N, C)."""
        P = self.predict_proba(X)
        if self.coding_.kind == "multilabel":
            return (P > 0.5).astype(np.int64)
        labels: np.ndarray = self.classes_[P.argmax(axis=1)]
        return labels

    def kind_of(self, y: np.ndarray) -> str:
        """Return multilabel for 2-D labels, else ordinal or nominal as the head was told."""
        if y.ndim == 2:
            return "multilabel"
        return "ordinal" if self.ordinal else "nominal"

    def _checked(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        X, y = super()._checked(X, y)
        check_classification_targets(y)
        return X, y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class RegressorHead(RegressorMixin, BaseHead):
    """A head for interval targets."""

    @abstractmethod
    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the values, shape (N,)."""

    def kind_of(self, y: np.ndarray) -> str:
        """Return interval."""
        return "interval"
