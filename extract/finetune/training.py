"""The training of one encoder: epochs, each ending with a state on disk from which it can go on.

What an epoch draws (its batches, dropout) comes from the seed and the epoch's number alone, and learning rates from
that of the step. So a training that was broken off, however, loses the epoch that it was at and nothing else, and comes
to the same numbers as one that was not: on the processor, to the bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mixed_signals.extract.encoders.passes import is_no_memory
from mixed_signals.extract.finetune import state as states
from mixed_signals.extract.finetune.inputs import Inputs, steps
from mixed_signals.extract.finetune.labels import Coding, Labels
from mixed_signals.extract.finetune.learning import Learner
from mixed_signals.extract.finetune.logs import Log, NoLog
from mixed_signals.extract.finetune.network import Classifier
from mixed_signals.extract.finetune.settings import Settings
from mixed_signals.extract.finetune.state import State
from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.files import plain
from mixed_signals.store.provenance import fingerprint

if TYPE_CHECKING:
    from torch import Tensor

    from mixed_signals.extract.encoders.transformer import TransformerEncoder
    from mixed_signals.extract.finetune.designs import Training

_LAST = Path("state") / "last.safetensors"


@dataclass(frozen=True)
class Progress:
    """How a training goes.

    Attributes
    ----------
    training : str
        Its name.
    epoch, epochs : int
        The present one, from 1; all of them.
    step, steps : int
        Done of this epoch; all of its.
    loss : float
        Of the last step.
    score : float or None
        Best validation score so far.
    measure : str
        What the score is: macro F1 or concordance.
    rows_per_second : float
        Since it was started.
    seconds_left : float
        If it does not stop early.
    """

    training: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    score: float | None
    measure: str
    rows_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes
    ----------
    classifier : Classifier
        With the weights of the best epoch, on its device; LoRA merged. Of several processes that train together only
        the first has these weights.
    score : float or None
        Validation score of the best epoch; None where there were no validation rows.
    measure : str
        What the score is: macro F1 or concordance.
    epoch : int
        The best epoch, from 1; the last where there were no validation rows.
    epochs : int
        How many were trained.
    scores : tuple of float or None
        After each of them.
    seconds : float
        All in all, however often it was broken off.
    left_out : dict of str to str
        Rows that could not be trained on, and why.
    """

    classifier: Classifier
    score: float | None
    measure: str
    epoch: int
    epochs: int
    scores: tuple[float | None, ...]
    seconds: float
    left_out: dict[str, str] = field(default_factory=dict)


