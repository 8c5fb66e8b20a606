"""Heads on disk: arrays as safetensors with their settings as JSON in the header; nothing is pickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mixed_signals.store.errors import MixedSignalsError, UsageError

_KEY = "mixed_signals"


def write_arrays(stem: str, head: Any, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> str:
    """Write a fitted head's arrays, plain values, settings and classes to ``<stem>.safetensors``."""
    from safetensors.numpy import save_file

    described = {
        "class": type(head).__name__,
        "params": head.get_params(),
        "classes": head.classes_.tolist(),
        "n_features_in": head.n_features_in_,
        "values": values,
    }
    path = f"{stem}.safetensors"
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(contiguous, path, metadata={_KEY: json.dumps(described)})
    return path


def read_arrays(path: str, kind: type) -> Any:
    """Return a head of class `kind` with what `write_arrays` kept."""
    from safetensors import safe_open

    described = describe(path)
    head = kind(**described["params"])
    with safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 - not a dictionary
            setattr(head, name, file.get_tensor(name))
    for name, value in described["values"].items():
        setattr(head, name, value)
    head.classes_ = np.array(described["classes"])
    head.n_features_in_ = described["n_features_in"]
    return head


def describe(path: str) -> dict[str, Any]:
    """Return what a head's file says of it: class, settings, classes."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
    except (OSError, SafetensorError) as error:
        raise MixedSignalsError(f"{path}: not readable as a head ({error})") from error
    if text is None:
        raise MixedSignalsError(f"{path}: a safetensors file, but not a head")
    described: dict[str, Any] = json.loads(text)
    return described


def load_head(path: str | Path) -> Any:
    """Read a fitted head from the file that a run keeps it in (``runs/<name>/heads/...``).

    Returns
    -------
    LogisticHead, XGBoostHead or GatedHead

    Raises
    ------
    UsageError
        If there is no such file.
    MixedSignalsError
        If the file is not a head.
    """
    from mixed_signals.models.heads import HEADS

    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if path.suffix == ".json":
        return HEADS["xgboost"].load().load(str(path))  # type: ignore[attr-defined]
    name = describe(str(path))["class"]
    kinds = {kind.name: kind for kind in HEADS.values()}
    if name not in kinds:
        raise MixedSignalsError(f"{path}: a head of unknown class {name!r}")
    return kinds[name].load().load(str(path))  # type: ignore[attr-defined]
