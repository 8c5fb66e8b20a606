"""Row weights: what they change in each head, what they do not, and how a sweep takes them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from small_store import planted_store

from mixed_signals.models import head_spec, sweep
from mixed_signals.models.base import Fit, Problem
from mixed_signals.models.inner import inner_folds
from mixed_signals.models.keeping import unfinished
from mixed_signals.models.logistic import LogisticHead, RidgeHead, held_out
from mixed_signals.models.scaling import standardized
from mixed_signals.store import UsageError, folds

BLOCKS = {"text": (0, 5), "audio": (5, 9)}
EVERY_HEAD = [
    "logistic",
    "mean",
    "stacking",
    "xgboost@max_trees=20",
    "gated@hidden=8@max_epochs=8@learning_rate=0.02",
    "gated-attention@epochs=4@projection=16@attention=8@hidden=16@learning_rate=0.01@peak_rate=0.02",
]
EVERY_REGRESSOR = ["ridge", *EVERY_HEAD[1:]]


def planted(n=160, n_classes=2, seed=0):
    """Rows of 16 groups, whose columns 0 (text) and 5 (audio) weakly carry the class."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.resize(np.arange(n_classes), n))
    X = rng.normal(size=(n, 9)).astype(np.float32)
    X[:, [0, 5]] += codes[:, None]
    y = np.array(["calm", "warm", "sad"], dtype=object)[codes]
    return Problem(X, y, BLOCKS, np.arange(n) % 16)


def fitted(head, problem):
    """Fit a head by its class's `fit_many` on all rows and modalities."""
    type(head).fit_many(problem, [Fit(head, tuple(problem.blocks), np.arange(len(problem.y)))])
    return head


def made(name, kind="nominal", classes=("calm", "warm")):
    return head_spec(name).make(kind, classes, BLOCKS)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_integer_weights_equal_repeated_rows(n_classes):
    problem = planted(n_classes=n_classes)
    counts = np.random.default_rng(1).integers(0, 4, len(problem.y))
    weighted = replace(problem, weights=counts.astype(float))
    head = fitted(LogisticHead(penalties=[0.05], n_inner_folds=0), weighted)
    Z = standardized(problem.X, head.mean_, head.scale_)
    repeated = np.repeat(np.arange(len(Z)), counts)
    plain = LogisticRegression(C=0.05, tol=1e-10, max_iter=10_000).fit(Z[repeated], problem.y[repeated])
    np.testing.assert_allclose(head.predict_proba(problem.X), plain.predict_proba(Z), atol=1e-4)


def test_weights_of_ridge_are_those_of_scikit_learn():
    problem = planted()
    y, rng = problem.X[:, 0] + np.random.default_rng(1).normal(size=160), np.random.default_rng(2)
    weights = rng.exponential(size=160)
    head = fitted(RidgeHead(penalties=[0.1], n_inner_folds=0), replace(problem, y=y, weights=weights))
    Z = standardized(problem.X, head.mean_, head.scale_)
    plain = Ridge(alpha=10).fit(Z, y, sample_weight=weights)
    np.testing.assert_allclose(head.predict(problem.X), plain.predict(Z), atol=1e-4)


def test_a_row_of_weight_0_counts_in_standardisation_and_nowhere_else():
    problem = planted()
    weights = np.where(np.arange(160) < 100, 1.0, 0.0)
    X = problem.X.copy()
    X[100:] = 5 - 3 * X[100:]
    head = fitted(LogisticHead(penalties=[0.05], n_inner_folds=0), replace(problem, X=X, weights=weights))
    np.testing.assert_allclose(head.mean_, X.mean(axis=0), rtol=1e-5)
    Z = standardized(X, head.mean_, head.scale_)
    left = LogisticRegression(C=0.05, tol=1e-10, max_iter=10_000).fit(Z[:100], problem.y[:100])
    np.testing.assert_allclose(head.predict_proba(X), left.predict_proba(Z), atol=1e-4)


@pytest.mark.parametrize("name", EVERY_HEAD)
def test_equal_weights_change_nothing_and_heavy_rows_draw_every_head_to_their_class(name):
    problem = planted()
    said, losses = {}, {}
    for kind, weights in (
        ("none", None),
        ("ones", np.ones(160)),
        ("warm", np.where(problem.y == "warm", 5, 0.5)),
    ):
        head = fitted(made(name), replace(problem, weights=weights, splits={}))
        said[kind] = head.predict_proba(problem.X)[:, 1]
        losses[kind] = head.inner_loss_
    np.testing.assert_allclose(said["ones"], said["none"], atol=1e-4)
    assert said["warm"].mean() > said["none"].mean() + 0.005
    assert abs(losses["warm"] - losses["none"]) > 0.001  # inner models are weighted too


@pytest.mark.parametrize("name", EVERY_REGRESSOR)
def test_heavy_rows_draw_every_regressor_to_their_values(name):
    problem = planted()
    y = problem.X[:, 0] + np.random.default_rng(1).normal(size=160)
    said = [
        fitted(made(name, "interval", ()), replace(problem, y=y, weights=w, splits={})).predict(problem.X)
        for w in (None, np.where(y > 0.5, 2.0, 0.05))
    ]
    assert said[1].mean() > said[0].mean() + 0.005


