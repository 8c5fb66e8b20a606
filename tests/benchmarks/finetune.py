"""Fine-tuned encoders: what they give beside frozen ones on real transcripts, and how fast they are trained.

    python tests/benchmarks/finetune.py [--small] [--json FILE]

Real transcripts: MiniLM (real weights) on the reference study's split files, five folds by dialog. The same heads see
frozen vectors and fine-tuned ones, and are tested on the same rows of the same folds: frozen on all training rows of a
fold, as anyone would; frozen on half of them at a time, as the heads of the three-way design have them; fine-tuned
three-way; fine-tuned nested. Where a design has two heads for a row their probabilities are averaged. The recipe was
chosen before any score was seen.

The loop: our training beside the loop that anyone would write, with the same network, batches, optimiser and clipping;
one step of both is first checked to give the same loss and gradient. Timed are the steps of an epoch but for the first
and the last; and the whole training of both, from files to files.

On a machine with a GPU: steps of the reference study's recipe on networks of the shapes of roberta-base, hubert-base
and videomae-base, random weights, of inputs that are in memory: utterances a second, FLOP/s (of the products that are
computed, forwards and backwards, by PyTorch's counter) beside the data sheet, and peak memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmark_corpora import SPLIT_FILES, split_files
from benchmark_networks import CLASSES, SHAPES, write_network, write_utterances
from benchmark_rows import Rows, arguments_of
from benchmark_training import Bench, PlainLoop, check_step

from mixed_signals.analysis.compare import compare
from mixed_signals.analysis.pairing import of_run, paired
from mixed_signals.extract import job, make_encoder, pipeline
from mixed_signals.extract.finetune.designs import Training
from mixed_signals.extract.finetune.learning import Learner
from mixed_signals.extract.finetune.settings import PRESETS, Settings
from mixed_signals.extract.finetune.training import train
from mixed_signals.models import sweep
from mixed_signals.models.metrics import score
from mixed_signals.store import Run, Store, Views, cross_fitted_views, folds

console = Console(width=120)

RECIPE = ["--layers", "last:2", "--epochs", "4", "--learning-rate", "1e-4"]
SEED = 42
FROZEN, HALF = "frozen, all training rows", "frozen, half at a time"
INTERVALS, NUMBERS = ("macro F1", "AUROC"), ("accuracy", "log loss")


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes
    ----------
    every : int
        Of how many transcripts one is taken.
    n_folds, n_seeds : int
    heads : tuple of str
    designs : tuple of str
    recipe : list of str
        Flags of ``finetune-encoders``.
    bert : str
        The shape with which loops are compared.
    n_texts, repeats : int
        How many utterances an epoch of these has; how often the sides take turns.
    shapes : tuple of str
        Of the networks that the study's recipe trains.
    n_utterances : int
        What these are trained on.
    """

    every: int
    n_folds: int
    n_seeds: int
    heads: tuple[str, ...]
    designs: tuple[str, ...]
    recipe: list[str]
    bert: str
    n_texts: int
    repeats: int
    shapes: tuple[str, ...]
    n_utterances: int
    full: bool


FULL = Size(
    every=1,
    n_folds=5,
    n_seeds=5,
    heads=("logistic", "gated"),
    designs=("three-way", "nested"),
    recipe=RECIPE,
    bert="minilm",
    n_texts=320,
    repeats=9,
    shapes=("roberta-base", "hubert-base", "videomae-base"),
    n_utterances=256,
    full=True,
)
SMALL = Size(
    every=16,
    n_folds=2,
    n_seeds=1,
    heads=("logistic",),
    designs=("three-way",),
    recipe=["--epochs", "1"],
    bert="tiny-bert",
    n_texts=64,
    repeats=1,
    shapes=("tiny-roberta", "tiny-hubert", "tiny-videomae"),
    n_utterances=8,
    full=False,
)

