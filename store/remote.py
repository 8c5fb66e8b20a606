"""Media that are not on this machine, by `fsspec`: what identifies each, and of their bytes those that are asked for.

Keys and options come from where `fsspec` and the protocol's own library look for them: the environment, and their
configuration files. Nothing that one of them says is handed on before credentials are taken out of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.urls import redacted

BLOCK_BYTES = 2**20
"""Bytes of one request: what lies between two of them is not fetched, what lies within is kept."""

MOST_BLOCKS = 32
"""Blocks of a file that are kept in memory."""

LISTED = 8
"""Of so many files and more in one folder the folder is listed; of fewer each is asked for."""

_AT_ONCE = 32  # questions that are asked side by side
_KEPT_SECONDS = 60.0  # that a file stays open for who reads on in it
_CHECKSUMS = ("blob_id", "md5Hash", "crc32c", "Content-MD5")  # the names of the several protocols
_VERSIONS = (
    "ETag",
    "etag",
    "Last-Modified",
    "LastModified",
    "last_modified",
    "updated",
    "mtime",
    "created",
)
_LONGEST = 150  # characters of what a library says
_MEND = "see that the address is right and the environment has what opens it, or name a folder (--media-root)"
_TALKATIVE = ("aiobotocore", "botocore", "fsspec", "gcsfs", "huggingface_hub", "s3fs", "urllib3")


class Unreachable(Exception):  # noqa: N818 - a state of a file rather than a fault
    """A file, or what would be known of it, is not to be had; the message says why, without credentials.

    Attributes
    ----------
    kind : str
        ``absent`` (there is no such file), ``refused`` (to whoever asks), ``library`` (the protocol's is not
        installed) or ``broken`` (anything else, which may go better another time).
    """

    def __init__(self, message: str, kind: str = "broken") -> None:
        super().__init__(message)
        self.kind = kind


class Mark(NamedTuple):
    """What is known of a file without reading it: what changes when its content does, and how many bytes it has."""

    identity: str
    size: int


class RemoteFile:
    """A file as decoders read it, by blocks.

    Decoders take an error for the end of the file, and would make a short clip of a broken connection; so the first
    one is kept for who opened it.

    Attributes
    ----------
    size : int
        In bytes.
    fault : Unreachable or None
        Why reading ended, if not at the end.
    """

    fault: Unreachable | None = None

    def __init__(self, url: str) -> None:
        self.url, self.opened = url, time.monotonic()
        with _explained():
            system, path = _place(url)
            cache = {"cache_type": "blockcache", "cache_options": {"maxblocks": MOST_BLOCKS}}
            self._file: Any = system.open(path, "rb", block_size=BLOCK_BYTES, **cache)
        if self._file.size is None:
            raise Unreachable("the server does not tell its length, and gives no parts of it")
        self.size: int = self._file.size

    def read(self, n: int = -1) -> bytes:
        """Return the next `n` bytes, or as many as there are.

        Raises
        ------
        Unreachable
            If they do not come, now and from then on.
        """
        if self.fault is not None:
            raise self.fault
        left = max(self.size - self._file.tell(), 0)
        try:
            with _explained():
                content: bytes = self._file.read(n)
                if len(content) != (left if n < 0 else min(n, left)):
                    raise EOFError("not as many bytes came as were asked for")
        except Unreachable as fault:
            self.fault = fault
            raise
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a place in the file, and return it; nothing is read."""
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Return the place in the file."""
        return int(self._file.tell())

    def close(self) -> None:
        """Let go of the file."""
        with suppress(Exception):
            self._file.close()


_kept = threading.local()


@contextmanager
def reading(url: str) -> Iterator[RemoteFile]:
    """Open a file; for this thread it stays open a while, with the blocks that were read, for a second look.

    Raises
    ------
    Unreachable
        If it cannot be opened; and at the end of the block, whatever came of it there, if it could not be read.
    """
    file: RemoteFile | None = getattr(_kept, "file", None)
    _kept.file = None
    if file is not None and (file.url != url or time.monotonic() - file.opened > _KEPT_SECONDS):
        file.close()
        file = None
    file = file or RemoteFile(url)
    file.seek(0)
    try:
        yield file
    finally:
        if file.fault is not None:
            file.close()
            raise file.fault from None
        _kept.file = file


def look(urls: Iterable[str]) -> dict[str, Mark | None]:
    """Return what is known of files, as they are now; None where there is none, or none that can be read.

    Folders are listed where many of their files are asked for: a request for each thousand files there, of S3.
    Elsewhere, and of HTTP always, it is a request for each file.

    Raises
    ------
    UsageError
        If the library of a protocol is not installed.
    MixedSignalsError
        If nothing is had of any of them, and not because there is none: no permission, no network.
    """
    folders = defaultdict[str, list[str]](list)
    for url in dict.fromkeys(urls):
        folders[url.rpartition("/")[0]].append(url)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        found = dict[str, Mark | Unreachable | None]()
        for folder, listed in zip(folders, threads.map(_list, folders, folders.values()), strict=True):
            if isinstance(listed, dict):
                found |= {url: listed.get(url) for url in folders[folder]}
        alone = [url for those in folders.values() for url in those if url not in found]
        answers = threads.map(_ask, alone)
        try:
            for url, answer in zip(alone, answers, strict=True):
                found[url] = answer
                if len(found) >= _AT_ONCE:
                    _refuse_hopeless(found)
        finally:
            answers.close()  # type: ignore[attr-defined]  # what is still waiting to be asked is not
    _refuse_hopeless(found)
    return {url: one if isinstance(one, Mark) else None for url, one in found.items()}


def _refuse_hopeless(found: Mapping[str, Mark | Unreachable | None]) -> None:
    """Raise where nothing is had of any file, and not because there is none."""
    if not any(isinstance(one, Mark) for one in found.values()):
        for url, one in found.items():
            if isinstance(one, Unreachable):
                raise MixedSignalsError(f"{url}: {one}; {_MEND}")


def _list(folder: str, files: Sequence[str]) -> dict[str, Mark | None] | None:
    """Return what is known of a folder's files; None where they are few, or it is not listed."""
    try:
        with _explained():
            system, path = _place(folder)
            system.invalidate_cache(path)
            if len(files) < LISTED or folder.lower().startswith(
                "http"
            ):  # whose pages do not tell what changes
                return None
            infos = system.ls(path, detail=True)
    except Unreachable as error:
        _refuse_without_library(folder, error)
        return {} if error.kind == "absent" else None
    urls = [f"{folder}/{info['name'].rpartition('/')[2]}" for info in infos]
    return {url: _mark(url, info) for url, info in zip(urls, infos, strict=True)}


