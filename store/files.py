"""Whole-file writes that a killed process cannot leave half done, and the rule for names that become files."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixed_signals.store.disk import room_or_error
from mixed_signals.store.errors import MixedSignalsError, UsageError

if TYPE_CHECKING:
    import pandas as pd

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*")


def checked_name(name: str, what: str) -> str:
    """Return `name` if it can stand as a file name inside a store.

    Raises
    ------
    UsageError
        If it has other characters than letters, digits and ``. _ + = -``, or does not begin with a
        letter or digit (so no name climbs out of its folder).
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{what} {name!r}: use letters, digits and . _ + = - only, beginning with a letter or digit"
        )
    return name


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the place of `path`, on failure it is removed.

    Raises
    ------
    MixedSignalsError
        If the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with room_or_error(path):
            yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, indented; numbers that are not finite become null, as the standard has none."""
    text = json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> Any:
    """Read JSON; a file that is not JSON is named in the error."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise MixedSignalsError(f"{path}: not readable as JSON ({error})") from error


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet without its index."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet table; a file that is not Parquet is named in the error."""
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise MixedSignalsError(f"{path}: not readable as Parquet ({error})") from error
