"""What the calibration simulates: each check draws a study with known truth and says what every method made of it.

An outcome is 1 where an interval covers the truth or a test rejects, 0 where not, NaN where the method gives no answer.
`claim_of` says what each outcome should be on average.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from planted_study import Design, Drawn, autocorrelated, draw, group_numbers, grouped_normal
from scipy.stats import chi2, norm, ttest_1samp
from synthetic_study import MODALITIES

from mixed_signals.analysis import inference
from mixed_signals.analysis.ambiguity import control, link
from mixed_signals.analysis.ambiguity.agreement import alpha
from mixed_signals.analysis.ambiguity.ratings import condition_votes, vote_table
from mixed_signals.analysis.disagreement import floors
from mixed_signals.analysis.disagreement.distances import distances, entropy, jensen_shannon
from mixed_signals.analysis.dominance.shapley import shapley_values, subset_values
from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.people.kappa import cohen_kappa
from mixed_signals.analysis.ranks import rank_correlation
from mixed_signals.analysis.robustness.selective import selective_areas
from mixed_signals.analysis.scores import confidence
from mixed_signals.analysis.study import Study
from mixed_signals.models import sweep
from mixed_signals.models.areas import auroc
from mixed_signals.models.intervals import (
    Interval,
    blocks_jackknife,
    group_jackknife,
    mean_interval,
    sums_by,
    sums_interval,
)
from mixed_signals.store import folds

ALPHA = 0.05
RATE = "the share of text against fusion"
DRAWS = 199  # permutations of each test: with 199 a test of 5% can be exact


@dataclass(frozen=True)
class Setting:
    """Where a check is made.

    Attributes
    ----------
    n_groups : int
    icc : float
    n_classes : int
    n : int
    """

    n_groups: int
    icc: float
    n_classes: int = 2
    n: int = 400

    def __str__(self) -> str:
        return f"{self.n_groups} groups, ICC {self.icc:g}, {self.n_classes} classes"

    def design(self, **planted: object) -> Design:
        """Return a design of this setting."""
        common = {"n_seeds": 3, "icc": self.icc, "n_classes": self.n_classes}
        return replace(Design(self.n, self.n_groups, **common), **planted)


class Claim(NamedTuple):
    """What an outcome should be.

    Attributes
    ----------
    kind : str
        "coverage" and "power" (at least nominal), "size" (at most nominal), or "broken": a method that is not used,
        whose coverage or size is to be found wrong.
    nominal : float
    """

    kind: str
    nominal: float


Outcomes = Mapping[str, float]
Check = Callable[[np.random.Generator, Setting], Outcomes]
COVERAGE, SIZE, POWER = Claim("coverage", 0.95), Claim("size", ALPHA), Claim("power", 0.8)


def intervals(rng: np.random.Generator, setting: Setting) -> Outcomes:
    """Do intervals cover what a very large study of the same design gives?"""
    drawn = draw(rng, planted_everywhere(setting))
    true = truths(setting.icc, setting.n_classes)
    found = quantities(drawn, drawn.panel.groups)
    return {f"interval of {name}": covers(interval, true[name]) for name, interval in found.items()}


def unfit(rng: np.random.Generator, setting: Setting) -> Outcomes:
    """Do methods that are not used fail where groups matter? The simulation must be able to see it."""
    share, groups = 0.3, group_numbers(rng, setting.n, setting.n_groups)
    first, second = (grouped_normal(rng, groups, setting.icc)[:, 0] < norm.ppf(share) for _ in range(2))
    low, high = percentile_bootstrap(rng, first, groups)
    gained, lost = (first & ~second).sum(), (second & ~first).sum()
    return {
        "percentile bootstrap of groups": float(low <= share <= high),
        "interval that takes rows for groups": covers(mean_interval(first), share),
        "McNemar that takes rows for groups": float(
            chi2.sf((gained - lost) ** 2 / (gained + lost), 1) <= ALPHA
        ),
    }


def planted_everywhere(setting: Setting) -> Design:
    """Return a design with something of everything."""
    return setting.design(conflict={"audio": 0.2}, ambiguity=0.7, raters_see="conflict", rater_noise=0.1)


@lru_cache
def truths(icc: float, n_classes: int) -> dict[str, float]:
    """Return the quantities of a study of 100,000 utterances in 5,000 groups."""
    drawn = draw(np.random.default_rng(7), planted_everywhere(Setting(5_000, icc, n_classes, 100_000)))
    one_group = np.zeros(drawn.design.n, dtype=int)  # too few for intervals: estimates alone
    return {name: interval.estimate for name, interval in quantities(drawn, one_group).items()}


def quantities(drawn: Drawn, groups: np.ndarray) -> dict[str, Interval]:
    """Return what is estimated of a study, with its intervals."""
    panel, n = drawn.panel, len(drawn.panel.ids)
    (label, *_), pair = distances(panel), ("text", FUSION)
    rate = label.between(*(label.view(panel.seed_mean(model)) for model in pair)).mean(axis=0)
    right = {m: panel.labels(m)[0] == panel.truth for m in panel.models}
    labels = [panel.labels(m)[0] for m in ("text", "audio")]
    agreed = alpha(drawn.votes, "nominal")
    jsd = jensen_shannon(*(panel.mean(m) for m in panel.unimodals))
    contested, bits = drawn.contested, entropy(panel.mean(FUSION))
    return {
        RATE: mean_interval(rate, groups, limits=(0, 1)),
        "the excess of text against fusion": mean_interval(
            floors.floor_values(panel, label, [pair])[pair].excess, groups, limits=(-1, 1)
        ),
        "a difference of accuracies": mean_interval(right[FUSION].astype(float) - right["text"], groups),
        "a rare share (text right, fusion wrong)": mean_interval(
            right["text"] & ~right[FUSION], groups, limits=(0, 1)
        ),
        "the mean Shapley value of text": mean_interval(
            shapley_values(subset_values(panel, "label"))[0], groups
        ),
        "kappa of text and audio": cohen_kappa(*labels, len(panel.classes), groups),
        "alpha of the raters": sums_interval(agreed.function, agreed.columns, groups),
        "AUROC of divergence for contested utterances": group_jackknife(
            lambda rows: auroc(jsd[rows], contested[rows]), n, groups, limits=(0, 1)
        ),
        "Spearman's correlation of divergence and entropy": group_jackknife(
            lambda rows: rank_correlation(jsd[rows], bits[rows]), n, groups, limits=(-1, 1)
        ),
        "AUGRC of confidence": blocks_jackknife(
            lambda blocks: selective_areas(~right[FUSION], bits, blocks).augrc[None], n, groups
        )[0],
    }


def covers(interval: Interval, truth: float) -> float:
    """Return whether an interval covers, NaN where there is none."""
    return float(interval.low <= truth <= interval.high) if np.isfinite(interval.low) else np.nan


def percentile_bootstrap(
    rng: np.random.Generator, values: np.ndarray, groups: np.ndarray, resamples: int = 500
) -> tuple[float, float]:
    """Return the interval of a mean that is not to be used: percentiles over resampled groups."""
    codes = np.unique(groups, return_inverse=True)[1]
    sums = sums_by(codes, np.column_stack([values, np.ones(len(values))]))
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples) @ sums
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def paired(rng: np.random.Generator, setting: Setting) -> Outcomes:
    """Do tests of paired answers reject where all modalities are equally informative?"""
    return _paired(rng, setting.design(conflict={"audio": 0.0}))


def paired_power(rng: np.random.Generator, setting: Setting) -> Outcomes:
    """Do they where one is stronger?"""
    found = _paired(rng, setting.design(strengths={"text": 1.8, "audio": 1.0, "video": 1.0}))
    return {f"{name}, planted": rejected for name, rejected in found.items()}


def _paired(rng: np.random.Generator, design: Design) -> Outcomes:
    panel = draw(rng, design).panel
    right = np.stack([panel.labels(m)[0] == panel.truth for m in panel.unimodals], axis=1)
    first, second, groups = right[:, 0], right[:, 1], panel.groups
    seed = int(rng.integers(1 << 31))
    return {
        "sign flips of groups": rejects(
            inference.sign_flip(first.astype(float) - second, groups, resamples=DRAWS, seed=seed)
        ),
        "McNemar (Obuchowski)": rejects(inference.mcnemar(first, second, groups)),
        "McNemar (Durkalski)": rejects(inference.mcnemar(first, second, groups, method="durkalski")),
        "Cochran's Q": rejects(inference.cochran(right, groups, resamples=DRAWS, seed=seed)),
    }


def rejects(test: inference.Test | inference.ResampledT) -> float:
    """Return whether a test rejects at 5%, NaN where it gives no p-value."""
    return answered(test.p)


def in_time(rng: np.random.Generator, setting: Setting) -> Outcomes:
    """Do two series go together that depend on their own past, in every group, and not on each other?"""
    groups = group_numbers(rng, setting.n, setting.n_groups)
    x, y = (autocorrelated(rng, groups, 0.9) for _ in range(2))
    return _in_time(rng, groups, x, y)


def in_time_power(rng: np.random.Generator, setting: Setting) -> Outcomes:
    """Do two that do?"""
    groups = group_numbers(rng, setting.n, setting.n_groups)
    x = autocorrelated(rng, groups, 0.5)
    found = _in_time(rng, groups, x, 0.35 * x + autocorrelated(rng, groups, 0.5))
    return {f"{name}, planted": found[name] for name in ("link within groups, in time",)}


def _in_time(rng: np.random.Generator, groups: np.ndarray, x: np.ndarray, y: np.ndarray) -> Outcomes:
    names, when, seed = groups.astype(str), np.arange(len(groups), dtype=float), int(rng.integers(1 << 31))
    tested = inference.within_groups(x, y, names, when, resamples=DRAWS, seed=seed)
    permuted = inference.group_permutation(correlation, x, y, names, resamples=DRAWS, seed=seed)
    return {
        "link within groups, in time": rejects(tested),
        "permutation in groups of rows that follow each other": rejects(permuted),
    }


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Pearson's correlation."""
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def covariates(rng: np.random.Generator, setting: Setting) -> Outcomes:
    """Do two variables go together beyond a third that drives both?"""
    return _covariates(rng, setting, 0.0)


