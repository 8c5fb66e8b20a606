"""Training for the benchmarks: ours with all that it takes, and the loop that anyone would write."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import torch
import transformers
from benchmark_networks import CLASSES

from mixed_signals.extract import make_encoder
from mixed_signals.extract.finetune.inputs import Inputs, steps
from mixed_signals.extract.finetune.labels import Coding, Labels
from mixed_signals.extract.finetune.learning import Learner
from mixed_signals.extract.finetune.network import Classifier
from mixed_signals.extract.finetune.settings import Settings
from mixed_signals.store import Store


class PlainLoop:
    """The training that anyone would write, of the same network and recipe."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.network = transformers.AutoModel.from_pretrained(folder)
        self.network.requires_grad_(settings.last_blocks is None)
        if settings.last_blocks is not None:
            self.network.encoder.layer[-settings.last_blocks :].requires_grad_(True)
        self.head = torch.nn.Linear(self.network.config.hidden_size, len(CLASSES))
        learned = [one for one in self.network.parameters() if one.requires_grad]
        self.parameters = [*learned, *self.head.parameters()]
        rates = ((learned, settings.learning_rate), (self.head.parameters(), settings.head_learning_rate))
        self.optimizer = torch.optim.AdamW(
            [{"params": list(of_rate), "lr": rate} for of_rate, rate in rates],
            weight_decay=settings.weight_decay,
        )
        self.network.train()

    def step(self, texts: list[str], target: Any) -> tuple[float, float]:
        """Take a step; return the loss and the gradient's norm."""
        inputs = self.tokenizer(texts, padding=True, return_tensors="pt")
        states = self.network(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None]
        pooled = (states * mask).sum(dim=1) / mask.sum(dim=1)
        loss = torch.nn.functional.cross_entropy(self.head(pooled), target)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        self.optimizer.step()
        return loss.item(), norm.item()


class Bench:
    """Everything that training on a made-up corpus takes."""

    def __init__(self, store: Store, modality: str, checkpoint: Path, device: str) -> None:
        ids = store.corpus.ids.tolist()
        self.label_of = dict(zip(ids, store.corpus.utterances["label"], strict=True))
        self.encoder: Any = make_encoder(modality, str(checkpoint), device=device)
        self.inputs = Inputs(store, self.encoder, max_seconds=10.0)
        self.labels = Labels("nominal", CLASSES, self.label_of)
        self.ids = self.inputs.look(ids)

    def learner(self, settings: Settings) -> Learner:
        """Return what learns, its network loaded anew."""
        self.encoder.load()
        coding = Coding.of(self.labels, self.ids, class_weights=settings.class_weights)
        return Learner(Classifier(self.encoder, coding, settings), self.inputs, self.labels, settings)

    def batches(self, settings: Settings) -> list[list[str]]:
        """Return those of the first epoch of a training of seed 0."""
        planned = steps(self.inputs.lengths(self.ids), settings.batch_size, 1, [0, 0])
        return [[self.ids[row] for row in batch] for (batch,) in planned]


def check_step(
    bench: Bench, plain: PlainLoop, settings: Settings, batch: list[str], texts: list[str], target: Any
) -> None:
    """Make sure that both loops do the same."""
    learner = bench.learner(settings)
    plain.head.load_state_dict(learner.classifier.head.state_dict())
    with closing(learner.packed([batch])) as packed:
        ours = learner.step([batch], packed)
    theirs = plain.step(texts, target)
    assert all(abs(a - b) < 1e-3 * abs(b) for a, b in zip(ours, theirs, strict=True)), (ours, theirs)
