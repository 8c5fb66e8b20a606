"""With labels drawn at random there is nothing to find: what a design finds all the same, it leaked.

The encoder is a ridge map that learns its training rows' labels by heart, and gives one number; where frames are to be
aligned, that number beside others that all encoders share, each in a frame of its own. Designs, folds and the
rule are the real ones. Encoders and heads are the same arithmetic as the real ones, fast enough for hundreds of
repetitions; a few repetitions go through stores, `cross_fitted_views` and `sweep`, and give the same probabilities.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import expm
from sklearn.metrics import roc_auc_score

from mixed_signals.extract.finetune.alignment import fit_map
from mixed_signals.extract.finetune.designs import Design, Member, Rows, nested, three_way
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
from mixed_signals.store.cross_fits import alignment_notes
from mixed_signals.store.splits import split_groups

REPETITIONS, N, GROUPS, WIDTH, K = 800, 48, 12, 40, 3
PER_DESIGN = (
    8  # repetitions that share folds and designs, which depend on how many of a group have which label
)
SHARED = 5  # dimensions that encoders have in common, where frames are aligned
DESIGNS = ("three-way", "nested", "aligned")
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


def drawn_again(one, repetition):
    """Return other noise, and the labels of each group dealt out again: its folds and designs stay what they are."""
    rng = np.random.default_rng([1, repetition])
    y = one.y.copy()
    for group in np.unique(one.rows.groups):
        mine = np.flatnonzero(one.rows.groups == group)
        y[mine] = rng.permutation(y[mine])
    X = rng.normal(size=one.X.shape) / np.sqrt(WIDTH)
    return Problem(X, y, replace(one.rows, strata=y), one.folds)


def encoded(one, design):
    """Return what the encoder of each training says of every row, (N, D), by name."""
    kernel = one.X @ one.X.T
    rng, said = np.random.default_rng(0), {}
    shared = one.X @ rng.normal(size=(WIDTH, SHARED))
    for training in design.trainings:
        own = np.flatnonzero(np.isin(one.rows.ids, list(training.seen)))
        labels = one.y[own] - one.y[own].mean()
        learned = np.linalg.solve(kernel[np.ix_(own, own)] + 0.01 * np.eye(len(own)), labels)
        said[training.name] = (kernel[:, own] @ learned)[:, None]
        if design.aligned:
            skew = 0.3 * rng.normal(size=(SHARED + 1, SHARED + 1))
            frame = expm(skew - skew.T)
            offset = rng.normal(size=SHARED + 1)
            said[training.name] = np.hstack([4 * said[training.name], shared]) @ frame + offset
    return said


class Place(NamedTuple):
    """What a head sees: the vector of each row, and which rows it is trained and tested on."""

    partition: int
    fold: int
    vectors: np.ndarray
    train: np.ndarray
    test: np.ndarray


def honest(one, design):
    """Return what the heads of a design see."""
    said, places = encoded(one, design), []
    for member in design.members:
        vectors = np.full(said[member.makers[0][0]].shape, np.nan)
        for name, ids in member.makers:
            mine = np.isin(one.rows.ids, ids)
            vectors[mine] = in_frame(one, member, said, name)[mine]
        train, test = (np.isin(one.rows.ids, ids) for ids in (member.train_ids, member.test_ids))
        places.append(Place(member.partition, member.fold, vectors, train, test))
    return places


def in_frame(one, member: Member, said, name):
    """Return what an encoder says in the frame of the member's first."""
    first = member.makers[0][0]
    if not member.anchors or name == first:
        return said[name]
    anchors = np.isin(one.rows.ids, [i for half in member.anchors for i in half])
    return fit_map(said[name][anchors], said[first][anchors])(said[name])


def plain(one, design):
    """Return what heads see where each fold's vectors come from the encoder that was trained on all other folds."""
    said, vectors = encoded(one, design), np.empty((len(one.y), 1))
    tests = [np.isin(one.rows.ids, fold.test_ids) for fold in one.folds]
    for number, test in enumerate(tests):
        vectors[test] = said[f"f{number}"][test]
    return [Place(0, number, vectors, ~test, test) for number, test in enumerate(tests)]


def fitted(places, y):
    """Return the probabilities that logistic heads give, (P, N): Newton's method on standardised numbers."""
    train = np.array([place.train for place in places])[..., None]
    vectors = np.array([np.nan_to_num(place.vectors) for place in places])
    n = train.sum(axis=1, keepdims=True)
    mean = (vectors * train).sum(axis=1, keepdims=True) / n
    scale = np.sqrt(((vectors - mean) ** 2 * train).sum(axis=1, keepdims=True) / n)
    Z = np.concatenate([(vectors - mean) / scale, np.ones((*vectors.shape[:2], 1))], axis=2)
    weights = np.zeros((len(places), Z.shape[2], 1))
    penalty = np.append(np.full(Z.shape[2] - 1, 1 / C), 0.0)
    for _ in range(12):
        p = 1 / (1 + np.exp(-Z @ weights))
        slope = Z.transpose(0, 2, 1) @ (train * (p - y[:, None])) + penalty[:, None] * weights
        curvature = Z.transpose(0, 2, 1) @ (train * p * (1 - p) * Z) + np.diag(penalty)
        weights -= np.linalg.solve(curvature, slope)
    return 1 / (1 + np.exp(-Z @ weights))[..., 0]


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
        "aligned": three_way(one.rows, one.folds, seed=0, validation=0.5, aligned=True),
    }


