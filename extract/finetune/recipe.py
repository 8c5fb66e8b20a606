"""What decides how an encoder is trained: the same recipe gives the same encoder, another is refused in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mixed_signals.extract.encoders.presets import PRESETS
from mixed_signals.extract.encoders.transformer import TransformerEncoder
from mixed_signals.extract.finetune.designs import Design, Training
from mixed_signals.extract.finetune.labels import Labels
from mixed_signals.extract.finetune.request import Request
from mixed_signals.store import Store
from mixed_signals.store.files import plain
from mixed_signals.store.provenance import fingerprint

MEDIA = "media"


def recipe_of(
    request: Request,
    store: Store,
    labels: Labels,
    design: Design,
    encoder: TransformerEncoder,
    training: Training,
    media: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """Return what decides how an encoder is trained, as its card has it.

    `media` says what each utterance's recording holds: under ``media``, which a training that goes on is compared by.
    One that is finished is not, for by then recordings may have been put away.
    """
    (_, spec), *_ = (one for one in request.encoders if one[0] == encoder.modality)
    hub_name = PRESETS[spec].hub if spec in PRESETS else spec if not Path(spec).expanduser().exists() else ""
    made_of = dict(
        zip(store.corpus.ids.tolist(), store.corpus.entry_hash_bytes(encoder.modality), strict=True)
    )
    rows = (*training.train_ids, *training.validation_ids)
    said: dict[str, Any] = plain(
        {
            "encoder": encoder.name,
            "base_model": hub_name,
            "modality": encoder.modality,
            "weights": encoder.checkpoint.fingerprint,
            "revision": encoder.checkpoint.revision,
            "preprocessing": encoder.preprocessing,
            "pooling": encoder.outputs[0].recipe.pooling,
            "corpus": store.corpus.name,
            "target": request.target,
            "kind": labels.kind,
            "classes": list(labels.classes),
            "design": design.kind,
            **({"aligned": True} if design.aligned else {}),
            "training": training.name,
            "group": design.group,
            "seed": request.seed,
            "train_rows": fingerprint(sorted(training.train_ids)),
            "validation_rows": fingerprint(sorted(training.validation_ids)),
            "labels": fingerprint([(one, plain(labels.values[one])) for one in sorted(rows)]),
            "content": fingerprint([made_of[one].decode() for one in sorted(rows)]),
            "settings": asdict(request.settings),
            **({MEDIA: fingerprint([media[one].hex() for one in sorted(rows)])} if media is not None else {}),
        }
    )
    return said
