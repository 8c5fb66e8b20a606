"""Models on the Hugging Face hub: looked for on this machine first, fetched where that is wanted, never their code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.files import read_json

CONFIG = "config.json"
SIDE_FILES = (  # what makes the vectors, apart from the weights
    CONFIG,
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "bpe.codes", "dict.txt"),
    *("spm.model", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
    *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    "[0-9]_Pooling/config.json",
)
TRAINING = "training.json"  # what a model that was trained here says of it; not what makes the vectors
TAUGHT = (
    "mixed_signals_trained_on"  # in its configuration, which no copy lacks: the fingerprint of the ids there
)
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")


def weight_files(folder: Path) -> tuple[str, ...]:
    """Return the names of the files that hold the weights: safetensors, else pickles; none unless all are there.

    Raises
    ------
    MixedSignalsError
        If an index of shards is not one.
    """
    for single, index, _ in (SAFETENSORS, PICKLES):
        if (folder / single).is_file():
            return (single,)
        if (folder / index).is_file():
            names = (index, *_shards(folder / index))
            if all((folder / name).is_file() for name in names):
                return names
    return ()


def _shards(index: Path) -> list[str]:
    try:
        names = sorted({str(name) for name in read_json(index)["weight_map"].values()})
    except (TypeError, KeyError, AttributeError) as error:
        raise MixedSignalsError(f"{index}: not an index of shards (no weight_map)") from error
    if any(Path(name).name != name for name in names):
        raise MixedSignalsError(f"{index}: names a file of another folder, which is not read")
    return names


def cached(repo: str, revision: str = "") -> Path | None:
    """Return the folder of a model that is whole on this machine; the hub is not asked.

    Raises
    ------
    UsageError
        If no model can have that name.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with _explained(repo, revision):
        try:
            folder = Path(
                snapshot_download(
                    repo, revision=revision or None, allow_patterns=list(SIDE_FILES), local_files_only=True
                )
            )
        except LocalEntryNotFoundError:
            return None
    if not (folder / CONFIG).is_file() or not weight_files(folder):
        return None
    return None if TAUGHT in read_json(folder / CONFIG) and not (folder / TRAINING).is_file() else folder


def fetch(repo: str, revision: str = "") -> Path:
    """Bring a model's configuration, tokenizer, preprocessing and weights onto this machine, as the hub has them now.

    Where the hub does not answer, what is on this machine already is taken. Pickled weights come only where the
    model has no others.

    Raises
    ------
    UsageError
        If no model can have that name.
    MixedSignalsError
        If it is not to be had; the message says why, and what to do.
    """
    from huggingface_hub import snapshot_download

    with _explained(repo, revision):
        for weights in (SAFETENSORS, PICKLES):
            patterns = [*SIDE_FILES, TRAINING, *weights]
            folder = Path(snapshot_download(repo, revision=revision or None, allow_patterns=patterns))
            if (folder / CONFIG).is_file() and weight_files(folder):
                return folder
    raise MixedSignalsError(
        f"{repo}: has no {CONFIG} with {SAFETENSORS[0]} or {PICKLES[0]} on the hub: use a model made for transformers"
    )


def cache_folder() -> Path:
    """Return the folder that the hub's library keeps models in."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def absent(repo: str, revision: str, why: str = "") -> MixedSignalsError:
    """Return the error that says that a model is not on this machine, where it was looked for, and how to get it."""
    folder = cache_folder() / "--".join(("models", *repo.split("/")))
    command = f"'mixed-signals weights fetch {repo}{f' --revision {revision}' if revision else ''}'"
    mend = f"run {command} where there is a network, and copy that folder here" if why else f"run {command}"
    return MixedSignalsError(
        f"{repo}: not on this machine, neither as a folder here nor as a model of the hub (looked in {folder})"
        f"{f', and {why}' * bool(why)}: correct the path, or {mend}"
    )


@contextmanager
def _explained(repo: str, revision: str) -> Iterator[None]:
    """Turn what the hub's library raises into one line each."""
    from huggingface_hub import constants, errors, is_offline_mode

    page = f"{constants.ENDPOINT}/{repo}"
    log_in = "log in with 'hf auth login' or set HF_TOKEN"
    try:
        yield
    except errors.HFValidationError as error:
        raise UsageError(f"{repo!r}: no preset, no folder here, and no name of a model on the hub") from error
    except errors.GatedRepoError as error:
        said = f"its authors ask for consent: agree at {page}, {log_in}, and try again"
        raise MixedSignalsError(f"{repo}: {said}") from error
    except errors.RepositoryNotFoundError as error:
        said = f"no preset, no folder here, and no public model on the hub: check the name, or {log_in}"
        raise MixedSignalsError(f"{repo}: {said}") from error
    except errors.RevisionNotFoundError as error:
        said = f"no revision {revision!r}: give a branch, a tag or a commit of {page}/commits"
        raise MixedSignalsError(f"{repo}: {said}") from error
    except (errors.LocalEntryNotFoundError, errors.HTTPError) as error:
        answer = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
        if answer is None:
            why = "HF_HUB_OFFLINE is set" if is_offline_mode() else f"no connection to {constants.ENDPOINT}"
            raise absent(repo, revision, why) from error
        mend = log_in if answer.status_code in (401, 403) else "try again later"
        said = f"no folder here of that name, and {constants.ENDPOINT} answered {answer.status_code}: {mend}"
        raise MixedSignalsError(f"{repo}: {said}") from error
