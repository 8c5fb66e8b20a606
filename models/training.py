"""Training a stack of networks: the order of rows, what is hidden, the optimiser, when a head is done.

What is drawn comes from two places. An *order* decides in which order rows are visited and which inputs are
hidden; the heads of a stack have it in common, which is what lets them share their products. A head's own
*seed* decides its initial weights and what is dropped of its features and modalities. No head draws from
another's numbers, so that it comes out the same alone and in any stack.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.optim.adamw import adamw

from mixed_signals.models.stacked import Network, Outputs, Rows, Stack, Weights, predicted

_ROUND = 16  # steps for which numbers are drawn at once
_BETTER = 1e-4  # a loss counts as better if it is smaller by this share


@dataclass(frozen=True)
class Course:
    """What the training of all heads of a stack has in common.

    Attributes
    ----------
    link : str
        Of their `Coding`.
    order : int
    batch_size, max_epochs, patience : int
        A head that is watched on held-out rows stops after `patience` epochs without a better loss.
    input_dropout : float
    """

    link: str
    order: int
    batch_size: int
    max_epochs: int
    patience: int
    input_dropout: float


@dataclass
class Trainee:
    """A head in training.

    Attributes
    ----------
    modalities : tuple of str
    seed : tuple of int
    learning_rate, weight_decay, gate_rate, dropout, modality_dropout, auxiliary : float
    targets : ndarray, shape (n, width)
    row_weights : ndarray, shape (n,)
        Of the rows' losses; 0 for rows that the head cannot see.
    epochs : int
        After so many it leaves the stack.
    held_targets : ndarray, shape (n_held, width), optional
    weights : dict
        The trained weights.
    best_epoch : int
        After which held-out rows had the smallest mean loss, `best_loss`.
    held_outputs : ndarray, shape (n_held, width)
        After that epoch.
    """

    modalities: tuple[str, ...]
    seed: tuple[int, ...]
    learning_rate: float
    weight_decay: float
    gate_rate: float
    dropout: float
    modality_dropout: float
    auxiliary: float
    targets: np.ndarray
    row_weights: np.ndarray
    epochs: int
    held_targets: np.ndarray | None = None
    weights: Weights = field(default_factory=dict)
    best_epoch: int = 0
    best_loss: float = float("inf")
    held_outputs: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.rng = generator(*self.seed)

    @property
    def rates(self) -> tuple[float, float, float]:
        """What heads must share for one call of the optimiser to do them."""
        return self.learning_rate, self.weight_decay, self.gate_rate

    def is_done(self, epoch: int, patience: int) -> bool:
        """Whether it leaves the stack after this epoch."""
        return epoch >= self.epochs or (self.held_targets is not None and epoch - self.best_epoch >= patience)


def generator(*seed: int) -> np.random.Generator:
    """Return the generator of a seed."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed)))