PEAKS = {
    "H200": {"bfloat16": 989.4, "float32": 67.0},
    "H100 80GB HBM3": {"bfloat16": 989.4, "float32": 67.0},
    "H100 PCIe": {"bfloat16": 756.0, "float32": 51.0},
    "A100": {"bfloat16": 312.0, "float32": 19.5},
    "L40S": {"bfloat16": 362.0, "float32": 91.6},
    "L4": {"bfloat16": 121.0, "float32": 30.3},
}
"""TFLOP/s of NVIDIA's data sheets, dense, by a part of the name that torch gives a device: bfloat16 of the tensor
cores, float32 of the others, since torch's products in float32 are not rounded to TF32 unless it is asked for."""


def transcripts(rows: Rows, folder: Path, size: Size) -> None:
    """Compare frozen and fine-tuned features on real transcripts."""
    corpus = split_files(size.every)
    store = Store.create(folder / "transcripts", corpus)
    console.print(str(corpus), markup=False, highlight=False)
    seconds, _ = timed(lambda: extract(store))
    print(f"frozen vectors in {seconds:.0f} s", flush=True)
    for design in size.designs:
        flags = ["--text", "minilm", "--design", design, "--name", design, "--device", "cpu"]
        flags += ["--folds", str(size.n_folds), "--group", "group", "--seed", str(SEED), *size.recipe]
        print(f"finetune-encoders {' '.join(flags)}", flush=True)
        command = [Path(sys.executable).with_name("finetune-encoders"), store.path, *flags]
        seconds, _ = timed(lambda command=command: subprocess.run(command, check=True))
        print(f"{design}: encoders and vectors in {seconds:.0f} s", flush=True)
    views = store.views(text="minilm")
    groups = dict(zip(views.ids.tolist(), views.groups_by("group").tolist(), strict=True))
    seconds, runs = timed(lambda: fitted(store, views, groups, size))
    print(f"heads in {seconds:.0f} s")
    console.print(scores(runs, size.heads))
    pairs = [(tuned, frozen) for tuned in runs for frozen in (FROZEN, HALF) if tuned not in (FROZEN, HALF)]
    for head in size.heads:
        for first, second in pairs:
            sides = [of_run(runs[name], f"{head}:text", pd.Series(groups)) for name in (first, second)]
            apart = compare(*paired(*sides), "macro F1").rows
            print(
                f"{head}, macro F1 of {first} less that of {second}: {apart.estimate:.3f}, "
                f"{apart.low:.3f} to {apart.high:.3f}"
            )
        for measure in ("macro F1", "AUROC"):
            for first, second in pairs:
                found = (estimate(runs[name], f"{head}:text", measure).estimate for name in (first, second))
                rows.add(f"{measure}, {head}: {first} / {second}", *found, share=True, unit="")


def extract(store: Store) -> None:
    tasks = job.plan(store, [make_encoder("text", "minilm", device="cpu")])
    pipeline.prepare(tasks)
    pipeline.run(store, tasks)


def fitted(store: Store, views: Views, groups: dict[str, str], size: Size) -> dict[str, Run]:
    """Fit the same heads on each kind of features; all runs test the same rows in the same folds."""
    options: dict[str, Any] = {"seeds": range(size.n_seeds)}
    outer = [replace(fold, partition=0) for fold in folds(views, size.n_folds, partition=SEED)]
    tested = {(fold.fold, frozenset(fold.test_ids)) for fold in outer}
    runs = {FROZEN: sweep(views, size.heads, folds=outer, **options)}
    for design in size.designs:
        own, made, group = cross_fitted_views(store, {"text": f"minilm.{design}"})
        assert {(fold.fold, frozenset(fold.test_ids)) for fold in made} == tested
        if design == "three-way":
            runs[HALF] = averaged(sweep(views, size.heads, folds=made, **options), groups)
        tuned = sweep(own, size.heads, folds=made, group=group, views_by_fold=True, **options)
        runs[f"fine-tuned, {design}"] = averaged(tuned, groups)
    return runs


