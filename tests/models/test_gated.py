import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from mixed_signals.models.base import Fit, Problem
from mixed_signals.models.gated import GatedHead, GatedRegressor
from mixed_signals.models.saving import load_head
from mixed_signals.models.stacked import Network, Rows, Stack
from mixed_signals.models.training import Lesson, Trainee, batches, row_losses

BLOCKS = {"text": (0, 5), "audio": (5, 9), "video": (9, 12)}
SUBSETS = [("text",), ("audio", "video"), ("text", "audio", "video"), ("video", "text")]
KINDS = ["two", "nominal", "ordinal", "multilabel", "interval"]
GATES = [(g, w, i) for g in ("softmax", "sigmoid") for w in ("scalar", "dimension") for i in ("own", "all")]
by_kind = pytest.mark.parametrize("kind", KINDS)
by_gate = pytest.mark.parametrize(("gate", "width", "seen"), GATES)


def planted(kind, n=180, seed=0):
    """Rows whose columns 0 (text), 5 (audio) and 9 (video) carry the target; 12 groups."""
    rng = np.random.default_rng(seed)
    level = rng.permutation(np.resize(np.arange(2 if kind == "two" else 3), n))
    X = rng.normal(size=(n, 12)).astype(np.float32)
    y = np.array(["calm", "sad", "warm"], dtype=object)[level]
    carried = np.repeat(level[:, None], 3, axis=1)
    if kind == "interval":
        y = 10 + 4 * level + rng.normal(size=n)
    if kind == "multilabel":
        y = rng.integers(0, 2, size=(n, 3))
        carried = y
    X[:, [0, 5, 9]] += 3 * carried
    return X, y, np.arange(n) % 12


def head_for(kind, blocks=BLOCKS, **settings):
    quick = {"hidden": 16, "max_epochs": 12, "n_scouts": 1, "learning_rate": 0.03, "input_dropout": 0.1}
    settings = quick | {"blocks": blocks} | settings
    if kind == "interval":
        return GatedRegressor(**settings)
    return GatedHead(ordinal=kind == "ordinal", **settings)


def own_blocks(modalities):
    ends = np.cumsum([0] + [BLOCKS[m][1] - BLOCKS[m][0] for m in modalities]).tolist()
    return {name: (ends[i], ends[i + 1]) for i, name in enumerate(modalities)}


def said(head, X):
    return head.predict_proba(X) if isinstance(head, GatedHead) else head.predict(X)


def plain_outputs(net, w, xs, here):
    """One head and one row, as the formulas have it; `xs` by modality, `here` the modalities to see."""
    h = {m: torch.relu(w[f"{m}.projection"] @ x + w[f"{m}.bias"]) for m, x in xs.items()}
    scores = []
    for i, name in enumerate(xs):
        if net.gate_input == "own":
            score = w[f"{name}.score"] @ h[name]
        else:
            rows = slice(i * net.n_gates, (i + 1) * net.n_gates)
            score = sum((w[f"{k}.score"][rows] @ h[k] for k in xs if k in here), torch.zeros(net.n_gates))
        scores.append(score + w["gate_bias"][i])
    shown = [i for i, name in enumerate(xs) if name in here]
    outputs = w["output_bias"]
    if shown:
        score = torch.stack([scores[i] for i in shown])
        gates = torch.softmax(score, dim=0) if net.gate == "softmax" else torch.sigmoid(score)
        names = list(xs)
        outputs = outputs + w["output"] @ sum(g * h[names[i]] for g, i in zip(gates, shown, strict=True))
    own = {m: w[f"{m}.auxiliary"] @ h[m] + w[f"{m}.auxiliary_bias"] for m in xs} if net.auxiliary else {}
    return outputs, own