@pytest.fixture(scope="module")
def scores():
    found = []
    for number in range(REPETITIONS // PER_DESIGN):
        first = problem(number)
        made = designs(first)
        for repetition in range(PER_DESIGN):
            one = drawn_again(first, number * PER_DESIGN + repetition)
            found.append(
                {name: score(honest(one, design), one.y) for name, design in made.items()}
                | {"plain": score(plain(one, made["nested"]), one.y)}
            )
    return pd.DataFrame(found)


def interval(values):
    """Return the 99 percent interval of a mean."""
    half = 2.576 * values.std() / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def test_folds_and_designs_depend_on_labels_only_through_their_numbers_in_each_group():
    for number in range(3):
        first = problem(number)
        one = drawn_again(first, number)
        assert (one.y != first.y).any()
        parts = split_groups(one.rows.ids, one.y, one.rows.groups, K, number)
        for fold, (train, test) in zip(first.folds, parts, strict=True):
            assert list(fold.train_ids) == list(one.rows.ids[train])
            assert list(fold.test_ids) == list(one.rows.ids[test])
        assert designs(one) == designs(first)


def test_no_design_finds_anything_in_random_labels(scores):
    for design in DESIGNS:
        low, high = interval(scores[design])
        assert low < 0.5 < high, design
        assert high - low < 0.05  # it says something


def test_plain_cross_fitting_does_and_so_the_test_can_tell(scores):
    low, high = interval(scores["plain"])
    assert low > 0.51
    for design in DESIGNS:
        assert interval(scores[design])[1] < high


def test_the_encoder_knows_its_own_rows_by_heart():
    one = problem(0)
    design = designs(one)["nested"]
    for name, said in encoded(one, design).items():
        own = np.isin(one.rows.ids, list(design.training(name).seen))
        assert area(one.y[own], said[own, 0]) == roc_auc_score(one.y[own], said[own, 0]) > 0.99


def test_aligned_encoders_that_saw_the_test_rows_would_be_found_out():
    found = []
    for repetition in range(20):
        one = problem(repetition)
        design = designs(one)["aligned"]
        seen = [replace(t, train_ids=tuple(one.rows.ids), validation_ids=()) for t in design.trainings]
        found.append(score(honest(one, replace(design, trainings=tuple(seen))), one.y))
    assert min(found) > 0.6


def test_aligned_vectors_are_nearer_to_each_other_and_not_the_same():
    one = problem(0)
    design = designs(one)["aligned"]
    said = encoded(one, design)
    for member in design.members:
        (first, ids), (second, _) = member.makers
        rows = np.isin(one.rows.ids, ids)  # by heart to the second, as they are in part
        far, near = (
            np.linalg.norm((other - said[first])[rows])
            for other in (said[second], in_frame(one, member, said, second))
        )
        assert 0 < near < far


def write(store, name, vectors, **said):
    """Write a vector a row; NaN where there is none."""
    ids = store.corpus.ids
    status = np.where(np.isnan(vectors[:, 0]), Status.MISSING, Status.OK).tolist()
    path, names = store.feature_path("text", name), [f"said{i}" for i in range(vectors.shape[1])]
    with FeatureWriter(path, Recipe(name, "text"), ids, ["h"] * len(ids), names, **said) as writer:
        writer.write(range(len(ids)), vectors, status, [""] * len(ids))


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
            source={
                "cross_fitted": fit.as_provenance(),
                "made_by": made_by,
                **({"aligned": {"anchors": sum(map(len, member.anchors))}} if member.anchors else {}),
            },
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


@pytest.mark.parametrize("kind", DESIGNS)
@pytest.mark.parametrize("repetition", [0, 1])
def test_stores_views_and_sweeps_give_the_same_probabilities(tmp_path, kind, repetition):
    one = problem(repetition)
    design = designs(one)[kind]
    store = store_of(tmp_path / "s", one, design)
    views, folds, _ = cross_fitted_views(store, {"text": "tuned"})
    run = sweep(views, [HEAD], folds=folds, seeds=(0,), views_by_fold=True, n_jobs=1)
    assert run.info["overrides"] == (alignment_notes(["text/tuned"]) if kind == "aligned" else [])
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