def averaged(run: Run, groups: dict[str, str]) -> Run:
    """Return a run in which probabilities are averaged over the halves of a design, as they are over seeds."""
    seeds = run.predictions["seed"] + 1000 * run.predictions["partition"]
    predictions = run.predictions.assign(partition=0, seed=seeds)
    return replace(run, predictions=predictions, metrics=score(predictions, run.kind, run.classes, groups))


def scores(runs: dict[str, Run], heads: Sequence[str]) -> Table:
    """Return a table of what heads reach, sentinels first."""
    table = Table(
        title="out-of-fold scores, with 95% intervals over dialogs", title_justify="left", box=SIMPLE_HEAD
    )
    for column in ("head", "text features", *INTERVALS, *NUMBERS):
        table.add_column(column)
    models = [("majority", FROZEN), ("group-majority", FROZEN)]
    models += [(f"{head}:text", features) for head in heads for features in runs]
    for model, features in models:
        found = {measure: estimate(runs[features], model, measure) for measure in (*INTERVALS, *NUMBERS)}
        cells = [with_interval(found[measure]) for measure in INTERVALS]
        cells += [f"{found[measure].estimate:.3f}" for measure in NUMBERS]
        head, _, seen = model.partition(":")
        table.add_row(head, features if seen else "(none)", *cells)
    return table


def estimate(run: Run, model: str, measure: str) -> Any:
    """Return a row of a run's metrics."""
    metrics = run.metrics
    (row,) = metrics[(metrics["model"] == model) & (metrics["metric"] == measure)].itertuples()
    return row


def with_interval(row: Any) -> str:
    """Return an estimate as text, with its interval if it has one."""
    known = row.low == row.low
    return f"{row.estimate:.3f} {row.low:.2f} to {row.high:.2f}" if known else f"{row.estimate:.3f}"


def loops(rows: Rows, folder: Path, size: Size) -> None:
    """Compare our training with a plain loop, on the processor."""
    import torch

    store = write_utterances(folder / "texts", "text", size.n_texts)
    checkpoint = write_network(folder, size.bert)
    bench = Bench(store, "text", checkpoint, "cpu")
    said = dict(zip(store.corpus.ids, store.corpus.utterances["text"], strict=True))
    for layers in ("last:2", "all"):
        settings = Settings(
            epochs=1, layers=layers, dropout=0.0, warmup=0.0, schedule="constant", class_weights=False
        )
        batches = bench.batches(settings)
        texts = [[said[one] for one in batch] for batch in batches]
        targets = [torch.tensor([CLASSES.index(bench.label_of[one]) for one in batch]) for batch in batches]
        check_step(bench, PlainLoop(checkpoint, settings), settings, batches[0], texts[0], targets[0])
        spent: dict[str, list[float]] = {"ours": [], "plain": [], "ours, whole": [], "plain, whole": []}
        for turn in range(size.repeats):
            marks: list[float] = []
            training = Training("made-up", tuple(bench.ids), ())
            of_turn = folder / f"{layers.replace(':', '')}-{turn}"
            whole, _ = timed(
                lambda training=training, settings=settings, of_turn=of_turn, marks=marks: train(
                    bench.encoder,
                    bench.inputs,
                    bench.labels,
                    training,
                    settings,
                    of_turn,
                    seed=0,
                    on_progress=lambda _: marks.append(time.perf_counter()),
                )
            )
            spent["ours, whole"].append(whole)
            spent["ours"].append(marks[-2] - marks[0])
            began = time.perf_counter()
            plain = PlainLoop(checkpoint, settings)
            marks = []
            for one, target in zip(texts, targets, strict=True):
                plain.step(one, target)
                marks.append(time.perf_counter())
            plain.network.save_pretrained(of_turn / "plain")
            spent["plain, whole"].append(time.perf_counter() - began)
            spent["plain"].append(marks[-2] - marks[0])
        middle = {side: median(seconds) for side, seconds in spent.items()}
        n = sum(map(len, batches[1:-1]))
        name = f"{n} texts, {size.bert}'s shape on cpu, {layers}: our steps / a plain loop's"
        rows.add(name, n / middle["ours"], n / middle["plain"], reach=0.9, unit="utterances/s")
        rows.add("  the whole training, from files to files", middle["ours, whole"], middle["plain, whole"])