def train(
    encoder: TransformerEncoder,
    inputs: Inputs,
    labels: Labels,
    training: Training,
    settings: Settings,
    folder: Path,
    *,
    seed: int,
    on_progress: Callable[[Progress], None] | None = None,
    tensorboard: bool = False,
) -> Trained:
    """Train an encoder, or go on with a training that was broken off.

    Parameters
    ----------
    encoder : TransformerEncoder
        Its network is loaded anew, and stays loaded with the weights that came out.
    inputs : Inputs
        Of the same encoder's reader. If they are those of several processes, all of these train together.
    labels : Labels
    training : Training
        Which rows are learnt from, and on which the best epoch is chosen.
    settings : Settings
    folder : Path
        Takes ``state/`` and ``metrics.jsonl``, a line for each step and each epoch; with `tensorboard`,
        ``tensorboard/``.
    seed : int
    on_progress : callable, optional
        Called after each step and each epoch.
    tensorboard : bool
        Whether what is in ``metrics.jsonl`` is also written for TensorBoard.

    Raises
    ------
    UsageError
        If the folder holds the training of another recipe, the network cannot be trained as is asked, or a library
        that is asked for is not installed.
    MixedSignalsError
        If there is nothing to be learnt from the rows, the loss is no number any more, or memory runs out.
    """
    recipe = fingerprint(
        {
            "encoder": [one.recipe.fingerprint for one in encoder.outputs],
            "settings": asdict(settings),
            "seed": seed,
            "kind": labels.kind,
            "classes": labels.classes,
            "train": [(one, plain(labels.values.get(one))) for one in training.train_ids],
            "validation": [(one, plain(labels.values.get(one))) for one in training.validation_ids],
        }
    )
    ranks = inputs.ranks
    tensors, state = states.read(folder / _LAST) if (folder / _LAST).exists() else ({}, State(recipe))
    ranks.all_gather(None)  # all have read it, and nobody but the first looks into the folder again
    if state.recipe != recipe:
        raise UsageError(
            f"{folder}: holds a training of another recipe (settings, seed, rows, labels or weights); remove it, or "
            "give this one another --name"
        )
    train_ids, validation_ids = inputs.look(training.train_ids), inputs.look(training.validation_ids)
    asked = (*training.train_ids, *training.validation_ids)
    left_out = {one: inputs.reasons[one] for one in asked if one in inputs.reasons}
    coding = _coding(state) or Coding.of(
        labels, train_ids, class_weights=settings.class_weights, left_out=left_out
    )
    with _drawing(seed, encoder.device):
        encoder.load()
        classifier = Classifier(encoder, coding, settings)
        learner = Learner(classifier, inputs, labels, settings)
        if not state.finished:
            state.coding = asdict(coding)
            with Log(folder, state.logged, tensorboard=tensorboard) if ranks.leads else NoLog() as log:
                told = on_progress or (lambda progress: None)
                run = _Run(learner, training.name, train_ids, validation_ids, folder, seed, state, log, told)
                run.go(tensors)
    if ranks.leads:
        learner.set_weights(states.read(_best(folder, state.best))[0])
    classifier.merge()
    classifier.train(False).requires_grad_(False)
    return Trained(
        classifier=classifier,
        score=state.scores[state.best - 1],
        measure=coding.measure,
        epoch=state.best,
        epochs=state.epoch,
        scores=tuple(state.scores),
        seconds=state.seconds,
        left_out=left_out,
    )


