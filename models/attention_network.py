"""The fusion network of the reference study; `attention` trains it.

With x_m the features of modality m and P the modalities that a row has::

    h_m = BatchNorm(W_m x_m + b_m)                          256 numbers
    v_m = sigmoid(u_m . h_m + c_m) h_m                      a scalar gate
    a   = softmax over m in P of (q . tanh(A v_m + d))      additive attention, 128 numbers
    outputs = three times (Linear to 512, BatchNorm, ReLU, Dropout 0.3), then Linear, of sum over m in P of a_m v_m

Additive attention: Bahdanau, Cho and Bengio 2015, arXiv 1409.0473. The study's summary leaves open, and is decided
here: there is no activation between batch norm and gate; modality dropout (0.2) hides each modality of each row on its
own, never a row's last one; and what is hidden, or absent (in the study nothing is), is left out before the softmax.
What is absent is no part of the batch norm's statistics.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class _BatchNorm(nn.BatchNorm1d):
    """Batch norm that goes by its running statistics where fewer than two rows have no deviation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 1:
            return super().forward(x)
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class AttentionNetwork(nn.Module):
    """The network of the module's docstring; a row without any modality has the outputs for a weighted sum of zero.

    Parameters
    ----------
    sizes : sequence of int
        Features of each modality.
    width : int
        Outputs.
    projection, attention, hidden : int
    dropout, modality_dropout : float
    """

    def __init__(
        self,
        sizes: Sequence[int],
        width: int,
        projection: int = 256,
        attention: int = 128,
        hidden: int = 512,
        dropout: float = 0.3,
        modality_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.modality_dropout = modality_dropout
        self.project = nn.ModuleList(
            nn.Sequential(nn.Linear(size, projection), _BatchNorm(projection)) for size in sizes
        )
        self.gate = nn.ModuleList(nn.Linear(projection, 1) for _ in sizes)
        self.attend = nn.Sequential(
            nn.Linear(projection, attention), nn.Tanh(), nn.Linear(attention, 1, bias=False)
        )
        layers: list[nn.Module] = []
        for n_in in (projection, hidden, hidden):
            layers += [nn.Linear(n_in, hidden), _BatchNorm(hidden), nn.ReLU(), nn.Dropout(dropout)]
        self.classify = nn.Sequential(*layers, nn.Linear(hidden, width))

    def forward(
        self, inputs: Sequence[torch.Tensor], present: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return outputs (n, width) and attention weights (n, M).

        Parameters
        ----------
        inputs : sequence of Tensor, shape (n, D_m)
            One for each modality.
        present : Tensor of bool, shape (n, M)
        """
        vectors = torch.stack([self._vector(m, x, present[:, m]) for m, x in enumerate(inputs)], dim=1)
        if self.training:
            present = _hide(present, self.modality_dropout)
        scores = self.attend(vectors)[:, :, 0].masked_fill(~present, -torch.inf)
        weights = torch.softmax(scores, dim=1).nan_to_num()  # a row without any modality: weights of zero
        return self.classify((weights[:, :, None] * vectors).sum(dim=1)), weights

    def _vector(self, m: int, x: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
        h = self.project[m](x[here])
        gated = torch.sigmoid(self.gate[m](h)) * h
        return gated.new_zeros(len(x), gated.shape[1]).index_put((here,), gated)


def _hide(present: torch.Tensor, share: float) -> torch.Tensor:
    """Hide each present modality with probability `share`, but never a row's last one: it is then left as it was."""
    kept = present & (torch.rand(present.shape, device=present.device) >= share)
    return torch.where(kept.any(dim=1, keepdim=True), kept, present)
