"""Real recordings and transcripts that nobody on this project made, through the whole line.

    python tests/benchmarks/real_data.py [--small] [--json FILE]

RAVDESS: eGeMAPS from the recordings, MiniLM from the text, OpenFace action units imported by id; folds by actor. Every
actor says the same two sentences, so text alone must come out at chance. GRID and other clips: what is missing is
told. The reference study's split files: text alone, folds by dialog, beside the group-majority sentinel.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import pandas as pd
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmark_corpora import split_files
from benchmark_rows import arguments_of
from outside_data import ROOT

from mixed_signals.extract import job, make_encoder, pipeline
from mixed_signals.models import sweep
from mixed_signals.models.tables import metrics_table
from mixed_signals.store import Corpus, Run, Store, folds, import_features
from mixed_signals.store.corpora.tables import read_corpus

console = Console(width=100)


def extract(store: Store, *encoders: tuple[str, str]) -> None:
    tasks = job.plan(store, [make_encoder(modality, name) for modality, name in encoders])
    pipeline.prepare(tasks)
    for outcome in pipeline.run(store, tasks):
        seconds = outcome.spent["seconds"]
        console.print(f"{outcome.features!r} in {seconds:.1f} s", markup=False, highlight=False)


def ravdess(folder: Path, small: bool) -> list[dict[str, object]]:
    source = ROOT / "ravdess"
    corpus = read_corpus(
        [source / "utterances.csv"], {"media": "audio", "group": "speaker"}, name="RAVDESS, actors 1 to 8"
    )
    if small:
        corpus = Corpus(corpus.name, corpus.utterances.iloc[::3], media_root=corpus.media_root)
    store = Store.create(folder / "ravdess", corpus)
    console.print(str(corpus), markup=False, highlight=False)
    extract(store, ("text", "minilm"), ("audio", "egemaps"))
    import_features(store, source / "openface_au.npz", "video", "openface", ignore_extra=True)
    views = store.views(text="minilm", audio="egemaps", video="openface")
    run = sweep(views, folds=folds(views, 4), seeds=range(1 if small else 5))
    console.print(metrics_table(run))
    chance = accuracy(run, "majority")
    rows = []
    for head in ("logistic", "xgboost", "gated"):
        for modalities in ("text", "audio", "video", "audio+video", "text+audio+video"):
            ours = accuracy(run, f"{head}:{modalities}")
            met = ours < chance + 0.05 if modalities == "text" else ours > 2 * chance
            goal = "at chance" if modalities == "text" else "at least twice chance"
            rows.append(row(f"RAVDESS accuracy, {head} {modalities} / majority", ours, chance, goal, met))
    return rows


def clips(folder: Path) -> list[dict[str, object]]:
    media = [*sorted((ROOT / "grid").glob("*.mpg")), *sorted((ROOT / "clips").glob("*.mp4"))]
    table = pd.DataFrame(
        {"utterance_id": [m.stem for m in media], "media": [str(m.relative_to(ROOT)) for m in media]}
    )
    store = Store.create(folder / "clips", Corpus("GRID and other clips", table, media_root=ROOT))
    extract(store, ("audio", "egemaps"), ("video", "blendshapes"))
    rows = []
    for key, absent in (("audio/egemaps", {"WolfgangLanger_Pexels"}), ("video/blendshapes", {"no_face"})):
        features = store[key]
        for utterance, reason in zip(features.ids[~features.ok], features.reasons[~features.ok], strict=True):
            console.print(f"{key} {utterance}: {reason}", markup=False, highlight=False)
        missing = set(features.ids[features.status == 2])
        found = int(features.ok.sum())
        expected = len(media) - len(absent)
        rows.append(row(f"clips with {key}", found, expected, "all but the control", missing == absent))
    return rows


def empspeech(folder: Path, small: bool) -> list[dict[str, object]]:
    corpus = split_files(5 if small else 1)
    store = Store.create(folder / "empspeech", corpus)
    console.print(str(corpus), markup=False, highlight=False)
    extract(store, ("text", "minilm"))
    views = store.views(text="minilm")
    run = sweep(views, folds=folds(views, 5), seeds=range(1 if small else 5))
    console.print(metrics_table(run))
    sentinel = accuracy(run, "group-majority")
    return [
        row(
            f"EmpSpeech accuracy, {head} text / group-majority",
            accuracy(run, f"{head}:text"),
            sentinel,
            "below: no leak",
            accuracy(run, f"{head}:text") < sentinel,
        )
        for head in ("logistic", "xgboost", "gated")
    ]


def accuracy(run: Run, model: str) -> float:
    metrics = run.metrics.set_index(["model", "metric"])
    return float(metrics.loc[(model, "accuracy"), "estimate"])


def row(name: str, ours: float, peer: float, goal: str, met: bool) -> dict[str, object]:
    return {"name": name, "ours": ours, "peer": peer, "ratio": ours / peer, "goal": goal, "met": bool(met)}


def main() -> None:
    arguments = arguments_of(__doc__, small="part of the rows, one seed")
    if not ROOT.is_dir():
        sys.exit(f"no outside data at {ROOT} (set MIXED_SIGNALS_DATA)")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with tempfile.TemporaryDirectory() as folder:
        rows = ravdess(Path(folder), arguments.small)
        rows += clips(Path(folder))
        rows += empspeech(Path(folder), arguments.small)
    for found in rows:
        met = "met" if found["met"] else "NOT MET"
        ratio = f"{found['ours']:.3f} / {found['peer']:.3f} = {found['ratio']:.2f}"
        print(f"{found['name']}: {ratio} ({found['goal']}: {met})")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    sys.exit(0 if all(found["met"] for found in rows) else 1)


if __name__ == "__main__":
    main()