def covariates_power(rng: np.random.Generator, setting: Setting) -> Outcomes:
    """Do two that do?"""
    found = _covariates(rng, setting, 0.25)
    return {f"{name}, planted": rejected for name, rejected in found.items() if name == "Freedman-Lane"}


def _covariates(rng: np.random.Generator, setting: Setting, effect: float) -> Outcomes:
    groups = group_numbers(rng, setting.n, setting.n_groups)
    cause, x, y = (grouped_normal(rng, groups, setting.icc)[:, 0] for _ in range(3))
    x, y = x + cause, y + cause + effect * x
    seed, names = int(rng.integers(1 << 31)), groups.astype(str)
    tested = inference.freedman_lane(y, x, cause[:, None], names, resamples=DRAWS, seed=seed)
    swapped = inference.group_permutation(correlation, x, y, names, resamples=DRAWS, seed=seed)
    return {"Freedman-Lane": rejects(tested), "permutation that forgets the covariate": rejects(swapped)}


def unlinked(rng: np.random.Generator, setting: Setting) -> Outcomes:
    """Is a link found with raters who are at variance by chance, and does disagreement add anything?"""
    found = _link(rng, setting.design(ambiguity=0.7, raters_see="nothing"))
    return {f"{name}, raters at random": value for name, value in found.items() if name != LINK}


