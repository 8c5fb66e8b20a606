import json

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator
from xgboost import QuantileDMatrix, XGBClassifier, train

from mixed_signals.models import load_head
from mixed_signals.models.base import Fit, Problem
from mixed_signals.models.boosted import XGBoostHead, XGBoostRegressor
from mixed_signals.models.inner import inner_folds
from mixed_signals.store import MixedSignalsError

BLOCKS = {"text": (0, 5), "audio": (5, 9)}
NAMES = np.array(["low", "middle", "high"], dtype=object)
QUICK = {"max_trees": 30, "learning_rate": 0.3}


def planted(n=240, n_classes=3, seed=0):
    """Rows in which column 0 (text) and column 5 (audio) carry the class."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.resize(np.arange(n_classes), n))
    X = rng.normal(size=(n, 9)).astype(np.float32)
    X[:, 0] += 3 * codes
    X[:, 5] += 3 * codes
    return X, codes, np.arange(n) % 8


def target(kind, codes):
    """The head for a kind of target, and the target."""
    if kind == "interval":
        return XGBoostRegressor(**QUICK), codes + 10.0
    if kind == "multilabel":
        return XGBoostHead(**QUICK), np.stack([codes > 0, codes > 1, codes == 1], axis=1).astype(int)
    return XGBoostHead(classes=tuple(NAMES), ordinal=kind == "ordinal", **QUICK), NAMES[codes]


by_kind = pytest.mark.parametrize("kind", ["nominal", "ordinal", "interval", "multilabel"])


def said(head, X):
    """What a head says in numbers."""
    return head.predict_proba(X) if isinstance(head, XGBoostHead) else head.predict(X)


@by_kind
@pytest.mark.parametrize("absent", [None, "text", "audio"])
def test_every_kind_is_learnt_and_predicted_without_a_modality(kind, absent):
    X, codes, groups = planted()
    head, y = target(kind, codes)
    test = groups >= 6
    X[::5, :5], X[1::5, 5:] = np.nan, np.nan
    head.fit(X[~test], y[~test], groups=groups[~test])
    gap = planted()[0][test]
    if absent:
        gap[:, slice(*BLOCKS[absent])] = np.nan
    found = head.predict(gap)
    if kind == "interval":
        assert np.abs(found - y[test]).mean() < (0.55 if absent else 0.3)  # that of the mean: 0.67
    else:
        assert (found == y[test]).mean() > (0.6 if absent else 0.85)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_probabilities_sum_to_one(n_classes):
    X, codes, _ = planted(n_classes=n_classes)
    for ordinal in (False, True):
        head = XGBoostHead(classes=tuple(NAMES), ordinal=ordinal, **QUICK).fit(X, NAMES[codes])
        P = head.predict_proba(X)
        assert list(head.classes_) == list(NAMES[:n_classes])
        assert P.shape == (len(X), n_classes)
        np.testing.assert_allclose(P.sum(axis=1), 1)


def test_without_votes_the_trees_are_those_of_xgboost_itself():
    """The same rows, settings and seed, and intercepts as base margins."""
    X, codes, _ = planted()
    head = XGBoostHead(max_trees=12, n_scouts=0, max_bin=64).fit(X, NAMES[codes])
    settings = {
        "objective": "multi:softprob",
        "num_class": 3,
        "eta": 0.1,
        "max_depth": 3,
        "subsample": 0.5,
        "colsample_bytree": 0.3,
        "max_bin": 64,
        "base_score": 0.0,
        "seed": int(np.random.SeedSequence((0, 0)).generate_state(1)[0] // 2),
        "seed_per_iteration": True,
        "nthread": 1,
    }
    classes = np.searchsorted(np.sort(NAMES.astype(str)), NAMES[codes].astype(str))
    margins = np.tile(head.intercept_, (len(X), 1))
    matrix = QuantileDMatrix(X, classes, base_margin=margins, max_bin=64, nthread=1)
    plain = train(settings, matrix, 12).predict(matrix)
    np.testing.assert_allclose(head.predict_proba(X), plain, atol=2e-5)


def test_shares_of_votes_are_learnt_as_they_are():
    rng = np.random.default_rng(0)
    side = rng.integers(0, 2, 400)
    X = np.c_[side, rng.normal(size=400)].astype(np.float32)
    votes = np.where(side[:, None] == 1, [6, 3, 1], [1, 1, 8])
    head = XGBoostHead(classes=tuple(NAMES), colsample_bytree=1.0).fit(
        X, np.where(side == 1, "low", "high").astype(object), votes=votes
    )
    assert list(head.classes_) == list(NAMES)  # "middle" wins nowhere
    P = head.predict_proba(X)
    np.testing.assert_allclose(P[side == 1].mean(axis=0), [0.6, 0.3, 0.1], atol=0.03)
    np.testing.assert_allclose(P[side == 0].mean(axis=0), [0.1, 0.1, 0.8], atol=0.03)


@by_kind
def test_a_head_is_the_same_alone_and_among_others(kind):
    X, codes, groups = planted()
    X[:10, :5], X[10:20, 5:], X[20:24] = np.nan, np.nan, np.nan
    head, y = target(kind, codes)
    problem = Problem(X, y, BLOCKS, groups)
    fits = [
        Fit(
            clone(head).set_params(random_state=seed, order=order, max_trees=15, **settings), modalities, rows
        )
        for seed, order in ((0, 0), (1, 0), (1, 3))
        for settings in ({}, {"max_depth": 2})
        for modalities in (("text",), ("text", "audio"))
        for rows in (np.flatnonzero(groups < 6), np.flatnonzero(groups > 1))
    ]
    XGBoostHead.fit_many(problem, fits) if kind != "interval" else XGBoostRegressor.fit_many(problem, fits)
    for fit in fits[::3]:
        alone = clone(fit.head)
        columns = fit.columns(problem)
        alone.fit(X[np.ix_(fit.rows, columns)], y[fit.rows], groups=groups[fit.rows])
        assert alone.n_trees_ == fit.head.n_trees_
        assert alone.inner_loss_ == fit.head.inner_loss_
        np.testing.assert_array_equal(said(alone, X[:, columns]), said(fit.head, X[:, columns]))


def test_seeds_change_the_trees_and_share_their_number():
    X, codes, groups = planted()
    heads = [
        XGBoostHead(random_state=seed, **QUICK).fit(X, NAMES[codes], groups=groups) for seed in (0, 0, 1)
    ]
    one, same, other = (head.predict_proba(X) for head in heads)
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert len({(head.n_trees_, head.inner_loss_) for head in heads}) == 1


def test_the_inner_loss_is_that_of_scouts_on_the_rows_they_did_not_see():
    """A scout is what a head is that was trained for as many rounds on the training rows of the pair."""
    X, codes, groups = planted(n=160)
    y = NAMES[codes]
    head = XGBoostHead(n_scouts=1, subsample=1, colsample_bytree=1).fit(X, y, groups=groups)
    problem = Problem(X, y, {"all": (0, 9)}, groups)
    train_rows, held = inner_folds(problem, np.arange(160), head.coding_, 4, 0)[0]

    def loss(n_trees):
        scout = clone(head).set_params(max_trees=n_trees, n_scouts=0).fit(X[train_rows], y[train_rows])
        place = np.searchsorted(head.classes_, y[held])
        return -np.log(scout.predict_proba(X[held])[np.arange(len(held)), place]).mean()

    assert 0 < head.n_trees_ < 300
    assert head.inner_loss_ == pytest.approx(loss(head.n_trees_), rel=1e-4)
    assert head.inner_loss_ < min(loss(head.n_trees_ // 2), loss(1))


def test_noise_is_left_at_the_class_frequencies():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 40)), np.resize(["a", "b", "b"], 300)
    P = XGBoostHead(patience=5).fit(X, y, groups=np.arange(300) % 10).predict_proba(rng.normal(size=(99, 40)))
    loss = -(np.log(P) * [1 / 3, 2 / 3]).sum(axis=1).mean()
    assert loss < 1.05 * 0.6365  # the entropy


def test_a_row_without_any_feature_is_predicted_from_the_intercepts():
    X, codes, _ = planted()
    y = np.array(["rare", "common", "common"])[codes]
    head = XGBoostHead(**QUICK).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(np.full((1, 9), np.nan)), [[2 / 3, 1 / 3]])
    value = XGBoostRegressor(**QUICK).fit(X, codes).predict(np.full((1, 9), np.nan))
    assert value == pytest.approx(codes.mean())


@by_kind
def test_a_saved_head_predicts_the_same(kind, tmp_path):
    X, codes, _ = planted()
    head, y = target(kind, codes)
    head.fit(X, y)
    path = head.save(str(tmp_path / "head.text+audio.p0.f0.s0"))
    assert path.endswith(".s0.json")
    again = load_head(path)
    assert type(again) is type(head)
    assert again.get_params() == {
        **head.get_params(),
        **({"classes": [*NAMES]} if head.get_params().get("classes") else {}),
    }
    assert (again.n_trees_, again.inner_loss_) == (head.n_trees_, head.inner_loss_)
    np.testing.assert_array_equal(said(again, X), said(head, X))
    assert (again.predict(X) == head.predict(X)).all()


def test_a_head_without_any_tree_is_saved_too(tmp_path):
    X, codes, _ = planted()
    head = XGBoostHead(max_trees=0).fit(X, NAMES[codes])
    assert head.n_trees_ == 0
    again = load_head(head.save(str(tmp_path / "h")))
    np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))
    np.testing.assert_allclose(head.predict_proba(X), 1 / 3)


def test_a_file_that_is_no_head_is_refused(tmp_path):
    foreign, damaged = tmp_path / "foreign.json", tmp_path / "damaged.json"
    X, codes, _ = planted()
    XGBClassifier(n_estimators=2).fit(X, codes).save_model(foreign)
    with pytest.raises(MixedSignalsError, match=r"foreign\.json: an XGBoost model, but not a head"):
        load_head(foreign)
    whole = (tmp_path / "h.json", XGBoostHead(**QUICK).fit(X, NAMES[codes]).save(str(tmp_path / "h")))[0]
    described = json.loads(whole.read_text())
    described["learner"]["attributes"]["mixed_signals"] = '{"class": "XGBoostHead"}'
    for text in ("{}", "junk", "", whole.read_text()[:500], json.dumps(described)):
        damaged.write_text(text)
        with pytest.raises(MixedSignalsError, match=r"damaged\.json: not readable as a head"):
            load_head(damaged)


@pytest.mark.parametrize("cls", [XGBoostHead, XGBoostRegressor])
def test_scikit_learn_accepts_it(cls):
    check_estimator(cls(max_trees=20, learning_rate=0.3, n_scouts=1))
