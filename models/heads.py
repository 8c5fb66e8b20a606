"""The heads by name: one file per head, one line here."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mixed_signals.store.errors import UsageError

if TYPE_CHECKING:
    from mixed_signals.models.base import BaseHead


@dataclass(frozen=True)
class HeadKind:
    """A head's place in the registry.

    Attributes
    ----------
    module : str
        Where its classes are, below `mixed_signals.models`.
    classifier, regressor : str
        The class for nominal, ordinal and multilabel targets, and the one for interval targets; empty if there is none.
    fusion : bool
        Whether it does more than put the modalities side by side: it is asked for with ``--fusion``.
    several : bool
        Whether it makes sense with two modalities or more only.
    cpu_only : bool
        Whether it is trained on the CPU whatever the device.
    """

    module: str
    classifier: str
    regressor: str
    fusion: bool = False
    several: bool = False
    cpu_only: bool = False

    def load(self, kind: str) -> type[BaseHead] | None:
        """Return the class for a kind of target, or None where there is none."""
        name = self.regressor if kind == "interval" else self.classifier
        if not name:
            return None
        loaded: type[BaseHead] = getattr(import_module(f"mixed_signals.models.{self.module}"), name)
        return loaded


HEADS = {
    "logistic": HeadKind("logistic", "LogisticHead", ""),
    "ridge": HeadKind("logistic", "", "RidgeHead"),
    "xgboost": HeadKind("boosted", "XGBoostHead", "XGBoostRegressor", cpu_only=True),
    "gated": HeadKind("gated", "GatedHead", "GatedRegressor", fusion=True),
    "gated-attention": HeadKind("attention", "GatedAttentionHead", "GatedAttentionRegressor", fusion=True),
    "mean": HeadKind("baselines", "MeanHead", "MeanRegressor", fusion=True, several=True),
    "stacking": HeadKind("baselines", "StackingHead", "StackingRegressor", fusion=True, several=True),
}


@dataclass(frozen=True)
class HeadSpec:
    """A head as it is asked for: ``gated`` or ``gated@hidden=32@dropout=0.5``.

    Attributes
    ----------
    name : str
        As it was written: what tables call it.
    base : str
        A key of `HEADS`.
    settings : dict
        Parameters that differ from the head's own.
    """

    name: str
    base: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def head_kind(self) -> HeadKind:
        """The head's entry in the registry."""
        return HEADS[self.base]

    def cls(self, kind: str) -> type[BaseHead]:
        """Return the head's class for a kind of target.

        Raises
        ------
        UsageError
            If the head does not learn such targets, or has no such setting.
        """
        found = self.head_kind.load(kind)
        if found is None:
            other = "ridge" if kind == "interval" else "logistic"
            raise UsageError(f"head {self.base!r} does not learn {kind} targets; use {other}")
        known = set(inspect.signature(found).parameters) - _GIVEN
        if unknown := sorted(set(self.settings) - known):
            raise UsageError(
                f"head {self.name!r} has no setting {unknown[0]!r} (it has: {', '.join(sorted(known))})"
            )
        for name, value in self.settings.items():
            default = inspect.signature(found).parameters[name].default
            if fault := _fault(value, default, at_least=0 if name.startswith("n_") else 1):
                raise UsageError(f"head {self.name!r}: {name}={value!r}: {fault}")
        return found

    def make(
        self,
        kind: str,
        classes: Sequence[str],
        blocks: Mapping[str, tuple[int, int]],
        seed: int = 0,
        order: int = 0,
    ) -> BaseHead:
        """Return an unfitted head.

        Parameters
        ----------
        kind : str
            Of the target: nominal, ordinal, interval or multilabel.
        classes : sequence of str
            Its labels in order; empty for an interval target.
        blocks : mapping of str to (start, stop)
            Which of the head's columns belong to which modality.
        seed, order : int
            Passed over by heads whose result does not depend on them.
        """
        cls = self.cls(kind)
        given = {
            "classes": tuple(classes),
            "ordinal": kind == "ordinal",
            "blocks": dict(blocks),
            "random_state": seed,
            "order": order,
        }
        taken = inspect.signature(cls).parameters
        return cls(**{name: value for name, value in given.items() if name in taken}, **self.settings)


_GIVEN = {"classes", "ordinal", "blocks", "random_state", "order"}


def _fault(value: Any, default: Any, at_least: int) -> str:
    """Return what is wrong with a setting, judged by its default; nothing where that does not tell."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "it is true or false"
    if isinstance(default, int):
        whole = number and value == int(value) and value >= at_least
        return "" if whole else f"it is a whole number of at least {at_least}"
    if isinstance(default, float):
        return "" if number and 0 <= value < float("inf") else "it is a number of at least 0"
    if isinstance(default, tuple):
        positive = (
            isinstance(value, list) and value and all(isinstance(v, int | float) and v > 0 for v in value)
        )
        return "" if positive else "it is a list of numbers above 0, such as [0.01,0.1]"
    return ""


def head_spec(text: str) -> HeadSpec:
    """Return the head that is written ``NAME`` or ``NAME@SETTING=VALUE@...``.

    Values are JSON where they can be read as such (``0.5``, ``true``, ``[1,2]``), else plain text.

    Raises
    ------
    UsageError
        If there is no such head, or a setting has no value.

    Examples
    --------
    >>> head_spec("gated@hidden=32@gate=sigmoid").settings
    {'hidden': 32, 'gate': 'sigmoid'}
    """
    if "/" in text:
        raise UsageError(f"head {text!r}: its name becomes a file's; leave out the /")
    base, *parts = text.split("@")
    if base not in HEADS:
        raise UsageError(f"unknown head {base!r} (heads: {', '.join(HEADS)})")
    settings = {}
    for part in parts:
        key, sign, value = part.partition("=")
        if not (key and sign and value):
            raise UsageError(f"head {text!r}: write a setting as NAME=VALUE, e.g. gated@hidden=32")
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return HeadSpec(text, base, settings)
