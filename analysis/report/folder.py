"""The folder of a report: what may be overwritten, and a new report in place of an old one at once or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mixed_signals.analysis.report.media import CLIPS
from mixed_signals.store.errors import UsageError

PAGE = "index.html"
ELSEWHERE = "report.json"
"""Beside the tables of an analysis: says where its report is, if not there."""
MARK = '<meta name="generator" content="Mixed Signals">'
"""What the page begins with, by which a folder is known as a report."""

_RUN = re.compile(r'<meta name="mixed-signals-run" content="([^"]*)">')
_OURS = {PAGE, "assets", ".DS_Store"}
_BEGINNING = 2000  # characters among which the mark stands


def check_report_folder(folder: Path) -> None:
    """Refuse a folder that a report must not take the place of.

    Raises
    ------
    UsageError
        If it is a file, or holds something that is no report.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"--report {folder}: is a file; name a folder")
    there = sorted(entry.name for entry in folder.iterdir())
    strange = [name for name in there if name not in _OURS]
    if strange or (there and not is_report(folder)):
        what = strange[0] if strange else there[-1]
        raise UsageError(
            f"--report {folder}: holds {what!r}, which is not of a report, and a new report would replace it; name "
            "another folder, or empty this one"
        )


def is_report(folder: Path) -> bool:
    """Return whether a folder holds a report."""
    return MARK in _beginning(folder)


def run_shown(folder: Path) -> str | None:
    """Return the name of the run that a report shows, or None where it is no report."""
    found = _RUN.search(_beginning(folder))
    return found[1] if found else None


@contextmanager
def new_report(folder: Path) -> Iterator[Path]:
    """Yield a folder for a new report, which takes the place of `folder` at the end.

    Clips of the old report are there from the beginning. If anything fails, the old report stays as it is, and what is
    left of the new one are its clips, for the next attempt.

    Raises
    ------
    UsageError
        See `check_report_folder`.
    """
    folder = folder.resolve()
    check_report_folder(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished, old = (folder.with_name(f".{folder.name}.{state}") for state in ("unfinished", "old"))
    if old.is_dir() and not folder.exists():  # killed between the two renames below
        old.rename(folder)
    _keep_clips_alone(unfinished)
    if (folder / CLIPS).is_dir():
        shutil.copytree(folder / CLIPS, unfinished / CLIPS, copy_function=_link, dirs_exist_ok=True)
    unfinished.mkdir(exist_ok=True)
    try:
        yield unfinished
    except BaseException:
        _keep_clips_alone(unfinished)
        raise
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    unfinished.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _beginning(folder: Path) -> str:
    page = folder / PAGE
    if not page.is_file():
        return ""
    with page.open(encoding="utf-8", errors="replace") as file:
        return file.read(_BEGINNING)


def _keep_clips_alone(unfinished: Path) -> None:
    """Remove all of a report but its clips, and all of it where it has none."""
    clips = unfinished / CLIPS
    if not (clips.is_dir() and any(clips.iterdir())):
        shutil.rmtree(unfinished, ignore_errors=True)
        return
    for folder in (unfinished, clips.parent):
        for entry in folder.iterdir():
            if entry not in (clips, clips.parent):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _link(source: str, target: str) -> None:
    if not os.path.exists(target):
        try:
            os.link(source, target)
        except OSError:  # not on this file system
            shutil.copy2(source, target)
