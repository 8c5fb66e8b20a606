"""Weights that are published only as pickles, read once without running anything in them, kept as safetensors."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from mixed_signals.extract import weights
from mixed_signals.store.disk import saved_or_error
from mixed_signals.store.errors import MixedSignalsError
from mixed_signals.store.files import read_json

_PREFIX, _SUFFIX = "pytorch_", ".bin"


def is_pickled(files: Sequence[str]) -> bool:
    """Return whether files of weights are pickles."""
    return files[0].startswith(_PREFIX)


def converted_folder(fingerprint: str) -> Path:
    """Return where the converted form of a checkpoint is, or will be."""
    return weights.cache_folder() / "converted" / fingerprint


def converted(folder: Path, pickles: Sequence[str], others: Sequence[str], fingerprint: str) -> Path:
    """Return the folder with a checkpoint's pickled weights as safetensors, made at first.

    Values and precision stay as they are; tensors that share memory become tensors of their own. The folder appears
    whole or not at all; several processes may ask for it at once.

    Parameters
    ----------
    folder : Path
        Where the checkpoint is; nothing is written there.
    pickles : sequence of str
        Its files of weights: one, or an index and its shards.
    others : sequence of str
        Its other files, which are copied.
    fingerprint : str
        Identifies the content of all of them.

    Raises
    ------
    MixedSignalsError
        If a pickle holds anything but tensors. Nothing in it is run.
    """

    def make(into: Path) -> None:
        into.mkdir(parents=True)
        for name in others:
            (into / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / name, into / name)
        for name in pickles:
            if name.endswith(".json"):
                index = read_json(folder / name)
                shards = {key: _renamed(shard) for key, shard in index["weight_map"].items()}
                (into / _renamed(name)).write_text(
                    json.dumps({"metadata": {}, **index, "weight_map": shards})
                )
            else:
                _convert(folder / name, into / _renamed(name))

    target = converted_folder(fingerprint)
    return weights.made_once(target, target.is_dir, make)


def _renamed(name: str) -> str:
    """Return what a file is called once its tensors are safetensors.

    Examples
    --------
    >>> _renamed("pytorch_model-00001-of-00002.bin"), _renamed("pytorch_model.bin.index.json")
    ('model-00001-of-00002.safetensors', 'model.safetensors.index.json')
    """
    return name.removeprefix(_PREFIX).replace(_SUFFIX, ".safetensors")


def _convert(source: Path, target: Path) -> None:
    import torch
    from safetensors.torch import save_file

    try:
        content = torch.load(source, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(source))
        tensors = {
            name: tensor.detach().clone(memory_format=torch.contiguous_format)
            for name, tensor in content.items()
        }
    except pickle.UnpicklingError as error:
        what = re.search(r"GLOBAL ([\w.]+)", str(error))
        held = f"holds {what[1]}, which is no tensor" if what else "is not a pickle of tensors"
        raise MixedSignalsError(
            f"{source}: {held}; nothing in it was run: use a checkpoint published as safetensors"
        ) from error
    except (RuntimeError, AttributeError, TypeError, ValueError, KeyError, EOFError) as error:
        raise MixedSignalsError(
            f"{source}: damaged, or not a table of tensors: fetch it again, or use one published as safetensors"
        ) from error
    with saved_or_error(target):
        save_file(tensors, target, metadata={"format": "pt"})
