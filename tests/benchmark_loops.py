"""The usual way to fit many heads, for the sweep's benchmark: scikit-learn, XGBoost and skorch, one joblib job a head.

Each of `LOOPS` fits one head on the columns and training rows of a `Job` and returns the probability of the second
class for its test rows. Settings are those of ours: same penalties and inner splits, same network, optimiser and
stopping rule, same number of trees.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed, parallel_config
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier
from skorch.callbacks import EarlyStopping
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import nn
from xgboost import XGBClassifier

from mixed_signals.models.training import batches


class Job(NamedTuple):
    """One head of the loop.

    Attributes
    ----------
    subset : tuple of str
    fold, seed : int
    widths : tuple of int
        Columns of each modality of the subset.
    columns, train, test : ndarray of int
    inner : list of (ndarray, ndarray)
        Pairs of training and held-out rows, as numbers within `train`.
    """

    subset: tuple[str, ...]
    fold: int
    seed: int
    widths: tuple[int, ...]
    columns: np.ndarray
    train: np.ndarray
    test: np.ndarray
    inner: list[tuple[np.ndarray, np.ndarray]]


class Done(NamedTuple):
    """A fitted job: the second class's probabilities, its seconds, and those spent on finding when to stop."""

    P: np.ndarray
    seconds: float
    stopping: float


class Gated(nn.Module):
    """The gated fusion of `mixed_signals.models.gated` as one plain module."""

    def __init__(
        self,
        widths: Sequence[int],
        hidden: int,
        input_dropout: float,
        dropout: float,
        modality_dropout: float,
    ) -> None:
        super().__init__()
        self.widths = list(widths)
        self.modality_dropout = modality_dropout
        self.projections = nn.ModuleList(nn.Linear(width, hidden) for width in widths)
        self.scores = nn.ModuleList(nn.Linear(hidden, 1) for _ in widths)
        self.input_dropout, self.dropout = nn.Dropout(input_dropout), nn.Dropout(dropout)
        self.output = nn.Linear(hidden, 1)
        for linear in (*self.projections, *self.scores, self.output):
            nn.init.zeros_(linear.bias)
        for linear in (*self.scores, self.output):
            linear.weight.data *= 0.3

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        blocks = self.input_dropout(X).split(self.widths, dim=1)
        h = [
            self.dropout(torch.relu(project(x))) for project, x in zip(self.projections, blocks, strict=True)
        ]
        scores = torch.cat([score(part) for score, part in zip(self.scores, h, strict=True)], dim=1)
        if self.training:
            kept = torch.rand_like(scores) >= self.modality_dropout
            kept |= ~kept.any(dim=1, keepdim=True)
            scores = scores.masked_fill(~kept, -torch.inf)
        gates = torch.softmax(scores, dim=1)
        output: torch.Tensor = self.output((gates[:, :, None] * torch.stack(h, dim=1)).sum(dim=1))
        return output.squeeze(1)


def logistic(X: np.ndarray, y: np.ndarray, job: Job, settings: Mapping[str, Any]) -> tuple[np.ndarray, float]:
    model = make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(
            Cs=list(settings["penalties"]),
            cv=job.inner,
            scoring="neg_log_loss",
            max_iter=2000,
            l1_ratios=(0,),
            use_legacy_attributes=False,
        ),
    )
    model.fit(X[np.ix_(job.train, job.columns)], y[job.train])
    return model.predict_proba(X[np.ix_(job.test, job.columns)])[:, 1], 0.0


def xgboost(X: np.ndarray, y: np.ndarray, job: Job, settings: Mapping[str, Any]) -> tuple[np.ndarray, float]:
    """Fit as many trees as ours found to be best: the peer has no search of its own to do."""
    known = XGBClassifier().get_params().keys() - {"max_bin", "random_state"}
    model = XGBClassifier(
        **{name: value for name, value in settings.items() if name in known},
        n_estimators=settings["trees"][job.subset, job.fold, job.seed],
        tree_method="hist",
        n_jobs=1,
        random_state=job.seed,
    )
    model.fit(X[np.ix_(job.train, job.columns)], y[job.train])
    return model.predict_proba(X[np.ix_(job.test, job.columns)])[:, 1], 0.0