def _ask(url: str) -> Mark | Unreachable | None:
    try:
        with _explained():
            system, path = _place(url)
            return _mark(url, system.info(path))
    except Unreachable as error:
        _refuse_without_library(url, error)
        return None if error.kind == "absent" else error


def _refuse_without_library(url: str, error: Unreachable) -> None:
    if error.kind == "library":
        raise UsageError(f"{url}: {error}") from None


def _mark(url: str, info: Mapping[str, Any]) -> Mark | None:
    if info["type"] != "file":
        return None
    size = int(info.get("size") or 0)
    # Of S3 an ETag is made of the content. Elsewhere it is often the time of the last change and the size, which other
    # files have too, and tells versions of one address apart and no more (RFC 9110, 8.8.3).
    checksums = (*_CHECKSUMS, "ETag") if url[:2].lower() == "s3" else _CHECKSUMS
    if content := next((info[name] for name in checksums if info.get(name)), None):
        return Mark(f"{content} {size}", size)
    version = next((info[name] for name in _VERSIONS if info.get(name)), "")
    return Mark(f"{url} {version} {size}", size)


def _place(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path there."""
    from fsspec.core import url_to_fs

    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())  # what they warn of may show a signed request
    system, path = url_to_fs(url)
    return system, path


@contextmanager
def _explained() -> Iterator[None]:
    """Turn whatever a protocol's library throws into `Unreachable`, and leave nothing of it but its kind and text."""
    try:
        yield
    except Exception as error:
        reason = _reason(error)
    else:
        return
    raise reason from None


def _reason(error: Exception) -> Unreachable:
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and type(cause).__module__.partition(".")[0] == "aiohttp":
        return _reason(cause)  # type: ignore[arg-type]  # of HTTP, which calls everything so
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return Unreachable("the file does not exist", "absent")
    if isinstance(error, PermissionError) or status in (401, 403):
        return Unreachable("there is no permission to read it", "refused")
    if "Credential" in type(error).__name__:
        return Unreachable("this machine has no keys to read it with", "refused")
    if isinstance(error, ImportError):
        return Unreachable(f"a library to read it with is not installed ({error})", "library")
    if isinstance(error, TimeoutError):
        return Unreachable("no answer came in time")
    said = redacted(f"{type(error).__name__}: {error}")[:_LONGEST].rstrip(": ")
    return Unreachable(f"it could not be read over the network ({said})")
