"""Fitting gated heads: scouts find how long to train, and what can be trained together makes stacks.

A scout is a head with a seed that depends on the order only, trained on the training rows of an inner fold,
and watched on those that it holds out. Heads that differ in their seed only share their scouts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from mixed_signals.models.base import Fit, Problem
from mixed_signals.models.coding import Coding
from mixed_signals.models.inner import inner_folds
from mixed_signals.models.scaling import standardization, standardized
from mixed_signals.models.stacked import Network, Rows
from mixed_signals.models.training import Course, Trainee, train

_STACK = 128  # heads in a stack at most
_SCOUT, _HEAD = 1, 0  # what tells the seeds of scouts from those of heads


def fit_networks(problem: Problem, fits: Sequence[Fit], device: str, memory: int) -> None:
    """Fit gated heads in place; the parameters are those of `BaseHead.fit_many`."""
    begun = [_Begun(fit, *fit.begin(problem)) for fit in fits]
    scouts: dict[Any, list[_Task]] = {}
    for one in begun:
        if one.key not in scouts:
            scouts[one.key] = list(one.scouts(problem))
    _train([task for tasks in scouts.values() for task in tasks], problem, device, memory)
    last = []
    for one in begun:
        one.learn_from([task.trainee for task in scouts[one.key]])
        last.append(one.task(problem))
    _train(last, problem, device, memory)
    for one, task in zip(begun, last, strict=True):
        head = one.fit.head
        head.weights_ = task.trainee.weights
        head.mean_, head.scale_ = (np.concatenate(parts) for parts in zip(*task.standard, strict=True))


@dataclass
class _Task:
    """A training of one network: a scout's, or a head's own."""

    head: Any
    rows: np.ndarray
    trainee: Trainee
    held: np.ndarray | None = None
    standard: Sequence[tuple[np.ndarray, np.ndarray]] = ()


class _Begun(NamedTuple):
    """A head that has its coding, the rows that it sees, and their encoded targets."""

    fit: Fit
    rows: np.ndarray
    encoded: np.ndarray

    @property
    def head(self) -> Any:
        return self.fit.head

    @property
    def key(self) -> tuple[Any, ...]:
        """Heads with one key share their scouts."""
        settings = self.head.get_params(deep=False)
        alike = tuple(sorted((k, repr(v)) for k, v in settings.items() if k != "random_state"))
        return self.rows.tobytes(), self.fit.modalities, alike

    def scouts(self, problem: Problem) -> Iterator[_Task]:
        """Return the scouts' trainings."""
        head = self.head
        if not head.n_scouts:
            return
        place = np.empty(len(problem.X), dtype=np.intp)
        place[self.rows] = np.arange(len(self.rows))
        for trained, held in inner_folds(problem, self.rows, head.coding_, 4, seed=head.order)[
            : head.n_scouts
        ]:
            targets = self.encoded[place[trained]]
            weights = problem.weights_of(trained)
            trainee = self._trainee((head.order, _SCOUT), targets, weights, head.max_epochs)
            yield _Task(head, trained, replace(trainee, held_targets=self.encoded[place[held]]), held)

    def learn_from(self, scouts: Sequence[Trainee]) -> None:
        """Give the head how long to train, its temperature and its inner loss."""
        head = self.head
        head.n_epochs_, head.temperature_ = head.max_epochs, 1.0
        if scouts:
            outputs = np.concatenate([np.asarray(scout.held_outputs) for scout in scouts])
            targets = np.concatenate([np.asarray(scout.held_targets) for scout in scouts])
            head.n_epochs_ = max(1, round(float(np.mean([scout.best_epoch for scout in scouts]))))
            head.inner_loss_ = float(head.coding_.losses(outputs, targets).mean())
            head.temperature_ = _temperature(head.coding_, outputs, targets)

    def task(self, problem: Problem) -> _Task:
        """Return the head's own training, on all its rows; those that it cannot see weigh nothing."""
        seen = np.isin(self.fit.rows, self.rows)
        targets = np.zeros((len(seen), self.encoded.shape[1]))
        targets[seen] = self.encoded
        weights = seen * problem.weights_of(self.fit.rows)
        trainee = self._trainee((self.head.random_state, _HEAD), targets, weights, self.head.n_epochs_)
        return _Task(self.head, self.fit.rows, trainee)

    def _trainee(
        self, seed: tuple[int, ...], targets: np.ndarray, row_weights: np.ndarray, epochs: int
    ) -> Trainee:
        head = self.head
        if getattr(head, "class_weight", None) is not None:
            row_weights = row_weights * _by_class(head, targets, row_weights)
        return Trainee(
            self.fit.modalities,
            seed,
            head.learning_rate,
            head.weight_decay,
            head.gate_rate,
            head.dropout,
            head.modality_dropout,
            head.auxiliary,
            targets,
            row_weights,
            epochs,
        )


