"""Data sets that the library `datasets` saved to disk, read with Arrow and JSON alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mixed_signals.store.corpora.huggingface_media import StoredMedia
from mixed_signals.store.corpora.published import Faults
from mixed_signals.store.corpora.reading import WHOLE_NUMBERS, Rows
from mixed_signals.store.errors import MixedSignalsError
from mixed_signals.store.files import read_json
from mixed_signals.store.targets import Target

MEDIA_TYPES = ("Video", "Audio", "Image")  # the first that is there is taken
_LISTS = ("List", "LargeList", "Sequence")


class Part(NamedTuple):
    """One split of a data set.

    Attributes
    ----------
    split : str
        Its name; empty where there is one part without a name.
    rows : Rows
        The columns of numbers and text; classes by name.
    media : StoredMedia, optional
        What a column of media holds, if there is one.
    targets : dict of Target
        By column, those whose classes the data set names.
    """

    split: str
    rows: Rows
    media: StoredMedia | None = None
    targets: dict[str, Target] = {}  # noqa: RUF012 - never changed


def is_saved(source: Path) -> bool:
    """Return whether ``save_to_disk`` wrote this folder."""
    return any((source / file).is_file() for file in ("dataset_dict.json", "state.json"))


def read_saved(source: Path, faults: Faults) -> list[Part]:
    """Return the splits of a folder that ``save_to_disk`` wrote.

    Raises
    ------
    MixedSignalsError
        If a file is missing, not readable or not as `datasets` writes it.
    """
    if not (source / "dataset_dict.json").is_file():
        return [_read_part(source, "", faults)]
    splits = _entry(source / "dataset_dict.json", "splits", list)
    return [
        _read_part(source / _plain(split, source / "dataset_dict.json"), split, faults) for split in splits
    ]


def _entry(file: Path, key: str, kind: type) -> Any:
    """Return an entry of a JSON object."""
    content = read_json(file) if file.is_file() else None
    entry = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entry, kind):
        raise MixedSignalsError(f"{file}: no {key!r} in it; save the data set again with save_to_disk")
    return entry


def _plain(name: object, file: Path) -> str:
    """Return the name of a file in the same folder; anything else is refused."""
    if not isinstance(name, str) or name in ("", "..") or Path(name).name != name:
        raise MixedSignalsError(
            f"{file}: names {name!r}, which is no file of its folder; the data set is not sound"
        )
    return name


def _read_part(folder: Path, split: str, faults: Faults) -> Part:
    state = folder / "state.json"
    listed = _entry(state, "_data_files", list)
    content = read_json(state)
    if content.get("_indices_data_files"):
        raise MixedSignalsError(
            f"{state}: saved by an old version as a selection; save it again with datasets 2 or later"
        )
    files = [
        folder / _plain(entry.get("filename") if isinstance(entry, dict) else None, state) for entry in listed
    ]
    shards = {str(file): _read_arrow(file) for file in files}
    if not shards:
        raise MixedSignalsError(f"{state}: lists no data file; save the data set again with save_to_disk")
    places = [f"{file} row {row}" for file, shard in shards.items() for row in range(1, len(shard) + 1)]
    features = _entry(folder / "dataset_info.json", "features", dict)
    return _decoded(
        split or content.get("_split") or "", pa.concat_tables(shards.values()), features, places, faults
    )


def _read_arrow(path: Path) -> pa.Table:
    try:
        with pa.memory_map(str(path)) as file:
            return pa.ipc.open_stream(file).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise MixedSignalsError(
            f"{path}: not readable as an Arrow stream ({error}); was it downloaded in full?"
        ) from error


def _decoded(
    split: str, table: pa.Table, features: dict[str, Any], places: list[str], faults: Faults
) -> Part:
    """Return a split with classes by name, and one column of media."""
    frame = pd.DataFrame(index=range(len(table)))
    targets: dict[str, Target] = {}
    rows = Rows(frame, places)
    for column in table.column_names:
        values, feature = table[column], features.get(column, {})
        item = _item(feature)
        if _type(feature) == "ClassLabel":
            codes = pc.fill_null(values, -1).to_numpy()
            frame[column] = _named(rows, column, codes, feature["names"], faults)
            targets[column] = Target(column, "nominal", tuple(feature["names"]))
        elif _type(item) == "ClassLabel" and _can_be_joined(item["names"]):
            frame[column] = _joined(rows, column, values, item["names"], faults)
            targets[column] = Target(column, "multilabel", tuple(item["names"]))
        elif _type(feature) not in MEDIA_TYPES and not _is_nested(values.type):
            frame[column] = values.to_pandas(types_mapper=WHOLE_NUMBERS.get).array
    kinds = {_type(features.get(column)): column for column in reversed(table.column_names)}
    media = next((kinds[kind] for kind in MEDIA_TYPES if kind in kinds), None)
    return Part(split, rows, None if media is None else StoredMedia(media, table[media]), targets)


def _type(feature: object) -> str:
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""


def _item(feature: object) -> Any:
    """Return what a list holds; older versions write a list of one."""
    if isinstance(feature, list) and len(feature) == 1:
        return feature[0]
    return feature.get("feature") if isinstance(feature, dict) and _type(feature) in _LISTS else None


def _can_be_joined(names: list[str]) -> bool:
    return not any("|" in name or name == "none" for name in names)


def _is_nested(kind: pa.DataType) -> bool:
    return pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _named(rows: Rows, column: str, codes: np.ndarray, names: list[str], faults: Faults) -> np.ndarray:
    wrong = (codes < -1) | (codes >= len(names))
    faults.add(rows, wrong, column, lambda row: f"{codes[row]} is none of the {len(names)} classes, 0 and up")
    return np.array([*names, ""], dtype=object)[np.where(wrong, -1, codes)]


def _joined(rows: Rows, column: str, values: pa.ChunkedArray, names: list[str], faults: Faults) -> list[str]:
    lists = [[] if codes is None else codes for codes in values.to_pylist()]
    wrong = np.array([any(not 0 <= code < len(names) for code in codes) for codes in lists], dtype=bool)
    faults.add(
        rows, wrong, column, lambda row: f"{lists[row]} names none of the {len(names)} classes, 0 and up"
    )
    known = values.is_valid().to_numpy() & ~wrong
    return [
        ("|".join(names[code] for code in codes) or "none") if there else ""
        for codes, there in zip(lists, known, strict=True)
    ]
