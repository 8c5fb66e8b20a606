"""Checkpoints: a network's configuration and weights on this machine, by preset, folder or name on the hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixed_signals.extract import hub, pickled, weights
from mixed_signals.extract.whisper_checkpoint import converted_whisper
from mixed_signals.store import provenance
from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.files import checked_name, read_json
from mixed_signals.store.terminal import describe_ids

_NOT_READ = re.compile(r"(^|\.)(pooler\..*|masked_spec_embed|mask_token)$")


@dataclass(frozen=True)
class Checkpoint:
    """A network as ``save_pretrained`` writes it.

    Attributes
    ----------
    name : str
        What its feature sets are called after: a preset, or the last part of a folder or of a hub id.
    folder : Path
        Where its files are.
    config : dict
        Its ``config.json``.
    fingerprint : str
        Identifies the content of all files that make the vectors: weights, configuration, tokenizer, preprocessing.
        Of weights that were published as pickles, that of the pickles.
    revision : str
        Which revision of a hub model was asked for, if any.
    stamps : tuple of tuple
        Name, time of change and size of each file when the fingerprint was taken.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    fingerprint: str
    revision: str = ""
    stamps: tuple[tuple[str, int, int], ...] = ()

    def json(self, file: str) -> Any:
        """Return what a JSON file beside the weights says; an empty dictionary if there is none."""
        path = self.folder / file
        return read_json(path) if path.is_file() else {}

    def model(self, cls: Any = None) -> Any:
        """Return the network with its weights: on the host, in float32, for evaluation.

        Parameters
        ----------
        cls : class from transformers, optional
            If not ``AutoModel``. Weights that the class has no use for are left aside.

        Raises
        ------
        MixedSignalsError
            If the checkpoint cannot be read, has changed since its fingerprint was taken, or lacks weights that the
            class has: these would be random. It may lack the layers called ``pooler``, which no encoder reads, and
            what only training needs.
        """
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModel

        try:
            with quiet_transformers():
                model, info = (cls or AutoModel).from_pretrained(
                    str(self.folder),
                    dtype=torch.float32,
                    local_files_only=True,
                    use_safetensors=True,
                    trust_remote_code=False,
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                )
        except (
            *(OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError),
            SafetensorError,
        ) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise MixedSignalsError(f"{self.name}: {self.folder} cannot be loaded ({reason})") from error
        if self.stamps != _stamps(self.folder, [name for name, *_ in self.stamps]):
            raise MixedSignalsError(
                f"{self.name}: {self.folder} was changed after the job began: start it again"
            )
        missing = sorted(key for key in info["missing_keys"] if not _NOT_READ.search(key))
        wrong = sorted(key for key, *_ in info["mismatched_keys"])
        for keys, fault in ((missing, "are not in its weights"), (wrong, "have other shapes in its weights")):
            if keys:
                raise MixedSignalsError(
                    f"{self.name}: of {type(model).__name__}, {describe_ids(keys)} {fault} ({self.folder}) and would "
                    "be random: use a checkpoint that has them"
                )
        return model.eval()


class Outline(Checkpoint):
    """A checkpoint whose network has its shapes and no weights: to be counted, in no time and no memory."""

    def model(self, cls: Any = None) -> Any:
        """Return the network, on torch's device ``meta``.

        Raises
        ------
        MixedSignalsError
            If its configuration makes none.
        """
        import torch
        from transformers import AutoConfig, AutoModel

        try:
            with quiet_transformers(), torch.device("meta"):
                if cls is None:
                    return AutoModel.from_config(AutoConfig.from_pretrained(str(self.folder)))
                return cls(cls.config_class.from_pretrained(str(self.folder)))
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise MixedSignalsError(f"{self.name}: {self.folder} cannot be loaded ({reason})") from error