def driven_by_one(rng: np.random.Generator, setting: Setting) -> Outcomes:
    """One ambiguity drives confidence and disagreement, and raters see the fusion's: a link, nothing added."""
    found = _link(rng, setting.design(ambiguity=0.9, raters_see="confidence"))
    of_link = (LINK, "link by permutation in groups", "link by shifts in groups")
    return {
        f"{name}, one ambiguity drives both": value
        for name, value in found.items()
        if name == LINK or name not in of_link
    }


def conflict_seen(rng: np.random.Generator, setting: Setting) -> Outcomes:
    """Raters see conflicts of modalities: a link, and more than confidence says."""
    found = _link(rng, setting.design(conflict={"audio": 0.3}, strengths=STRONG, raters_see="conflict"))
    return {f"{name}, planted": value for name, value in found.items()}


LINK = "link with contested utterances above 0.5"
STRONG = dict.fromkeys(MODALITIES, 2.5)


def _link(rng: np.random.Generator, design: Design) -> Outcomes:
    drawn = draw(rng, design)
    panel, seed = drawn.panel, int(rng.integers(1 << 31))
    scores = link.disagreement_scores(panel)
    votes = vote_table(condition_votes(drawn.ratings(), panel.classes))
    told = scores.assign(head=panel.head, utterance_id=panel.ids)
    groups, when = (pd.Series(values, index=panel.ids) for values in (panel.groups, panel.when))
    outcomes = {}
    for name, time in (("permutation", None), ("shifts", when)):
        table = link.link_table(told, votes, groups, time, resamples=DRAWS, seed=seed).set_index("quantity")
        outcomes[f"link by {name} in groups"] = answered(table.loc["auroc", "p"])
    outcomes[LINK] = above(table.loc["auroc"], 0.5)
    base = control.confidence_scores(panel)
    options = {"resamples": DRAWS, "seed": seed}
    added = control.control_table(drawn.contested, base, scores, confidence(panel), panel.groups, **options)
    if isinstance(added, str):
        return outcomes | dict.fromkeys(ADDED, np.nan)
    added = added.set_index("quantity")
    for name, (quantity, reference) in ADDED.items():
        row = added.loc[quantity]
        if name.endswith("(test)"):
            outcomes[name] = answered(row["p"]) * (row["estimate"] > reference)
        else:
            outcomes[name] = above(row, reference)
    return outcomes