@pytest.mark.parametrize(
    "name",
    [
        "logistic@n_inner_folds=0",
        "xgboost@n_scouts=0@max_trees=30",
        "gated@n_scouts=0@max_epochs=20@hidden=8",
    ],
)
def test_wrong_labels_without_weight_are_not_learnt(name):
    problem = planted(n=320)
    problem.X[:, [0, 5]] += 2 * (problem.y == "warm")[:, None]
    wrong = np.random.default_rng(1).random(320) < 0.65
    y = np.where(wrong, np.where(problem.y == "calm", "warm", "calm"), problem.y)
    right = {}
    for weights in (None, (~wrong).astype(float)):
        head = fitted(made(name), replace(problem, y=y, weights=weights, splits={}))
        right[weights is None] = (head.predict(problem.X) == problem.y).mean()
    assert right[True] < 0.5 < 0.8 < right[False]


def test_the_penalty_is_chosen_by_the_plain_loss_of_rows_held_out():
    weights = np.random.default_rng(1).exponential(size=160)
    problem = replace(planted(), weights=weights)
    head = LogisticHead()
    rows, outputs = held_out(problem, [Fit(head, ("text", "audio"), np.arange(160))])[0]
    losses = head.coding_.losses(outputs, head.coding_.encode(problem.y[rows]))
    assert head.inner_loss_ == pytest.approx(losses.mean())
    assert abs(np.average(losses, weights=weights[rows]) - losses.mean()) > 1e-4


def test_inner_folds_train_on_a_row_with_a_weight_of_each_class():
    problem = planted()
    calm = problem.y == "calm"
    weights = np.where(calm & (problem.groups != 3), 0.0, 1.0)
    coding = fitted(LogisticHead(n_inner_folds=0), problem).coding_
    assert len(inner_folds(problem, np.arange(160), coding, 4, seed=0)) == 4
    pairs = inner_folds(replace(problem, weights=weights, splits={}), np.arange(160), coding, 4, seed=0)
    assert len(pairs) == 3
    assert all((weights[train] * calm[train]).sum() > 0 for train, _ in pairs)


def test_a_modality_all_of_whose_rows_weigh_nothing_is_named():
    problem = planted()
    problem.X[:80, 5:] = np.nan
    weights = np.where(np.arange(160) < 80, 1.0, 0.0)
    with pytest.raises(ValueError, match="all training rows that have audio have weight 0"):
        LogisticHead.fit_many(
            replace(problem, weights=weights), [Fit(LogisticHead(), ("audio",), np.arange(160))]
        )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return planted_store(tmp_path_factory.mktemp("weights"), n=120, strengths={"text": 1.0, "audio": 1.0})


@pytest.fixture(scope="module")
def views(store):
    return store.views(text="planted", audio="planted")


def heavy(views, made, only=None):
    """Weights of 4 for the warm rows of one fold, and 1 elsewhere."""
    warm = pd.Series(np.where(views.y == "warm", 4.0, 1.0), index=views.ids)
    return {
        (f.partition, f.fold): warm[f.train_ids] if only in (None, f.fold) else 0 * warm[f.train_ids] + 1
        for f in made
    }


def test_each_fold_of_a_sweep_is_fitted_with_its_own_weights(views):
    split = folds(views, 3)
    plain = sweep(views, ("logistic", "xgboost@max_trees=5"), folds=split, seeds=(0,), n_jobs=1)
    given = heavy(views, split, only=1)
    given[0, 2] = given[0, 2].sample(frac=1, random_state=0)  # ids decide, not their order
    weighted = sweep(
        views, ("logistic", "xgboost@max_trees=5"), folds=split, seeds=(0,), weights=given, n_jobs=1
    )
    before, after = (
        r.predictions[~r.predictions["head"].str.contains("majority")].reset_index(drop=True)
        for r in (plain, weighted)
    )
    same = before["fold"] != 1
    np.testing.assert_array_equal(before.loc[same, "p_warm"], after.loc[same, "p_warm"])
    for head in ("logistic", "xgboost@max_trees=5"):
        here = ~same & (before["head"] == head)
        assert after.loc[here, "p_warm"].mean() > before.loc[here, "p_warm"].mean() + 0.005
    assert plain.info["weights"] is None
    assert weighted.info["weights"]


def test_a_sweep_is_not_finished_with_other_weights(store, views):
    split = folds(views, 3)
    for number, (weights, refused) in enumerate(
        [(heavy(views, split, 1), False), (heavy(views, split, 2), True), (None, True)]
    ):

        def go(weights=weights):
            with unfinished(store, "first") as folder:
                sweep(views, ("logistic",), folds=split, seeds=(0,), weights=weights, n_jobs=1, keep=folder)
                raise KeyboardInterrupt

        with pytest.raises(UsageError if refused else KeyboardInterrupt) as raised:
            go()
        assert not refused or "with other weights" in str(raised.value), number


def changed(series, utterance, value):
    series = series.copy()
    series[utterance] = value
    return series


def test_weights_that_do_not_fit_are_refused(views):
    split = folds(views, 3)
    good = heavy(views, split)
    own = good[0, 1]
    first = own.index[0]
    for wrong, said in (
        ({k: v for k, v in good.items() if k != (0, 1)}, "fold 1 of partition 0: none are given"),
        (good | {(0, 1): own.drop(first)}, f"1 training rows have none, or one below 0, e.g. \\['{first}'"),
        (good | {(0, 1): changed(own, first, -1)}, "below 0"),
        (good | {(0, 1): changed(own, first, np.nan)}, "have none"),
        (good | {(0, 1): pd.concat([own, own[:1]])}, "an utterance has two"),
        (good | {(0, 1): 0 * own}, "all are 0"),
    ):
        with pytest.raises(UsageError, match=said):
            sweep(views, ("logistic",), folds=split, weights=wrong)
    with pytest.raises(UsageError, match="refit fits on all rows"):
        sweep(views, ("logistic",), folds=split, weights=good, refit=True)