def gated(X: np.ndarray, y: np.ndarray, job: Job, settings: Mapping[str, Any]) -> tuple[np.ndarray, float]:
    """Stop early on held-out rows, then train on all training rows for as many epochs as were best.

    The temperature that was best for held-out rows calibrates what is said of the test rows.
    """
    torch.manual_seed(job.seed)
    scaler = StandardScaler().fit(X[np.ix_(job.train, job.columns)])
    Z, t = scaler.transform(X[np.ix_(job.train, job.columns)]), y[job.train].astype(np.float32)
    names = ("hidden", "input_dropout", "dropout", "modality_dropout")
    options = {f"module__{name}": settings[name] for name in names} | {
        "module__widths": job.widths,
        "optimizer": torch.optim.AdamW,
        "optimizer__fused": True,
        "optimizer__weight_decay": settings["weight_decay"],
        "optimizer__param_groups": [("*bias", {"weight_decay": 0.0})],
        "lr": settings["learning_rate"],
        "iterator_train__shuffle": True,
        "iterator_train__drop_last": True,
        "device": settings["device"],
        "verbose": 0,
    }
    batch_size = lambda n: batches(n, settings["batch_size"])[1]
    began = time.perf_counter()
    best, outputs, targets = [], [], []
    for rows, held in job.inner[: settings["n_scouts"]]:
        stop = EarlyStopping(patience=settings["patience"], load_best=True)
        scout = NeuralNetBinaryClassifier(
            Gated,
            **options,
            batch_size=batch_size(len(rows)),
            max_epochs=settings["max_epochs"],
            train_split=predefined_split(Dataset(Z[held], t[held])),
            callbacks=[stop],
        ).fit(Z[rows], t[rows])
        best.append(len(scout.history) - stop.misses_)
        outputs.append(scout.forward(Z[held]).cpu().numpy())
        targets.append(t[held])
    scale = temperature(np.concatenate(outputs), np.concatenate(targets))
    stopping = time.perf_counter() - began
    net = NeuralNetBinaryClassifier(
        Gated,
        **options,
        batch_size=batch_size(len(t)),
        max_epochs=max(1, round(np.mean(best))),
        train_split=None,
    ).fit(Z, t)
    tested = net.forward(scaler.transform(X[np.ix_(job.test, job.columns)])).cpu().numpy()
    return expit(tested / scale), stopping


def temperature(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Return the divisor of outputs with the smallest mean loss."""
    losses = lambda z: np.logaddexp(0, z) - targets * z
    bounds = (np.log(0.25), np.log(4))
    found = minimize_scalar(lambda log: losses(outputs / np.exp(log)).mean(), bounds=bounds, method="bounded")
    return float(np.exp(found.x))


LOOPS: dict[str, Callable[[np.ndarray, np.ndarray, Job, Mapping[str, Any]], tuple[np.ndarray, float]]] = {
    "logistic": logistic,
    "gated": gated,
    "xgboost": xgboost,
}


def fit_one(name: str, X: np.ndarray, y: np.ndarray, job: Job, settings: Mapping[str, Any]) -> Done:
    began = time.perf_counter()
    P, stopping = LOOPS[name](X, y, job, settings)
    return Done(P, time.perf_counter() - began, stopping)


def fit_all(
    name: str,
    X: np.ndarray,
    y: np.ndarray,
    jobs: Sequence[Job],
    settings: Mapping[str, Any],
    n_jobs: int,
) -> list[Done]:
    """Fit the jobs on as many processes, one thread each; joblib shares the matrix between them."""
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        done: list[Done] = Parallel()(delayed(fit_one)(name, X, y, job, settings) for job in jobs)
    return done