ADDED = {
    "log loss added (interval above 0)": ("log loss added", 0.0),
    "log loss added (test)": ("log loss added", 0.0),
    "AUROC added (interval above 0)": ("AUROC added", 0.0),
    "partial correlation (test)": ("partial correlation", 0.0),
    "matched AUROC (test)": ("AUROC, matched", 0.5),
}


def above(row: pd.Series, reference: float) -> float:
    """Return whether an interval lies above a reference, NaN where there is none."""
    return float(row["low"] > reference) if np.isfinite(row["low"]) else np.nan


def answered(p: float) -> float:
    """Return whether p is at most 5%, NaN where there is none."""
    return float(p <= ALPHA) if np.isfinite(p) else np.nan


def trained_again(rng: np.random.Generator, setting: Setting) -> Outcomes:
    """Is there an excess of models that differ by training alone, where a training errs alike for like utterances?"""
    panel = draw(rng, setting.design(same={"video": "text"}, noise_width=6, n_seeds=5)).panel
    return {"excess of one modality's models above 0": excess_above(panel)}


def trained_apart(rng: np.random.Generator, setting: Setting) -> Outcomes:
    """Is there an excess of two modalities' models?"""
    panel = draw(rng, setting.design(noise_width=6, n_seeds=5)).panel
    return {"excess of two modalities' models above 0, planted": excess_above(panel)}


def excess_above(panel: Panel) -> float:
    """Return whether the excess of text and video over the seed floor is found to be above 0."""
    (distance, *_), pair = distances(panel), ("text", "video")
    found = floors.floor_values(panel, distance, [pair])[pair]
    over_groups = mean_interval(found.excess, panel.groups)
    return above(pd.Series(vars(found.widened(over_groups, (-1.0, 1.0)))), 0.0)


