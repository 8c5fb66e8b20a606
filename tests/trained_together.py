"""Trainings that two processes do together, one after the other: starting them takes longer than all of these."""

from dataclasses import replace

from tunable import Bench, BrokenOffError, N, breaking, ids_of, labels_of

from mixed_signals.extract.finetune.designs import Training
from mixed_signals.extract.finetune.in_turn import train_encoders
from mixed_signals.extract.finetune.inputs import Inputs
from mixed_signals.extract.finetune.job import plan
from mixed_signals.extract.finetune.labels import Coding
from mixed_signals.extract.finetune.ranks import ALONE, joined
from mixed_signals.extract.finetune.request import Request
from mixed_signals.extract.finetune.settings import Settings
from mixed_signals.store import MixedSignalsError

# 21 rows, of one class three times as many as of the other; the last batch has one, which leaves nothing to the second
WARM = [one for one, label in zip(ids_of(N), labels_of(N), strict=True) if label == "warm"]
CALM = [one for one, label in zip(ids_of(N), labels_of(N), strict=True) if label == "calm"]
TRAINING = Training("planted", (*WARM[:15], *CALM[:6]), (*WARM[15:20], *CALM[6:12]))
PLAIN = Settings(
    epochs=4, learning_rate=2e-3, head_learning_rate=2e-2, batch_size=5, patience=0, dropout=0.0, layers="all"
)
SETTINGS = {
    "batches": PLAIN,
    "accumulated": replace(PLAIN, batch_size=2, accumulate=3),
    "one row at a time, in float16": replace(PLAIN, batch_size=1, epochs=1, dtype="float16"),
    "stops early": replace(PLAIN, epochs=8, patience=2),
    "begun together": PLAIN,
    "explodes": replace(PLAIN, learning_rate=1e30, head_learning_rate=1e30, warmup=0.0),
    "begun alone": PLAIN,
}


def job_of(folder):
    """Plan the training of one encoder, whole."""
    store, encoder = folder / "corpus" / "store", folder / "tiny-text"
    return plan(Request(store, (("text", str(encoder)),), PLAIN, split="train"), "cpu")


def run(folder, name, ranks=ALONE, *, where=None, **options):
    """Train in a folder that the corpus and the encoder are in; return what came of it, and what was read for it."""
    bench = Bench(folder)
    bench.inputs = Inputs(bench.store, bench.encoder, workers=1, ranks=ranks)
    read, there = [], bench.encoder.reader.read
    bench.encoder.reader.read = lambda texts: read.extend(texts) or there(texts)
    where = where or folder / ("alone" if ranks is ALONE else "together") / name
    return bench.train(where, SETTINGS[name], TRAINING, **options), len(read)


def all_together(folder, place, reporter):
    """Do them all, as one of the processes."""
    with joined(place, "cpu") as ranks:
        for name in SETTINGS:
            where = {"where": folder / "alone" / name} if name == "begun alone" else {}
            if name == "begun together":
                where["on_progress"] = breaking(3, 2)
            if name == "stops early":
                values = iter(range(8) if ranks.number else (0.5, 0.9, 0.8, 0.7, 1.0, 1.0, 1.0, 1.0))
                score, Coding.score = Coding.score, lambda *_, values=values: float(next(values))
            try:
                trained, n_read = run(folder, name, ranks, **where)
                reporter.send((ranks.number, name, trained.scores, n_read))
            except (BrokenOffError, MixedSignalsError) as error:
                reporter.send((ranks.number, name, str(error), 0))
            if name == "stops early":
                Coding.score = score
        train_encoders(job_of(folder), ranks=ranks)
