"""The reference study's fusion head: its network (see `attention_network`) and its training recipe, a named baseline.

Srikanth, Chen and Hirschberg, "Mixed Signals: Understanding Model Disagreement in Multimodal Empathy Detection",
arXiv 2505.13979: 15 epochs of batches of 64 by Adam with weight decay 1e-3 (added to the gradient), its rate on one
cycle from 1e-4 up to 1e-3 and down again; the weights of the epoch with the best accuracy on validation rows are kept.

What the study's summary leaves open is decided like this:

- Validation rows are the first quarter that `inner_folds` holds out of the training rows (whole groups); the network
  is not trained again on all of them. The first of equal epochs is kept. Multilabel and interval targets go by the
  loss on these rows. Where no row can be held out, the last epoch is kept.
- Two classes have one output (their log odds) instead of two.
- The cycle is PyTorch's default (30% of the batches up, cosine; Adam's first beta against it), but it begins at 1e-4
  rather than at 1e-3 / 25.
- Features are not standardised, unless one says `standardize`: measured features of many scales need it, embeddings
  hardly. They are centred, which the batch norm behind the projection undoes but for rounding,
  so that a feature that is absent (NaN) has the training mean. A batch of one row is normalised by the running
  statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch.nn import functional

from mixed_signals.models.attention_network import AttentionNetwork
from mixed_signals.models.base import MEMORY, BaseHead, Blocks, ClassifierHead, Fit, Problem, RegressorHead
from mixed_signals.models.coding import Coding
from mixed_signals.models.contributions import by_leaving_out
from mixed_signals.models.inner import inner_folds
from mixed_signals.models.saving import write_arrays
from mixed_signals.models.scaling import standardization, standardized

_ROWS = 4096  # that are predicted at a time


class _Attention(BaseHead):
    """What the classifier and the regressor share."""

    seeded = True

    blocks: Blocks | None
    projection: int
    attention: int
    hidden: int
    dropout: float
    modality_dropout: float
    learning_rate: float
    peak_rate: float
    weight_decay: float
    batch_size: int
    epochs: int
    standardize: bool
    random_state: int
    order: int

    @property
    def modalities_(self) -> tuple[str, ...]:
        """Names of the blocks, the order of gates and contributions."""
        return tuple(self._own_blocks())

    @classmethod
    def fit_many(
        cls, problem: Problem, fits: Sequence[Fit], *, device: str = "cpu", memory: int = MEMORY
    ) -> None:
        """Fit the heads one after the other, on `device`; see `BaseHead.fit_many`."""
        for fit in fits:
            cast("_Attention", fit.head)._train(problem, fit, device)

    def explain(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what each modality does in each prediction.

        Returns
        -------
        gates : ndarray, shape (N, M)
            Attention weights, summing to 1; 0 where a modality is absent.
        contributions : ndarray, shape (N, M)
            How much less the outputs speak for what is predicted when the modality is left out (see
            `contributions.by_leaving_out`). The network is deep: these do not add up to the outputs.
        """
        inputs, present = self._tensors(self._rows(X), torch.float64)

        def outputs_of(here: np.ndarray) -> np.ndarray:
            return self._outputs(inputs, torch.from_numpy(here))[0]

        _, gates = self._outputs(inputs, present)
        return gates, by_leaving_out(self.coding_, outputs_of, present.numpy())

    def save(self, stem: str) -> str:
        """Write the head to ``<stem>.safetensors`` and return that path."""
        arrays = {"mean_": self.mean_, "scale_": self.scale_}
        arrays |= {f"weight.{name}": value for name, value in self.weights_.items()}
        return write_arrays(stem, self, arrays, {"n_epochs_": self.n_epochs_})

    def take_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back the arrays that `save` wrote, by name."""
        self.mean_, self.scale_ = arrays["mean_"], arrays["scale_"]
        self.weights_ = {
            name.removeprefix("weight."): array
            for name, array in arrays.items()
            if name.startswith("weight.")
        }

    def _decoded(self, X: np.ndarray) -> np.ndarray:
        outputs, _ = self._outputs(*self._tensors(self._rows(X), torch.float64))
        return self.coding_.decode(outputs)

    def _tensors(self, X: np.ndarray, dtype: torch.dtype) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return each block centred and scaled (N, D_m), zero where absent, and which blocks are present (N, M)."""
        inputs, present = [], []
        for start, stop in self._own_blocks().values():
            block = X[:, start:stop]
            present.append(np.isfinite(block).any(axis=1))
            scaled = standardized(block, self.mean_[start:stop], self.scale_[start:stop])
            inputs.append(torch.from_numpy(scaled).to(dtype))
        return inputs, torch.from_numpy(np.stack(present, axis=1))

    def _network(self) -> AttentionNetwork:
        return AttentionNetwork(
            [stop - start for start, stop in self._own_blocks().values()],
            self.coding_.width,
            self.projection,
            self.attention,
            self.hidden,
            self.dropout,
            self.modality_dropout,
        )

    def _outputs(
        self, inputs: Sequence[torch.Tensor], present: torch.Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the fitted network's outputs (N, width) and attention weights (N, M), as float64."""
        with torch.device("meta"):  # no initial weights are drawn
            network = self._network()
        network.load_state_dict({name: torch.tensor(a) for name, a in self.weights_.items()}, assign=True)
        return _evaluated(network.double(), inputs, present)

    def _train(self, problem: Problem, fit: Fit, device: str) -> None:
        rows, encoded = fit.begin(problem)
        position = np.empty(len(problem.y), dtype=np.int64)
        position[rows] = np.arange(len(rows))
        pairs = inner_folds(problem, rows, self.coding_, 4, self.order)
        train, held = (position[part] for part in (pairs[0] if pairs else (rows, rows[:0])))
        X = problem.X[np.ix_(rows, fit.columns(problem))]
        self.mean_, scale = standardization(X[train])
        self.scale_ = scale if self.standardize else np.ones_like(scale)
        inputs, present = self._tensors(X, torch.float32)
        inputs, present = [x.to(device) for x in inputs], present.to(device)
        targets = torch.from_numpy(encoded.astype(np.float32)).to(device)
        weights = None
        if problem.weights is not None:
            weights = torch.from_numpy(problem.weights[rows].astype(np.float32)).to(device)
        held_inputs, held_present = [x[held] for x in inputs], present[held]

        best = -np.inf
        visits = np.random.default_rng(self.order)
        with _seeded(self.random_state, device):
            network = self._network().to(device)
            optimizer = torch.optim.Adam(
                network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
            )
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer,
                max_lr=self.peak_rate,
                total_steps=self.epochs * -(-len(train) // self.batch_size),
                div_factor=self.peak_rate / self.learning_rate,
            )
            for epoch in range(1, self.epochs + 1):
                network.train()
                for batch in torch.from_numpy(visits.permutation(train)).to(device).split(self.batch_size):
                    outputs, _ = network([x[batch] for x in inputs], present[batch])
                    own = None if weights is None else weights[batch]
                    loss = _loss(self.coding_, outputs, targets[batch], own)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                if len(held):
                    outputs_held, _ = _evaluated(network, held_inputs, held_present)
                    held_loss = float(self.coding_.losses(outputs_held, encoded[held]).mean())
                    score = self._score(outputs_held, problem.y[rows[held]], held_loss)
                    if score <= best:
                        continue
                    best, self.inner_loss_ = score, held_loss
                    self._keep(network, epoch)
        if not len(held):
            self._keep(network, self.epochs)

    def _score(self, outputs: np.ndarray, y: np.ndarray, loss: float) -> float:
        """Return what is best highest on validation rows: accuracy where there are classes, else minus the loss."""
        if self.coding_.kind in ("interval", "multilabel"):
            return -loss
        labels = np.array(self.coding_.classes, dtype=object)[self.coding_.decode(outputs).argmax(axis=1)]
        return float((labels == y).mean())

    def _keep(self, network: AttentionNetwork, epoch: int) -> None:
        self.n_epochs_ = epoch
        self.weights_ = {
            name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()
        }


class GatedAttentionHead(ClassifierHead, _Attention):
    """The reference study's network and training recipe; see the module's docstring.

    Parameters
    ----------
    blocks : mapping of str to (start, stop), optional
        Which columns belong to which modality; all columns are one block by default.
    projection, attention, hidden : int
        Widths of the projections, of the attention and of the three hidden layers.
    dropout, modality_dropout : float
        Shares of hidden units, and of modalities, hidden while training.
    learning_rate, peak_rate : float
        Where the cycle of the learning rate begins, and its top.
    weight_decay : float
    batch_size, epochs : int
    standardize : bool
        Whether features are divided by their standard deviations; the study does not.
    classes : sequence, optional
    ordinal : bool
        See `ClassifierHead`.
    random_state : int
        Seed of initial weights and of both dropouts.
    order : int
        Seed of the order in which rows are visited, and of which rows are held out for validation.

    Attributes
    ----------
    weights_ : dict of str to ndarray
        The state of `AttentionNetwork`.
    mean_, scale_ : ndarray, shape (D,)
        What features are centred and divided by.
    n_epochs_ : int
        The epoch that was kept.
    """

    def __init__(
        self,
        blocks: Blocks | None = None,
        projection: int = 256,
        attention: int = 128,
        hidden: int = 512,
        dropout: float = 0.3,
        modality_dropout: float = 0.2,
        learning_rate: float = 1e-4,
        peak_rate: float = 1e-3,
        weight_decay: float = 1e-3,
        batch_size: int = 64,
        epochs: int = 15,
        standardize: bool = False,
        classes: Sequence[Any] | None = None,
        ordinal: bool = False,
        random_state: int = 0,
        order: int = 0,
    ) -> None:
        self.blocks = blocks
        self.projection = projection
        self.attention = attention
        self.hidden = hidden
        self.dropout = dropout
        self.modality_dropout = modality_dropout
        self.learning_rate = learning_rate
        self.peak_rate = peak_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.standardize = standardize
        self.classes = classes
        self.ordinal = ordinal
        self.random_state = random_state
        self.order = order

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the probability of each class, shape (N, K); rows sum to 1 unless the target is multilabel."""
        return self._decoded(X)


class GatedAttentionRegressor(RegressorHead, _Attention):
    """The same network for interval targets, trained on the squared error; parameters as of `GatedAttentionHead`."""

    def __init__(
        self,
        blocks: Blocks | None = None,
        projection: int = 256,
        attention: int = 128,
        hidden: int = 512,
        dropout: float = 0.3,
        modality_dropout: float = 0.2,
        learning_rate: float = 1e-4,
        peak_rate: float = 1e-3,
        weight_decay: float = 1e-3,
        batch_size: int = 64,
        epochs: int = 15,
        standardize: bool = False,
        random_state: int = 0,
        order: int = 0,
    ) -> None:
        self.blocks = blocks
        self.projection = projection
        self.attention = attention
        self.hidden = hidden
        self.dropout = dropout
        self.modality_dropout = modality_dropout
        self.learning_rate = learning_rate
        self.peak_rate = peak_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.standardize = standardize
        self.random_state = random_state
        self.order = order

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the values, shape (N,)."""
        return self._decoded(X)


def _loss(
    coding: Coding, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None
) -> torch.Tensor:
    """Return the mean over rows of `Coding.losses`, each times its weight where there are weights (B,)."""
    reduction = "mean" if weights is None else "none"
    if coding.link == "softmax":
        losses = functional.cross_entropy(outputs, targets, reduction=reduction)
    elif coding.link == "identity":
        losses = 0.5 * functional.mse_loss(outputs, targets, reduction=reduction)
    else:
        losses = functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none").sum(dim=1)
    return losses.mean() if weights is None else (losses.flatten() * weights).mean()


def _evaluated(
    network: AttentionNetwork, inputs: Sequence[torch.Tensor], present: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Return the network's outputs (N, width) and attention weights (N, M) with dropout off, as float64."""
    network.eval()
    with torch.no_grad():
        parts = [
            network([x[start : start + _ROWS] for x in inputs], present[start : start + _ROWS])
            for start in range(0, len(present), _ROWS)
        ]
    outputs, weights = (torch.cat(part).double().cpu().numpy() for part in zip(*parts, strict=True))
    return outputs, weights


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    """Let torch draw from `seed`, and leave its own generators as they were."""
    elsewhere = [] if device == "cpu" else [torch.device(device)]
    with torch.random.fork_rng(devices=elsewhere):
        torch.default_generator.manual_seed(seed)
        if elsewhere:
            torch.cuda.manual_seed(seed)
        yield
