"""A small gated fusion in torch: one projection per modality, a softmax over gates, one linear output.

With x_m the standardised features of modality m and P the modalities that a row has::

    h_m = GELU(W_m x_m + b_m)
    g   = softmax over m in P of (v_m . h_m + c_m)
    logits = U sum over m in P of g_m h_m + d

so that ``g_m U h_m`` is exactly what modality m adds to the logits. Gated multimodal units: Arevalo et al.,
"Gated Multimodal Units for Information Fusion", arXiv 1702.01992.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy.special import softmax

from mixed_signals.models.base import BaseHead, standardization, standardized
from mixed_signals.models.inner import inner_folds
from mixed_signals.models.saving import read_arrays, write_arrays

if TYPE_CHECKING:
    import torch

    Weights = dict[str, torch.Tensor]


class GatedHead(BaseHead):
    """Gated fusion of column blocks; with one block, a one-hidden-layer network.

    Modality dropout hides whole modalities while training (always leaving one), which is what lets the head
    predict for rows where a modality is absent (NaN). A first training, with whole groups held out of the
    training rows, finds how many epochs are best; a second one trains that long on all training rows.

    Parameters
    ----------
    blocks : mapping of str to (start, stop), optional
        Which columns belong to which modality; all columns are one block by default.
    hidden : int
        Width of each projection.
    input_dropout, dropout, modality_dropout : float
        Shares of features, of projected features, and of modalities, hidden while training.
    learning_rate, weight_decay : float
        Of AdamW.
    batch_size, max_epochs, patience : int
        The first training ends after `patience` epochs without a better log loss on the held-out groups.
    random_state : int
        Seed of initial weights, batches, dropout and of which groups are held out.

    Attributes
    ----------
    classes_ : ndarray, shape (K,)
    modalities_ : tuple of str
        Names of the blocks, the order of gates and contributions.
    n_epochs_ : int
        Epochs of the second training.
    """

    def __init__(
        self,
        blocks: Mapping[str, tuple[int, int]] | None = None,
        hidden: int = 64,
        input_dropout: float = 0.5,
        dropout: float = 0.3,
        modality_dropout: float = 0.2,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.1,
        batch_size: int = 64,
        max_epochs: int = 80,
        patience: int = 8,
        random_state: int = 0,
    ) -> None:
        self.blocks = blocks
        self.hidden = hidden
        self.input_dropout = input_dropout
        self.dropout = dropout
        self.modality_dropout = modality_dropout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.random_state = random_state

    @property
    def modalities_(self) -> tuple[str, ...]:
        """Names of the blocks."""
        return tuple(self._blocks())

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> Self:
        """Fit on X (N, D), labels y (N,); whole groups are held out for early stopping."""
        X, codes = self._training_rows(X, y)
        self.mean_, self.scale_ = standardization(X)
        every = np.arange(len(codes))
        pairs = inner_folds(codes, groups, 4, self.random_state)
        self.n_epochs_ = self.max_epochs
        with _one_thread():
            if pairs:
                self.n_epochs_, _ = self._train(X, codes, *pairs[0])
            _, self.weights_ = self._train(X, codes, every, every[:0])
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return class probabilities, shape (N, K)."""
        logits, _, _ = self._forward_rows(X)
        probabilities: np.ndarray = softmax(logits, axis=1)
        return probabilities

    def explain(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what each modality does in each prediction.

        Returns
        -------
        gates : ndarray, shape (N, M)
            Weights of the modalities, summing to 1; 0 where a modality is absent.
        contributions : ndarray, shape (N, M)
            What each modality adds to the logit of the predicted class, minus what it adds to the mean over
            classes.
        """
        logits, gates, parts = self._forward_rows(X)
        predicted = logits.argmax(axis=1)
        centred = parts - parts.mean(axis=2, keepdims=True)
        return gates, np.take_along_axis(centred, predicted[:, None, None], axis=2)[:, :, 0]

    def save(self, stem: str) -> str:
        """Write the head to ``<stem>.safetensors`` and return that path."""
        arrays = {"mean_": self.mean_, "scale_": self.scale_}
        arrays |= {f"weight.{name}": value for name, value in self.weights_.items()}
        return write_arrays(stem, self, arrays, {"n_epochs_": self.n_epochs_})

    @classmethod
    def load(cls, path: str) -> Self:
        """Read a head that `save` wrote."""
        head = read_arrays(path, cls)
        names = [name for name in vars(head) if name.startswith("weight.")]
        head.weights_ = {name.removeprefix("weight."): vars(head).pop(name) for name in names}
        loaded: Self = head
        return loaded

    def _blocks(self) -> dict[str, tuple[int, int]]:
        if self.blocks is None:
            return {"all": (0, self.n_features_in_)}
        return {name: (int(start), int(stop)) for name, (start, stop) in self.blocks.items()}

    def _tensors(self, X: np.ndarray) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return each block standardised (N, D_m), zero where absent, and which blocks are present (N, M)."""
        import torch

        inputs, present = [], []
        for start, stop in self._blocks().values():
            block = X[:, start:stop]
            present.append(np.isfinite(block).any(axis=1))
            z = standardized(block, self.mean_[start:stop], self.scale_[start:stop])
            inputs.append(torch.from_numpy(z.astype(np.float32)))
        return inputs, torch.from_numpy(np.stack(present, axis=1))

    def _initial(self, generator: torch.Generator) -> Weights:
        import torch

        def linear(n_out: int, n_in: int) -> torch.Tensor:
            return 0.3 * (torch.rand(n_out, n_in, generator=generator) * 2 - 1) / n_in**0.5

        weights = {}
        for name, (start, stop) in self._blocks().items():
            weights[f"{name}.projection"] = linear(self.hidden, stop - start)
            weights[f"{name}.bias"] = torch.zeros(self.hidden)
            weights[f"{name}.gate"] = linear(1, self.hidden)[0]
            weights[f"{name}.gate_bias"] = torch.zeros(1)
        weights["output"] = linear(len(self.classes_), self.hidden)
        weights["output_bias"] = torch.zeros(len(self.classes_))
        return weights

    def _train(
        self, X: np.ndarray, codes: np.ndarray, rows: np.ndarray, held: np.ndarray
    ) -> tuple[int, dict[str, np.ndarray]]:
        """Train on `rows` for `n_epochs_` epochs; with `held` rows, return the epoch that was best for them."""
        import torch

        generator = torch.Generator().manual_seed(self.random_state)
        weights = self._initial(generator)
        for tensor in weights.values():
            tensor.requires_grad_()
        matrices = [tensor for tensor in weights.values() if tensor.ndim > 1]
        vectors = [tensor for tensor in weights.values() if tensor.ndim == 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": self.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=self.learning_rate,
            fused=True,
        )
        inputs, present = self._tensors(X)
        y = torch.from_numpy(codes.astype(np.int64))
        train_rows, held_rows = torch.from_numpy(rows), torch.from_numpy(held)
        best, best_loss = self.n_epochs_, np.inf
        for epoch in range(1, self.n_epochs_ + 1):
            shuffled = train_rows[torch.randperm(len(train_rows), generator=generator)]
            for batch in shuffled.split(self.batch_size):
                here = _hide(present[batch], self.modality_dropout, generator)
                logits, _, _ = self._forward(weights, [x[batch] for x in inputs], here, generator)
                loss = torch.nn.functional.cross_entropy(logits, y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if not len(held):
                continue
            with torch.no_grad():
                logits, _, _ = self._forward(weights, [x[held_rows] for x in inputs], present[held_rows])
                held_loss = float(torch.nn.functional.cross_entropy(logits, y[held_rows]))
            if held_loss < best_loss:
                best, best_loss = epoch, held_loss
            elif epoch - best >= self.patience:
                break
        return best, {name: tensor.detach().numpy().copy() for name, tensor in weights.items()}

    def _forward(
        self,
        weights: Weights,
        inputs: list[torch.Tensor],
        present: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return logits (N, K), gates (N, M) and projections (N, M, H); with a generator, dropout is on."""
        import torch

        projected, scores = [], []
        for name, block in zip(self._blocks(), inputs, strict=True):
            x = block if generator is None else _drop(block, self.input_dropout, generator)
            h = torch.nn.functional.gelu(x @ weights[f"{name}.projection"].T + weights[f"{name}.bias"])
            if generator is not None:
                h = _drop(h, self.dropout, generator)
            projected.append(h)
            scores.append(h @ weights[f"{name}.gate"] + weights[f"{name}.gate_bias"])
        hidden = torch.stack(projected, dim=1)
        score = torch.stack(scores, dim=1).masked_fill(~present, -torch.inf)
        gates = torch.nan_to_num(torch.softmax(score, dim=1))  # a row without any modality: gates of zero
        logits = (gates[:, :, None] * hidden).sum(dim=1) @ weights["output"].T + weights["output_bias"]
        return logits, gates, hidden

    def _forward_rows(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return logits (N, K), gates (N, M) and each modality's part of the logits (N, M, K), as float64."""
        import torch

        X = self._rows(X)
        weights = {name: torch.from_numpy(value) for name, value in self.weights_.items()}
        inputs, present = self._tensors(X)
        with torch.no_grad():
            logits, gates, hidden = self._forward(weights, inputs, present)
            parts = (gates[:, :, None] * hidden) @ weights["output"].T
        return logits.double().numpy(), gates.double().numpy(), parts.double().numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: products of this size gain nothing from more, and lose much under load."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _drop(x: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Set entries to zero with probability `share` and scale up the others."""
    import torch

    return x * (torch.rand(x.shape, generator=generator) >= share) / (1 - share)


def _hide(present: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Hide each present modality with probability `share`, but never a row's last one."""
    import torch

    kept = present & (torch.rand(present.shape, generator=generator) >= share)
    lost = ~kept.any(dim=1, keepdim=True)
    return torch.where(lost, present, kept)