def resolve(name: str, *, revision: str = "", fetch: bool = True) -> Checkpoint:
    """Return the checkpoint of a folder or of a model on the hub; what is on this machine already is not asked for.

    Parameters
    ----------
    name : str
        A folder that has a ``config.json``, or a name on the hub: ``org/name``.
    revision : str
        Branch, tag or commit on the hub.
    fetch : bool
        Whether the hub is asked for what is not here, and pickled weights are converted. If not, nothing is written.

    Raises
    ------
    UsageError
        If it is neither, or a revision of a folder is asked for.
    MixedSignalsError
        If it is not to be had, has no weights, or needs code of its own.
    """
    folder = Path(name).expanduser()
    if (folder / hub.CONFIG).is_file():
        if revision:
            raise UsageError(f"--revision {revision}: {name} is a folder here, which has no revisions")
        called = checked_name(folder.resolve().name, f"{name}: the folder's name")
        return _opened(called, folder, "", convert=fetch)
    if folder.is_dir():
        raise UsageError(
            f"{name}: has no {hub.CONFIG}: give a folder that save_pretrained wrote, or a name on the hub"
        )
    if _is_path(name):
        raise UsageError(
            f"{name}: there is no such folder here, and no name on the hub looks like that: give a folder that "
            "save_pretrained wrote, or org/name of the hub"
        )
    found = hub.cached(name, revision)
    if found is None:
        if not fetch:
            raise hub.absent(name, revision)
        return fetched(name, revision=revision)
    return _opened(_last(name), found, revision, convert=fetch)


def fetched(name: str, *, revision: str = "") -> Checkpoint:
    """Return the checkpoint of a model as the hub has it now; where it does not answer, as it is on this machine.

    Raises
    ------
    UsageError, MixedSignalsError
        As `resolve` does.
    """
    return _opened(_last(name), hub.fetch(name, revision), revision, convert=True)


def pinned(name: str, *, fetch: bool = True) -> Checkpoint:
    """Return the checkpoint of pinned weights, every hash checked.

    Raises
    ------
    MixedSignalsError
        If it is not to be had, or not on this machine and not to be fetched.
    """
    folder = weights.fetch(name) if fetch else weights.path(name)
    if not (folder / hub.CONFIG).is_file():
        folder = converted_whisper(folder)
    return Checkpoint(name, folder, read_json(folder / hub.CONFIG), weights.fingerprint(name))


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from reporting what is checked here, and from its progress bars."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _is_path(name: str) -> bool:
    return name.startswith(("/", ".", "~")) or name.endswith("/") or name.count("/") > 1 or "\\" in name


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _opened(name: str, folder: Path, revision: str, *, convert: bool) -> Checkpoint:
    config = read_json(folder / hub.CONFIG)
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise MixedSignalsError(
            f"{name}: {folder / hub.CONFIG} names no model_type: use a model made for transformers"
        )
    _refuse_what_is_not_followed(name, folder, config)
    of_weights = hub.weight_files(folder)
    if not of_weights:
        wanted = f"{hub.SAFETENSORS[0]} or {hub.PICKLES[0]}, with every shard that an index names"
        raise MixedSignalsError(f"{name}: {folder} has no weights: it needs {wanted}")
    others = sorted(
        path.relative_to(folder).as_posix()
        for pattern in hub.SIDE_FILES
        for path in folder.glob(pattern)
        if path.is_file()
    )
    files = (*others, *of_weights)
    stamps = _stamps(folder, files)
    fingerprint = provenance.fingerprint({file: provenance.file_hash(folder / file) for file in files})
    if pickled.is_pickled(of_weights) and convert:
        folder, stamps = pickled.converted(folder, of_weights, others, fingerprint), ()
    return Checkpoint(name, folder, config, fingerprint, revision, stamps)


def _stamps(folder: Path, files: Iterable[str]) -> tuple[tuple[str, int, int], ...]:
    """Return name, time of change and size of files; nothing of one that is not there."""
    paths = [(file, folder / file) for file in files if (folder / file).is_file()]
    return tuple((file, path.stat().st_mtime_ns, path.stat().st_size) for file, path in paths)


def _refuse_what_is_not_followed(name: str, folder: Path, config: dict[str, Any]) -> None:
    if (folder / "adapter_config.json").exists():
        raise MixedSignalsError(
            f"{name}: {folder} holds an adapter beside its weights, which is not followed: merge it into them first "
            "(peft: merge_and_unload, save_pretrained)"
        )
    if config.get("transformers_weights"):
        raise MixedSignalsError(
            f"{name}: its {hub.CONFIG} sends to other files of weights (transformers_weights), which is not followed: "
            f"use a checkpoint with {hub.SAFETENSORS[0]}"
        )
    if "auto_map" not in config:
        return
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if config["model_type"] not in CONFIG_MAPPING_NAMES:
        raise MixedSignalsError(
            f"{name}: needs code of its own ({config['model_type']}), which is never run: use a model whose type "
            "transformers has"
        )
