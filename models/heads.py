"""The heads by name: one file per head, one line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from mixed_signals.store.errors import UsageError


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
    """Return an unfitted head (a `mixed_signals.models.base.BaseHead`) for columns laid out as `blocks`.

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
