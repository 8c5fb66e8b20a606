"""Gated fusion: one projection for each modality, gates, one linear output. `stacked` has the formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mixed_signals.models.base import MEMORY, BaseHead, ClassifierHead, Fit, Problem, RegressorHead
from mixed_signals.models.saving import write_arrays

if TYPE_CHECKING:
    from mixed_signals.models.stacked import Network
    from mixed_signals.models.training import Course


class GatedBase(BaseHead):
    """What the classifier and the regressor share."""

    seeded = True
    hidden: int
    gate: str
    gate_width: str
    gate_input: str
    input_dropout: float
    dropout: float
    modality_dropout: float
    auxiliary: float
    learning_rate: float
    weight_decay: float
    gate_rate: float
    batch_size: int
    max_epochs: int
    patience: int
    n_scouts: int
    random_state: int
    order: int

    mean_: np.ndarray
    scale_: np.ndarray
    weights_: dict[str, np.ndarray]
    n_epochs_: int
    temperature_: float

    @property
    def modalities_(self) -> tuple[str, ...]:
        """Names of the blocks."""
        return tuple(self._own_blocks())

    @classmethod
    def fit_many(
        cls, problem: Problem, fits: Sequence[Fit], *, device: str = "cpu", memory: int = MEMORY
    ) -> None:
        """Fit heads together; those that share rows, order and sizes are trained in one computation."""
        from mixed_signals.models.scouting import fit_networks

        fit_networks(problem, fits, device, memory)

    def explain(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what each modality does in each prediction.

        Returns
        -------
        gates : ndarray, shape (N, M)
            Weights of the modalities; 0 where a modality is absent. Softmax gates sum to 1. Of gates per
            dimension it is the mean.
        contributions : ndarray, shape (N, M)
            What each modality adds for what is predicted; with the same of the intercepts they sum to

            - nominal: the calibrated logit of the predicted class, less the mean over classes;
            - two classes: half the calibrated log odds of the predicted class, which is the same;
            - ordinal: half the sum of the log odds of all thresholds, each for the predicted class's side;
            - multilabel: half the sum of the log odds of all classes, each for what is predicted of it;
            - interval: the value, in units of the target, less the training mean.
        """
        outputs, gates, parts = self._explained(X)
        coding = self.coding_
        if coding.kind == "interval":
            return gates, parts[:, :, 0] * coding.scale
        P = coding.decode(outputs)
        if coding.link == "softmax":
            parts = parts - parts.mean(axis=2, keepdims=True)
            return gates, np.take_along_axis(parts, P.argmax(axis=1)[:, None, None], axis=2)[:, :, 0]
        above = (
            P > 0.5 if coding.kind == "multilabel" else P.argmax(axis=1)[:, None] > np.arange(coding.width)
        )
        return gates, (parts * np.where(above, 0.5, -0.5)[:, None, :]).sum(axis=2)

    def save(self, stem: str) -> str:
        """Write the head to ``<stem>.safetensors`` and return that path."""
        arrays = {"mean_": self.mean_, "scale_": self.scale_}
        arrays |= {f"weight.{name}": value for name, value in self.weights_.items()}
        return write_arrays(
            stem, self, arrays, {"n_epochs_": self.n_epochs_, "temperature_": self.temperature_}
        )

    def take_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what `save` wrote."""
        prefix = "weight."
        self.weights_ = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        super().take_arrays({k: v for k, v in arrays.items() if not k.startswith(prefix)})

    def _network(self) -> Network:
        from mixed_signals.models.stacked import Network

        gates = (self.gate, self.gate_width, self.gate_input)
        return Network(self.hidden, self.coding_.width, *gates, auxiliary=self.auxiliary > 0)

    def _course(self) -> Course:
        from mixed_signals.models.training import Course

        times = (self.batch_size, self.max_epochs, self.patience)
        return Course(self.coding_.link, self.order, *times, input_dropout=self.input_dropout)

    def _explained(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return calibrated outputs (N, width), gates (N, M) and parts of the outputs (N, M, width)."""
        from mixed_signals.models.scouting import prepared
        from mixed_signals.models.stacked import Stack, predicted

        X, blocks = self._rows(X), self._own_blocks()
        standard = {name: (self.mean_[a:b], self.scale_[a:b]) for name, (a, b) in blocks.items()}
        stack = Stack(self._network(), [tuple(blocks)], [self.weights_])
        outputs, gates, parts = [], [], []
        for found in predicted(stack, prepared(X, blocks, standard, "cpu")):
            outputs.append(found.outputs[0].T)
            gates.append(found.gates[0].mean(dim=1).T)
            parts.append(np.stack([found.parts[name][0].T for name in blocks], axis=1))
        z, g, p = (np.concatenate(found).astype(np.float64) for found in (outputs, gates, parts))
        return z / self.temperature_, g, p / self.temperature_


