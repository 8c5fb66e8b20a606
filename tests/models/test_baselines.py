import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_estimator

from mixed_signals.models import logistic
from mixed_signals.models.base import Fit, Problem
from mixed_signals.models.baselines import MeanHead, MeanRegressor, StackingHead, StackingRegressor
from mixed_signals.models.logistic import LogisticHead, RidgeHead
from mixed_signals.models.saving import load_head

BLOCKS = {"text": (0, 4), "audio": (4, 8), "video": (8, 12)}
CLASSIFIERS, REGRESSORS = (MeanHead, StackingHead), (MeanRegressor, StackingRegressor)
classifiers = pytest.mark.parametrize("cls", CLASSIFIERS)
every = pytest.mark.parametrize("cls", CLASSIFIERS + REGRESSORS)


def planted(strengths=(1.5, 1.5, 1.5), n=600, n_classes=2, seed=0):
    """Rows in which the first column of each modality carries the class with these strengths, and groups of them."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.resize(np.arange(n_classes), n))
    X = rng.normal(size=(n, 12))
    X[:, [0, 4, 8]] += np.array(strengths) * codes[:, None]
    return X, codes, np.arange(n) % 12


def labels(codes):
    return np.array(["calm", "sad", "warm"], dtype=object)[codes]


def fitted(cls, X, codes, groups, blocks=BLOCKS):
    y = codes * 10.0 + 100 if cls in REGRESSORS else labels(codes)
    return cls(blocks=blocks).fit(X, y, groups)


def loss(head, X, codes):
    if isinstance(head, CLASSIFIERS):
        return -np.log(head.predict_proba(X)[np.arange(len(X)), codes]).mean()
    return ((head.predict(X) - codes * 10.0 - 100) ** 2).mean()


@every
def test_scikit_learn_accepts_it(cls):
    check_estimator(cls())


@every
def test_with_one_modality_it_is_the_plain_head(cls):
    X, codes, groups = planted()
    late = fitted(cls, X, codes, groups, blocks={"all": (0, 12)})
    if cls in REGRESSORS:
        plain = RidgeHead().fit(X, codes * 10.0 + 100, groups)
        np.testing.assert_allclose(late.predict(X), plain.predict(X))
    else:
        plain = LogisticHead().fit(X, labels(codes), groups)
        np.testing.assert_allclose(late.predict_proba(X), plain.predict_proba(X))
    assert late.inner_loss_ == pytest.approx(plain.inner_loss_)


@every
def test_of_three_equal_modalities_it_is_better_than_each(cls):
    X, codes, groups = planted()
    test = groups >= 8
    late = fitted(cls, X[~test], codes[~test], groups[~test])
    alone = [
        fitted(cls, X[~test][:, a:b], codes[~test], groups[~test], blocks={name: (0, 4)})
        for name, (a, b) in BLOCKS.items()
    ]
    losses = [
        loss(head, X[test][:, a:b], codes[test]) for head, (a, b) in zip(alone, BLOCKS.values(), strict=True)
    ]
    assert loss(late, X[test], codes[test]) < min(losses) * 0.95
    assert late.inner_loss_ < min(head.inner_loss_ for head in alone)


@pytest.mark.parametrize(("cls", "mean"), [(StackingHead, MeanHead), (StackingRegressor, MeanRegressor)])
def test_stacking_follows_the_one_informative_modality_and_the_mean_does_not(cls, mean):
    X, codes, groups = planted((0.0, 2.5, 0.0))
    test = groups >= 8
    stacked, averaged = (fitted(c, X[~test], codes[~test], groups[~test]) for c in (cls, mean))
    assert loss(stacked, X[test], codes[test]) < 0.8 * loss(averaged, X[test], codes[test])
    gates, contributions = stacked.explain(X[test])
    assert gates[:, 1].mean() > 0.7
    assert (np.abs(contributions).mean(axis=0).argmax()) == 1
    np.testing.assert_allclose(averaged.explain(X[test])[0], 1 / 3)


def test_stacking_learns_from_outputs_for_rows_that_were_held_out():
    """A modality with many columns and no signal fits its training rows perfectly; stacking must not fall for it."""
    rng = np.random.default_rng(0)
    X, codes, groups = planted((0.0, 1.5, 0.0), n=240)
    X = np.concatenate([X[:, 4:8], rng.normal(size=(240, 400))], axis=1)
    late = fitted(StackingHead, X, codes, groups, blocks={"audio": (0, 4), "video": (4, 404)})
    gates, _ = late.explain(X)
    assert gates[0, 0] > 0.7


@every
def test_rows_without_a_modality_are_trained_on_and_predicted(cls):
    X, codes, groups = planted((2.5, 2.5, 2.5))
    X[np.arange(len(X)) % 3 == 0, 4:8] = np.nan
    test = groups >= 8
    late = fitted(cls, X[~test], codes[~test], groups[~test])
    gates, contributions = late.explain(X[test])
    here = np.isfinite(X[test, 4])
    assert (gates[~here, 1] == 0).all()
    assert (contributions[~here, 1] == 0).all()
    np.testing.assert_allclose(gates.sum(axis=1), 1)
    for part in (here, ~here):
        rows = np.flatnonzero(test)[part]
        chance = np.log(2) if cls in CLASSIFIERS else 25.0
        assert loss(late, X[rows], codes[rows]) < 0.6 * chance
    said = late.predict if cls in REGRESSORS else late.predict_proba
    assert np.isfinite(said(np.full((1, 12), np.nan))).all()


def test_the_mean_is_that_of_the_modalities_that_are_there():
    X, codes, groups = planted(n_classes=3)
    late = fitted(MeanHead, X, codes, groups)
    parts = [
        LogisticHead().fit(X[:, a:b], labels(codes), groups).predict_proba(X[:, a:b])
        for a, b in BLOCKS.values()
    ]
    np.testing.assert_allclose(late.predict_proba(X), np.mean(parts, axis=0))
    gap = X.copy()
    gap[:, 4:8] = np.nan
    np.testing.assert_allclose(late.predict_proba(gap), (parts[0] + parts[2]) / 2)


def test_the_terms_of_stacking_add_up_to_its_log_odds():
    X, codes, groups = planted(n_classes=3)
    late = fitted(StackingHead, X, codes, groups)
    _, contributions = late.explain(X)
    logs = np.log(late.predict_proba(X))
    centred = (logs - logs.mean(axis=1, keepdims=True)).max(axis=1)
    bias = late.final_.intercept_ - late.final_.intercept_.mean()
    np.testing.assert_allclose(contributions.sum(axis=1), centred - bias[logs.argmax(axis=1)], atol=1e-6)


@classifiers
def test_a_class_that_a_modality_lacks_is_none_of_its_own(cls):
    X, codes, groups = planted((2.0, 2.0, 2.0), n_classes=3)
    X[codes == 2, 4:8] = np.nan
    late = fitted(cls, X, codes, groups)
    P = late.predict_proba(X)
    assert P.shape == (600, 3)
    np.testing.assert_allclose(P.sum(axis=1), 1)
    assert list(late.heads_[1].classes_) == ["calm", "sad"]
    assert (late.predict(X) == labels(codes)).mean() > 0.6


def test_where_no_row_of_a_class_can_be_held_out_stacking_is_the_mean():
    X, codes, _ = planted(n=60)
    groups = codes * 2 + (codes == 0) * (np.arange(60) % 2)  # all of one class in a single group
    stacked, averaged = (fitted(cls, X, codes, groups) for cls in (StackingHead, MeanHead))
    assert stacked.final_ is None
    np.testing.assert_array_equal(stacked.predict_proba(X), averaged.predict_proba(X))


@classifiers
def test_other_kinds_of_target_are_learnt(cls):
    X, codes, groups = planted((3.0, 3.0, 3.0), n_classes=3)
    ordinal = cls(blocks=BLOCKS, classes=[0, 1, 2], ordinal=True).fit(X, codes, groups)
    assert (ordinal.predict(X) == codes).mean() > 0.85
    np.testing.assert_allclose(ordinal.predict_proba(X).sum(axis=1), 1)
    both = np.stack([codes > 0, codes > 1], axis=1).astype(int)
    several = cls(blocks=BLOCKS).fit(X, both, groups)
    assert (several.predict(X) == both).mean() > 0.9
    votes = np.eye(3)[codes] * 2 + 1
    soft = cls(blocks=BLOCKS, classes=[0, 1, 2]).fit(X, codes, groups, votes=votes)
    assert soft.predict_proba(X).max() < 0.9
    assert (soft.predict(X) == codes).mean() > 0.85
    for head in (ordinal, several, soft):
        gates, contributions = head.explain(X)
        assert gates.shape == contributions.shape == (600, 3)
        assert (contributions.mean(axis=0) > 0).all()  # what all modalities say is what is predicted


@every
def test_a_head_is_the_same_alone_and_among_others_that_share_its_unimodal_heads(cls, monkeypatch):
    X, codes, groups = planted()
    X[::5, 8:12] = np.nan
    y = codes * 10.0 + 100 if cls in REGRESSORS else labels(codes)
    problem = Problem(X, y, BLOCKS, groups)
    subsets = [("text", "audio"), ("text", "video"), ("text", "audio", "video"), ("video",)]
    fits = []
    for rows in (np.arange(400), np.arange(200, 600)):
        for subset in subsets:
            own = {name: (4 * m, 4 * m + 4) for m, name in enumerate(subset)}
            fits.append(Fit(cls(blocks=own), subset, rows))
    counted = []
    through = logistic.held_out
    monkeypatch.setattr(
        "mixed_signals.models.baselines.held_out",
        lambda problem, fits, **more: counted.append(len(fits)) or through(problem, fits, **more),
    )
    cls.fit_many(problem, fits)
    assert sum(counted) == 2 * 3  # two sets of rows, three modalities
    for head, subset, rows in fits:
        columns = np.concatenate([np.arange(*BLOCKS[name]) for name in subset])
        alone = cls(blocks=head.blocks).fit(X[np.ix_(rows, columns)], y[rows], groups[rows])
        for name in ("predict",) if cls in REGRESSORS else ("predict_proba",):
            expected, found = (getattr(h, name)(X[:, columns]) for h in (alone, head))
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        assert head.inner_loss_ == pytest.approx(alone.inner_loss_, rel=1e-3)


@every
def test_a_saved_head_predicts_the_same(cls, tmp_path):
    X, codes, groups = planted(n_classes=3)
    for blocks in (BLOCKS, {"all": (0, 12)}):
        head = fitted(cls, X, codes, groups, blocks)
        again = load_head(head.save(str(tmp_path / "head")))
        assert type(again) is cls
        np.testing.assert_array_equal(again.predict(X), head.predict(X))
        np.testing.assert_array_equal(again.explain(X)[1], head.explain(X)[1])
        assert again.inner_loss_ == head.inner_loss_
        again.save(str(tmp_path / "again"))  # what was loaded can be saved


def test_stacking_is_not_upset_by_a_class_that_no_training_row_has():
    """Its log odds lie far out, and elsewhere in the inner models than in the heads."""
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(120, 6)), np.arange(120) % 12
    Y = np.column_stack([X[:, 0] + X[:, 3] > 0, X[:, 1] > 0.5, np.zeros(120)]).astype(int)
    blocks = {"text": (0, 3), "audio": (3, 6)}
    P = StackingHead(blocks=blocks).fit(X, Y, groups=groups).predict_proba(X)
    without = StackingHead(blocks=blocks).fit(X, Y[:, :2], groups=groups).predict_proba(X)
    assert P[:, 2].max() < 1e-3
    assert np.abs(P[:, :2] - without).mean() < 0.05
