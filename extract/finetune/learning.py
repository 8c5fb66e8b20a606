"""How a classifier learns: one step of the optimiser, and how good it is on rows that it did not learn from."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mixed_signals.extract.encoders.passes import Packed
from mixed_signals.extract.finetune.inputs import Inputs
from mixed_signals.extract.finetune.labels import Labels
from mixed_signals.extract.finetune.network import Classifier
from mixed_signals.extract.finetune.settings import Settings

T = TypeVar("T")

_AHEAD = 3  # batches that are packed while the device is at work
_KEYS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW remembers of a parameter


class Learner:
    """A classifier with its optimiser and its rows; of several processes that train together, one for each.

    Parameters
    ----------
    classifier : Classifier
    inputs : Inputs
    labels : Labels
    settings : Settings

    Attributes
    ----------
    trainable : dict of Parameter
        What is trained, by name.
    learning_rate : float
        Of the encoder, in the last step.
    """

    def __init__(self, classifier: Classifier, inputs: Inputs, labels: Labels, settings: Settings) -> None:
        self.classifier, self.inputs, self.labels, self.settings = classifier, inputs, labels, settings
        self.coding, self.device = classifier.coding, torch.device(classifier.encoder.device)
        self.ranks = inputs.ranks
        self.trainable = classifier.trainable()
        self.learning_rate = settings.learning_rate
        self._weights = torch.tensor(self.coding.weights, dtype=torch.float32, device=self.device)
        self._optimizer = _optimizer(self.trainable, settings)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=settings.dtype == "float16")
        # It begins with the first loss, and a process may have none.
        self._scaler.scale(torch.zeros((), device=self.device))

    def set_rate(self, factor: float) -> None:
        """Set the learning rates to a share of the highest."""
        self.learning_rate = self.settings.learning_rate * factor
        for group in self._optimizer.param_groups:
            group["lr"] = group["highest"] * factor

    def step(self, batches: Sequence[Sequence[str]], packed: Iterator[Packed]) -> tuple[float, float]:
        """Take one step.

        Parameters
        ----------
        batches : sequence of sequence of str
            Whose gradients make the step; however it is cut into batches and shares, each row counts the same.
        packed : iterator of Packed
            Gives the `shares` of these batches.

        Returns
        -------
        loss, norm : float
            The mean loss, rows weighted by class; the norm of its gradient before clipping.
        """
        self.classifier.train()
        total = torch.stack([self._targets(batch)[1].sum() for batch in batches]).sum()
        self._optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.device)
        for batch in self.shares(batches):
            target, weights = self._targets(batch)
            losses = self._losses(self.classifier(next(packed)), target)
            part = (losses * weights).sum() / total
            self._scaler.scale(part).backward()
            loss += part.detach()
        loss = self.ranks.all_reduce_gradients(loss, list(self.trainable.values()))
        self._scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self.trainable.values(), self.settings.clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return float(loss), float(norm)

    def is_sound(self, loss: float, norm: float) -> bool:
        """Return whether a step made sense. In float16 gradients may overflow now and then; such a step is skipped."""
        return bool(np.isfinite(loss) and (self._scaler.is_enabled() or np.isfinite(norm)))

    def score(self, ids: Sequence[str]) -> tuple[float, float]:
        """Return score and mean loss of rows that are not learnt from."""
        self.classifier.train(False)
        order = np.argsort(-self.inputs.lengths(ids), kind="stable")
        ids = [ids[row] for row in order]
        size = self.settings.batch_size
        shares = self.shares([range(len(ids))[start : start + size] for start in range(0, len(ids), size)])
        outputs = torch.zeros(len(ids), self.coding.width, device=self.device)
        with (
            torch.no_grad(),
            closing(self.packed([[ids[row] for row in share] for share in shares])) as packed,
        ):
            for share, one in zip(shares, packed, strict=True):
                outputs[list(share)] = self.classifier(one)
            outputs = self.ranks.all_reduce(outputs)
            target, weights = self._targets(ids)
            loss = float((self._losses(outputs, target) * weights).sum() / weights.sum())
        score = self.coding.score(outputs.cpu().numpy(), target.cpu().numpy())
        return self.ranks.all_gather((score, loss))[0]

    def shares(self, batches: Sequence[Sequence[T]]) -> list[Sequence[T]]:
        """Return what this process takes of each batch, where that is something."""
        return [share for batch in batches if len(share := self.ranks.share(batch))]

    def packed(self, batches: Sequence[Sequence[str]]) -> Generator[Packed]:
        """Yield batches as the encoder packs them, some of them ahead."""
        ahead: deque[Future[Packed]] = deque()
        with ThreadPoolExecutor(1) as packer, closing(self.inputs.values(batches)) as values:
            for one in values:
                ahead.append(packer.submit(self.classifier.encoder.pack, one))
                if len(ahead) > _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def tensors(self) -> dict[str, Tensor]:
        """Return what is trained and what the optimiser remembers of it, by name."""
        return {
            **self.trainable,
            **{
                f"optimizer/{key}/{name}": value
                for name, parameter in self.trainable.items()
                for key, value in self._optimizer.state.get(parameter, {}).items()
            },
        }

    @property
    def scaler(self) -> dict[str, Any]:
        """How gradients in float16 are scaled now."""
        return self._scaler.state_dict()

    def restore(self, tensors: Mapping[str, Tensor], scaler: dict[str, Any]) -> None:
        """Take back what `tensors` and `scaler` gave."""
        self.set_weights(tensors)
        said = self._optimizer.state_dict()
        names = {id(parameter): name for name, parameter in self.trainable.items()}
        ordered = [names[id(one)] for group in self._optimizer.param_groups for one in group["params"]]
        said["state"] = {
            number: {key: tensors[f"optimizer/{key}/{name}"] for key in _KEYS}
            for number, name in enumerate(ordered)
            if f"optimizer/{_KEYS[0]}/{name}" in tensors
        }
        self._optimizer.load_state_dict(said)
        self._scaler.load_state_dict(scaler)

    def set_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Put these in the place of what is trained."""
        with torch.no_grad():
            for name, parameter in self.trainable.items():
                parameter.copy_(tensors[name])

    def _targets(self, ids: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return what is to come out of rows, and what each counts."""
        encoded = torch.from_numpy(self.coding.encode(self.labels, ids))
        if self.coding.kind == "interval":
            return encoded.float().to(self.device), self._weights.expand(len(ids))
        encoded = encoded.to(self.device)
        return encoded, self._weights[encoded]

    def _losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each row: cross-entropy, or half the squared error."""
        if self.coding.kind == "interval":
            return 0.5 * (outputs[:, 0] - target).square()
        return functional.cross_entropy(outputs, target, reduction="none")


def _optimizer(trainable: Mapping[str, nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    """Return AdamW with a learning rate of its own for the linear layer, and no decay of biases and norms.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101.
    """
    groups = []
    for of_head, rate in ((False, settings.learning_rate), (True, settings.head_learning_rate)):
        for matrices, decay in ((True, settings.weight_decay), (False, 0.0)):
            mine = [
                one
                for name, one in trainable.items()
                if name.startswith("head.") == of_head and (one.dim() > 1) == matrices
            ]
            if mine:
                groups.append({"params": mine, "lr": rate, "highest": rate, "weight_decay": decay})
    return torch.optim.AdamW(groups)
