"""Scores: equal to scikit-learn's and to plain formulas, their intervals to deleting groups one by one."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy.special import logit
from sklearn import metrics as sk

from mixed_signals.analysis.panel import check_kind, make_panels
from mixed_signals.models.areas import areas, auroc, mean_areas
from mixed_signals.models.intervals import blocks_jackknife, group_jackknife
from mixed_signals.models.measures import MEASURES
from mixed_signals.models.metrics import averaged_over_partitions, score, score_model, seed_spread
from mixed_signals.models.tables import metrics_table, override_lines
from mixed_signals.store import Corpus, MixedSignalsError, Run, Store, UsageError, load_run
from mixed_signals.store.files import read_parquet, write_parquet
from mixed_signals.store.predictions import GATE_COLUMNS, read_outcomes

N, FOLDS = 90, 3
CLASSES = ("low", "mid", "top")
IDS = np.array([f"u{i:03d}" for i in range(N)], dtype=object)
GROUPS = {name: f"g{i % 9}" for i, name in enumerate(IDS)}


def keys(model="gated:text", *, seed=0, order=0, partition=0):
    head, _, modalities = model.partition(":")
    return pd.DataFrame({"utterance_id": IDS}).assign(
        model=model,
        head=head,
        modalities=modalities,
        partition=partition,
        fold=(np.arange(N) + partition) % FOLDS,
        order=order,
        seed=seed,
    )


def nominal_rows(rng, truth, seed=0, order=0, **more):
    logits = rng.normal(size=(N, len(CLASSES))) + 1.2 * np.eye(len(CLASSES))[truth]
    P = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array(CLASSES, dtype=object)
    columns = {"label_true": labels[truth], "label_pred": labels[P.argmax(axis=1)]}
    return keys(seed=seed, order=order, **more).assign(
        **columns, **{f"p_{name}": P[:, k] for k, name in enumerate(CLASSES)}
    )


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def nominal(rng):
    """Three trainings; the last differs from the second in its order alone."""
    truth = rng.integers(0, 3, N)
    rows = [nominal_rows(rng, truth, *which) for which in ((0, 0), (1, 0), (1, 1))]
    return pd.concat(rows, ignore_index=True)


@pytest.fixture
def multilabel(rng):
    Y = rng.random((N, 3)) < (0.2, 0.4, 0.6)
    P = 1 / (1 + np.exp(-(2 * Y - 1 + 1.5 * rng.normal(size=Y.shape))))
    written = ["|".join(np.array(CLASSES)[row]) or "none" for row in Y]
    table = keys().assign(
        label_true=written, label_pred="none", **{f"p_{c}": P[:, k] for k, c in enumerate(CLASSES)}
    )
    return table, Y, P


@pytest.fixture
def interval(rng):
    truth = rng.normal(3, 1, N)
    return keys().assign(y_true=truth, y_pred=0.6 * truth + 1.5 + rng.normal(scale=0.7, size=N))


def averaged(table):
    mean = table.groupby("utterance_id", as_index=False).agg(
        {"fold": "first", "label_true": "first", **{f"p_{c}": "mean" for c in CLASSES}}
    )
    y = pd.Index(CLASSES).get_indexer(mean["label_true"])
    return y, mean[[f"p_{c}" for c in CLASSES]].to_numpy(), mean["fold"].to_numpy()


def estimates(found):
    return dict(zip(found["metric"], found["estimate"], strict=True))


def test_scores_of_classes_are_those_of_scikit_learn_on_the_mean_of_all_trainings(nominal):
    y, P, fold = averaged(nominal)
    named = P.argmax(axis=1)
    found = estimates(score(nominal, "ordinal", CLASSES, GROUPS))
    area = [
        sk.roc_auc_score(y[fold == f], P[fold == f], multi_class="ovr", average="macro") for f in range(FOLDS)
    ]
    expected = {
        "accuracy": sk.accuracy_score(y, named),
        "macro F1": sk.f1_score(y, named, average="macro"),
        "weighted F1": sk.f1_score(y, named, average="weighted"),
        "balanced accuracy": sk.balanced_accuracy_score(y, named),
        "log loss": sk.log_loss(y, P),
        "Brier": sk.brier_score_loss(y, P, scale_by_half=False),
        "AUROC": np.mean(area),
        "QWK": sk.cohen_kappa_score(y, named, weights="quadratic"),
        "rank MAE": sk.mean_absolute_error(y, named),
    }
    assert expected == pytest.approx({name: found[name] for name in expected}, abs=1e-12)
    assert set(found) - set(expected) == {"calibration error"}
    assert list(score(nominal, "nominal", CLASSES, GROUPS)["metric"]) == [
        name for name in found if name not in ("QWK", "rank MAE")
    ]


def test_calibration_error_is_that_of_bins_made_by_hand(nominal):
    y, P, _ = averaged(nominal)
    top, right = P.max(axis=1), P.argmax(axis=1) == y
    expected = 0
    for b in range(15):
        here = (top > b / 15) & (top <= (b + 1) / 15)
        if here.any():
            expected += here.mean() * abs(right[here].mean() - top[here].mean())
    assert estimates(score(nominal, "nominal", CLASSES, None))["calibration error"] == pytest.approx(expected)


def test_two_classes_have_the_area_and_f1_of_scikit_learn(rng):
    y = rng.integers(0, 2, N)
    p = np.round(np.clip(0.3 * y + rng.random(N) * 0.7, 0.01, 0.99), 1)  # with ties
    table = keys().assign(label_true=np.array(["a", "b"])[y], label_pred="a", p_a=1 - p, p_b=p)
    found = estimates(score(table, "nominal", ("a", "b"), None))
    fold = table["fold"].to_numpy()
    by_fold = [sk.roc_auc_score(y[fold == f], p[fold == f]) for f in range(FOLDS)]
    assert found["AUROC"] == pytest.approx(np.mean(by_fold))
    assert found["Brier"] == pytest.approx(2 * sk.brier_score_loss(y, p))


def test_a_class_that_no_row_has_counts_where_it_is_predicted_and_nowhere_else(rng):
    P = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]])
    y = np.array([0, 1, 1, 1])
    measure = MEASURES["nominal"]["macro F1"](y, P)
    assert measure.function(measure.columns.sum(axis=0)) == pytest.approx((2 / 3 + 4 / 5) / 2)
    P[0] = [0.1, 0.1, 0.8]
    measure = MEASURES["nominal"]["macro F1"](y, P)
    assert measure.function(measure.columns.sum(axis=0)) == pytest.approx((0 + 4 / 5 + 0) / 3)


def test_scores_of_several_labels_are_those_of_scikit_learn(multilabel):
    table, Y, P = multilabel
    named, fold = P > 0.5, table["fold"].to_numpy()
    found = estimates(score(table, "multilabel", CLASSES, GROUPS))
    expected = {
        "macro F1": sk.f1_score(Y, named, average="macro"),
        "micro F1": sk.f1_score(Y, named, average="micro"),
        "subset accuracy": sk.accuracy_score(Y, named),
        "Hamming loss": sk.hamming_loss(Y, named),
        "log loss": np.mean([sk.log_loss(Y[:, k], P[:, k]) for k in range(3)]),
        "Brier": np.mean([sk.brier_score_loss(Y[:, k], P[:, k]) for k in range(3)]),
        "AUROC": np.mean([sk.roc_auc_score(Y[fold == f], P[fold == f]) for f in range(FOLDS)]),
        "average precision": np.mean(
            [sk.average_precision_score(Y[fold == f], P[fold == f]) for f in range(FOLDS)]
        ),
    }
    assert expected == pytest.approx(found, abs=1e-12)


def test_scores_of_numbers_are_those_of_scikit_learn_and_of_lins_formula(interval):
    x, y = interval["y_true"].to_numpy(), interval["y_pred"].to_numpy()
    expected = {
        "CCC": 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2),
        "Pearson": np.corrcoef(x, y)[0, 1],
        "MAE": sk.mean_absolute_error(x, y),
        "RMSE": sk.root_mean_squared_error(x, y),
        "R2": sk.r2_score(x, y),
    }
    assert estimates(score(interval, "interval", (), GROUPS)) == pytest.approx(expected)


@pytest.mark.parametrize("shift", [0, 1e6])
def test_numbers_far_from_zero_lose_nothing(interval, shift):
    far = interval.assign(y_true=interval["y_true"] + shift, y_pred=interval["y_pred"] + shift)
    near = score(interval, "interval", (), GROUPS)
    pd.testing.assert_frame_equal(score(far, "interval", (), GROUPS), near, rtol=1e-6)


def test_a_constant_prediction_has_no_correlation_and_no_concordance(interval):
    found = score(interval.assign(y_pred=0.1), "interval", (), GROUPS).set_index("metric")
    assert np.isnan(found.loc["Pearson", "estimate"])
    assert "undefined" in found.loc["Pearson", "method"]
    assert found.loc["CCC", "estimate"] == pytest.approx(0, abs=1e-12)
    assert found.loc["R2", "estimate"] < 0


def without_each_group(table, kind, classes):
    """The same scores, computed anew without each group in turn."""
    group = table["utterance_id"].map(GROUPS)
    return pd.DataFrame(
        [estimates(score(table[group != g], kind, classes, None)) for g in sorted(set(group))]
    )


@pytest.mark.parametrize("kind", ["ordinal", "multilabel", "interval"])
def test_every_interval_is_that_of_scoring_anew_without_each_group(kind, nominal, multilabel, interval):
    table = {"ordinal": nominal, "multilabel": multilabel[0], "interval": interval}[kind]
    classes = () if kind == "interval" else CLASSES
    found = score(table, kind, classes, GROUPS).set_index("metric")
    deleted = without_each_group(table, kind, classes)
    assert list(deleted) == list(found.index)
    as_odds = found["method"].str.contains("of log-odds").to_numpy(bool)
    assert as_odds.any() != (kind == "interval")

    def scaled(values):
        values = values.to_numpy(float)
        return np.where(as_odds, logit(np.where(as_odds, values, 0.5)), values)

    variance = 8 / 9 * np.sum((scaled(deleted) - scaled(found["estimate"])) ** 2, axis=0)
    reach = 2.3060041350333704 * np.sqrt(variance)  # of Student's t with 8 degrees of freedom
    whole = (
        as_odds | ((found["low"] > 0) & (found["high"] < 1)).to_numpy()
    )  # not drawn back to what is possible
    assert whole.sum() >= 4
    half = (scaled(found["high"]) - scaled(found["low"])) / 2
    np.testing.assert_allclose(half[whole], reach[whole], rtol=1e-6)
    assert set(found["n_groups"]) == {9}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n_blocks", [1, 7, 60])
def test_areas_without_each_block_are_those_of_the_rows_that_are_left(rng, monkeypatch, ties, n_blocks):
    monkeypatch.setattr("mixed_signals.models.areas._CELLS", 64)  # several rounds
    s = rng.normal(size=200)
    s = np.round(s) if ties else s
    positive = rng.random(200) < 0.3
    blocks = np.append(np.arange(n_blocks), rng.integers(0, n_blocks, 200 - n_blocks))
    found = areas(s, positive, blocks)
    kept = [np.ones(200, dtype=bool), *(blocks != b for b in range(n_blocks))]
    expected = [auroc(s[rows], positive[rows]) for rows in kept]
    np.testing.assert_allclose(found.auroc, expected)
    precision = [sk.average_precision_score(positive[r], s[r]) if r.any() else np.nan for r in kept]
    np.testing.assert_allclose(found.precision, precision)


def test_areas_are_undefined_without_positives_or_negatives(rng):
    s, none, all_ = rng.normal(size=5), np.zeros(5, dtype=bool), np.ones(5, dtype=bool)
    blocks = np.arange(5)
    assert np.isnan(areas(s, none, blocks)).all()
    assert np.isnan(areas(s, all_, blocks).auroc).all()
    assert (areas(s, all_, blocks).precision == 1).all()
    one = areas(s, blocks == 2, blocks)
    assert np.isnan(one.auroc).tolist() == [False, False, False, True, False, False]


def test_a_fold_where_an_area_is_undefined_is_passed_over(rng):
    scores, positives = rng.random((40, 1)), rng.random((40, 1)) < 0.5
    fold = np.arange(40) % 2
    positives[fold == 1] = True
    mean = mean_areas(scores, positives, fold, np.zeros(40, dtype=int)).auroc[0]
    assert mean == auroc(scores[fold == 0, 0], positives[fold == 0, 0])


@pytest.mark.parametrize("n_groups", [5, 30, 450])
def test_deleting_blocks_at_once_gives_the_interval_of_deleting_them_one_by_one(rng, n_groups):
    x, groups = (
        rng.normal(size=500),
        np.append(np.arange(n_groups), rng.integers(0, n_groups, 500 - n_groups)),
    )

    def at_once(blocks):
        kept = [np.ones(500, dtype=bool), *(blocks != b for b in range(blocks.max() + 1))]
        return np.array([[np.median(x[rows]) for rows in kept]])

    assert blocks_jackknife(at_once, 500, groups) == [
        group_jackknife(lambda rows: np.median(x[rows]), 500, groups)
    ]


def test_a_group_is_the_unit_over_all_partitions(rng):
    """The same predictions in two partitions say nothing new, with groups, without, and for rows that have none."""
    truth = rng.integers(0, 3, N)
    one = nominal_rows(rng, truth)
    both = pd.concat([one, one.assign(partition=1)], ignore_index=True)
    some = {name: g if g != "g0" else "" for name, g in GROUPS.items()}
    for groups, n_groups in ((GROUPS, 9), (None, N), (some, 8 + N // 9)):
        once, twice = (score(table, "nominal", CLASSES, groups) for table in (one, both))
        assert set(once["n"]) == {N}
        assert set(twice["n"]) == {2 * N}
        assert set(twice["n_groups"]) == {n_groups}
        numbers = ["estimate", "low", "high"]
        pd.testing.assert_frame_equal(once[numbers], twice[numbers])


def test_each_model_is_scored_by_its_own_rows(nominal, rng):
    other = nominal_rows(rng, np.zeros(N, dtype=int), model="majority")
    both = score(pd.concat([other, nominal], ignore_index=True), "nominal", CLASSES, GROUPS)
    assert list(dict.fromkeys(both["model"])) == ["majority", "gated:text"]
    assert set(both.loc[both["model"] == "majority", "modalities"]) == {""}
    alone = score_model(nominal, "nominal", CLASSES, GROUPS)
    pd.testing.assert_frame_equal(both[both["model"] == "gated:text"].reset_index(drop=True), alone)


def test_seed_spread_is_that_of_the_scores_of_single_trainings(nominal):
    found = seed_spread(nominal, "nominal", CLASSES).set_index("metric")
    alone = pd.DataFrame(
        [estimates(score(part, "nominal", CLASSES, None)) for _, part in nominal.groupby(["seed", "order"])]
    )
    assert list(found.index) == ["accuracy", "log loss"]
    for metric in found.index:
        row = found.loc[metric]
        assert row["n_seeds"] == 3
        assert row["mean"] == pytest.approx(alone[metric].mean())
        assert row["sd"] == pytest.approx(alone[metric].std())


def test_seed_spread_leaves_out_trainings_that_lack_some_rows_and_models_trained_once(nominal):
    """A model that was put together from others by fold may have a seed in some folds only."""
    partly = nominal[(nominal["order"] == 0) | (nominal["fold"] == 0)]
    assert set(seed_spread(partly, "nominal", CLASSES)["n_seeds"]) == {2}
    once = nominal[(nominal["seed"] == 0) | (nominal["fold"] == 0)]
    assert seed_spread(once, "nominal", CLASSES).empty


def test_seed_spread_of_numbers_and_of_several_labels(interval, multilabel):
    second = interval.assign(seed=1, y_pred=interval["y_pred"] + 0.5)
    found = seed_spread(pd.concat([interval, second], ignore_index=True), "interval", ())
    assert list(found["metric"]) == ["CCC", "MAE"]
    assert (found["sd"] > 0).all()
    twice = pd.concat([multilabel[0], multilabel[0].assign(order=1)], ignore_index=True)
    found = seed_spread(twice, "multilabel", CLASSES)
    assert list(found["metric"]) == ["macro F1", "log loss"]
    assert (found["sd"] == 0).all()


def test_several_labels_are_read_from_the_table(multilabel):
    table, Y, P = multilabel
    truth, outputs = read_outcomes(table, "multilabel", CLASSES)
    assert (table["label_true"] == "none").any()
    np.testing.assert_array_equal(truth, Y)
    np.testing.assert_array_equal(outputs, P)


def test_a_table_of_another_kind_and_an_unknown_label_are_named(nominal):
    with pytest.raises(MixedSignalsError, match="interval target: no column 'y_true'"):
        score(nominal, "interval", (), GROUPS)
    with pytest.raises(MixedSignalsError, match="label 'sad' has no probability"):
        score(nominal.assign(label_true="sad"), "nominal", CLASSES, GROUPS)


def run_of(kind, tables, classes, **info):
    predictions = pd.concat(tables, ignore_index=True)
    described = {"target": "effort", "kind": kind, "classes": list(classes), "interval_unit": "groups"}
    metrics = score(predictions, kind, classes, GROUPS)
    return Run(predictions, pd.DataFrame(columns=GATE_COLUMNS), metrics, {**described, **info})


def shown(thing, width):
    console = Console(width=width, file=io.StringIO())
    console.print(thing)
    return console.file.getvalue()


@pytest.mark.parametrize("kind", ["nominal", "ordinal", "multilabel", "interval"])
@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal_and_shows_sentinels_first(kind, width, nominal, multilabel, interval):
    table = {"multilabel": multilabel[0], "interval": interval}.get(kind, nominal)
    names = (("gated-attention", "text"), ("gated-attention", "text+audio+video"), ("group-majority", ""))
    tables = [table.assign(head=h, modalities=m, model=f"{h}:{m}") for h, m in names]
    text = shown(metrics_table(run_of(kind, tables, () if kind == "interval" else CLASSES)), width)
    lines = text.splitlines()
    where = [next(i for i, line in enumerate(lines) if name in line) for name in ("group-maj", "gated-att")]
    assert where == sorted(where)
    assert sum("gated-attention" in line for line in lines) == 1
    scores = [line for line in lines if "(none)" in line or "text" in line]
    assert len(scores) == 3
    assert all(" to " in line and "…" not in line for line in scores)
    assert f"effort ({kind}; dim: 95% interval over groups)" in text


def test_a_long_name_wraps_and_loses_no_score(nominal):
    head = "gated@hidden=32@gate=sigmoid"
    table = nominal.assign(head=head, modalities="text+audio+video", model=f"{head}:text+audio+video")
    text = shown(metrics_table(run_of("nominal", [table], CLASSES)), 80)
    found = estimates(score(nominal, "nominal", CLASSES, GROUPS))
    row = next(line for line in text.splitlines() if "text+audio+video" in line)
    assert [f"{found[name]:.3f}" in row for name in ("accuracy", "macro F1", "AUROC", "log loss")] == [
        True
    ] * 4


def test_what_was_overridden_is_said_in_yellow(nominal):
    said = "122 test rows were training rows of an encoder (--allow-trained-rows)"
    lines = override_lines(run_of("nominal", [nominal], CLASSES, overrides=[said]))
    assert [(line.plain, line.style) for line in lines] == [(said, "yellow")]
    assert override_lines(run_of("nominal", [nominal], CLASSES)) == []


def test_each_partition_counts_the_same_where_one_has_a_single_training(rng):
    """As of the model that folds chose: in one role a head of several seeds, in the other one that depends on none."""
    truth = rng.integers(0, 3, N)
    seeded = [nominal_rows(rng, truth, seed) for seed in range(3)]
    once = nominal_rows(rng, truth).assign(partition=1, fold=seeded[0]["fold"])
    both = averaged_over_partitions(pd.concat([*seeded, once], ignore_index=True), "nominal", CLASSES)
    names = [f"p_{name}" for name in CLASSES]
    expected = (sum(table[names] for table in seeded) / 3 + once[names]) / 2
    np.testing.assert_allclose(both[names], expected)
    assert both["utterance_id"].is_unique
    paired = [table.assign(partition=1) for table in seeded]
    each = averaged_over_partitions(pd.concat([*seeded, *paired], ignore_index=True), "nominal", CLASSES)
    assert len(each) == 3 * N  # each training by itself


def test_an_analysis_refuses_a_target_that_gives_an_utterance_several_labels(interval, multilabel, nominal):
    with pytest.raises(
        UsageError, match=r"'effort' is multilabel; .*nominal, ordinal and interval targets only"
    ):
        check_kind(run_of("multilabel", [multilabel[0]], CLASSES))
    check_kind(run_of("ordinal", [nominal], CLASSES))
    check_kind(run_of("interval", [interval], ()))


def test_orders_are_trainings_of_their_own_to_the_analysis(nominal):
    subsets = ("text", "audio", "text+audio")
    tables = [nominal.assign(modalities=m, model=f"gated:{m}") for m in subsets]
    (panel,), _ = make_panels(pd.concat(tables, ignore_index=True))
    assert panel.seeds == ((0, 0), (1, 0), (1, 1))
    assert panel.outputs["audio"].shape == (1, 3, N, 3)
    y, P, _ = averaged(nominal)
    np.testing.assert_allclose(panel.mean("fusion"), P)
    np.testing.assert_array_equal(panel.truth, y)


def test_a_run_of_the_first_version_is_read_as_of_one_order_and_nominal(tmp_path, nominal):
    table = pd.DataFrame({"utterance_id": IDS, "text": "", "label": "low", "group": "g"})
    store = Store.create(tmp_path / "st", Corpus("small", table))
    run = run_of("nominal", [nominal[nominal["order"] == 0]], CLASSES)
    del run.info["kind"]
    folder = run.save(store, "old")
    for name in ("predictions", "gates"):
        path = folder / f"{name}.parquet"
        write_parquet(path, read_parquet(path).drop(columns="order"))
    again = load_run(store, "old")
    assert again.kind == "nominal"
    assert set(again.predictions["order"]) == {0}
    assert "order" in again.gates
    pd.testing.assert_frame_equal(score(again.predictions, again.kind, CLASSES, GROUPS), run.metrics)