def _train(tasks: Sequence[_Task], problem: Problem, device: str, memory: int) -> None:
    """Train networks, in stacks of those that can be trained together."""
    for _, alike in _grouped(
        tasks, lambda t: (t.rows.tobytes(), None if t.held is None else t.held.tobytes())
    ):
        names = dict.fromkeys(name for task in alike for name in task.trainee.modalities)
        blocks = {name: problem.blocks[name] for name in names}
        rows, held = alike[0].rows, alike[0].held
        standard = {name: standardization(problem.X[rows, a:b]) for name, (a, b) in blocks.items()}
        training = prepared(problem.X[rows], blocks, standard, device)
        watched = None if held is None else prepared(problem.X[held], blocks, standard, device)
        for (network, course), together in _grouped(alike, lambda t: (t.head._network(), t.head._course())):
            together.sort(key=lambda t: (t.trainee.epochs, t.trainee.modalities))
            most = min(
                _STACK, max(1, memory // max(_size(task, network, course, blocks) for task in together))
            )
            for stack in np.array_split(np.arange(len(together)), -(-len(together) // most)):
                train(network, course, training, [together[i].trainee for i in stack], watched, device)
        for task in alike:
            task.standard = [standard[name] for name in task.trainee.modalities]


def _size(task: _Task, network: Network, course: Course, blocks: Mapping[str, tuple[int, int]]) -> int:
    """Return about how many bytes a network takes in training."""
    widths = [blocks[name][1] - blocks[name][0] for name in task.trainee.modalities]
    weights = 4 * 4 * sum(widths) * network.hidden  # weights, gradients and two moments
    return weights + len(widths) * network.hidden * (48 * course.batch_size + 12 * 1024)


def prepared(
    X: np.ndarray,
    blocks: Mapping[str, tuple[int, int]],
    standard: Mapping[str, tuple[np.ndarray, np.ndarray]],
    device: str,
) -> Rows:
    """Return standardised inputs, and which modalities the rows have."""
    inputs, present = {}, {}
    for name, (a, b) in blocks.items():
        here = np.isfinite(X[:, a:b]).any(axis=1)
        z = standardized(X[:, a:b], *standard[name]).astype(np.float32)
        inputs[name], present[name] = torch.from_numpy(z).to(device), torch.from_numpy(here).to(device)
    return Rows(inputs, present)


def _grouped(tasks: Sequence[_Task], key: Any) -> Iterator[tuple[Any, list[_Task]]]:
    """Return tasks by key, in the order in which keys come first."""
    found: dict[Any, list[_Task]] = {}
    for task in tasks:
        found.setdefault(key(task), []).append(task)
    yield from found.items()


def _by_class(head: Any, encoded: np.ndarray, row_weights: np.ndarray) -> np.ndarray:
    """Return what rows weigh by their classes; votes weigh in shares."""
    coding: Coding = head.coding_
    if coding.kind == "multilabel":
        raise ValueError(
            f"class_weight={head.class_weight!r}: only nominal and ordinal targets have such weights"
        )
    shares = encoded
    if coding.link == "logistic":
        ends = np.ones((len(encoded), 1))
        shares = np.hstack([ends, encoded]) - np.hstack([encoded, 0 * ends])
    if isinstance(head.class_weight, Mapping):
        return shares @ np.array([head.class_weight.get(name, 1.0) for name in coding.classes])
    if head.class_weight != "balanced":
        raise ValueError(
            f"class_weight={head.class_weight!r}: it is None, 'balanced' or a weight for each class"
        )
    total = row_weights @ shares
    weights: np.ndarray = shares @ (total.sum() / (len(total) * np.maximum(total, 1e-12)))
    return weights


def _temperature(coding: Coding, outputs: np.ndarray, encoded: np.ndarray) -> float:
    """Return the divisor of outputs with the smallest mean loss; 1 for an interval target."""
    if coding.kind == "interval":
        return 1.0
    found = minimize_scalar(
        lambda log: coding.losses(outputs / np.exp(log), encoded).mean(),
        bounds=(np.log(0.25), np.log(4)),
        method="bounded",
    )
    return float(np.exp(found.x))