class GatedHead(ClassifierHead, GatedBase):
    """Gated fusion of modalities; with one modality, a network with one hidden layer.

    Modality dropout hides whole modalities while training (never a row's last), which is what lets the head
    predict for rows where a modality is absent (NaN). How long to train is found by scouts: the same head
    with a seed that depends on `order` only, trained without some training rows (whole groups, where there
    are any) and watched on them. The head itself is trained that long on all training rows. Heads of other
    seeds share the scouts.

    Parameters
    ----------
    blocks : mapping of str to (start, stop), optional
        Which columns belong to which modality; all columns are one block by default.
    classes, ordinal
        See `ClassifierHead`.
    hidden : int
        Width of each projection.
    gate : {"softmax", "sigmoid"}
        Whether gates share 1 among the modalities that a row has, or each is between 0 and 1.
    gate_width : {"scalar", "dimension"}
        Whether a modality has one gate, or one for each dimension of its projection.
    gate_input : {"own", "all"}
        Whether a modality's gate is made of its own features h or of those of all modalities that a row has.
    input_dropout, dropout, modality_dropout : float
        Shares of inputs, of features h, and of modalities, hidden while training (in steps of 1/256).
    auxiliary : float
        Weight of the mean of the modalities' own losses, each by outputs of its own; 0 for none.
    class_weight : "balanced" or mapping of label to float, optional
        What rows of a class weigh; balanced: what makes classes equal. Nominal and ordinal targets only.
    learning_rate, weight_decay : float
        Of AdamW.
    gate_rate : float
        Learning rate of what makes the gates, over that of the rest: gates that learn fast overfit first.
    batch_size, max_epochs, patience : int
        Scouts stop after `patience` epochs without a better loss on the held-out rows.
    n_scouts : int
        Of the 4 inner folds, how many a scout is trained for; without any, training takes `max_epochs`.
    random_state : int
        Seed of the initial weights, the dropout of projected features and modalities.
    order : int
        Seed of the order of rows, of the dropout of features, and of which rows scouts are watched on.

    Attributes
    ----------
    classes_ : ndarray, shape (K,)
    modalities_ : tuple of str
        Names of the blocks, the order of gates and contributions.
    n_epochs_ : int
        Epochs of the last training.
    temperature_ : float
        What outputs are divided by: the divisor with which the scouts' held-out outputs had the smallest mean
        loss (Guo et al. 2017, "On calibration of modern neural networks", ICML).
    weights_ : dict of str to ndarray
    """

    def __init__(
        self,
        blocks: Mapping[str, tuple[int, int]] | None = None,
        classes: Sequence[Any] | None = None,
        ordinal: bool = False,
        hidden: int = 64,
        gate: str = "softmax",
        gate_width: str = "scalar",
        gate_input: str = "own",
        input_dropout: float = 0.5,
        dropout: float = 0.3,
        modality_dropout: float = 0.2,
        auxiliary: float = 0.0,
        class_weight: str | Mapping[Any, float] | None = None,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.1,
        gate_rate: float = 0.1,
        batch_size: int = 128,
        max_epochs: int = 60,
        patience: int = 6,
        n_scouts: int = 2,
        random_state: int = 0,
        order: int = 0,
    ) -> None:
        self.blocks = blocks
        self.classes = classes
        self.ordinal = ordinal
        self.hidden = hidden
        self.gate = gate
        self.gate_width = gate_width
        self.gate_input = gate_input
        self.input_dropout = input_dropout
        self.dropout = dropout
        self.modality_dropout = modality_dropout
        self.auxiliary = auxiliary
        self.class_weight = class_weight
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.gate_rate = gate_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.n_scouts = n_scouts
        self.random_state = random_state
        self.order = order

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return calibrated class probabilities, shape (N, K)."""
        outputs, _, _ = self._explained(X)
        return self.coding_.decode(outputs)


class GatedRegressor(RegressorHead, GatedBase):
    """Gated fusion for interval targets: `GatedHead`'s network and parameters, but those about classes."""

    def __init__(
        self,
        blocks: Mapping[str, tuple[int, int]] | None = None,
        hidden: int = 64,
        gate: str = "softmax",
        gate_width: str = "scalar",
        gate_input: str = "own",
        input_dropout: float = 0.5,
        dropout: float = 0.3,
        modality_dropout: float = 0.2,
        auxiliary: float = 0.0,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.1,
        gate_rate: float = 0.1,
        batch_size: int = 128,
        max_epochs: int = 60,
        patience: int = 6,
        n_scouts: int = 2,
        random_state: int = 0,
        order: int = 0,
    ) -> None:
        self.blocks = blocks
        self.hidden = hidden
        self.gate = gate
        self.gate_width = gate_width
        self.gate_input = gate_input
        self.input_dropout = input_dropout
        self.dropout = dropout
        self.modality_dropout = modality_dropout
        self.auxiliary = auxiliary
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.gate_rate = gate_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.n_scouts = n_scouts
        self.random_state = random_state
        self.order = order

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the values, shape (N,)."""
        outputs, _, _ = self._explained(X)
        return self.coding_.decode(outputs)
