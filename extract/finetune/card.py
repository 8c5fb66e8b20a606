"""What is kept of a training: a checkpoint that loads anywhere, its linear layer, and a card that says what it is.

::

    <store>/encoders/<modality>/<name>/
      config.json  model.safetensors  tokenizer and preprocessor files     as `from_pretrained` reads them
      classifier.safetensors  classifier.json                              the linear layer, its classes
      training.json                                                        everything that is known, for programs
      README.md                                                            the model card, for people
      metrics.jsonl

Other than the feature sets, a checkpoint may leave its store. It remembers the ids of the rows that it was trained on,
and so do the feature sets that `extract-features` makes with it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixed_signals.extract import hub
from mixed_signals.store import UsageError
from mixed_signals.store.cross_fits import ALIGNED
from mixed_signals.store.files import read_json, write_json
from mixed_signals.store.planning import differences
from mixed_signals.store.provenance import fingerprint, library_versions
from mixed_signals.store.terminal import counted

if TYPE_CHECKING:
    from mixed_signals.extract.finetune.training import Trained

TRAINING, CARD, RECIPE = hub.TRAINING, "README.md", "recipe.json"
_LIBRARIES = (
    "mixed-signals",
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "accelerate",
    "safetensors",
    "numpy",
)


def keep(
    trained: Trained, recipe: Mapping[str, Any], rows: Mapping[str, Any], working: Path, folder: Path
) -> None:
    """Write all that is kept of a training, and put it in its place.

    Parameters
    ----------
    trained : Trained
    recipe : mapping
        What decided how it was trained (`mixed_signals.extract.finetune.recipe`).
    rows : mapping
        ``trained_on``, ``train_ids`` and ``validation_ids``, lists of ids.
    working : Path
        Where it was trained; becomes `folder`.
    folder : Path
    """
    said = {
        "format": 1,
        "name": folder.name,
        "recipe": dict(recipe),
        "measure": trained.measure,
        "score": trained.score,
        "scores": list(trained.scores),
        "epoch": trained.epoch,
        "epochs": trained.epochs,
        "seconds": round(trained.seconds, 1),
        "left_out": dict(trained.left_out),
        "versions": library_versions(_LIBRARIES),
        **rows,
    }
    trained.classifier.save(working)
    config = read_json(working / hub.CONFIG)
    write_json(working / hub.CONFIG, {**config, hub.TAUGHT: fingerprint(sorted(rows["trained_on"]))})
    source = trained.classifier.encoder.checkpoint.folder
    for pattern in hub.SIDE_FILES:
        for path in source.glob(pattern):
            kept = working / path.relative_to(source)
            if path.is_file() and not kept.exists():  # config.json is the trained network's own
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, kept)
    (working / CARD).write_text(card(said), encoding="utf-8")
    write_json(working / TRAINING, said)
    os.replace(working, folder)
    shutil.rmtree(folder / "state", ignore_errors=True)  # from which it would have gone on
    (folder / RECIPE).unlink(missing_ok=True)


def finished(folder: Path) -> dict[str, Any] | None:
    """Return what the training in a folder says of itself, or None where it is not finished."""
    path = folder / TRAINING
    return read_json(path) if path.is_file() else None


def refuse_other(folder: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a training of another recipe.

    Raises
    ------
    UsageError
        If the recipes differ.
    """
    told = "; ".join(differences(there, now))
    if told:
        raise UsageError(
            f"{folder}: was trained by another recipe ({told}); give the new one a name of its own (--name), or remove "
            "all folders and feature sets of this one"
        )


def card(said: Mapping[str, Any]) -> str:
    """Return the model card: Markdown with the header that model hubs read.

    Parameters
    ----------
    said : mapping
        What ``training.json`` holds.
    """
    recipe, settings = said["recipe"], said["recipe"]["settings"]
    unread = (
        "none of these rows could be read" if said["validation_ids"] else "no group could be spared for it"
    )
    score = f"none: {unread}" if said["score"] is None else f"{said['score']:.4f}"
    header = {
        "library_name": "transformers",
        "tags": ["mixed-signals", recipe["modality"], "feature-extraction"],
        **({"base_model": recipe["base_model"]} if recipe["base_model"] else {}),
    }
    what = {
        "fine-tuned from": recipe["encoder"],
        "weights it began with": recipe["weights"],
        "modality": recipe["modality"],
        "target": f"{recipe['target']} ({recipe['kind']}): {', '.join(recipe['classes']) or 'values'}",
        "corpus": recipe["corpus"],
        "trained on": f"{counted(len(said['train_ids']), 'utterance')}, fingerprint {recipe['train_rows']}",
        "stopped on": f"{counted(len(said['validation_ids']), 'utterance')}, fingerprint {recipe['validation_rows']}",
        "labels": f"fingerprint {recipe['labels']}",
        "design": f"{recipe['design']}, training {recipe['training']}",
        **({"feature sets": ALIGNED} if recipe.get("aligned") else {}),
        f"validation {said['measure']}": score,
        "epoch kept": f"{said['epoch']} of {said['epochs']}",
        "seed": recipe["seed"],
        "seconds": said["seconds"],
    }
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in header.items()),
        "---",
        "",
        f"# {_plain(said['name'])}",
        "",
        f"A {recipe['modality']} encoder, trained by `finetune-encoders` to make vectors that tell "
        f"{_plain(recipe['target'])} apart.",
        "",
        *_table("", "", what),
        "",
        "## What it must not be tested on",
        "",
        f"On none of the {counted(len(said['trained_on']), 'utterance')} listed under `trained_on` in `{TRAINING}`, "
        "nor on any other of the same speakers or dialogs: it has seen their labels, and every classifier on its "
        "vectors would look good there. Feature sets that are made with it remember these utterances, and `fit-heads` "
        "refuses to test on them.",
        "",
        "## Recipe",
        "",
        *_table("setting", "value", settings),
        "",
        "## Versions",
        "",
        *_table("library", "version", said["versions"]),
        "",
    ]
    return "\n".join(lines)


def _table(left: str, right: str, entries: Mapping[str, Any]) -> list[str]:
    rows = [f"| {_plain(key.replace('_', ' '))} | {_plain(value)} |" for key, value in entries.items()]
    return [f"| {left} | {right} |", "| --- | --- |", *rows]


def _plain(value: object) -> str:
    """Return text that Markdown shows as it is, in one line: what comes from a corpus may be anything."""
    text = " ".join(str(value).split())
    return "".join(f"\\{one}" if one in "\\`*_[]<>#|!" else one for one in text)
