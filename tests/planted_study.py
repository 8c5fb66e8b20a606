"""Studies with known truth: what is planted is said by a `Design`, and `draw` makes a study of it.

A study is made at the level of predictions (`Drawn.panel`, arrays and nothing else; `Drawn.study`; `Drawn.run`, tables)
or goes through real heads (`Drawn.store`, whose features are the evidence).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from synthetic_study import FULL, MODALITIES, gates_of, softmax

from mixed_signals.analysis.disagreement.distances import entropy
from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.study import Study
from mixed_signals.models.plan import all_subsets
from mixed_signals.store import Corpus, Run, Store, Target, import_features

_LEVELS = 5  # of ratings of an interval target


@dataclass(frozen=True)
class Design:
    """What is planted in a study; `draw` makes one.

    A modality's evidence for an utterance is its strength times the class it leans to, less what the utterance's
    ambiguity takes away, plus an error of deviation 1 in each class; what a model makes of some modalities is the sum
    of their log likelihoods, and each training adds noise of its own.

    Attributes
    ----------
    n, n_groups, n_classes : int
    kind : str
        Of the target; of an interval target evidence is of the value itself (n_classes is not used).
    icc : float
        Share of the errors' variance that all utterances of a group have in common, relative to their true class (so
        that groups are easy or hard), and of the variance, on the logistic scale, of what makes them contested.
    uneven : bool
        Whether groups differ in size.
    strengths : mapping of modality to float
    conflict : mapping of modality to float
        Share of utterances in which that modality leans to the next class.
    same : mapping of modality to modality
        Modalities whose evidence is that of another one: their models differ by noise of training alone.
    ambiguity : float
        Share of its strength that evidence loses in utterances of the greatest ambiguity.
    noise : float
        Deviation of what each training adds to each log likelihood.
    noise_width : int
        What trainings add to an utterance is decided by so many traits of it, as weights of networks would have it:
        then a training errs alike for utterances that are alike. With 0 it errs for each of them on its own.
    n_seeds, n_partitions, n_folds : int
    n_raters : int
        An even number.
    rater_noise : float
        Chance that a rater gives any other value instead.
    raters_see : str
        What makes an utterance contested: "ambiguity" (the latent one), "confidence" (the entropy of the fusion and
        nothing else), "conflict", or "nothing" (chance alone).
    """

    n: int = 400
    n_groups: int = 20
    n_classes: int = 2
    kind: str = "nominal"
    icc: float = 0.0
    uneven: bool = True
    strengths: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(MODALITIES, 1.5))
    conflict: Mapping[str, float] = field(default_factory=dict)
    same: Mapping[str, str] = field(default_factory=dict)
    ambiguity: float = 0.0
    noise: float = 0.5
    noise_width: int = 0
    n_seeds: int = 5
    n_partitions: int = 1
    n_folds: int = 5
    n_raters: int = 8
    rater_noise: float = 0.0
    raters_see: str = "nothing"

    @property
    def classes(self):
        return tuple(f"c{k}" for k in range(self.n_classes)) if self.kind != "interval" else ()


@dataclass(frozen=True)
class Drawn:
    """One study of a design.

    Attributes
    ----------
    design : Design
    panel : Panel
    ambiguity : array, shape (N,)
        Between 0 and 1.
    conflicted : mapping of modality to array of bool, shape (N,)
    contested : array of bool, shape (N,)
        Whether votes are split evenly between two classes, but for the raters' noise; all but one agree elsewhere.
    votes : array of int, shape (N, C)
        Of an interval target by rounded value, from -2 to 2.
    evidence : mapping of modality to array, shape (N, C)
    """

    design: Design
    panel: Panel
    ambiguity: np.ndarray
    conflicted: Mapping[str, np.ndarray]
    contested: np.ndarray
    votes: np.ndarray
    evidence: Mapping[str, np.ndarray]

    def utterances(self):
        """Return the corpus's table."""
        panel = self.panel
        label = panel.truth if self.design.kind == "interval" else np.array(panel.classes)[panel.truth]
        return pd.DataFrame(
            {
                "utterance_id": panel.ids,
                "text": [f"line {i}" for i in range(len(panel.ids))],
                "label": label,
                "group": panel.groups,
                "turn": panel.when.astype(int),
            }
        )

    def ratings(self):
        """Return the votes as a table, all modalities shown."""
        row, value = np.nonzero(self.votes)
        names = np.array(self.panel.classes or [str(k) for k in range(_LEVELS)], dtype=object)
        table = {"utterance_id": self.panel.ids[row], "value": names[value], "count": self.votes[row, value]}
        return pd.DataFrame(table).assign(rater="", shown=FULL)

    def predictions(self):
        """Return the table of predictions of all models and of the majority sentinel."""
        panel = self.panel
        prior = np.repeat(panel.prior[:, None], len(panel.seeds), axis=1)
        every = [*panel.outputs.items(), ("", prior)]
        return pd.concat([self._rows(model, outputs) for model, outputs in every], ignore_index=True)

    def _rows(self, model, outputs):
        panel = self.panel
        n_partitions, n_seeds, n, _ = outputs.shape
        modalities = "+".join(panel.unimodals) if model == FUSION else model
        head = panel.head if model else "majority"
        order, seed = np.array(panel.seeds).T[::-1]
        table = {
            "utterance_id": np.tile(panel.ids, n_partitions * n_seeds),
            "model": f"{head}:{modalities}" if model else "majority",
            "head": head,
            "modalities": modalities,
            "partition": np.repeat(np.arange(n_partitions), n_seeds * n),
            "fold": np.repeat(panel.folds, n_seeds, axis=0).ravel(),
            "order": np.tile(np.repeat(order, n), n_partitions),
            "seed": np.tile(np.repeat(seed, n), n_partitions),
        }
        true = np.tile(panel.truth, n_partitions * n_seeds)
        if self.design.kind == "interval":
            return pd.DataFrame(table | {"y_true": true, "y_pred": outputs.ravel()})
        flat, classes = outputs.reshape(-1, outputs.shape[-1]), np.array(panel.classes, dtype=object)
        table |= {"label_true": classes[true], "label_pred": classes[flat.argmax(axis=1)]}
        return pd.DataFrame(table | {f"p_{name}": flat[:, k] for k, name in enumerate(panel.classes)})

    def run(self, rng=None):
        """Return the run; of an rng, with made-up gates."""
        predictions = self.predictions()
        fused = predictions[predictions["modalities"] == FULL]
        info = {
            "classes": list(self.panel.classes),
            "group": "group",
            "target": "label",
            "kind": self.design.kind,
        }
        return Run(
            predictions=predictions,
            gates=gates_of(rng or np.random.default_rng(0), fused if rng is not None else fused.iloc[:0]),
            metrics=pd.DataFrame(columns=["model", "head", "modalities", "metric", "estimate"]),
            info=info,
        )

    def study(self, **options):
        """Return the study as it would be opened, without a store."""
        utterances = self.utterances().set_index("utterance_id", drop=False)
        return Study(self.run(), (self.panel,), utterances, self.ratings(), **options)

    def store(self, path, *, width=0):
        """Make a store of the study's corpus, with features: the evidence, and noise up to a `width`.

        Modalities with the evidence of another one have its features, columns the other way round.
        """
        target = Target("label", self.design.kind, classes=self.panel.classes)
        corpus = Corpus("made up", self.utterances(), ratings=self.ratings(), declared=(target,))
        store = Store.create(path, corpus)
        rng = np.random.default_rng(len(self.panel.ids))
        vectors = {}
        for modality, evidence in self.evidence.items():
            noise = rng.normal(size=(len(evidence), max(0, width - evidence.shape[1])))
            vectors[modality] = np.hstack([evidence, noise])
        vectors |= {modality: vectors[other][:, ::-1] for modality, other in self.design.same.items()}
        for modality, X in vectors.items():
            import_rows(store, modality, self.panel.ids, X)
        return store