@by_gate
@pytest.mark.parametrize("link", ["softmax", "logistic", "identity"])
def test_outputs_and_gradients_equal_those_of_plain_heads(gate, width, seen, link):
    rng = np.random.default_rng(0)
    net = Network(6, 3, gate, width, seen, auxiliary=link == "softmax")
    sizes = {name: b - a for name, (a, b) in BLOCKS.items()}
    first = [net.initial({m: sizes[m] for m in subset}, rng) for subset in SUBSETS]
    first = [
        {k: (v + 0.3 * rng.normal(size=v.shape)).astype(np.float32) for k, v in w.items()} for w in first
    ]
    stack = Stack(net, SUBSETS, first)
    n = 7
    inputs = {m: torch.from_numpy(rng.normal(size=(n, d)).astype(np.float32)) for m, d in sizes.items()}
    here = torch.from_numpy(rng.random((len(SUBSETS), 3, n)) < 0.7) & stack.membership()
    here[:, :, 0] = False  # a row of which nothing is seen
    y = torch.from_numpy(rng.dirichlet(np.ones(3), size=n).astype(np.float32))
    every = {m: torch.ones(len(stack.heads_with(f"{m}.bias")), 6, n) for m in stack.modalities}

    def loss(found):
        total = row_losses(link, found.outputs, y.T[None]).sum()
        return total + sum(row_losses(link, own, y.T[None]).sum() for own in found.auxiliary.values())

    gradients = stack.gradients(inputs, here, every, loss)
    found = stack.fuse(stack.features(inputs), here).outputs.detach()
    for i, subset in enumerate(SUBSETS):
        w = {k: torch.tensor(v, requires_grad=True) for k, v in first[i].items()}
        total = torch.zeros(())
        for row in range(n):
            shown = [m for j, m in enumerate(stack.modalities) if here[i, j, row]]
            z, own = plain_outputs(net, w, {m: inputs[m][row] for m in subset}, shown)
            np.testing.assert_allclose(found[i, :, row], z.detach(), atol=1e-5)
            for o in (z, *own.values()):
                total = total + row_losses(link, o[None, :, None], y[row][None, :, None]).sum()
        total.backward()
        held = Stack(net, SUBSETS, first)  # its `weights` sorts gradients out as it does weights
        held.tensors = gradients
        for name, gradient in held.weights(i).items():
            expected = np.zeros_like(first[i][name]) if w[name].grad is None else w[name].grad.numpy()
            np.testing.assert_allclose(gradient, expected, atol=2e-5, err_msg=name)


def test_what_is_dropped_has_no_gradient():
    rng = np.random.default_rng(0)
    net = Network(4, 1)
    stack = Stack(net, [("text",)], [net.initial({"text": 5}, rng)])
    inputs = {"text": torch.from_numpy(rng.normal(size=(9, 5)).astype(np.float32))}
    kept = torch.full((1, 4, 9), 2.0)
    kept[:, 2] = 0
    gradients = stack.gradients(
        inputs, torch.ones(1, 1, 9, dtype=torch.bool), {"text": kept}, lambda found: found.outputs.sum()
    )
    active = gradients["text.projection"][0].abs().sum(dim=1) > 0
    assert not active[2]
    assert active.sum() >= 2


