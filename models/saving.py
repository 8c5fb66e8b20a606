"""Heads on disk: arrays as safetensors with their settings as JSON in the header; nothing is pickled."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixed_signals.models.coding import Coding
from mixed_signals.models.heads import HEADS
from mixed_signals.store.disk import saved_or_error
from mixed_signals.store.errors import MixedSignalsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mixed_signals.models.base import BaseHead

KEY = "mixed_signals"


def describe(head: BaseHead, values: Mapping[str, Any]) -> str:
    """Return what rebuilds a fitted head but for its arrays, as JSON: class, settings, coding, and plain `values`."""
    described = {
        "class": type(head).__name__,
        "params": head.get_params(deep=False),
        "coding": asdict(head.coding_),
        "n_features_in": head.n_features_in_,
        "features": head.features_,
        "values": {"inner_loss_": head.inner_loss_, **values},
    }
    return json.dumps(described, default=_plain)


def rebuild(described: Mapping[str, Any]) -> BaseHead:
    """Return a head with its settings, coding, classes and plain values; its arrays are still to be set."""
    name = described["class"]
    kind = next((kind for kind in HEADS.values() if name in (kind.classifier, kind.regressor)), None)
    if kind is None:
        raise MixedSignalsError(f"a head of unknown class {name!r}; a newer version may read it")
    coding = Coding(**{**described["coding"], "classes": tuple(described["coding"]["classes"])})
    cls = kind.load(coding.kind)
    if cls is None or cls.__name__ != name:
        raise MixedSignalsError(f"class {name!r} does not learn {coding.kind} targets: the file is damaged")
    head = cls(**described["params"])
    head.coding_ = coding
    head.n_features_in_ = described["n_features_in"]
    head.features_ = described["features"]
    if coding.kind != "interval":
        head.classes_ = np.array(coding.classes)
    for key, value in described["values"].items():
        setattr(head, key, value)
    return head


def write_arrays(
    stem: str, head: BaseHead, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]
) -> str:
    """Write a fitted head's arrays, plain values, settings and coding to ``<stem>.safetensors``; return that path."""
    from safetensors.numpy import save_file

    path = f"{stem}.safetensors"
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with saved_or_error(Path(path)):
        save_file(contiguous, path, metadata={KEY: describe(head, values)})
    return path


def load_head(path: str | Path) -> Any:
    """Read a fitted head from the file that a run keeps it in (``runs/<name>/heads/...``).

    Returns
    -------
    BaseHead
        Of the class that was saved.

    Raises
    ------
    UsageError
        If there is no such file.
    MixedSignalsError
        If the file is not a head.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if path.suffix == ".json":
        from mixed_signals.models.boosted import read_booster

        return read_booster(str(path))
    return _read_arrays(str(path))


def _read_arrays(path: str) -> BaseHead:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (OSError, SafetensorError) as error:
        raise MixedSignalsError(f"{path}: not readable as a head ({error})") from error
    if text is None:
        raise MixedSignalsError(f"{path}: a safetensors file, but not a head")
    head = rebuild(json.loads(text))
    head.take_arrays(arrays)
    return head


def _plain(value: Any) -> Any:
    """Turn numpy's numbers and arrays, and sequences, into what JSON has."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, range | set | frozenset):
        return list(value)
    raise TypeError(f"{type(value).__name__} {value!r} cannot be kept in a head's file")
