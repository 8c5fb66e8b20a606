"""The heads by name: one file per head, one line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from mixed_signals.store.errors import UsageError

if TYPE_CHECKING:
    import numpy as np


class Head(Protocol):
    """What the sweep asks of a head: a scikit-learn classifier over named column blocks.

    Attributes
    ----------
    classes_ : ndarray of str, shape (K,)
        The labels, in the order of the probability columns.
    """

    classes_: np.ndarray

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> Head:
        """Fit on X (N, D) with NaN where a modality is absent, labels y (N,), and groups (N,) to keep together."""

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return class probabilities, shape (N, K)."""

    def save(self, stem: str) -> str:
        """Write the fitted head to one file beginning with `stem` and return the file's path."""


@dataclass(frozen=True)
class HeadKind:
    """A head's place in the registry.

    Attributes
    ----------
    module, name : str
        Where the class is.
    fusion : bool
        Whether it has gates of its own, so that it is asked for with ``--fusion``.
    seeded : bool
        Whether its result depends on the seed; the others are fitted once.
    """

    module: str
    name: str
    fusion: bool
    seeded: bool

    def load(self) -> type:
        """Import the class."""
        loaded: type = getattr(import_module(f"mixed_signals.models.{self.module}"), self.name)
        return loaded


HEADS = {
    "logistic": HeadKind("logistic", "LogisticHead", fusion=False, seeded=False),
    "xgboost": HeadKind("boosted", "XGBoostHead", fusion=False, seeded=True),
    "gated": HeadKind("gated", "GatedHead", fusion=True, seeded=True),
}


def head_kind(name: str) -> HeadKind:
    """Return a head's entry.

    Raises
    ------
    UsageError
        If there is no such head.
    """
    if name not in HEADS:
        raise UsageError(f"unknown head {name!r} (heads: {', '.join(HEADS)})")
    return HEADS[name]


def make_head(name: str, blocks: Mapping[str, tuple[int, int]], seed: int) -> Any:
    """Return an unfitted head for columns laid out as `blocks`.

    Parameters
    ----------
    name : str
        A key of `HEADS`.
    blocks : mapping of str to (start, stop)
        Which columns belong to which modality.
    seed : int
        Ignored by heads whose result does not depend on it.
    """
    kind = head_kind(name)
    options: dict[str, Any] = {"random_state": seed} if kind.seeded else {}
    if kind.fusion:
        options["blocks"] = dict(blocks)
    return kind.load()(**options)