def batches(n_rows: int, batch_size: int) -> tuple[int, int]:
    """Return how many batches an epoch has, and of how many rows.

    All batches are of one size; the few rows that are left over sit an epoch out. Few rows make
    batches smaller than `batch_size`: an epoch has at least 8 of them, as long as they have 8 rows.
    """
    size = min(batch_size, max(n_rows // 8, 8), n_rows)
    return n_rows // size, size


def row_losses(link: str, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the loss of each row, shape (H, B), as `Coding.losses` has it; both are (H, width, B)."""
    if link == "softmax":
        return -(targets * functional.log_softmax(outputs, dim=1)).sum(dim=1)
    if link == "logistic":
        return (functional.softplus(outputs) - targets * outputs).sum(dim=1)
    return 0.5 * (outputs - targets).square().sum(dim=1)


def train(
    network: Network,
    course: Course,
    rows: Rows,
    trainees: Sequence[Trainee],
    held: Rows | None = None,
    device: str = "cpu",
) -> None:
    """Train heads in one stack; what comes of it stands in them afterwards.

    Parameters
    ----------
    network : Network
    course : Course
    rows : Rows
    trainees : sequence of Trainee
    held : Rows, optional
        Rows on which the heads are watched; then all have `held_targets`.
    device : str
    """
    active = sorted(trainees, key=lambda trainee: trainee.rates)
    sizes = {name: x.shape[1] for name, x in rows.inputs.items()}
    initial = [network.initial({name: sizes[name] for name in t.modalities}, t.rng) for t in active]
    stack = Stack(network, [trainee.modalities for trainee in active], initial, device)
    optimizer = _Optimizer(stack, [trainee.rates for trainee in active])
    visits = _Visits(course, rows)
    lesson = Lesson(course.link, stack, active, rows)
    for epoch in range(1, course.max_epochs + 1):
        for steps in visits.epoch():
            kept, here = lesson.draw(steps)
            for step, batch in enumerate(steps):
                found = lesson.gradients(visits.inputs(batch, stack.held), batch, here[step], kept, step)
                optimizer.step(found)
        if held is not None:
            _watch(course.link, stack, active, held, epoch)
        staying = [i for i, trainee in enumerate(active) if not trainee.is_done(epoch, course.patience)]
        if len(staying) < len(active):
            for i in set(range(len(active))) - set(staying):
                active[i].weights = stack.weights(i)
            if not staying:
                return
            optimizer.keep(staying)
            active = [active[i] for i in staying]
            lesson = Lesson(course.link, stack, active, rows)


def _watch(link: str, stack: Stack, active: Sequence[Trainee], held: Rows, epoch: int) -> None:
    """Note which heads do better on held-out rows than before."""
    outputs = torch.cat([found.outputs for found in predicted(stack, held)], dim=-1)
    targets = np.stack([np.asarray(t.held_targets).T for t in active])
    aims = torch.from_numpy(targets.astype(np.float32)).to(outputs.device)
    losses = row_losses(link, outputs, aims).mean(dim=1).tolist()
    for trainee, loss, z in zip(active, losses, outputs.cpu().numpy(), strict=True):
        if loss < trainee.best_loss * (1 - _BETTER):
            trainee.best_epoch, trainee.best_loss, trainee.held_outputs = epoch, loss, z.T


class _Visits:
    """In which order rows are visited, and which of their inputs are hidden."""

    def __init__(self, course: Course, rows: Rows) -> None:
        self._rows = rows
        self._n = len(next(iter(rows.present.values())))
        self._n_steps, self._size = batches(self._n, course.batch_size)
        self._hidden = round(course.input_dropout * 256)
        self._rng = generator(course.order, 0)
        self._input_rngs = {name: generator(course.order, zlib.crc32(name.encode())) for name in rows.inputs}

    def epoch(self) -> Iterator[torch.Tensor]:
        """Return the rows of some steps at a time, (steps, B)."""
        visited = self._rng.permutation(self._n)[: self._n_steps * self._size].reshape(-1, self._size)
        for start in range(0, self._n_steps, _ROUND):
            yield torch.from_numpy(visited[start : start + _ROUND])

    def inputs(self, batch: torch.Tensor, modalities: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the inputs of a batch, each (B, D_m)."""
        found = {}
        for name in modalities:
            x = self._rows.inputs[name]
            found[name] = x.index_select(0, batch.to(x.device))
            if self._hidden:
                drawn = torch.from_numpy(_bytes(self._input_rngs[name], found[name].shape))
                found[name] *= _kept(drawn.to(x.device), self._hidden)
        return found


class Lesson:
    """What the heads now in a stack are to learn, and what is hidden from each."""

    def __init__(self, link: str, stack: Stack, active: Sequence[Trainee], rows: Rows) -> None:
        self._link, self._stack, self._active, self._rows = link, stack, active, rows
        device = next(iter(rows.present.values())).device
        self._present = torch.stack([rows.present[name] for name in stack.modalities])
        self._member = stack.membership()
        self._targets, self._whose_targets = _distinct([t.targets.T for t in active], device)
        self._weights, self._whose_weights = _distinct([t.row_weights for t in active], device)
        self._dropped = {
            name: _column(
                [round(active[i].dropout * 256) for i in stack.heads_with(f"{name}.bias")], 3, device
            )
            for name in stack.held
        }
        self._hidden = _column([round(t.modality_dropout * 256) for t in active], 3, device)
        self._auxiliary = _column([t.auxiliary / len(t.modalities) for t in active], 2, device)

    def draw(self, steps: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Draw what is hidden in some steps (S, B).

        Returns
        -------
        drawn : dict of str to tensor of uint8, shape (S, H_m, hidden, B)
        here : tensor of bool, shape (S, H, M, B)
            Which modalities each head sees; it keeps at least one of those that a row has.
        """
        stack, (S, B), hidden = self._stack, steps.shape, self._stack.network.hidden
        drawn = {name: np.empty((S, len(t), hidden, B), np.uint8) for name, t in self._dropped.items()}
        hides = np.zeros((S, len(self._active), len(stack.modalities), B), np.uint8)
        filled = dict.fromkeys(drawn, 0)
        for i, trainee in enumerate(self._active):
            M = len(trainee.modalities)
            own = _bytes(trainee.rng, (S, M, hidden + 1, B))
            for place, name in enumerate(trainee.modalities):
                drawn[name][:, filled[name]] = own[:, place, :-1]
                filled[name] += 1
                hides[:, i, stack.modalities.index(name)] = own[:, place, -1]
        device = self._present.device
        seen = self._present[:, steps.to(device)].transpose(0, 1)[:, None] & self._member
        here = seen & (torch.from_numpy(hides).to(device) >= self._hidden)
        here = torch.where(here.any(dim=2, keepdim=True), here, seen)
        return {name: torch.from_numpy(bits).to(device) for name, bits in drawn.items()}, here

    def gradients(
        self,
        inputs: Mapping[str, torch.Tensor],
        batch: torch.Tensor,
        here: torch.Tensor,
        drawn: Mapping[str, torch.Tensor],
        step: int,
    ) -> dict[str, torch.Tensor]:
        """Return the gradients of the mean loss of a batch, summed over heads."""
        batch = batch.to(here.device)
        targets, weights = self._targets[..., batch], self._weights[..., batch]
        targets, weights = (
            targets.index_select(0, self._whose_targets),
            weights.index_select(0, self._whose_weights),
        )

        def loss(found: Outputs) -> torch.Tensor:
            losses = row_losses(self._link, found.outputs, targets)
            for name, own in found.auxiliary.items():
                each = row_losses(self._link, own, self._stack.of(name, targets))
                each = each * self._stack.of(name, self._auxiliary) * self._rows.present[name][batch]
                losses = losses + self._stack.among_all(name, each)
            return (losses * weights).sum() / len(batch)

        kept = {name: _kept(bits[step], self._dropped[name]) for name, bits in drawn.items()}
        return self._stack.gradients(inputs, here, kept, loss)


class _Optimizer:
    """AdamW with a learning rate, a weight decay and a gate rate for each head; biases do not decay."""

    def __init__(self, stack: Stack, rates: Sequence[tuple[float, float, float]]) -> None:
        self._stack, self._rates, self._n_steps = stack, list(rates), 0
        self._moments = [
            {name: torch.zeros_like(t, requires_grad=False) for name, t in stack.tensors.items()}
            for _ in range(2)
        ]
        self._begin()

    def step(self, gradients: Mapping[str, torch.Tensor]) -> None:
        """Take one step."""
        self._n_steps += 1
        for (rate, decay), (parts, weights, first, second, steps) in self._groups.items():
            adamw(
                weights,
                [gradients[name][part] for name, part in parts],
                first,
                second,
                [],
                steps,
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=rate,
                weight_decay=decay,
                eps=1e-8,
                maximize=False,
            )

    def keep(self, heads: Sequence[int]) -> None:
        """Let all but these heads go from the stack and from here."""
        self._stack.keep(heads, *self._moments)
        self._rates = [self._rates[head] for head in heads]
        self._begin()

    def _begin(self) -> None:
        """Put together what one call can do: the weights of neighbours with the same rates."""
        self._groups: dict[tuple[float, float], tuple[list[Any], ...]] = {}
        for name, tensor in self._stack.tensors.items():
            start, is_gate = 0, name == "gate_bias" or name.endswith(".score")
            for (rate, decay, gates), run in groupby(
                self._rates[head] for head in self._stack.heads_with(name)
            ):
                part = slice(start, start := start + len(list(run)))
                key = (rate * gates if is_gate else rate, 0.0 if name.endswith("bias") else decay)
                group = self._groups.setdefault(key, ([], [], [], [], []))
                step = torch.tensor(float(self._n_steps), device=tensor.device)
                both = [moments[name][part] for moments in self._moments]
                for into, one in zip(group, [(name, part), tensor.detach()[part], *both, step], strict=True):
                    into.append(one)


def _bytes(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    n = int(np.prod(shape))
    drawn = rng.integers(0, 2**64, size=-(-n // 8), dtype=np.uint64)
    return drawn.view(np.uint8)[:n].reshape(shape)


def _kept(drawn: torch.Tensor, share: torch.Tensor | int) -> torch.Tensor:
    """Return 0 where a random byte is below `share` (in 256ths), elsewhere what makes up for that."""
    return drawn.float().sub_(share - 1).clamp_(0, 1).mul_(256 / (256 - share))


def _column(values: Sequence[float], ndim: int, device: torch.device) -> torch.Tensor:
    """Return one value for each head as a tensor (H, 1, ...)."""
    return torch.tensor(values, dtype=torch.float32, device=device).view(-1, *[1] * (ndim - 1))


def _distinct(arrays: Sequence[np.ndarray], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return arrays without repetition, stacked, as float32, and where each one is."""
    known: dict[bytes, int] = {}
    places = [known.setdefault(array.tobytes(), len(known)) for array in arrays]
    first = [arrays[places.index(place)] for place in range(len(known))]
    stacked = torch.from_numpy(np.stack(first).astype(np.float32))
    return stacked.to(device), torch.tensor(places, device=device)
