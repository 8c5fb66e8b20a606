"""Where a feature set's vectors come from, as two short fingerprints.

The *recipe* says how vectors are made (encoder, weights, preprocessing, layer, pooling, dtypes). The *content* adds
what they were made of (each row's media or text) and which rows are there. Library versions are recorded beside them
and never hashed: a new version alone changes neither.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from mixed_signals.store.errors import UsageError

MODALITIES = ("text", "audio", "video")
STORE_DTYPES = ("float32", "float16")


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
    revision : str
        Which revision of published weights was asked for, if any.
    store_dtype : str
        Precision of what is kept: float32 or float16.

    Raises
    ------
    UsageError
        If the modality or the precision of what is kept is none of these, or a value is of another type.
    """

    encoder: str
    modality: str
    weights: str = ""
    preprocessing: dict[str, Any] = field(default_factory=dict)
    layer: str = "last"
    pooling: str = ""
    dtype: str = "float32"
    revision: str = ""
    store_dtype: str = "float32"

    def __post_init__(self) -> None:
        texts = [value for name, value in vars(self).items() if name != "preprocessing"]
        if not all(isinstance(text, str) for text in texts) or not isinstance(self.preprocessing, dict):
            raise UsageError("a recipe is made of text, and preprocessing of named values")
        if self.modality not in MODALITIES:
            raise UsageError(f"modality {self.modality!r}: use {', '.join(MODALITIES)}")
        if self.store_dtype not in STORE_DTYPES:
            raise UsageError(f"store dtype {self.store_dtype!r}: use {' or '.join(STORE_DTYPES)}")

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that identify the recipe.

        What stands at its default does not count, so a field that a later version adds changes no old fingerprint; nor
        does the revision, since the weights' hash says what it came to.
        """
        said = asdict(self) | {"revision": ""}
        return fingerprint({name: said[name] for name in said if said[name] != _DEFAULTS[name]})


_DEFAULTS = {
    one.name: one.default_factory() if one.default_factory is not MISSING else one.default
    for one in fields(Recipe)
}


def feature_name(encoder: str, layer: str = "", pooling: str = "", name: str = "") -> str:
    """Return the name of a feature set: ``<encoder>[.<layer>.<pooling>][.<name>]``.

    Parameters
    ----------
    encoder : str
        A preset, a hub id or a folder; its last part is used.
    layer, pooling : str
        Where they are not the encoder's own; both or neither.
    name : str
        Tells apart feature sets that would be called the same.

    Examples
    --------
    >>> feature_name("facebook/hubert-base-ls960", layer="9", pooling="mean", name="tuned")
    'hubert-base-ls960.9.mean.tuned'
    """
    parts = [encoder.rstrip("/").rpartition("/")[2], layer, pooling, name]
    return ".".join(part for part in parts if part)


def fingerprint(content: Any) -> str:
    """Return sixteen hexadecimal digits of the SHA-256 of `content` as canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def row_hashes(what: str, *columns: Iterable[object]) -> np.ndarray:
    """Return 32 hexadecimal digits for each row of some columns, shape (N,), bytes.

    Of vectors they tell what each was made of: of ``text`` the text; of ``media`` the file's hash, start and end. Of
    a ``cut``, which part (start and end) of which media entry an utterance is, they need no look at the media.
    """
    rows = ("\x1f".join((what, *map(str, row))).encode() for row in zip(*columns, strict=True))
    return np.fromiter((hashlib.sha256(row).hexdigest()[:32] for row in rows), "S32")


def as_bytes(texts: Sequence[str] | np.ndarray, width: int | None = None) -> np.ndarray:
    """Return UTF-8 bytes of one fixed width (cut at whole characters), which no reader has to unpickle.

    What is bytes already stays as it is.
    """
    if isinstance(texts, np.ndarray) and texts.dtype.kind == "S":
        return texts
    if width is None:
        with suppress(UnicodeEncodeError):  # the quick way, of ASCII
            return np.asarray(texts, dtype=object).astype(np.bytes_)
    encoded = [text.encode() for text in texts]
    if width is not None:
        encoded = [text[:width].decode(errors="ignore").encode() for text in encoded]
    widest = width or max(map(len, encoded), default=0)
    return np.array(encoded, dtype=f"S{max(widest, 1)}")


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of the named distributions, leaving out those not installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