@pytest.mark.parametrize("kind", ["two", "nominal", "interval"])
def test_a_head_is_the_same_alone_and_among_others(kind):
    X, y, groups = planted(kind, n=110)
    X[::5, 0:5] = np.nan
    X[1::7, 5:9] = np.nan
    X[0] = np.nan
    problem = Problem(X, y, BLOCKS, groups)
    rows = np.arange(80)

    def fits():
        made = []
        for i in range(8):
            subset = SUBSETS[i % 4]
            head = head_for(
                kind,
                own_blocks(subset),
                random_state=i // 4,
                learning_rate=[2e-3, 5e-2][i % 2],
                weight_decay=[0.1, 0.0, 0.3][i % 3],
                dropout=[0.3, 0.0][i // 4 % 2],
                modality_dropout=[0.2, 0.4][i % 2],
                auxiliary=0.3 if i >= 6 else 0.0,
                max_epochs=14,
                patience=2,
            )
            made.append(Fit(head, subset, rows))
        return made

    together, cls = fits(), type(head_for(kind))
    cls.fit_many(problem, together)
    assert len({fit.head.n_epochs_ for fit in together}) > 1  # some leave a stack before others
    bounded = fits()
    cls.fit_many(problem, bounded, memory=100_000)
    for i, alone in enumerate(fits()):
        if i in (0, 5, 6):
            cls.fit_many(problem, [alone])
            for other in (together[i], bounded[i]):
                seen = X[80:][:, alone.columns(problem)]
                assert alone.head.n_epochs_ == other.head.n_epochs_
                np.testing.assert_allclose(
                    said(alone.head, seen), said(other.head, seen), atol=1e-4, rtol=1e-4
                )


@by_kind
def test_it_learns_what_was_planted(kind):
    X, y, groups = planted(kind)
    test = groups >= 9
    head = head_for(kind).fit(X[~test], y[~test], groups=groups[~test])
    fooled = clone(head).fit(X[~test], np.random.default_rng(1).permutation(y[~test]), groups=groups[~test])
    if kind == "interval":
        assert head.score(X[test], y[test]) > 0.8
        assert fooled.score(X[test], y[test]) < 0.2
        assert head.inner_loss_ < 0.2
        return
    P = head.predict_proba(X[test])
    assert P.shape == (test.sum(), 2 if kind == "two" else 3)
    if kind != "multilabel":
        np.testing.assert_allclose(P.sum(axis=1), 1)
    assert (head.predict(X[test]) == y[test]).mean() > 0.85
    assert (fooled.predict(X[test]) == y[test]).mean() < 0.7
    assert head.inner_loss_ < 0.6 * fooled.inner_loss_


@by_gate
def test_every_kind_of_gate_learns_and_predicts_without_a_modality(gate, width, seen):
    X, y, groups = planted("nominal")
    test = groups >= 9
    head = head_for("nominal", gate=gate, gate_width=width, gate_input=seen, auxiliary=0.2)
    head.fit(X[~test], y[~test], groups=groups[~test])
    assert (head.predict(X[test]) == y[test]).mean() > 0.9
    gap = X[test].copy()
    gap[:, 5:9] = np.nan
    assert (head.predict(gap) == y[test]).mean() > 0.8
    gates, contributions = head.explain(gap)
    np.testing.assert_array_equal(gates[:, 1], 0)
    np.testing.assert_array_equal(contributions[:, 1], 0)
    if gate == "softmax":
        np.testing.assert_allclose(gates.sum(axis=1), 1, rtol=1e-5)
    else:
        assert ((gates[:, [0, 2]] > 0) & (gates[:, [0, 2]] < 1)).all()


@by_kind
def test_contributions_and_intercepts_add_up_to_what_is_predicted(kind):
    X, y, _ = planted(kind)
    head = head_for(kind, max_epochs=8, learning_rate=2e-3).fit(X, y)
    _, contributions = head.explain(X)
    nothing = np.full((1, 12), np.nan, dtype=np.float32)
    if kind == "interval":
        base = head.predict(nothing)
        np.testing.assert_allclose(contributions.sum(axis=1) + base, head.predict(X), rtol=1e-4)
        return
    bias = head.weights_["output_bias"] / head.temperature_
    P = head.predict_proba(X)
    at = P.argmax(axis=1)
    if kind == "nominal":
        logits = np.log(P) - np.log(P).mean(axis=1, keepdims=True)
        expected = logits[np.arange(len(X)), at] - (bias - bias.mean())[at]
    elif kind == "two":
        expected = 0.5 * np.log(P.max(axis=1) / P.min(axis=1)) - np.where(at == 1, 0.5, -0.5) * bias
    elif kind == "multilabel":
        expected = (0.5 * np.abs(np.log(P / (1 - P))) - np.where(P > 0.5, 0.5, -0.5) * bias).sum(axis=1)
    else:
        above = P[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        sides = np.where(at[:, None] > np.arange(2), 0.5, -0.5)
        expected = (sides * (np.log(above / (1 - above)) - bias)).sum(axis=1)
    np.testing.assert_allclose(contributions.sum(axis=1), expected, atol=1e-3)
    if kind in ("nominal", "two"):
        empty = np.append(0, bias) if kind == "two" else bias
        np.testing.assert_allclose(
            head.predict_proba(nothing)[0], np.exp(empty) / np.exp(empty).sum(), rtol=1e-5
        )


@by_kind
def test_a_saved_head_says_the_same(kind, tmp_path):
    X, y, groups = planted(kind)
    head = head_for(kind, gate_width="dimension", max_epochs=3).fit(X, y, groups=groups)
    again = load_head(head.save(str(tmp_path / "gated.text+audio+video.p0.f0.s0")))
    assert type(again) is type(head)
    np.testing.assert_array_equal(said(again, X), said(head, X))
    for one, two in zip(again.explain(X), head.explain(X), strict=True):
        np.testing.assert_array_equal(one, two)
    assert (again.n_epochs_, again.temperature_) == (head.n_epochs_, head.temperature_)
    assert again.inner_loss_ == head.inner_loss_


def test_seed_and_order_decide_the_numbers():
    X, y, groups = planted("two")
    first, same, seed, order = (
        head_for("two", max_epochs=4, random_state=s, order=o).fit(X, y, groups)
        for s, o in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    np.testing.assert_array_equal(first.predict_proba(X), same.predict_proba(X))
    for other in (seed, order):
        assert np.abs(first.predict_proba(X) - other.predict_proba(X)).max() > 1e-4
    assert (seed.n_epochs_, seed.inner_loss_, seed.temperature_) == (
        first.n_epochs_,
        first.inner_loss_,
        first.temperature_,
    )
    assert order.inner_loss_ != first.inner_loss_


def test_modality_dropout_never_hides_what_a_row_has_last():
    rng = np.random.default_rng(0)
    net, n = Network(4, 1), 400
    trainee = Trainee(("text", "audio"), (0,), 1e-3, 0.0, 1.0, 0.5, 0.8, 0.0, np.zeros((n, 1)), np.ones(n), 1)
    stack = Stack(net, [trainee.modalities], [net.initial({"text": 5, "audio": 4}, rng)])
    present = {"text": torch.rand(n) < 0.7, "audio": torch.rand(n) < 0.7}
    lesson = Lesson("logistic", stack, [trainee], Rows({}, present))
    _, here = lesson.draw(torch.arange(n).view(1, n))
    has = torch.stack([present["text"], present["audio"]])
    assert not (here[0, 0] & ~has).any()
    assert (here[0, 0].any(dim=0) == has.any(dim=0)).all()
    both = has.all(dim=0)
    hidden = (~here[0, 0][:, both]).float().mean().item()
    assert 0.8 * (1 - 0.8) - 0.06 < hidden < 0.8 * (1 - 0.8) + 0.06  # one hidden and the other not: 0.8 x 0.2


def test_batches_are_of_one_size():
    assert batches(1228, 128) == (9, 128)
    assert batches(384, 128) == (8, 48)
    assert batches(20, 128) == (2, 8)
    assert batches(5, 128) == (1, 5)


def test_without_scouts_it_trains_to_the_end():
    X, y, groups = planted("two")
    head = head_for("two", n_scouts=0, max_epochs=4).fit(X, y, groups)
    assert head.n_epochs_ == 4
    assert head.temperature_ == 1
    assert np.isnan(head.inner_loss_)


def test_the_temperature_mends_confidence():
    X, y, groups = planted("two", n=160)
    y = np.where(np.random.default_rng(3).random(160) < 0.5, y, y[::-1])  # half the labels are noise
    head = head_for("two", patience=1, learning_rate=0.03, dropout=0.0, input_dropout=0.0).fit(X, y, groups)
    assert head.temperature_ > 1
    cooled = said(head, X)
    head.temperature_ = 1.0
    assert cooled.max() < said(head, X).max()


def test_balanced_classes_find_the_rare_one():
    rng = np.random.default_rng(0)
    y = np.where(rng.random(300) < 0.08, "rare", "usual")
    X = rng.normal(size=(300, 12)) + 1.2 * (y == "rare")[:, None] * (np.arange(12) % 5 == 0)
    plain = head_for("two").fit(X, y)
    balanced = head_for("two", class_weight="balanced").fit(X, y)
    rare = y == "rare"
    assert balanced.predict_proba(X)[rare, 0].mean() > plain.predict_proba(X)[rare, 0].mean() + 0.1
    with pytest.raises(ValueError, match="only nominal and ordinal"):
        head_for("multilabel", class_weight="balanced").fit(X, np.column_stack([rare, ~rare]).astype(int))


def test_votes_are_learnt_as_shares():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 12))
    votes = np.where(X[:, :1] > 0, [[7, 3]], [[1, 9]])
    y = np.array(["no", "yes"])[votes.argmax(axis=1)]
    head = head_for("two", classes=("no", "yes"), max_epochs=20).fit(X, y, votes=votes)
    P = head.predict_proba(X)[:, 0]
    assert abs(P[X[:, 0] > 0.7].mean() - 0.7) < 0.1
    assert abs(P[X[:, 0] < -0.7].mean() - 0.1) < 0.1


@pytest.mark.parametrize("setting", ["gate", "gate_width", "gate_input"])
def test_a_setting_that_there_is_not_is_named(setting):
    X, y, _ = planted("two", n=40)
    with pytest.raises(ValueError, match=f"{setting}='hard': it is one of"):
        head_for("two", **{setting: "hard"}).fit(X, y)


@pytest.mark.parametrize("cls", [GatedHead, GatedRegressor])
def test_scikit_learn_accepts_it(cls):
    check_estimator(cls(hidden=16, max_epochs=12, learning_rate=0.01, n_scouts=1, patience=3))