class _Run:
    """One training at work."""

    def __init__(
        self,
        learner: Learner,
        name: str,
        train_ids: Sequence[str],
        validation_ids: Sequence[str],
        folder: Path,
        seed: int,
        state: State,
        log: Log | NoLog,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.learner, self.settings, self.ranks = learner, learner.settings, learner.ranks
        self.name, self.train_ids, self.validation_ids = name, train_ids, validation_ids
        self.folder, self.seed, self.state, self.log = folder, seed, state, log
        self.on_progress = on_progress
        self.steps = -(-len(train_ids) // (self.settings.batch_size * self.settings.accumulate))
        self.began, self.rows_done, self.steps_done = time.perf_counter(), 0, 0

    def go(self, tensors: dict[str, Tensor]) -> None:
        """Train the epochs that are left, from what was written of the last one."""
        if tensors:
            self.learner.restore(tensors, self.state.scaler)
        while not self.state.finished:
            before = time.perf_counter()
            loss = self._epoch(self.state.epoch)
            self._close_epoch(loss, before)
            if self.ranks.leads:
                self._write()
            self._report(self.steps, loss)

    def _epoch(self, epoch: int) -> float:
        """Train one epoch; return its mean loss."""
        settings, learner = self.settings, self.learner
        torch.manual_seed(_seed(self.seed, epoch + 1) + self.ranks.number)
        lengths = learner.inputs.lengths(self.train_ids)
        planned = [
            [[self.train_ids[row] for row in batch] for batch in step]
            for step in steps(lengths, settings.batch_size, settings.accumulate, [self.seed, epoch])
        ]
        sums = 0.0
        shares = learner.shares([batch for step in planned for batch in step])
        with self._enough_memory(), closing(learner.packed(shares)) as packed:
            for number, step in enumerate(planned):
                began, at, n = time.perf_counter(), epoch * self.steps + number, sum(map(len, step))
                learner.set_rate(settings.rate_factor(at, settings.epochs * self.steps))
                loss, norm = learner.step(step, packed)
                if not learner.is_sound(loss, norm):
                    raise self._nonsense(loss, norm, epoch, number)
                sums += loss * n
                self.rows_done += n
                self.steps_done += 1
                said = {
                    "epoch": epoch + 1,
                    "step": at + 1,
                    "loss": loss,
                    "learning_rate": learner.learning_rate,
                    "gradient_norm": norm,
                    "rows_per_second": n / (time.perf_counter() - began),
                }
                self.log.say(said)
                if number + 1 < self.steps:
                    self._report(number + 1, loss)
        return sums / len(self.train_ids)

    def _close_epoch(self, loss: float, before: float) -> None:
        """Score the epoch, and keep its weights if it is the best; say whether it was the last."""
        settings, state = self.settings, self.state
        state.epoch += 1
        with self._enough_memory():
            score, of_validation = (
                self.learner.score(self.validation_ids) if self.validation_ids else (None, None)
            )
        state.scores.append(score)
        rank = None if score is None or of_validation is None else [score, -of_validation]
        if rank is None or state.best == 0 or rank > state.best_rank:  # by loss where scores are equal
            state.best, state.best_rank = state.epoch, rank or []
            if self.ranks.leads:
                states.write(_best(self.folder, state.best), self.learner.trainable, state)
        waited = state.epoch - state.best
        state.finished = state.epoch == settings.epochs or 0 < settings.patience <= waited
        seconds = time.perf_counter() - before
        state.seconds += seconds
        said = {
            "epoch": state.epoch,
            "loss": loss,
            "validation_loss": of_validation,
            "score": score,
            "measure": self.learner.coding.measure,
            "best": state.best,
            "seconds": seconds,
        }
        self.log.say(said)

    def _write(self) -> None:
        """Write what the next epoch goes on from; remove what is no longer the best, or was half written."""
        state, best = self.state, _best(self.folder, self.state.best)
        state.scaler, state.logged = self.learner.scaler, self.log.size
        states.write(self.folder / _LAST, {} if state.finished else self.learner.tensors(), state)
        for path in {*best.parent.iterdir()} - {best, self.folder / _LAST}:
            path.unlink()

    def _report(self, step: int, loss: float) -> None:
        state, settings = self.state, self.settings
        spent = time.perf_counter() - self.began
        ended = step == self.steps
        done = state.epoch * self.steps + (0 if ended else step)
        left = 0.0 if state.finished else (settings.epochs * self.steps - done) * spent / self.steps_done
        self.on_progress(
            Progress(
                training=self.name,
                epoch=state.epoch + (not ended),
                epochs=settings.epochs,
                step=step,
                steps=self.steps,
                loss=loss,
                score=state.scores[state.best - 1] if state.best else None,
                measure=self.learner.coding.measure,
                rows_per_second=self.rows_done / spent,
                seconds_left=left,
            )
        )

    def _nonsense(self, loss: float, norm: float, epoch: int, step: int) -> MixedSignalsError:
        settings = self.settings
        what = f"gradient's norm is {norm:g}" if math.isfinite(loss) else f"loss is {loss:g}"
        return MixedSignalsError(
            f"{self.name}: the {what} in step {step + 1} of epoch {epoch + 1}: lower --learning-rate "
            f"({settings.learning_rate:g}) or --head-learning-rate ({settings.head_learning_rate:g}), or use --dtype "
            f"float32; {self.folder} keeps the epochs before"
        )

    @contextmanager
    def _enough_memory(self) -> Iterator[None]:
        """Say what helps where memory runs out."""
        try:
            yield
        except Exception as error:
            if not is_no_memory(error):
                raise
            size, device = self.settings.batch_size, self.learner.device
            raise MixedSignalsError(
                f"{self.name}: memory ran out on {device} with --batch-size {size}: halve it and double --accumulate, "
                "which comes to the same, or add --checkpointing"
            ) from error


def _best(folder: Path, epoch: int) -> Path:
    return folder / _LAST.parent / f"best-{epoch:04d}.safetensors"


def _coding(state: State) -> Coding | None:
    """Return the coding that a training began with."""
    if not state.coding:
        return None
    said = state.coding
    return Coding(**{**said, "classes": tuple(said["classes"]), "weights": tuple(said["weights"])})


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def _drawing(seed: int, device: str) -> Iterator[None]:
    """Let torch draw from `seed`, and leave its own generators as they were."""
    with torch.random.fork_rng(devices=[torch.device(device)] if device.startswith("cuda") else []):
        torch.manual_seed(_seed(seed))
        yield
