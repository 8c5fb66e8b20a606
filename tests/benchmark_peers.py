"""Other ways to keep vectors by utterance id, for the store's benchmark: how each writes, and how it reads.

Every writer takes the ids (N) and a matrix (N, D) for each modality; every reader returns the modalities side by side,
(N, sum of D) float32, in the order of the ids it is given.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import datasets
import h5py
import numpy as np
import pandas as pd

MODALITIES = ("text", "audio", "video")
Matrices = Mapping[str, np.ndarray]

datasets.disable_progress_bars()


class Peer(NamedTuple):
    """One way to keep vectors by id."""

    name: str
    write: Callable[[Path, np.ndarray, Matrices], None]
    read: Callable[[Path, np.ndarray], np.ndarray]


def write_groups(path: Path, ids: np.ndarray, matrices: Matrices) -> None:
    with h5py.File(path, "w") as file:
        for row, utterance in enumerate(ids):
            group = file.create_group(utterance)
            for modality, matrix in matrices.items():
                group[modality] = matrix[row]


def read_groups(path: Path, ids: np.ndarray) -> np.ndarray:
    with h5py.File(path, "r") as file:
        return np.stack([_side_by_side(file[utterance]) for utterance in ids])


def write_files(path: Path, ids: np.ndarray, matrices: Matrices) -> None:
    for modality, matrix in matrices.items():
        (path / modality).mkdir(parents=True)
        for utterance, vector in zip(ids, matrix, strict=True):
            np.save(path / modality / f"{utterance}.npy", vector)


def read_files(path: Path, ids: np.ndarray) -> np.ndarray:
    matrices = [
        np.stack([np.load(path / modality / f"{utterance}.npy") for utterance in ids])
        for modality in MODALITIES
    ]
    return np.concatenate(matrices, axis=1)


def write_pickle(path: Path, ids: np.ndarray, matrices: Matrices) -> None:
    vectors = {m: dict(zip(ids, map(np.copy, matrix), strict=True)) for m, matrix in matrices.items()}
    with path.open("wb") as file:
        pickle.dump(vectors, file, protocol=pickle.HIGHEST_PROTOCOL)


def read_pickle(path: Path, ids: np.ndarray) -> np.ndarray:
    with path.open("rb") as file:
        vectors = pickle.load(file)
    matrices = [np.stack([vectors[modality][utterance] for utterance in ids]) for modality in MODALITIES]
    return np.concatenate(matrices, axis=1)


def write_parquet(path: Path, ids: np.ndarray, matrices: Matrices) -> None:
    path.mkdir()
    for modality, matrix in matrices.items():
        columns = [f"{modality}_{i}" for i in range(matrix.shape[1])]
        table = pd.DataFrame(matrix, columns=columns, index=pd.Index(ids, name="utterance_id"))
        table.to_parquet(path / f"{modality}.parquet")


def read_parquet(path: Path, ids: np.ndarray) -> np.ndarray:
    matrices = [
        pd.read_parquet(path / f"{modality}.parquet").reindex(ids).to_numpy(np.float32)
        for modality in MODALITIES
    ]
    return np.concatenate(matrices, axis=1)


def write_datasets(path: Path, ids: np.ndarray, matrices: Matrices) -> None:
    columns = {m: datasets.List(datasets.Value("float32"), length=x.shape[1]) for m, x in matrices.items()}
    features = datasets.Features({"utterance_id": datasets.Value("string"), **columns})
    datasets.Dataset.from_dict({"utterance_id": ids.tolist(), **matrices}, features).save_to_disk(path)


def read_datasets(path: Path, ids: np.ndarray) -> np.ndarray:
    table = datasets.load_from_disk(path).with_format("numpy")[:]
    rows = pd.Index(table["utterance_id"]).get_indexer(pd.Index(ids))
    return _side_by_side(table, axis=1)[rows]


def _side_by_side(arrays: Mapping[str, np.ndarray], axis: int = 0) -> np.ndarray:
    return np.concatenate([arrays[modality][:] for modality in MODALITIES], axis=axis)


GROUPS = Peer("one HDF5 group per utterance", write_groups, read_groups)
PEERS = (
    Peer("one npy file per vector", write_files, read_files),
    Peer("a pickled dict of vectors", write_pickle, read_pickle),
    Peer("Parquet, a column per dimension (pandas)", write_parquet, read_parquet),
    Peer("Hugging Face datasets, load_from_disk", write_datasets, read_datasets),
)