def import_rows(store, modality, ids, X, *, name="planted"):
    """Put vectors into a store by a file that names their utterances, as any user would."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "vectors.npz"
        np.savez(source, utterance_id=np.asarray(ids, dtype=str), embedding=X.astype(np.float32))
        import_features(store, source, modality, name)


def draw(rng, design):
    """Draw a study of a design."""
    n = design.n
    groups = group_numbers(rng, n, design.n_groups, uneven=design.uneven)
    ambiguity = rng.random(n)
    interval = design.kind == "interval"
    truth = rng.normal(size=n) if interval else rng.integers(0, design.n_classes, n)
    conflicted = {m: rng.random(n) < share for m, share in design.conflict.items()}
    kept = 1 - design.ambiguity * ambiguity
    evidence = {}
    for modality, strength in design.strengths.items():
        astray = conflicted.get(modality, np.zeros(n, dtype=bool))
        if interval:
            leans = np.where(astray, -truth, truth)[:, None]
        else:
            leans = np.eye(design.n_classes)[(truth + astray) % design.n_classes]
        errors = grouped_normal(rng, groups, design.icc, leans.shape[1], turned=0 if interval else truth)
        evidence[modality] = strength * kept[:, None] * leans + errors
    evidence |= {modality: evidence[other] for modality, other in design.same.items()}
    traits = rng.normal(size=(n, design.noise_width))
    outputs = {}
    for subset in all_subsets(list(design.strengths)):
        name = FUSION if len(subset) == len(design.strengths) else "+".join(subset)
        loglik = sum(design.strengths[m] * evidence[m] for m in subset)
        found = loglik + design.noise * _of_trainings(rng, design, traits, loglik.shape[1])
        weight = 1 + sum(design.strengths[m] ** 2 for m in subset)
        outputs[name] = found / weight if interval else softmax(found)
    partitions = [rng.permutation(design.n_groups) % design.n_folds for _ in range(design.n_partitions)]
    folds = np.stack([numbers[groups] for numbers in partitions])
    panel = Panel(
        head="gated",
        kind=design.kind,
        classes=design.classes,
        ids=np.array([f"u{i:06d}" for i in range(n)], dtype=object),
        truth=truth,
        unimodals=tuple(design.strengths),
        between=tuple(name for name in outputs if "+" in name),
        outputs=outputs,
        folds=folds,
        prior=_prior(truth, folds, 0 if interval else design.n_classes),
        groups=np.array([f"speaker {g:03d}" for g in groups], dtype=object),
        when=np.arange(n, dtype=np.float64),
        seeds=tuple((seed, 0) for seed in range(design.n_seeds)),
        deterministic=False,
        left_out=0,
    )
    contested = _contested(rng, design, panel, ambiguity, conflicted)
    votes = _votes(rng, design, truth, contested)
    return Drawn(design, panel, ambiguity, conflicted, contested, votes, evidence)


def _of_trainings(rng, design, traits, width):
    """Draw what each training adds, deviation 1, shape (P, S, N, width)."""
    trainings, q = (design.n_partitions, design.n_seeds), traits.shape[1]
    if not q:
        return rng.normal(size=(*trainings, len(traits), width))
    return np.einsum("nq,psqc->psnc", traits, rng.normal(size=(*trainings, q, width))) / np.sqrt(q)


def _contested(rng, design, panel, ambiguity, conflicted):
    """Draw which utterances people do not agree on."""
    if design.raters_see == "conflict":
        score = np.where(np.any(list(conflicted.values()), axis=0), 1.0, 0.0)
    elif design.raters_see == "confidence":
        bits = entropy(panel.mean(FUSION)) / np.log2(design.n_classes)
        score = 0.8 * (bits - bits.mean()) / bits.std() + 0.3
    else:
        score = ambiguity if design.raters_see == "ambiguity" else np.full(design.n, 0.5)
    spread = np.sqrt(np.pi**2 / 3 * design.icc / (1 - design.icc))
    of_group = spread * rng.normal(size=design.n_groups)[np.unique(panel.groups, return_inverse=True)[1]]
    return rng.random(design.n) < 1 / (1 + np.exp(2 - 3 * score - of_group))


def _votes(rng, design, truth, contested):
    """Draw what raters say, shape (N, C)."""
    n_values = _LEVELS if design.kind == "interval" else design.n_classes
    said = np.clip(np.rint(truth), -2, 2).astype(int) + 2 if design.kind == "interval" else truth
    n, half = design.n_raters, design.n_raters // 2
    votes = np.zeros((design.n, n_values), dtype=int)
    rows = np.arange(design.n)
    votes[rows, said] = np.where(contested, half, n - 1)
    votes[rows, (said + 1) % n_values] = np.where(contested, half, 1)
    if design.rater_noise:
        astray = rng.binomial(votes, design.rater_noise)
        votes -= astray
        for value in range(n_values):
            votes += rng.multinomial(astray[:, value], (np.arange(n_values) != value) / (n_values - 1))
    return votes


def _prior(truth, folds, n_classes):
    """Return class frequencies (mean value) of the rows outside each fold, shape (P, N, C)."""
    outcome = np.eye(n_classes)[truth] if n_classes else truth[:, None]
    prior = np.empty((*folds.shape, outcome.shape[1]))
    for tested, out in zip(folds, prior, strict=True):
        for fold in np.unique(tested):
            out[tested == fold] = outcome[tested != fold].mean(axis=0)
    return prior


def group_numbers(rng, n, n_groups, *, uneven=True):
    """Return a group of each row, every group at least once, rows of a group together."""
    shares = rng.dirichlet(np.full(n_groups, 4.0)) if uneven else np.full(n_groups, 1 / n_groups)
    counts = 1 + np.floor((n - n_groups) * shares).astype(int)
    counts[: n - counts.sum()] += 1
    return np.repeat(np.arange(n_groups), counts)


def grouped_normal(rng, groups, icc, width=1, *, turned=0):
    """Return standard normal rows (N, width), with a correlation of `icc` between rows of a group.

    What rows have in common is turned by so many columns in each row: by its class, it makes a group easy or hard.
    """
    shared = rng.normal(size=(groups.max() + 1, width))[groups]
    columns = (np.arange(width) - np.broadcast_to(turned, len(groups))[:, None]) % width
    shared = np.take_along_axis(shared, columns, axis=1)
    return np.sqrt(icc) * shared + np.sqrt(1 - icc) * rng.normal(size=(len(groups), width))


def autocorrelated(rng, groups, correlation):
    """Return standard normal values (N,): a first-order autoregression in each group, rows in the order of time."""
    values = rng.normal(size=len(groups))
    for i in range(1, len(groups)):
        if groups[i] == groups[i - 1]:
            values[i] = correlation * values[i - 1] + np.sqrt(1 - correlation**2) * values[i]
    return values
