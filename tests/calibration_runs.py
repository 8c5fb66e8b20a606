"""Simulating the checks of `calibration_checks`, and what is said of their outcomes: one row for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from calibration_checks import Check, Claim, Setting, claim_of
from joblib import Parallel, delayed

ALLOWANCE = 0.015  # how far a method may be off
MONTE_CARLO = 2.5  # errors of the simulation that are granted beside
_CHUNK = 100


class Measure(NamedTuple):
    """One outcome in one setting.

    Attributes
    ----------
    name, setting : str
    claim : Claim
    observed, error : float
        Its mean, and the Monte-Carlo error of that.
    n : int
        Draws with an answer.
    unanswered : float
        Share of draws without one.
    """

    name: str
    setting: str
    claim: Claim
    observed: float
    error: float
    n: int
    unanswered: float

    @property
    def met(self) -> bool:
        """Whether what is claimed is so, or, of a method that is broken, whether that is found out."""
        kind, nominal = self.claim
        slack = ALLOWANCE + MONTE_CARLO * self.error
        if kind == "coverage":
            return self.observed >= nominal - slack
        if kind == "size":
            return self.observed <= nominal + slack
        if kind == "power":
            return self.observed >= nominal
        return abs(self.observed - nominal) > MONTE_CARLO * self.error

    @property
    def verdict(self) -> str:
        """What the table says."""
        kind, nominal = self.claim
        if kind == "broken":
            return "off, as it should be" if self.met else "NOT FOUND OUT"
        if not self.met:
            return "NOT MET"
        beyond = {"coverage": self.observed - nominal, "size": nominal - self.observed}.get(kind, 0.0)
        return "met, cautious" if beyond > ALLOWANCE + MONTE_CARLO * self.error else "met"


def simulate(plan: Sequence[tuple[Check, Setting, int]], *, seed: int = 0, n_jobs: int = 1) -> list[Measure]:
    """Draw each check in its setting so many times; return a measure for each outcome.

    Draws of a check and a setting are the same however many processes there are.
    """
    jobs = [
        (check, setting, [seed, where, start], min(_CHUNK, n - start))
        for where, (check, setting, n) in enumerate(plan)
        for start in range(0, n, _CHUNK)
    ]
    done = Parallel(n_jobs=n_jobs)(delayed(_chunk)(*job) for job in jobs)
    found: dict[tuple[str, str], list[float]] = {}
    for (_, setting, *_), outcomes in zip(jobs, done, strict=True):
        for name, values in outcomes.items():
            found.setdefault((name, str(setting)), []).extend(values)
    return [_measure(name, setting, claim_of(name), values) for (name, setting), values in found.items()]


def _chunk(check: Check, setting: Setting, seed: Sequence[int], n: int) -> dict[str, list[float]]:
    outcomes: dict[str, list[float]] = {}
    for generator in np.random.default_rng(seed).spawn(n):
        for name, value in check(generator, setting).items():
            outcomes.setdefault(name, []).append(value)
    return outcomes


def _measure(name: str, setting: str, claim: Claim, outcomes: Sequence[float]) -> Measure:
    values = np.asarray(outcomes)
    answered = values[np.isfinite(values)]
    n = len(answered)
    observed = float(answered.mean()) if n else np.nan
    expected = (n * observed + 1) / (n + 2) if n else np.nan  # so that none of n is not certain
    error = float(np.sqrt(expected * (1 - expected) / n)) if n else np.nan
    return Measure(name, setting, claim, observed, error, n, 1 - n / len(values))
