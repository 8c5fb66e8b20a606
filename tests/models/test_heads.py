import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from mixed_signals.models import GatedHead, LogisticHead, XGBoostHead, load_head

BLOCKS = {"text": (0, 5), "audio": (5, 9)}
HEADS = [
    LogisticHead(),
    XGBoostHead(max_trees=30),
    GatedHead(blocks=BLOCKS, hidden=16),
]
by_class = pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)


def planted(n=160, n_classes=2, seed=0):
    """Rows in which column 0 (text) and column 5 (audio) carry the class."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.resize(np.arange(n_classes), n))
    X = rng.normal(size=(n, 9)).astype(np.float32)
    X[:, 0] += 3 * codes
    X[:, 5] += 3 * codes
    return X, np.array(["calm", "sad", "warm"], dtype=object)[codes], np.arange(n) % 8


@by_class
@pytest.mark.parametrize("n_classes", [2, 3])
def test_each_head_learns_what_was_planted(head, n_classes):
    X, y, groups = planted(n_classes=n_classes)
    test = groups >= 6
    fitted = clone(head).fit(X[~test], y[~test], groups=groups[~test])
    P = fitted.predict_proba(X[test])
    assert P.shape == (test.sum(), n_classes)
    np.testing.assert_allclose(P.sum(axis=1), 1)
    assert (fitted.predict(X[test]) == y[test]).mean() > 0.85
    shuffled = np.random.default_rng(1).permutation(y)
    fooled = clone(head).fit(X[~test], shuffled[~test], groups=groups[~test])
    assert (fooled.predict(X[test]) == shuffled[test]).mean() < 0.75


@by_class
def test_a_row_without_a_modality_is_still_predicted(head):
    X, y, groups = planted()
    test = groups >= 6
    fitted = clone(head).fit(X[~test], y[~test])
    for start, stop in BLOCKS.values():
        gap = X[test].copy()
        gap[:, start:stop] = np.nan
        assert (fitted.predict(gap) == y[test]).mean() > 0.7


@by_class
def test_a_saved_head_predicts_the_same(head, tmp_path):
    X, y, _ = planted(n_classes=3)
    fitted = clone(head).fit(X, y)
    path = fitted.save(str(tmp_path / "head.text+audio.p0.f0.s0"))
    again = load_head(path)
    assert type(again) is type(head)
    np.testing.assert_allclose(again.predict_proba(X), fitted.predict_proba(X), atol=1e-7)
    assert list(again.predict(X)) == list(fitted.predict(X))


@by_class
def test_the_same_seed_gives_the_same_numbers(head):
    X, y, groups = planted()
    one, two = (clone(head).fit(X, y, groups=groups).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    if "random_state" in head.get_params():
        other = clone(head).set_params(random_state=1).fit(X, y, groups=groups).predict_proba(X)
        assert not np.array_equal(one, other)


@pytest.mark.parametrize("head", [LogisticHead(), XGBoostHead(max_trees=20), GatedHead(max_epochs=40)])
def test_scikit_learn_accepts_it(head):
    check_estimator(head)


def test_the_rotation_leaves_the_logistic_solution_as_it_is():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 50)), np.resize(["a", "b", "c"], 30)  # more features than rows
    head = LogisticHead(penalties=[0.1], n_inner_folds=0).fit(X, y)
    plain = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000).fit(StandardScaler().fit_transform(X), y)
    np.testing.assert_allclose(
        head.predict_proba(X), plain.predict_proba(StandardScaler().fit_transform(X)), atol=1e-3
    )


def test_the_penalty_is_weak_for_signal_and_strong_for_noise():
    X, y, groups = planted(n=400)
    noise = np.random.default_rng(0).normal(size=(400, 60))
    assert LogisticHead().fit(X, y, groups).C_ > LogisticHead().fit(noise, y, groups).C_


def test_gates_and_contributions_add_up():
    X, y, _ = planted(n_classes=3)
    head = GatedHead(blocks=BLOCKS, max_epochs=15).fit(X, y)
    gates, contributions = head.explain(X)
    np.testing.assert_allclose(gates.sum(axis=1), 1, rtol=1e-5)
    bias = head.weights_["output_bias"]
    logits = np.log(head.predict_proba(X))
    centred = logits - logits.mean(axis=1, keepdims=True)
    predicted = centred.argmax(axis=1)
    expected = centred[np.arange(len(X)), predicted] - (bias - bias.mean())[predicted]
    np.testing.assert_allclose(contributions.sum(axis=1), expected, atol=1e-4)
    gap = X.copy()
    gap[:, 5:9] = np.nan
    gates, contributions = head.explain(gap)
    np.testing.assert_array_equal(gates[:, 1], 0)
    np.testing.assert_array_equal(contributions[:, 1], 0)


def test_the_forward_pass_equals_a_plain_one():
    X, y, _ = planted()
    head = GatedHead(blocks=BLOCKS, max_epochs=5, hidden=8).fit(X, y)
    w = {name: value.astype(np.float64) for name, value in head.weights_.items()}
    from math import erf

    gelu = np.vectorize(lambda v: 0.5 * v * (1 + erf(v / 2**0.5)))
    for row in range(5):
        z = (X[row] - head.mean_) / head.scale_
        hidden, scores = [], []
        for name, (start, stop) in BLOCKS.items():
            h = gelu(w[f"{name}.projection"] @ z[start:stop] + w[f"{name}.bias"])
            hidden.append(h)
            scores.append(w[f"{name}.gate"] @ h + w[f"{name}.gate_bias"][0])
        g = np.exp(scores) / np.exp(scores).sum()
        logits = w["output"] @ sum(a * h for a, h in zip(g, hidden, strict=True)) + w["output_bias"]
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(head.predict_proba(X[row : row + 1])[0], expected, atol=1e-5)


def test_a_file_that_is_no_head_is_refused(tmp_path):
    from safetensors.numpy import save_file

    from mixed_signals.store import MixedSignalsError, UsageError

    with pytest.raises(UsageError, match="no such file"):
        load_head(tmp_path / "none.safetensors")
    save_file({"a": np.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(MixedSignalsError, match="not a head"):
        load_head(tmp_path / "a.safetensors")
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(MixedSignalsError, match="not readable"):
        load_head(tmp_path / "b.json")
    (tmp_path / "b.safetensors").write_bytes(b"junk")
    with pytest.raises(MixedSignalsError, match="not readable"):
        load_head(tmp_path / "b.safetensors")
