"""What the page plays for each utterance: a link into its recording, a clip cut out of it, or why there is neither."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from mixed_signals.analysis.report.helpers import Helpers, cutting, probing
from mixed_signals.store import Corpus, MixedSignalsError

CLIPS = "assets/clips"
"""Folder of the clips, below that of the report."""

SAMPLED = 16
"""Of so many times two files and more that are alike by folder and suffix, so many are looked into."""

_RECIPE = 1  # of clips: another one makes all of them anew
_KINDS = {".mp4": "video", ".m4a": "audio", ".webm": "video", ".weba": "audio"}
_CLIP = re.compile(r"[0-9a-f]{16}\.(mp4|m4a|webm|weba)|\.[0-9a-f]{16}\..*\.tmp")

Times = tuple[float | None, float | None]


def describe_media(
    corpus: Corpus,
    ids: Sequence[str],
    folder: Path,
    *,
    clips: bool = False,
    on_clip: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Return what the page plays for each utterance, and cut the clips that it needs.

    A recording that browsers cannot play is cut into clips in any case. Clips are named after what they were cut from
    (media entry, size and time of the file, start and end), so those that are there already are not cut again; those
    that no utterance needs any more are removed.

    Parameters
    ----------
    corpus : Corpus
    ids : sequence of str
        Utterances of the corpus.
    folder : Path
        Of the report, ``index.html``'s.
    clips : bool
        Whether each utterance gets a clip of its own, so that the report can be moved without the recordings.
    on_clip : callable, optional
        Called with how many clips are cut and how many are to be.

    Returns
    -------
    list of dict
        In the order of `ids`: ``{"kind": "audio" | "video", "src", "start", "end"}``, where `src` is a URL relative to
        the report (absolute where the recording is on another drive) and start and end are in seconds, None for
        that of the file; or ``{"why"}``, a sentence, and ``"href"`` where the recording is on the web: nothing is
        fetched from there unless the reader follows the link.

    Raises
    ------
    MixedSignalsError
        If the disk is full.
    """
    rows = _rows(corpus, ids)
    found = {entry: locate(corpus, entry) for entry in dict.fromkeys(row[0] for row in rows if row)}
    paths = {entry: path for entry, path in found.items() if isinstance(path, Path)}
    with Helpers() as helpers:
        media = {} if clips else _probed(helpers, list(paths.values()))
        wanted = {
            row: clip_stem(row[0], paths[row[0]], row[1:])
            for row in dict.fromkeys(rows)
            if row and row[0] in paths and (clips or _unplayable(media[paths[row[0]]]))
        }
        cut = _cut(helpers, wanted, paths, folder / CLIPS, on_clip)
    described = []
    for row in rows:
        if row is None:
            described.append({"why": "The corpus does not hold this utterance any more."})
        elif row[0] not in paths:
            described.append({"why": str(found[row[0]])} | _address(corpus, row[0], row[1:]))
        elif row in wanted:
            described.append(_clip(row[0], cut[wanted[row]]))
        else:
            path = paths[row[0]]
            described.append(_link(row[0], media[path], path, folder, row[1:]))
    return described


def locate(corpus: Corpus, entry: str) -> Path | str:
    """Return the file of a media entry, or a sentence that says why there is none."""
    if not entry:
        return "The corpus names no recording of this utterance."
    if url := corpus.media_url(entry):
        return f"The recording is at {url} and not on this machine; of such recordings no clips are cut."
    if corpus.media_root is None:
        return "The corpus does not say where its recordings are; import it again with --media-root."
    try:
        path = corpus.media_path(entry)
    except (MixedSignalsError, ValueError, OSError):
        return f"The media entry {entry} leads out of the media root."
    if not (isinstance(path, Path) and path.is_file()):
        return f"The recording {entry} is not there any more."
    return path


def _address(corpus: Corpus, entry: str, times: Times) -> dict[str, str]:
    """Return where a browser finds a recording that is on the web, from its start to its end (W3C Media Fragments)."""
    url = corpus.media_url(entry) or ""
    if not url.lower().startswith(("http://", "https://")):
        return {}
    start, end = times
    if start is None and end is None:
        return {"href": url}
    return {"href": f"{url}#t={start or 0:g}{'' if end is None else f',{end:g}'}"}


def clip_stem(entry: str, path: Path, times: Times) -> str:
    """Return the name, without suffix, of the clip that is cut out of a recording as it is now."""
    stat = path.stat()
    source = json.dumps([_RECIPE, entry, stat.st_size, stat.st_mtime_ns, *times])
    return hashlib.blake2b(source.encode(), digest_size=8).hexdigest()