def splits(rng: np.random.Generator, setting: Setting) -> Outcomes:
    """Do heads on two equally informative feature sets differ, by folds and seeds? (Nearest class means.)

    Each seed sees half of the columns, so that trainings differ as heads do.
    """
    n, width, n_folds, n_partitions, n_seeds = setting.n // 2, 12, 5, 2, 10
    y = rng.permutation(np.arange(n) % 2)
    features = rng.normal(size=(2, n, width)) + 0.3 * (2 * y - 1)[None, :, None]
    scores = np.empty((n_partitions, n_folds, n_seeds, 2))
    for partition in range(n_partitions):
        fold = rng.permutation(n) % n_folds
        for k in range(n_folds):
            train, test = fold != k, fold == k
            for side in range(2):
                X, held = features[side][train], features[side][test]
                means = np.stack([X[y[train] == c].mean(axis=0) for c in (0, 1)])
                weights, middle = means[1] - means[0], means.mean(axis=0)
                seen = np.argsort(rng.random((n_seeds, width)), axis=1) < width // 2
                guessed = ((held - middle) @ (weights * seen).T) > 0
                scores[partition, k, :, side] = (guessed == y[test, None]).mean(axis=0)
    apart = scores[..., 0] - scores[..., 1]
    n_test = n // n_folds
    corrected = inference.corrected_resampled_t(apart.mean(axis=2).ravel(), n - n_test, n_test)
    return {
        "corrected resampled t over folds and partitions": rejects(corrected),
        "t over seeds and folds": float(ttest_1samp(apart[0].ravel(), 0).pvalue <= ALPHA),
    }


HEAD = "gated@max_epochs=8@n_scouts=0@hidden=8"


def through_heads(rng: np.random.Generator, setting: Setting) -> Outcomes:
    """The same questions of heads that are trained, where text and audio are equally informative.

    Video has text's columns in another order: its models differ from text's by training alone. Raters are at variance
    by chance.
    """
    equal = dict.fromkeys(MODALITIES, 0.9)
    design = replace(setting.design(strengths=equal, same={"video": "text"}), n=160)
    drawn = draw(rng, design)
    subsets = [*((m,) for m in MODALITIES), MODALITIES]
    with tempfile.TemporaryDirectory() as folder:
        store = drawn.store(Path(folder) / "store", width=6)
        views = store.views(**dict.fromkeys(MODALITIES, "planted"))
        cut = folds(views, 5) + folds(views, 5, partition=1)
        sweep(views, (HEAD,), subsets, cut, range(5), n_jobs=1).save(store, "run")
        panel = Study.open(store, "run").panels[0]
    right = {m: panel.labels(m) == panel.truth for m in ("text", "audio")}
    apart = right["text"].astype(float) - right["audio"]
    by_fold = [row[fold == k].mean() for row, fold in zip(apart, panel.folds, strict=True) for k in range(5)]
    contested = drawn.contested[np.argsort(drawn.panel.ids)]
    jsd = link.disagreement_scores(panel)["jsd"].to_numpy()
    area = group_jackknife(lambda rows: auroc(jsd[rows], contested[rows]), len(jsd), panel.groups)
    return {
        "excess of one modality's models above 0, through heads": excess_above(panel),
        "interval of a link that is not there, through heads": covers(area, 0.5),
        "corrected resampled t, through heads": rejects(
            inference.corrected_resampled_t(by_fold, 0.8 * design.n, 0.2 * design.n)
        ),
    }


BROKEN = {
    "percentile bootstrap of groups": 0.95,
    "interval that takes rows for groups": 0.95,
    "McNemar that takes rows for groups": ALPHA,
    "permutation in groups of rows that follow each other": ALPHA,
    "permutation that forgets the covariate": ALPHA,
    "t over seeds and folds": ALPHA,
}


def claim_of(name: str) -> Claim:
    """Return what an outcome of that name should be."""
    if name in BROKEN:
        return Claim("broken", BROKEN[name])
    if name == "matched AUROC (test), planted":
        return Claim("power", 0.4)  # 400 utterances have few pairs in the same group and decile
    if name.endswith(", planted") or name == f"{LINK}, one ambiguity drives both":
        return POWER
    return COVERAGE if name.startswith("interval") else SIZE
