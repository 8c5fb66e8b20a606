import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import check_estimator

from mixed_signals.models.attention import GatedAttentionHead, GatedAttentionRegressor
from mixed_signals.models.attention_network import AttentionNetwork, _hide
from mixed_signals.models.base import Fit, Problem
from mixed_signals.models.coding import Coding
from mixed_signals.models.inner import inner_folds
from mixed_signals.models.saving import load_head

pytestmark = pytest.mark.usefixtures("one_thread")

BLOCKS = {"text": (0, 5), "audio": (5, 9), "video": (9, 12)}
SMALL = {"projection": 16, "attention": 8, "hidden": 32}
QUICK = {"batch_size": 256, "learning_rate": 2e-3, "peak_rate": 2e-2, **SMALL}


def planted(n=240, n_classes=2, seed=0):
    """Rows in which the first column of each modality carries the class, and groups of them."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.resize(np.arange(n_classes), n))
    X = rng.normal(size=(n, 12)).astype(np.float32)
    X[:, [0, 5, 9]] += 3 * codes[:, None]
    return X, codes, np.arange(n) % 8


def labels(codes):
    return np.array(["calm", "sad", "warm"], dtype=object)[codes]


def test_scikit_learn_accepts_the_classifier():
    check_estimator(GatedAttentionHead(epochs=8, **QUICK))


def test_scikit_learn_accepts_the_regressor():
    check_estimator(GatedAttentionRegressor(epochs=20, **QUICK))


def test_the_numbers_are_those_of_the_study():
    settings = GatedAttentionHead().get_params()
    assert {name: settings[name] for name in settings if name not in ("blocks", "classes")} == {
        "projection": 256, "attention": 128, "hidden": 512, "dropout": 0.3, "modality_dropout": 0.2,
        "learning_rate": 1e-4, "peak_rate": 1e-3, "weight_decay": 1e-3, "batch_size": 64, "epochs": 15,
        "standardize": False, "ordinal": False, "random_state": 0, "order": 0,
    }  # fmt: skip
    X, codes, groups = planted(80)
    head = GatedAttentionHead(blocks=BLOCKS, epochs=1).fit(X, labels(codes), groups)
    shapes = {name: a.shape for name, a in head.weights_.items() if "weight" in name and a.ndim == 2}
    assert shapes == {
        "project.0.0.weight": (256, 5), "project.1.0.weight": (256, 4), "project.2.0.weight": (256, 3),
        "gate.0.weight": (1, 256), "gate.1.weight": (1, 256), "gate.2.weight": (1, 256),
        "attend.0.weight": (128, 256), "attend.2.weight": (1, 128),
        "classify.0.weight": (512, 256), "classify.4.weight": (512, 512), "classify.8.weight": (512, 512),
        "classify.12.weight": (1, 512),
    }  # fmt: skip


def test_the_forward_pass_equals_a_plain_one():
    X, codes, groups = planted(n_classes=3)
    head = GatedAttentionHead(blocks=BLOCKS, epochs=3, **SMALL).fit(X, labels(codes), groups)
    w = {name: value.astype(np.float64) for name, value in head.weights_.items()}

    def norm(name, h):
        z = (h - w[f"{name}.running_mean"]) / np.sqrt(w[f"{name}.running_var"] + 1e-5)
        return z * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(name, h):
        return w[f"{name}.weight"] @ h + w[f"{name}.bias"]

    for row in range(5):
        z = X[row] - head.mean_
        vectors, scores = [], []
        for m, (start, stop) in enumerate(BLOCKS.values()):
            h = norm(f"project.{m}.1", linear(f"project.{m}.0", z[start:stop]))
            vectors.append(h / (1 + np.exp(-linear(f"gate.{m}", h))))
            scores.append(w["attend.2.weight"] @ np.tanh(linear("attend.0", vectors[-1])))
        a = np.exp(np.concatenate(scores)) / np.exp(scores).sum()
        h = a @ np.array(vectors)
        for layer in (0, 4, 8):
            h = np.maximum(norm(f"classify.{layer + 1}", linear(f"classify.{layer}", h)), 0)
        logits = linear("classify.12", h)
        np.testing.assert_allclose(
            head.predict_proba(X[row : row + 1])[0], np.exp(logits) / np.exp(logits).sum(), rtol=1e-9
        )
        np.testing.assert_allclose(head.explain(X[row : row + 1])[0][0], a, rtol=1e-9)


def test_the_training_equals_a_plain_one():
    """The same recipe, written with PyTorch's own layers and loops; no dropout, which would draw otherwise."""
    X, codes, groups = planted(150)
    y = labels(codes)
    settings = {"dropout": 0.0, "modality_dropout": 0.0, "epochs": 4, **SMALL}
    head = GatedAttentionHead(blocks=BLOCKS, random_state=3, order=5, **settings).fit(X, y, groups)

    problem = Problem(X, y, BLOCKS, groups)
    train, held = inner_folds(problem, np.arange(150), Coding.of("nominal", y), 4, seed=5)[0]
    assert not set(groups[train]) & set(groups[held])
    Z = torch.from_numpy(X - X[train].astype(np.float64).mean(axis=0)).float()
    t = torch.from_numpy(codes[:, None]).float()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        project = [
            torch.nn.Sequential(torch.nn.Linear(b - a, 16), torch.nn.BatchNorm1d(16))
            for a, b in BLOCKS.values()
        ]
        gate = [torch.nn.Linear(16, 1) for _ in BLOCKS]
        score = torch.nn.Sequential(
            torch.nn.Linear(16, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1, bias=False)
        )
        deep = []
        for n_in in (16, 32, 32):
            deep += [torch.nn.Linear(n_in, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU()]
        deep = torch.nn.Sequential(*deep, torch.nn.Linear(32, 1))
    every = torch.nn.ModuleList([*project, *gate, score, deep])

    def forward(rows):
        h = [p(Z[rows, a:b]) for p, (a, b) in zip(project, BLOCKS.values(), strict=True)]
        v = torch.stack([torch.sigmoid(g(x)) * x for g, x in zip(gate, h, strict=True)], dim=1)
        return deep((torch.softmax(score(v), dim=1) * v).sum(dim=1))

    optimizer = torch.optim.Adam(every.parameters(), lr=1e-4, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1e-3, epochs=4, steps_per_epoch=2, div_factor=10
    )
    assert len(train) in range(65, 129)
    visits, accuracies, states = np.random.default_rng(5), [], []
    for _ in range(4):
        every.train()
        order = visits.permutation(train)
        for batch in (order[:64], order[64:]):
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(forward(batch), t[batch]).backward()
            optimizer.step()
            schedule.step()
        every.eval()
        with torch.no_grad():
            accuracies.append(float(((forward(held) > 0) == (t[held] > 0)).float().mean()))
            states.append(torch.sigmoid(forward(np.arange(150)))[:, 0].numpy())
    kept = int(np.argmax(accuracies))
    assert head.n_epochs_ == kept + 1
    np.testing.assert_allclose(head.predict_proba(X)[:, 1], states[kept], atol=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_it_learns_what_was_planted_and_nothing_where_nothing_was(n_classes):
    X, codes, groups = planted(320, n_classes)
    y, test = labels(codes), groups >= 6
    settings = {"projection": 32, "attention": 16, "hidden": 64}
    head = GatedAttentionHead(blocks=BLOCKS, **settings).fit(X[~test], y[~test], groups[~test])
    P = head.predict_proba(X[test])
    np.testing.assert_allclose(P.sum(axis=1), 1)
    assert (head.predict(X[test]) == y[test]).mean() > 0.85
    assert head.inner_loss_ < np.log(n_classes)
    fooled = np.random.default_rng(1).permutation(y)
    head.fit(X[~test], fooled[~test], groups[~test])
    assert (head.predict(X[test]) == fooled[test]).mean() < 0.68


def test_rows_without_a_modality_are_trained_on_and_predicted():
    X, codes, groups = planted(320)
    y, test = labels(codes), groups >= 6
    X[np.arange(320) % 3 == 0, 5:9] = np.nan
    head = GatedAttentionHead(blocks=BLOCKS, epochs=30, **SMALL).fit(X[~test], y[~test], groups[~test])
    gates, contributions = head.explain(X[test])
    here = np.isfinite(X[test, 5])
    assert (gates[~here, 1] == 0).all()
    assert (contributions[~here, 1] == 0).all()
    np.testing.assert_allclose(gates.sum(axis=1), 1)
    for part in (here, ~here):
        assert (head.predict(X[test][part]) == y[test][part]).mean() > 0.8
    nothing = head.predict_proba(np.full((2, 12), np.nan, dtype=np.float32))
    assert np.isfinite(nothing).all()


def test_rows_that_lack_a_modality_are_no_part_of_its_batch_norm():
    torch.manual_seed(0)
    network = AttentionNetwork([5, 4], width=1, **SMALL)
    inputs, present = [torch.randn(64, 5), torch.randn(64, 4)], torch.ones(64, 2, dtype=torch.bool)
    present[:40, 1] = False
    inputs[1][:40] = 1e3
    network(inputs, present)
    linear, norm = network.project[1]
    torch.testing.assert_close(norm.running_mean, 0.1 * linear(inputs[1][40:]).mean(dim=0))


def test_a_modality_that_one_row_of_a_batch_has_or_none_is_trained_on():
    X, codes, _ = planted(130)
    X[:128, 5:9] = np.nan
    head = GatedAttentionHead(blocks=BLOCKS, epochs=3, **SMALL).fit(X, labels(codes))
    assert np.isfinite(head.predict_proba(X)).all()
    assert all(np.isfinite(value).all() for value in head.weights_.values())


def test_modality_dropout_hides_a_fifth_and_never_the_last():
    torch.manual_seed(0)
    present = torch.rand(20_000, 3) < 0.7
    kept = _hide(present, 0.2)
    assert not (kept & ~present).any()
    assert (kept.any(dim=1) == present.any(dim=1)).all()
    whole = present.all(dim=1)
    assert kept[whole].float().mean() == pytest.approx(0.8 + 0.2**3, abs=0.01)


def test_a_last_batch_of_one_row_is_trained_on():
    X, codes, _ = planted(65)
    y = np.where(np.arange(65) % 65 == 0, "warm", "calm")  # one row only: nothing can be held out
    head = GatedAttentionHead(epochs=2, batch_size=16, **SMALL).fit(X, y)
    assert np.isfinite(head.predict_proba(X)).all()
    values = GatedAttentionRegressor(epochs=2, **SMALL).fit(X[:1], codes[:1].astype(float)).predict(X)
    assert np.isfinite(values).all()


def test_without_rows_to_hold_out_the_last_epoch_is_kept():
    X, codes, _ = planted(40)
    head = GatedAttentionHead(epochs=3, **SMALL).fit(X[:6], labels(codes[:6]))
    assert head.n_epochs_ == 3
    assert np.isnan(head.inner_loss_)


def test_only_standardised_features_may_come_in_any_unit():
    X, codes, groups = planted(160)
    other = X * np.resize([1.0, 1000.0], 12) + 50
    for standardize in (True, False):
        head = GatedAttentionHead(blocks=BLOCKS, standardize=standardize, epochs=4, **SMALL)
        P = head.fit(X, labels(codes), groups).predict_proba(X)
        found = head.fit(other, labels(codes), groups).predict_proba(other)
        assert np.allclose(found, P, atol=1e-3) == standardize
    shifted = head.fit(X + 50, labels(codes), groups).predict_proba(X + 50)
    np.testing.assert_allclose(shifted, P, atol=1e-3)  # a shift is nothing in either case


def test_contributions_follow_the_modality_that_carries_the_class():
    rng = np.random.default_rng(0)
    codes = np.resize([0, 1], 320)
    X = rng.normal(size=(320, 12))
    X[:, 5] += 4 * codes
    head = GatedAttentionHead(blocks=BLOCKS, **SMALL).fit(X, labels(codes), np.arange(320) % 8)
    _, contributions = head.explain(X)
    assert contributions.mean(axis=0).argmax() == 1


def test_a_head_is_the_same_alone_and_among_others_and_leaves_torchs_generator_alone():
    X, codes, groups = planted(160)
    y = labels(codes)
    problem = Problem(X, y, BLOCKS, groups)
    pairs = {"text": (0, 5), "video": (5, 8)}
    made = [(BLOCKS, 0, 0), (pairs, 1, 0), (BLOCKS, 1, 1), (BLOCKS, 0, 1)]
    heads = [
        GatedAttentionHead(blocks=blocks, random_state=seed, order=order, epochs=3, **SMALL)
        for blocks, seed, order in made
    ]
    torch.manual_seed(11)
    before = torch.get_rng_state()
    GatedAttentionHead.fit_many(
        problem, [Fit(head, tuple(head.blocks), np.arange(40, 160)) for head in heads]
    )
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(12)
    outputs = []
    for head in heads:
        columns = np.concatenate([np.arange(*BLOCKS[name]) for name in head.blocks])
        alone = GatedAttentionHead(**head.get_params()).fit(X[40:, columns], y[40:], groups[40:])
        outputs.append(head.predict_proba(X[:, columns]))
        np.testing.assert_array_equal(alone.predict_proba(X[:, columns]), outputs[-1])
    assert not np.array_equal(outputs[0], outputs[3])  # another order
    assert not np.array_equal(outputs[2], outputs[3])  # another seed


def test_other_kinds_of_target_are_learnt():
    X, codes, groups = planted(320, n_classes=3)
    test = groups >= 6
    fit = lambda head, y, **more: head.fit(X[~test], y[~test], groups[~test], **more)

    settings = {"projection": 32, "attention": 16, "hidden": 64, "blocks": BLOCKS, "epochs": 30}
    ordinal = fit(GatedAttentionHead(classes=[0, 1, 2], ordinal=True, **settings), codes)
    assert ordinal.coding_.width == 2
    assert np.abs(ordinal.predict(X[test]) - codes[test]).mean() < 0.25

    both = np.stack([codes > 0, codes > 1], axis=1).astype(int)
    several = fit(GatedAttentionHead(**settings), both)
    assert (several.predict(X[test]) == both[test]).mean() > 0.85

    value = codes * 10.0 + 100
    regressor = fit(GatedAttentionRegressor(**settings), value)
    assert np.corrcoef(regressor.predict(X[test]), value[test])[0, 1] > 0.8
    _, contributions = regressor.explain(X[test])
    assert 1 < np.abs(contributions).mean() < 30  # in the target's units

    votes = np.eye(3)[codes] * 2 + 1
    soft = fit(GatedAttentionHead(classes=[0, 1, 2], **settings), codes, votes=votes[~test])
    assert soft.predict_proba(X[test]).max() < 0.9
    assert (soft.predict(X[test]) == codes[test]).mean() > 0.75


def test_a_saved_head_predicts_the_same(tmp_path):
    X, codes, groups = planted(n_classes=3)
    for head, y in (
        (GatedAttentionHead(blocks=BLOCKS, epochs=2, **SMALL), labels(codes)),
        (GatedAttentionRegressor(blocks=BLOCKS, epochs=2, **SMALL), codes.astype(float)),
    ):
        head.fit(X, y, groups)
        again = load_head(head.save(str(tmp_path / type(head).__name__)))
        assert type(again) is type(head)
        np.testing.assert_array_equal(again.predict(X), head.predict(X))
        np.testing.assert_array_equal(again.explain(X)[1], head.explain(X)[1])
        assert again.n_epochs_ == head.n_epochs_
        assert again.inner_loss_ == head.inner_loss_