def clip_file(folder: Path, stem: str) -> Path | None:
    """Return the clip of that name in a folder, or None if there is none."""
    files = (folder / f"{stem}{suffix}" for suffix in _KINDS)
    return next((file for file in files if file.is_file()), None)


def times_of(start: float, end: float) -> Times:
    """Return start and end as the page has them: None where there is none."""
    return None if pd.isna(start) else float(start), None if pd.isna(end) else float(end)


def _rows(corpus: Corpus, ids: Sequence[str]) -> list[tuple[str, float | None, float | None] | None]:
    """Return media entry, start and end of each utterance; None for one that the corpus does not have."""
    table = corpus.utterances
    cuts = [
        (entry, *times_of(start, end))
        for entry, start, end in zip(table["media"], table["start"], table["end"], strict=True)
    ]
    places = pd.Index(corpus.ids).get_indexer(pd.Index(list(ids), dtype=object))
    return [cuts[place] if place >= 0 else None for place in places]


def _probed(helpers: Helpers, paths: Sequence[Path]) -> dict[Path, Mapping[str, str]]:
    """Return what each recording is.

    Of many that are alike by folder and suffix, and then by suffix, a sample is looked into, as long as it is uniform.
    """
    media: dict[Path, Mapping[str, str]] = {}

    def look(these: Iterable[Path]) -> None:
        new = [path for path in these if path not in media]
        for number, answer in helpers.answers([probing(path) for path in new]):
            media[new[number]] = answer

    def settle(alike: Callable[[Path], object], among: Sequence[Path]) -> None:
        groups = [group for group in _grouped(alike, among) if len(group) >= 2 * SAMPLED]
        look(path for group in groups for path in group[:: len(group) // SAMPLED])
        for group in groups:
            seen = [media[path] for path in group if path in media]
            if all(one == seen[0] and "why" not in one for one in seen):
                media.update(dict.fromkeys(group, seen[0]))

    settle(lambda path: (path.parent, path.suffix.lower()), paths)
    left = [path for path in paths if path not in media]
    if len(left) >= SAMPLED**2:  # many small folders
        settle(lambda path: path.suffix.lower(), left)
    look(paths)
    return media


def _grouped(alike: Callable[[Path], object], paths: Sequence[Path]) -> Iterator[list[Path]]:
    groups = defaultdict(list)
    for path in paths:
        groups[alike(path)].append(path)
    yield from groups.values()


def _unplayable(medium: Mapping[str, str]) -> bool:
    return "kind" in medium and not medium["type"]


def _cut(
    helpers: Helpers,
    wanted: Mapping[Any, str],
    paths: Mapping[str, Path],
    folder: Path,
    on_clip: Callable[[int, int], None] | None,
) -> dict[str, dict[str, str]]:
    """Cut the clips that are not there, remove those that are not wanted, and return ``file`` or ``why`` by stem."""
    there = {name.partition(".")[0]: name for name in _names(folder)}
    answers: dict[str, dict[str, str]] = {
        stem: {"file": there[stem]} for stem in wanted.values() if stem in there
    }
    missing = {stem: row for row, stem in wanted.items() if stem not in there}
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
    jobs = [cutting(paths[row[0]], row[1], row[2], folder / stem) for stem, row in missing.items()]
    stems = list(missing)
    for done, (number, answer) in enumerate(helpers.answers(jobs), start=1):
        answers[stems[number]] = answer
        if on_clip is not None:
            on_clip(done, len(jobs))
    kept = {answer.get("file") for answer in answers.values()}
    for name in _names(folder):
        if name not in kept:
            (folder / name).unlink()
    return answers


def _names(folder: Path) -> list[str]:
    """Return the names of the clips in a folder, and of what became none because a process was killed."""
    names = [entry.name for entry in os.scandir(folder)] if folder.is_dir() else []
    return [name for name in names if _CLIP.fullmatch(name)]


def _clip(entry: str, answer: Mapping[str, str]) -> dict[str, Any]:
    if "why" in answer:
        return {"why": f"The recording {entry} cannot be shown ({answer['why']})."}
    name = answer["file"]
    return {"kind": _KINDS[Path(name).suffix], "src": f"{CLIPS}/{name}", "start": None, "end": None}


def _link(entry: str, medium: Mapping[str, str], path: Path, folder: Path, times: Times) -> dict[str, Any]:
    if "why" in medium:
        return {"why": f"The recording {entry} cannot be shown ({medium['why']})."}
    return {"kind": medium["kind"], "src": _url(path, folder), "start": times[0], "end": times[1]}


def _url(path: Path, folder: Path) -> str:
    """Return the URL of a file as seen from a page in a folder."""
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # on another drive
        return path.as_uri()
    return quote(os.fsencode(relative.replace(os.sep, "/")))
