"""Heads used as scikit-learn's estimators are, and what `fit` refuses."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mixed_signals.models import GatedHead, LogisticHead, RidgeHead, StackingHead, XGBoostHead

BLOCKS = {"text": (0, 3), "audio": (3, 6)}
NAMES = np.array(["a", "b", "c"])
HEADS = [
    (LogisticHead(), {"n_inner_folds": [2, 3]}),
    (XGBoostHead(max_trees=3), {"max_trees": [1, 3]}),
    (GatedHead(BLOCKS, max_epochs=2, hidden=4), {"hidden": [2, 4]}),
    (StackingHead(BLOCKS), {"blocks": [BLOCKS, {"text": (0, 2), "audio": (2, 6)}]}),
]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(90, 6)), np.arange(90) % 9
    y = NAMES[np.searchsorted([-0.5, 0.5], X[:, 0] + X[:, 3] + 0.3 * rng.normal(size=90))]
    votes = rng.integers(0, 3, (90, 3)) + 2 * (y[:, None] == NAMES)
    return X, y, groups, votes


@pytest.mark.parametrize(("head", "grid"), HEADS)
def test_groups_reach_a_head_by_metadata_routing(rows, head, grid):
    X, y, groups, _ = rows
    cv = GroupKFold(3)
    by_hand = [
        clone(head).fit(X[train], y[train], groups=groups[train]).score(X[test], y[test])
        for train, test in cv.split(X, y, groups)
    ]
    with config_context(enable_metadata_routing=True):
        routed = clone(head).set_fit_request(groups=True)
        told = {"cv": cv, "params": {"groups": groups}, "error_score": "raise"}
        np.testing.assert_allclose(cross_val_score(routed, X, y, **told), by_hand)
        piped = cross_val_score(make_pipeline(StandardScaler(), routed), X, y, **told)
        search = GridSearchCV(routed, grid, cv=cv, error_score="raise").fit(X, y, groups=groups)
    np.testing.assert_allclose(piped, by_hand, atol=0.04)
    assert search.predict(X).shape == y.shape


def test_votes_reach_a_head_by_metadata_routing(rows):
    X, y, groups, votes = rows
    head, cv = LogisticHead(classes=NAMES.tolist()), GroupKFold(3)
    by_hand = [
        clone(head).fit(X[train], y[train], groups[train], votes[train]).score(X[test], y[test])
        for train, test in cv.split(X, y, groups)
    ]
    with config_context(enable_metadata_routing=True):
        routed = clone(head).set_fit_request(groups=True, votes=True)
        found = cross_val_score(routed, X, y, cv=cv, params={"groups": groups, "votes": votes})
    np.testing.assert_allclose(found, by_hand)


def test_groups_and_votes_of_another_length_are_refused(rows):
    X, y, groups, votes = rows
    head = LogisticHead(classes=NAMES.tolist())
    for wrong in ({"groups": np.tile(groups, 2)}, {"groups": groups[:50]}, {"votes": np.tile(votes, (2, 1))}):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            head.fit(X, y, **wrong)


def test_votes_that_fit_no_classes_are_refused(rows):
    X, y, _, votes = rows
    head = LogisticHead(classes=NAMES.tolist())
    for one, wrong in ((LogisticHead(), votes), (head, votes[:, :2]), (head, -votes), (RidgeHead(), votes)):
        with pytest.raises(ValueError, match="they need the parameter `classes`"):
            one.fit(X, X[:, 0] if isinstance(one, RidgeHead) else y, votes=wrong)


def test_labels_that_are_not_among_the_classes_are_refused(rows):
    X, y, _, _ = rows
    for ordinal in (False, True):
        with pytest.raises(ValueError, match="label 'c' is not among the classes"):
            LogisticHead(classes=("a", "b"), ordinal=ordinal).fit(X, y)
    assert LogisticHead(classes=NAMES[::-1]).fit(X, y).classes_.tolist() == ["c", "b", "a"]


def test_several_labels_are_0_or_1_for_each_class(rows):
    X, y, _, _ = rows
    Y = (y[:, None] == NAMES).astype(int)
    for head, wrong in ((LogisticHead(), 2 * Y), (LogisticHead(classes=("a", "b")), Y)):
        with pytest.raises(ValueError, match="0 or 1 for each class"):
            head.fit(X, wrong)