def study_recipe(rows: Rows, folder: Path, size: Size, device: str) -> None:
    """Measure steps of the reference study's recipe."""
    name = device_name(device)
    for shape in size.shapes:
        modality = SHAPES[shape][0]
        checkpoint = write_network(folder, shape)
        seconds = {"text": (None,), "audio": (None, 2.0), "video": (2.5,)}[modality]
        for length in seconds:
            store = write_utterances(folder / f"{shape}-{length}", modality, size.n_utterances, length)
            bench = Bench(store, modality, checkpoint, device)
            of = f"{shape}'s shape" + (f", all of {length:g} s" if length else "")
            for dtype, batch_size in (("float32", 8), ("bfloat16", 8), ("bfloat16", 64)):
                settings = replace(PRESETS["study"], dtype=dtype, batch_size=batch_size)
                found = pace(bench, settings)
                said = f"{of}, study's recipe, {dtype}, batches of {batch_size}, on {name}"
                print(
                    f"{said}: {found.utterances:,.0f} utterances/s, {found.tflops:,.3g} TFLOP/s", flush=True
                )
                peak = peak_of(name, dtype)
                if peak is not None:
                    rows.add(f"{said} / data sheet", found.tflops, peak, share=True, unit="TFLOP/s")
                if found.memory:
                    rows.add("  peak memory / the device's", found.memory, found.there, share=True, unit="GB")


@dataclass(frozen=True)
class Pace:
    """Utterances and TFLOP a second; GB at the most, and there are, both 0 on a processor."""

    utterances: float
    tflops: float
    memory: float = 0.0
    there: float = 0.0


def pace(bench: Bench, settings: Settings) -> Pace:
    """Return how fast the steps of an epoch are, after an epoch in which products are counted."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    on_gpu = bench.encoder.device.startswith("cuda")
    learner, batches = bench.learner(settings), bench.batches(settings)
    with FlopCounterMode(display=False) as counter:
        epoch(learner, batches)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    seconds, _ = timed(
        lambda: epoch(learner, batches)
    )  # each step fetches its loss, so that none is under way
    rates = len(bench.ids) / seconds, counter.get_total_flops() / seconds / 1e12
    if not on_gpu:
        return Pace(*rates)
    there = torch.cuda.get_device_properties(0).total_memory
    return Pace(*rates, torch.cuda.max_memory_allocated() / 1e9, there / 1e9)


def epoch(learner: Learner, batches: Sequence[list[str]]) -> None:
    with closing(learner.packed(batches)) as packed:
        for batch in batches:
            learner.step([batch], packed)


def device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else "a processor"


def peak_of(name: str, dtype: str) -> float | None:
    """Return the TFLOP/s of a device's data sheet, or None of one that is not known."""
    return next((peaks[dtype] for known, peaks in PEAKS.items() if known in name), None)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def main() -> None:
    arguments = arguments_of(__doc__, small="part of the transcripts and one epoch; tiny networks")
    size = SMALL if arguments.small else FULL
    rows = Rows(full=size.full)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loops(rows, folder, size)
        if torch.cuda.is_available():
            study_recipe(rows, folder, size, "cuda")
        elif size.full:
            print("no GPU here (torch.cuda.is_available() says no): steps of the study's recipe are left out")
        else:
            study_recipe(rows, folder, size, "cpu")  # tiny networks: that it runs, and no figure of anything
        if SPLIT_FILES.is_dir():
            transcripts(rows, folder, size)
        else:
            print(f"no split files at {SPLIT_FILES} (set MIXED_SIGNALS_DATA): real transcripts are left out")
    sys.exit(rows.end(arguments.json))


if __name__ == "__main__":
    main()
