"""With labels drawn at random there is nothing to find: what a design finds all the same, it leaked.

The encoder is a ridge map that learns its training rows' labels by heart, and gives one number. Designs, folds and the
rule are the real ones. Encoders and heads are the same arithmetic as the real ones, fast enough for hundreds of
repetitions; a few repetitions go through stores, `cross_fitted_views` and `sweep`, and give the same probabilities.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mixed_signals.extract.finetune.designs import Design, Rows, nested, three_way
from mixed_signals.models import sweep
from mixed_signals.models.logistic import PENALTIES
from mixed_signals.store import (
    Corpus,
    FeatureWriter,
    Fold,
    Recipe,
    Status,
    Store,
    UsageError,
    cross_fitted_views,
)
from mixed_signals.store.splits import split_groups

REPETITIONS, N, GROUPS, WIDTH, K = 400, 48, 12, 40, 3
HEAD = "logistic@n_inner_folds=0"  # which takes the middle of the penalties
C = PENALTIES[len(PENALTIES) // 2]


class Problem(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    rows: Rows
    folds: list[Fold]


def problem(repetition, *, n=N):
    """Return noise, as many labels of either class, and grouped folds."""
    rng = np.random.default_rng(repetition)
    ids = np.array([f"u{i:03d}" for i in range(n)], dtype=object)
    groups = np.array([f"g{i % GROUPS}" for i in range(n)], dtype=object)
    y = rng.permutation(np.arange(n) % 2)
    X = rng.normal(size=(n, WIDTH)) / np.sqrt(WIDTH)
    parts = split_groups(ids, y, groups, K, repetition)
    folds = [Fold(0, number, ids[a], ids[b]) for number, (a, b) in enumerate(parts)]
    return Problem(X, y, Rows(ids, y, groups), folds)


def encoded(one, design):
    """Return what the encoder of each training says of every row, by name."""
    kernel = one.X @ one.X.T
    said = {}
    for training in design.trainings:
        own = np.flatnonzero(np.isin(one.rows.ids, list(training.seen)))
        labels = one.y[own] - one.y[own].mean()
        learned = np.linalg.solve(kernel[np.ix_(own, own)] + 0.01 * np.eye(len(own)), labels)
        said[training.name] = kernel[:, own] @ learned
    return said


class Place(NamedTuple):
    """What a head sees: a number for each row, and which rows it is trained and tested on."""

    partition: int
    fold: int
    vectors: np.ndarray
    train: np.ndarray
    test: np.ndarray


def honest(one, design):
    """Return what the heads of a design see."""
    said, places = encoded(one, design), []
    for member in design.members:
        vectors = np.full(len(one.y), np.nan)
        for name, ids in member.makers:
            mine = np.isin(one.rows.ids, ids)
            vectors[mine] = said[name][mine]
        train, test = (np.isin(one.rows.ids, ids) for ids in (member.train_ids, member.test_ids))
        places.append(Place(member.partition, member.fold, vectors, train, test))
    return places


def plain(one, design):
    """Return what heads see where each fold's vectors come from the encoder that was trained on all other folds."""
    said, vectors = encoded(one, design), np.empty(len(one.y))
    tests = [np.isin(one.rows.ids, fold.test_ids) for fold in one.folds]
    for number, test in enumerate(tests):
        vectors[test] = said[f"f{number}"][test]
    return [Place(0, number, vectors, ~test, test) for number, test in enumerate(tests)]


def fitted(places, y):
    """Return the probabilities that logistic heads give, (P, N): Newton's method on standardised numbers."""
    train = np.array([place.train for place in places])
    vectors = np.array([np.nan_to_num(place.vectors) for place in places])
    n = train.sum(axis=1, keepdims=True)
    mean = (vectors * train).sum(axis=1, keepdims=True) / n
    scale = np.sqrt(((vectors - mean) ** 2 * train).sum(axis=1, keepdims=True) / n)
    Z = np.stack([(vectors - mean) / scale, np.ones(vectors.shape)], axis=2)
    weights, penalty = np.zeros((len(places), 2)), np.array([1 / C, 0.0])
    for _ in range(20):
        p = 1 / (1 + np.exp(-np.einsum("pnd,pd->pn", Z, weights)))
        slope = np.einsum("pnd,pn->pd", Z, train * (p - y)) + penalty * weights
        curvature = np.einsum("pnd,pn,pne->pde", Z, train * p * (1 - p), Z) + np.diag(penalty)
        weights -= np.linalg.solve(curvature, slope[..., None])[..., 0]
    return 1 / (1 + np.exp(-np.einsum("pnd,pd->pn", Z, weights)))


def area(y, values):
    """Return the area under the curve; no two values are equal."""
    ranks = np.argsort(np.argsort(values)) + 1
    n = y.sum()
    return (ranks[y == 1].sum() - n * (n + 1) / 2) / (n * (len(y) - n))


def score(places, y):
    """Return the area under the curve in each fold, of probabilities averaged over partitions; the mean of folds."""
    probabilities, found = fitted(places, y), []
    for number in range(K):
        here = [i for i, place in enumerate(places) if place.fold == number]
        test = places[here[0]].test
        found.append(area(y[test], probabilities[here][:, test].mean(axis=0)))
    return np.mean(found)


