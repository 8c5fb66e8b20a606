"""Where a feature set's vectors come from, as two short fingerprints.

The *recipe* says how vectors are made (encoder, weights, preprocessing, layer, pooling, dtype). The *content* adds
what they were made of (each row's media or text) and which rows are there. Library versions are recorded beside them
and never hashed: a new version alone changes neither.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """How the vectors of a feature set are made.

    Parameters
    ----------
    encoder : str
        The encoder's name, e.g. ``minilm``.
    modality : str
        text, audio or video.
    weights : str
        Hash of the weights, or what stands for them (a library's built-in configuration and its version).
    preprocessing : dict
        Everything that is done before the encoder: sample rate, frame rate, token limit.
    layer, pooling : str
        Which layer is read, and how its positions become one vector.
    dtype : str
        Precision of computing.
    """

    encoder: str
    modality: str
    weights: str = ""
    preprocessing: dict[str, Any] = field(default_factory=dict)
    layer: str = "last"
    pooling: str = ""
    dtype: str = "float32"

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that identify the recipe."""
        return fingerprint(asdict(self))


def fingerprint(content: Any) -> str:
    """Return sixteen hexadecimal digits of the SHA-256 of `content` as canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def row_hash(*parts: object) -> str:
    """Return 32 hexadecimal digits that identify what one vector was made of."""
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def text_hash(text: str) -> str:
    """Return what identifies a vector's text."""
    return row_hash("text", text)


def media_hash(content: str, start: float, end: float) -> str:
    """Return what identifies a vector's media: the file's hash, and start and end in seconds (NaN for none)."""
    return row_hash("media", content, start, end)


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of the named distributions, leaving out those not installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
