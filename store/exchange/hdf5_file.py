"""HDF5 files from anyone: what hard links lead to, its values inside the file, of a size that its bytes can hold."""

from __future__ import annotations

import h5py
import numpy as np

from mixed_signals.store.errors import UsageError
from mixed_signals.store.exchange.matrices import MOST_COMPRESSED


def inside(group: h5py.Group, name: str, where: str, kind: type = h5py.Group) -> h5py.Group | h5py.Dataset:
    """Return a group or dataset that a hard link leads to.

    Parameters
    ----------
    group : Group
    name : str
    where : str
        What errors begin with.
    kind : type
        `h5py.Group` or `h5py.Dataset`.

    Raises
    ------
    UsageError
        If it is not there, is the other kind, or a link leads elsewhere.
    """
    link = group.get(name, getlink=True)
    if link is None:
        raise UsageError(f"{where}: no {name!r} in {group.name}; not laid out as such a file is")
    if not isinstance(link, h5py.HardLink):
        raise UsageError(f"{where}: refused: {name!r} is a link to somewhere else")
    found = group[name]
    if not isinstance(found, kind):
        raise UsageError(
            f"{where}: {name!r} is a {type(found).__name__.lower()}, not a {kind.__name__.lower()}"
        )
    return found


def numbers(group: h5py.Group, name: str, where: str) -> np.ndarray:
    """Return a dataset of numbers with two axes.

    Raises
    ------
    UsageError
        If it is something else, its values are in another file, or it claims more than it stores.
    """
    dataset = _dataset(group, name, where)
    if dataset.dtype.kind not in "iuf" or len(dataset.shape or ()) != 2 or not dataset.shape[1]:
        raise UsageError(
            f"{where}: {name} is {dataset.dtype} of shape {dataset.shape}; expected numbers, two axes"
        )
    return dataset[:]


def strings(group: h5py.Group, name: str, where: str) -> np.ndarray:
    """Return a dataset of text, one or none of its axes, as Python strings.

    Raises
    ------
    UsageError
        As `numbers` does.
    """
    dataset = _dataset(group, name, where)
    if h5py.check_string_dtype(dataset.dtype) is None or len(dataset.shape or ()) > 1:
        raise UsageError(f"{where}: {name} is {dataset.dtype} of shape {dataset.shape}; expected text")
    return np.asarray(dataset.asstr()[()], dtype=object)


def _dataset(group: h5py.Group, name: str, where: str) -> h5py.Dataset:
    dataset = inside(group, name, where, h5py.Dataset)
    if dataset.is_virtual or dataset.id.get_create_plist().get_external_count():
        raise UsageError(f"{where}: refused: {name} lies in another file")
    if dataset.nbytes > MOST_COMPRESSED * dataset.id.get_storage_size():
        raise UsageError(f"{where}: refused: {name} claims {dataset.nbytes:,} bytes and stores hardly any")
    return dataset
