import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from other_processes import environment
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.utils.estimator_checks import check_estimator

from mixed_signals.models import logistic
from mixed_signals.models.base import Fit, Problem
from mixed_signals.models.inner import inner_folds
from mixed_signals.models.logistic import PENALTIES, LogisticHead, RidgeHead, held_out
from mixed_signals.models.saving import load_head
from mixed_signals.models.scaling import standardized

BLOCKS = {"text": (0, 12), "audio": (12, 40), "video": (40, 100)}
SUBSETS = [subset for n in (1, 2, 3) for subset in combinations(BLOCKS, n)]


def planted(n=120, n_classes=2, seed=0):
    """Rows whose columns are correlated and of unlike scales; two columns of each modality carry the class."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.resize(np.arange(n_classes), n))
    X = np.concatenate(
        [rng.normal(size=(n, b - a)) @ rng.normal(size=(b - a, b - a)) for a, b in BLOCKS.values()], 1
    )
    for start, _ in BLOCKS.values():
        X[:, start : start + 2] += 4 * np.eye(max(n_classes, 2))[codes][:, :2]
    X *= rng.uniform(0.1, 30, size=X.shape[1])
    return X.astype(np.float32), np.array(["calm", "sad", "warm", "angry", "bored"])[codes]


def absent(X, y, seed=0):
    """The same as a problem in which a fifth of each modality is absent, with groups of five rows."""
    X, rng = X.copy(), np.random.default_rng(seed)
    for start, stop in BLOCKS.values():
        X[rng.random(len(X)) < 0.2, start:stop] = np.nan
    return Problem(X, y, BLOCKS, groups=np.arange(len(X)) // 5)


def own_columns(head, X):
    return standardized(X, head.mean_, head.scale_)


@pytest.mark.parametrize(("n", "n_classes"), [(60, 2), (300, 2), (60, 5), (300, 5)])
@pytest.mark.parametrize("C", [PENALTIES[0], 0.01, PENALTIES[-1]])
def test_the_solution_is_that_of_scikit_learn(n, n_classes, C):
    X, y = planted(n, n_classes)
    head = LogisticHead(penalties=[C], n_inner_folds=0).fit(X, y)
    plain = LogisticRegression(C=C, tol=1e-8, max_iter=20_000).fit(own_columns(head, X), y)
    other, _ = planted(50, n_classes, seed=1)
    for rows in (X, other):
        np.testing.assert_allclose(
            head.predict_proba(rows), plain.predict_proba(own_columns(head, rows)), atol=1e-3
        )


@pytest.mark.parametrize("n", [60, 300])
def test_ridge_is_that_of_scikit_learn(n):
    X, _ = planted(n)
    y = 50 + 7 * X[:, 0] + np.random.default_rng(0).normal(size=n)
    for C in (1e-5, 1e-3, 0.3):
        head = RidgeHead(penalties=[C], n_inner_folds=0).fit(X, y)
        plain = Ridge(alpha=1 / C).fit(own_columns(head, X), y)
        np.testing.assert_allclose(head.predict(X), plain.predict(own_columns(head, X)), atol=1e-4 * y.std())


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_penalty_has_the_smallest_mean_loss_of_what_inner_folds_hold_out(n_classes):
    X, y = planted(160, n_classes)
    groups = np.arange(160) // 4
    head = LogisticHead().fit(X, y, groups=groups)
    Z = own_columns(head, X)
    losses = {}
    for C in PENALTIES:
        P = np.zeros((160, n_classes))
        for train, held in inner_folds(
            Problem(X, y, BLOCKS, groups), np.arange(160), head.coding_, 4, seed=0
        ):
            assert not set(groups[train]) & set(groups[held])
            P[held] = (
                LogisticRegression(C=C, tol=1e-6, max_iter=5000)
                .fit(Z[train], y[train])
                .predict_proba(Z[held])
            )
        losses[C] = log_loss(y, P)
    best = min(losses, key=losses.get)
    assert best == head.C_
    assert head.inner_loss_ == pytest.approx(losses[best], abs=2e-4)


def test_the_penalty_is_weak_for_signal_and_strong_for_noise():
    X, y = planted(300)
    noise = np.random.default_rng(0).normal(size=(300, 100))
    assert LogisticHead().fit(X, y).C_ > LogisticHead().fit(noise, y).C_
    values = X[:, 0] / X[:, 0].std()
    assert RidgeHead().fit(X, values).C_ > RidgeHead().fit(noise, values).C_


@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_head_is_the_same_alone_and_among_others(n_classes):
    X, y = planted(130, n_classes)
    problem = absent(X, y)
    rows = [np.arange(100), np.arange(30, 130)]
    fits = [Fit(LogisticHead(), subset, part) for part in rows for subset in SUBSETS]
    fits.append(Fit(LogisticHead(penalties=[0.1]), ("text",), rows[0]))
    LogisticHead.fit_many(problem, fits)
    for fit in fits:
        alone = clone(fit.head)
        LogisticHead.fit_many(problem, [fit._replace(head=alone)])
        assert alone.C_ == fit.head.C_
        assert alone.inner_loss_ == pytest.approx(fit.head.inner_loss_, rel=1e-4)
        seen = problem.X[:, fit.columns(problem)]
        np.testing.assert_allclose(alone.predict_proba(seen), fit.head.predict_proba(seen), atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_the_race_of_penalties_is_won_by_the_one_that_wins_without_it(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(120, 200)) @ np.diag(np.geomspace(1, 0.01, 200))
    signal = X[:, :20].sum(axis=1) * 10 ** rng.uniform(-1, 1) + rng.normal(size=120)
    y = np.digitize(signal, [-1, 1])
    head = LogisticHead().fit(X, y)
    monkeypatch.setattr(logistic, "_MAY_WIN", (np.inf, 0.0))
    whole = LogisticHead().fit(X, y)
    assert head.C_ == whole.C_
    assert head.inner_loss_ == pytest.approx(whole.inner_loss_, rel=1e-3)


def test_little_memory_changes_nothing():
    X, y = planted(90, 3)
    problem = absent(X, y)
    fits = [Fit(LogisticHead(), tuple(BLOCKS), np.arange(90)) for _ in range(2)]
    LogisticHead.fit_many(problem, fits[:1])
    LogisticHead.fit_many(problem, fits[1:], memory=200_000)
    np.testing.assert_allclose(*(fit.head.predict_proba(problem.X) for fit in fits), atol=1e-4)


def test_what_was_held_out_comes_from_models_that_did_not_see_it():
    X, y = planted(120, 3)
    problem = absent(X, y)
    fits = [Fit(LogisticHead(), subset, np.arange(10, 110)) for subset in (("video",), ("text", "audio"))]
    for fit, (rows, outputs) in zip(fits, held_out(problem, fits), strict=True):
        has_any = np.logical_or.reduce([problem.present[name] for name in fit.modalities])
        assert sorted(rows) == [row for row in range(10, 110) if has_any[row]]
        head = fit.head
        encoded = head.coding_.encode(y[rows])
        assert head.coding_.losses(outputs, encoded).mean() == pytest.approx(head.inner_loss_)
        Z = own_columns(head, problem.X[:, fit.columns(problem)])
        for train, held in inner_folds(problem, np.sort(rows), head.coding_, 4, seed=0):
            plain = LogisticRegression(C=head.C_, tol=1e-8, max_iter=5000).fit(Z[train], y[train])
            at = [list(rows).index(row) for row in held]
            np.testing.assert_allclose(
                head.coding_.decode(outputs[at]), plain.predict_proba(Z[held]), atol=5e-3
            )


def test_rows_without_any_modality_count_for_nothing():
    X, y = planted(80)
    gap = np.concatenate([X, np.full((40, 100), np.nan, np.float32)])
    more = np.concatenate([y, y[:40]])
    one, two = LogisticHead().fit(X, y), LogisticHead().fit(gap, more)
    np.testing.assert_allclose(one.predict_proba(X), two.predict_proba(X), atol=1e-4)
    share = two.predict_proba(gap[-1:])
    np.testing.assert_allclose(share[0, 1], 1 / (1 + np.exp(-two.intercept_[0])))


def test_ordinal_columns_are_logistic_regressions_of_thresholds():
    X, y = planted(200, 3)
    order = ("warm", "calm", "sad")
    head = LogisticHead(penalties=[0.01], classes=order, ordinal=True).fit(X, y)
    Z, codes = own_columns(head, X), np.array([order.index(label) for label in y])
    assert tuple(head.classes_) == order
    above = [
        LogisticRegression(C=0.01, tol=1e-8, max_iter=5000).fit(Z, codes > k).predict_proba(Z)[:, 1]
        for k in (0, 1)
    ]
    cumulative = head.predict_proba(X)[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    np.testing.assert_allclose(cumulative, np.sort(np.stack(above, 1), axis=1)[:, ::-1], atol=1e-3)


def test_multilabel_columns_share_one_penalty_and_one_may_be_constant():
    X, y = planted(150, 3)
    labels = np.stack([y == "calm", y != "sad", np.zeros(150)], axis=1).astype(int)
    head = LogisticHead().fit(X, labels)
    P = head.predict_proba(X)
    assert P.shape == (150, 3)
    assert P[:, 2].max() < 1e-3
    plain = LogisticRegression(C=head.C_, tol=1e-8, max_iter=5000).fit(own_columns(head, X), labels[:, 1])
    np.testing.assert_allclose(P[:, 1], plain.predict_proba(own_columns(head, X))[:, 1], atol=1e-3)
    assert (head.predict(X)[:, :2] == labels[:, :2]).mean() > 0.8


def test_votes_are_learnt_as_shares():
    X, y = planted(100, 3)
    classes = ("calm", "sad", "warm")
    votes = np.random.default_rng(0).integers(0, 5, size=(100, 3))
    votes[:, 0] += 1
    head = LogisticHead(penalties=[0.01], n_inner_folds=0, classes=classes).fit(X, y, votes=votes)
    plain = LogisticRegression(C=0.01, tol=1e-8, max_iter=5000).fit(
        np.repeat(own_columns(head, X), 3, axis=0),
        np.tile(classes, 100),
        sample_weight=(votes / votes.sum(axis=1, keepdims=True)).ravel(),
    )
    np.testing.assert_allclose(head.predict_proba(X), plain.predict_proba(own_columns(head, X)), atol=1e-3)


def test_without_inner_folds_the_middle_penalty_is_taken():
    X, y = planted(40)
    head = LogisticHead(n_inner_folds=0).fit(X, y)
    assert sorted(PENALTIES)[6] == head.C_
    assert np.isnan(head.inner_loss_)
    rows, outputs = held_out(Problem(X, y, BLOCKS), [Fit(head, ("text",), np.arange(40))])[0]
    assert rows.shape == (0,)
    assert outputs.shape == (0, 1)


def test_a_constant_modality_leaves_the_intercepts():
    X, y = planted(60)
    head = LogisticHead().fit(np.ones_like(X), y)
    np.testing.assert_allclose(head.predict_proba(X), 0.5, atol=1e-6)


def test_saved_heads_predict_the_same_in_a_fresh_process(tmp_path):
    X, y = planted(60, 3)
    np.save(tmp_path / "X.npy", X)
    for head, target in ((LogisticHead(), y), (RidgeHead(), X[:, 0] - X[:, 1])):
        path = head.fit(X, target).save(str(tmp_path / "head"))
        again = load_head(path)
        assert again.C_ == head.C_
        assert again.inner_loss_ == head.inner_loss_
        code = (
            "import sys, numpy as np; from mixed_signals.models.saving import load_head;"
            "print(load_head(sys.argv[1]).predict(np.load(sys.argv[2])).tolist())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, path, tmp_path / "X.npy"],
            capture_output=True,
            text=True,
            check=True,
            env=environment(),
        )
        assert eval(done.stdout) == head.predict(X).tolist()  # noqa: S307


@pytest.mark.parametrize("head", [LogisticHead(), RidgeHead()], ids=lambda head: type(head).__name__)
def test_scikit_learn_accepts_it(head):
    check_estimator(head)