def designs(one):
    # Rows that would stop a training early count as its own, so that none need be held out here.
    return {
        "three-way": three_way(one.rows, one.folds, seed=0, validation=0),
        "nested": nested(one.rows, one.folds, seed=0, validation=0),
    }


@pytest.fixture(scope="module")
def scores():
    found = []
    for repetition in range(REPETITIONS):
        one = problem(repetition)
        made = designs(one)
        found.append(
            {name: score(honest(one, design), one.y) for name, design in made.items()}
            | {"plain": score(plain(one, made["nested"]), one.y)}
        )
    return pd.DataFrame(found)


def interval(values):
    """Return the 99 percent interval of a mean."""
    half = 2.576 * values.std() / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def test_neither_design_finds_anything_in_random_labels(scores):
    for design in ("three-way", "nested"):
        low, high = interval(scores[design])
        assert low < 0.5 < high, design
        assert high - low < 0.05  # it says something


def test_plain_cross_fitting_does_and_so_the_test_can_tell(scores):
    low, high = interval(scores["plain"])
    assert low > 0.51
    for design in ("three-way", "nested"):
        assert interval(scores[design])[1] < high


def test_the_encoder_knows_its_own_rows_by_heart():
    one = problem(0)
    design = designs(one)["nested"]
    for name, said in encoded(one, design).items():
        own = np.isin(one.rows.ids, list(design.training(name).seen))
        assert area(one.y[own], said[own]) == roc_auc_score(one.y[own], said[own]) > 0.99


def write(store, name, vectors, **said):
    """Write one number a row; NaN where there is none."""
    ids = store.corpus.ids
    status = np.where(np.isnan(vectors), Status.MISSING, Status.OK).tolist()
    path = store.feature_path("text", name)
    with FeatureWriter(path, Recipe(name, "text"), ids, ["h"] * len(ids), ["said"], **said) as writer:
        writer.write(range(len(ids)), vectors[:, None], status, [""] * len(ids))


def store_of(folder, one, design: Design):
    """Put what a design makes into a store, its provenance as fine-tuning writes it."""
    ids = one.rows.ids
    table = {"utterance_id": ids, "text": ids, "label": one.y.astype(str), "group": one.rows.groups}
    store = Store.create(folder, Corpus("noise", pd.DataFrame(table)))
    for member, place in zip(design.members, honest(one, design), strict=True):
        fit = design.cross_fit(member, "tuned")
        made_by = [
            {"weights": name, "trained_on": sorted(design.training(name).seen), "rows": list(rows)}
            for name, rows in member.makers
        ]
        write(
            store,
            fit.member,
            place.vectors,
            trained_on=sorted({i for maker in made_by for i in maker["trained_on"]}),
            source={"cross_fitted": fit.as_provenance(), "made_by": made_by},
        )
    return store


def assert_same(run, places, one):
    said = run.predictions[run.predictions["model"] == f"{HEAD}:text"]
    for place, expected in zip(places, fitted(places, one.y), strict=True):
        here = said[(said["partition"] == place.partition) & (said["fold"] == place.fold)]
        by_id = dict(zip(here["utterance_id"], here["p_1"], strict=True))
        assert set(by_id) == set(one.rows.ids[place.test])
        np.testing.assert_allclose(
            [by_id[i] for i in one.rows.ids[place.test]], expected[place.test], atol=1e-4
        )


@pytest.mark.parametrize("kind", ["three-way", "nested"])
@pytest.mark.parametrize("repetition", [0, 1])
def test_stores_views_and_sweeps_give_the_same_probabilities(tmp_path, kind, repetition):
    one = problem(repetition)
    design = designs(one)[kind]
    store = store_of(tmp_path / "s", one, design)
    views, folds, _ = cross_fitted_views(store, {"text": "tuned"})
    run = sweep(views, [HEAD], folds=folds, seeds=(0,), views_by_fold=True, n_jobs=1)
    assert run.info["overrides"] == []
    assert_same(run, honest(one, design), one)


def test_plain_cross_fitting_is_refused_and_gives_the_same_where_it_is_let_through(tmp_path):
    one = problem(0)
    design = designs(one)["nested"]
    store = store_of(tmp_path / "s", one, design)
    places = plain(one, design)
    made_by = [
        {"weights": str(number), "trained_on": fold.train_ids.tolist(), "rows": fold.test_ids.tolist()}
        for number, fold in enumerate(one.folds)
    ]
    write(store, "plain", places[0].vectors, trained_on=one.rows.ids.tolist(), source={"made_by": made_by})
    views, options = store.views(text="plain"), {"folds": one.folds, "seeds": (0,), "n_jobs": 1}
    with pytest.raises(UsageError, match=f"{N} test utterances are among those that an encoder's weights"):
        sweep(views, [HEAD], **options)
    run = sweep(views, [HEAD], **options, allow_trained_rows=True)
    assert f"{N} test utterances are among" in run.info["overrides"][0]
    assert_same(run, places, one)
