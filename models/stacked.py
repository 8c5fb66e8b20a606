"""Many gated fusion networks in one computation.

With x_m the features of modality m, P the modalities that a row has, and S the gate function::

    h_m     = relu(W_m x_m + b_m)
    s_m     = V_m h_m + c_m             gate_input "own";  "all": c_m + sum over k in P of V_mk h_k
    g_m     = S(s_m)                    a softmax over the m in P, or a sigmoid; 0 where m is absent
    outputs = U sum over m in P of g_m h_m + d

so that ``g_m U h_m`` is exactly what modality m adds to the outputs. A gate is one number
(`gate_width` "scalar") or has one for each dimension of h. Gated multimodal units: Arevalo et al., "Gated
Multimodal Units for Information Fusion", arXiv 1702.01992.

Heads that see the same rows in the same order share their largest products: ``W_m`` of all heads that contain
m is one matrix. These products and their gradients are done by hand, since autograd would copy the gradients;
the rest is autograd's. Heads lie along the first axis of each tensor, rows along the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

Weights = dict[str, np.ndarray]
_CHUNK = 1024  # rows that are predicted at once
_ABSENT = -1e9  # score of an absent modality: its gate is 0, and where all are absent nothing is NaN


@dataclass(frozen=True)
class Network:
    """What the heads of a stack have in common.

    Attributes
    ----------
    hidden : int
        Width of each projection.
    width : int
        Outputs of a head.
    gate : {"softmax", "sigmoid"}
    gate_width : {"scalar", "dimension"}
    gate_input : {"own", "all"}
    auxiliary : bool
        Whether each modality has outputs of its own as well.
    """

    hidden: int
    width: int
    gate: str = "softmax"
    gate_width: str = "scalar"
    gate_input: str = "own"
    auxiliary: bool = False

    def __post_init__(self) -> None:
        allowed = {
            "gate": ("softmax", "sigmoid"),
            "gate_width": ("scalar", "dimension"),
            "gate_input": ("own", "all"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name}={getattr(self, name)!r}: it is one of {', '.join(values)}")

    @property
    def n_gates(self) -> int:
        """Numbers in a gate."""
        return 1 if self.gate_width == "scalar" else self.hidden

    def initial(self, sizes: Mapping[str, int], rng: np.random.Generator) -> Weights:
        """Return weights to begin with for one head over modalities of these sizes."""

        def linear(*shape: int) -> np.ndarray:
            spread = np.float32(0.3 / np.sqrt(shape[-1]))
            return (rng.random(shape, dtype=np.float32) * 2 - 1) * spread

        n_scored = len(sizes) if self.gate_input == "all" else 1
        weights: Weights = {}
        for name, size in sizes.items():
            weights[f"{name}.projection"] = linear(self.hidden, size)
            weights[f"{name}.bias"] = np.zeros(self.hidden, np.float32)
            weights[f"{name}.score"] = linear(n_scored * self.n_gates, self.hidden)
            if self.auxiliary:
                weights[f"{name}.auxiliary"] = linear(self.width, self.hidden)
                weights[f"{name}.auxiliary_bias"] = np.zeros(self.width, np.float32)
        weights["gate_bias"] = np.zeros((len(sizes), self.n_gates), np.float32)
        weights["output"] = linear(self.width, self.hidden)
        weights["output_bias"] = np.zeros(self.width, np.float32)
        return weights


class Rows(NamedTuple):
    """Standardised inputs.

    Attributes
    ----------
    inputs : dict of str to tensor, shape (n, D_m)
        0 where a value is absent.
    present : dict of str to tensor of bool, shape (n,)
    """

    inputs: dict[str, torch.Tensor]
    present: dict[str, torch.Tensor]


class Outputs(NamedTuple):
    """What a stack says of B rows.

    Attributes
    ----------
    outputs : tensor, shape (H, width, B)
    gates : tensor, shape (H, M, gate numbers, B)
        0 where a modality is absent, or not the head's.
    parts : dict of str to tensor, shape (H_m, width, B)
        What a modality adds to the outputs of the heads that have it.
    auxiliary : dict of str to tensor, shape (H_m, width, B)
        A modality's own outputs; empty if the network has none.
    """

    outputs: torch.Tensor
    gates: torch.Tensor
    parts: dict[str, torch.Tensor]
    auxiliary: dict[str, torch.Tensor]


class Stack:
    """The weights of H heads, side by side.

    Parameters
    ----------
    network : Network
    members : sequence of tuple of str
        The modalities of each head.
    weights : sequence of dict
        Each head's, as `Network.initial` names them.
    device : str

    Attributes
    ----------
    modalities : tuple of str, length M
        All that some head has.
    tensors : dict of str to tensor
        The weights; the first axis is that of the heads which have them.
    """

    def __init__(
        self,
        network: Network,
        members: Sequence[tuple[str, ...]],
        weights: Sequence[Weights],
        device: str = "cpu",
    ) -> None:
        self.network = network
        self.modalities = tuple(dict.fromkeys(name for member in members for name in member))
        self._members = list(members)
        self.tensors = {}
        for name in dict.fromkeys(name for head in weights for name in head):
            held = [
                self._widened(name, *head) for head in zip(members, weights, strict=True) if name in head[1]
            ]
            self.tensors[name] = torch.from_numpy(np.stack(held)).to(device)
        self._begin()

    def __len__(self) -> int:
        return len(self._members)

    def heads_with(self, name: str) -> list[int]:
        """Return which heads have the weights of this name."""
        modality = name.rpartition(".")[0]
        return [head for head, member in enumerate(self._members) if not modality or modality in member]

    def membership(self) -> torch.Tensor:
        """Return which modalities each head has, shape (H, M, 1), bool."""
        found = [[[name in member] for name in self.modalities] for member in self._members]
        return torch.tensor(found, device=self.tensors["output"].device)

    def weights(self, head: int) -> Weights:
        """Return a copy of one head's weights, as `Network.initial` names them."""
        found: Weights = {}
        for name, tensor in self.tensors.items():
            heads = self.heads_with(name)
            if head in heads:
                own = tensor[heads.index(head)].detach().cpu().numpy()
                if self._by_modality(name):
                    places = [self.modalities.index(modality) for modality in self._members[head]]
                    own = own.reshape(len(self.modalities), self.network.n_gates, -1)[places]
                    own = own.reshape(-1, self.network.hidden) if name != "gate_bias" else own[..., 0]
                found[name] = own.copy()
        return found

    def keep(self, heads: Sequence[int], *besides: dict[str, torch.Tensor]) -> None:
        """Let all but these heads go (in rising order), also from `besides`: tensors by the same names."""
        for name in list(self.tensors):
            now = self.heads_with(name)
            places = [now.index(head) for head in heads if head in now]
            for tensors in (self.tensors, *besides):
                if places:
                    tensors[name] = tensors[name].detach()[places]
                else:
                    del tensors[name]
        self._members = [self._members[head] for head in heads]
        self._begin()

    def features(
        self, inputs: Mapping[str, torch.Tensor], kept: Mapping[str, torch.Tensor] | None = None
    ) -> dict[str, torch.Tensor]:
        """Return h_m of rows (B, D_m), shape (H_m, hidden, B) for each modality; outside autograd.

        Parameters
        ----------
        inputs : dict of str to tensor, shape (B, D_m)
        kept : dict of str to tensor, shape (H_m, hidden, B), optional
            What h_m is multiplied by.
        """
        found = {}
        with torch.no_grad():
            for name in self.held:
                W, b = self.tensors[f"{name}.projection"], self.tensors[f"{name}.bias"]
                flat = torch.addmm(b.view(-1, 1), W.view(-1, W.shape[-1]), inputs[name].T)
                found[name] = flat.view(len(W), self.network.hidden, -1).clamp_(min=0)
                if kept is not None:
                    found[name] *= kept[name]
        return found

    def fuse(self, features: Mapping[str, torch.Tensor], here: torch.Tensor) -> Outputs:
        """Return what comes of features.

        Parameters
        ----------
        features : dict of str to tensor, shape (H_m, hidden, B)
        here : tensor of bool, shape (H, M, B)
            Which modalities each head is to see.
        """
        net, tensors, seen = self.network, self.tensors, here[:, :, None, :]
        scalar = net.n_gates == 1
        scores, values, parts, auxiliary = {}, {}, {}, {}
        for name, h in features.items():
            maps = [tensors[f"{name}.score"]]
            if scalar:  # then U (g h) = g (U h), and one product gives scores and values
                maps.append(self.of(name, tensors["output"]))
            maps_h = torch.cat(maps, dim=1) @ h
            scores[name], values[name] = maps_h.split(
                [maps[0].shape[1], maps_h.shape[1] - maps[0].shape[1]], dim=1
            )
        score = self._scored(scores, seen) + tensors["gate_bias"][..., None]
        if net.gate == "softmax":
            gates = torch.softmax(score.masked_fill(~seen, _ABSENT), dim=1) * seen
        else:
            gates = torch.sigmoid(score) * seen
        outputs = tensors["output_bias"][..., None]
        for name, h in features.items():
            gate = self.of(name, gates[:, self.modalities.index(name)])
            parts[name] = gate * values[name] if scalar else self.of(name, tensors["output"]) @ (gate * h)
            outputs = outputs + self.among_all(name, parts[name])
            if net.auxiliary:
                own = tensors[f"{name}.auxiliary"] @ h
                auxiliary[name] = own + tensors[f"{name}.auxiliary_bias"][..., None]
        return Outputs(outputs, gates, parts, auxiliary)

    def gradients(
        self,
        inputs: Mapping[str, torch.Tensor],
        here: torch.Tensor,
        kept: Mapping[str, torch.Tensor],
        loss: Callable[[Outputs], torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Return the gradients of a loss, contiguous; the next call overwrites those of projections.

        Parameters
        ----------
        inputs, kept
            As for `features`.
        here
            As for `fuse`.
        loss : callable
            Takes `Outputs` and returns a number.
        """
        features = self.features(inputs, kept)
        for h in features.values():
            h.requires_grad_()
        leaves = {name: self.tensors[name] for name in self._small}
        grads = torch.autograd.grad(loss(self.fuse(features, here)), [*features.values(), *leaves.values()])
        gradients = {name: g.contiguous() for name, g in zip(leaves, grads[len(features) :], strict=True)}
        for (name, h), grad in zip(features.items(), grads, strict=False):
            grad = grad.mul_(h.detach().sign_()).mul_(
                kept[name]
            )  # of the projection: h is positive where that is
            into = self._projection_gradients[name]
            torch.mm(grad.view(-1, grad.shape[-1]), inputs[name], out=into.view(-1, into.shape[-1]))
            gradients[f"{name}.projection"] = into
            gradients[f"{name}.bias"] = grad.sum(dim=-1)
        return gradients

    def _begin(self) -> None:
        self.held = [name for name in self.modalities if f"{name}.bias" in self.tensors]
        large = {f"{name}.{kind}" for name in self.held for kind in ("projection", "bias")}
        self._small = [name for name in self.tensors if name not in large]
        for name in self._small:
            self.tensors[name].requires_grad_()
        device = self.tensors["output"].device
        self._places = {
            name: torch.tensor(self.heads_with(f"{name}.bias"), device=device) for name in self.held
        }
        self._projection_gradients = {
            name: torch.empty_like(self.tensors[f"{name}.projection"]) for name in self.held
        }

    def _scored(self, scores: Mapping[str, torch.Tensor], seen: torch.Tensor) -> torch.Tensor:
        """Return the gates' scores without their bias, shape (H, M, gate numbers, B)."""
        shape = (len(self), len(self.modalities), self.network.n_gates, seen.shape[-1])
        if self.network.gate_input == "own":
            none = seen.new_zeros((shape[0], *shape[2:]), dtype=torch.float32)
            own = {name: self.among_all(name, score) for name, score in scores.items()}
            return torch.stack([own.get(name, none) for name in self.modalities], dim=1)
        total = seen.new_zeros((), dtype=torch.float32)
        for name, score in scores.items():
            total = total + self.among_all(name, score) * seen[:, self.modalities.index(name)]
        return total.view(shape)

    def of(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Return the part of a tensor (H, ...) that is of the heads which have a modality, (H_m, ...)."""
        return tensor if len(self._places[name]) == len(self) else tensor.index_select(0, self._places[name])

    def among_all(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor (H_m, ...) among zeros for the other heads, (H, ...)."""
        if len(tensor) == len(self):
            return tensor
        return tensor.new_zeros((len(self), *tensor.shape[1:])).index_copy(0, self._places[name], tensor)

    def _by_modality(self, name: str) -> bool:
        """Whether weights have a row for each modality of the head."""
        return name == "gate_bias" or (name.endswith(".score") and self.network.gate_input == "all")

    def _widened(self, name: str, member: tuple[str, ...], weights: Weights) -> np.ndarray:
        """Return weights, those that go by modality with a place for each modality of the stack."""
        own = weights[name]
        if not self._by_modality(name):
            return own
        n_gates, n = self.network.n_gates, len(self.modalities)
        wide = np.zeros((n, n_gates, own.size // (len(member) * n_gates)), own.dtype)
        wide[[self.modalities.index(modality) for modality in member]] = own.reshape(len(member), n_gates, -1)
        return wide.reshape(n, n_gates) if name == "gate_bias" else wide.reshape(n * n_gates, -1)


def predicted(stack: Stack, rows: Rows) -> Iterator[Outputs]:
    """Return what the heads of a stack say of rows, some rows at a time."""
    member = stack.membership()
    present = torch.stack([rows.present[name] for name in stack.modalities])
    with torch.no_grad():
        for start in range(0, present.shape[1], _CHUNK):
            part = slice(start, start + _CHUNK)
            inputs = {name: rows.inputs[name][part] for name in stack.held}
            yield stack.fuse(stack.features(inputs), member & present[:, part])
