"""Tensors with ids in a file of ``torch.save``: ``{"utterance_id": [texts], "embedding": (N, D)}`` or ``{id: (D,)}``.

Read with ``weights_only=True``: torch's own unpickler of plain data, which runs nothing that the file names. As it can
be kept busy for ever all the same, its pickle is looked through beforehand (see `plain_pickle`).
"""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mixed_signals.store.errors import UsageError
from mixed_signals.store.exchange.matrices import (
    Matrix,
    Request,
    as_matrix,
    as_texts,
    numbered,
    one_line,
    refuse_inflated,
    unreadable,
)
from mixed_signals.store.exchange.plain_pickle import Refused, walk

_NAMED = re.compile(r"nsupported (?:global: )?GLOBAL ([\w.]+)", re.IGNORECASE)
_EXPECTED = "{{'utterance_id': [N texts], {key!r}: tensor (N, D)}} or {{id: tensor (D,)}}"


def read_torch(source: Path, request: Request) -> Matrix:
    """Read tensors with ids; `request.key` in the place of ``embedding``.

    Raises
    ------
    UsageError
        If the file names code, or holds something else.
    MixedSignalsError
        If the file is not readable.
    """
    key = request.key or "embedding"
    try:
        _refuse_nested(source)
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(source, map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except Exception as error:  # damaged bytes make torch raise nearly anything
        named = _NAMED.search(str(error))
        if named is None:
            raise unreadable(source, error) from error
        raise UsageError(
            f"{source}: refused: it names {named[1]}, which is code, not data; save plain lists and tensors"
        ) from None
    ids, vectors = _ids_and_vectors(content, key, by_id=request.key is None)
    if vectors is None or not isinstance(ids, list) or not all(type(utterance) is str for utterance in ids):
        raise UsageError(
            f"{source}: expected {_EXPECTED.format(key=key)}; it holds {one_line(_described(content))}"
        )
    return Matrix(
        as_texts(np.array(ids, dtype=object), f"{source}: utterance_id", len(vectors)),
        as_matrix(vectors, f"{source}: {key}"),
        numbered(request.name, vectors.shape[1]),
    )


def _refuse_nested(source: Path) -> None:
    """Refuse tuples as keys, in a file as torch writes it since 1.6: an archive with a pickle."""
    refuse_inflated(source)
    with zipfile.ZipFile(source) as archive:
        for file in archive.infolist():
            if file.filename.endswith(".pkl"):
                try:
                    walk(archive.read(file), ())
                except Refused as error:
                    raise UsageError(f"{source}: refused: {error}; save plain lists and tensors") from None


def _ids_and_vectors(content: Any, key: str, by_id: bool) -> tuple[Any, np.ndarray | None]:
    """Return what stands for the ids, and the vectors, shape (N, D), or None where there are none."""
    if not isinstance(content, dict):
        return None, None
    if "utterance_id" in content and key in content:
        return content["utterance_id"], _values(content[key], 2)
    rows = [row for value in content.values() if (row := _values(value, 1)) is not None]
    if not by_id or len(rows) < len(content) or len({row.shape for row in rows}) != 1:
        return None, None
    return list(content), np.stack(rows)


def _values(value: Any, axes: int) -> np.ndarray | None:
    """Return an ordinary tensor of numbers as an array, or None; one larger than its stored values is none."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        return None
    if value.is_complex() or value.is_quantized or value.ndim != axes:
        return None
    if value.nbytes > value.untyped_storage().nbytes():
        return None
    plain = value.detach().resolve_neg()
    return plain.to(torch.float64 if value.dtype == torch.float64 else torch.float32).numpy()


def _described(content: Any) -> str:
    """Return what was found, in a few words."""
    if isinstance(content, torch.Tensor):
        return f"a tensor of shape {tuple(content.shape)} without ids"
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    shown = [
        f"{repr(name) if isinstance(name, str) else type(name).__name__}: "
        f"{f'tensor {tuple(value.shape)}' if isinstance(value, torch.Tensor) else type(value).__name__}"
        for name, value in list(content.items())[:3]
    ]
    return f"{{{', '.join(shown)}{', ...' if len(content) > 3 else ''}}}"
