"""Comparing two heads or runs: the same cells or a refusal, differences written out, and its size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss
from synthetic_study import CLASSES, FULL, metrics_of, planted_predictions, sentinel_predictions

from mixed_signals.analysis.compare import compare, compare_runs, evaluate
from mixed_signals.analysis.inference import mcnemar
from mixed_signals.analysis.pairing import Predicted, of_panel, of_run, paired
from mixed_signals.analysis.panel import make_panels
from mixed_signals.analysis.study import Study
from mixed_signals.models.intervals import mean_interval
from mixed_signals.store import Run, UsageError

N = 200


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def run_of(predictions, name="", **info):
    described = {"classes": list(CLASSES), "kind": "nominal", "target": "mood", **info}
    return Run(predictions, pd.DataFrame(), metrics_of(predictions), described, name=name)


@pytest.fixture
def two_runs(rng):
    """Two partitions and three seeds; the second run's outputs are noisier."""
    first, truth, _ = planted_predictions(rng, N, spread=1.0, n_seeds=3, n_partitions=2)
    logits = np.log(first[[f"p_{c}" for c in CLASSES]].to_numpy()) + 2.5 * rng.normal(size=(len(first), 3))
    noisy = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    second = first.assign(**{f"p_{c}": noisy[:, k] for k, c in enumerate(CLASSES)})
    return run_of(first, "one"), run_of(second, "two"), truth


@pytest.fixture
def groups():
    return pd.Series({f"u{i:04d}": f"s{i % 45}" for i in range(N)})


def by_hand(run, model):
    """Outputs averaged over seeds, a row for each partition and utterance."""
    rows = run.predictions[run.predictions["model"] == model]
    keys = ["partition", "fold", "utterance_id", "label_true"]
    return rows.groupby(keys, as_index=False)[[f"p_{c}" for c in CLASSES]].mean()


SCORES = {
    "accuracy": lambda y, P: accuracy_score(y, P.argmax(axis=1)),
    "macro F1": lambda y, P: f1_score(y, P.argmax(axis=1), average="macro"),
    "log loss": lambda y, P: log_loss(y, P, labels=range(3)),
    "Brier": lambda y, P: brier_score_loss(y, P, labels=range(3), scale_by_half=False),
}


@pytest.mark.parametrize("measure", SCORES)
def test_differences_are_those_of_scikit_learn_by_fold_and_on_all_rows(measure, two_runs, groups):
    first, second, _ = two_runs
    model = f"gated:{FULL}"
    pair = paired(of_run(first, model, groups), of_run(second, model, groups))
    found = compare(*pair, measure)
    tables = [by_hand(run, model) for run in (first, second)]

    def score(table):
        y = pd.Index(CLASSES).get_indexer(table["label_true"])
        return SCORES[measure](y, table[[f"p_{c}" for c in CLASSES]].to_numpy())

    one, two = (t.groupby(["partition", "fold"])[list(t)].apply(score).to_numpy() for t in tables)
    assert len(one) == found.folds.n_values == 10
    usual = ttest_1samp(one - two, 0)
    assert found.folds.estimate == pytest.approx((one - two).mean())
    assert found.folds.statistic == pytest.approx(usual.statistic * np.sqrt(0.1 / (0.1 + 0.25)))
    assert found.rows.estimate == pytest.approx(score(tables[0]) - score(tables[1]))
    assert (found.rows.n, found.rows.n_groups) == (2 * N, 45)
    assert "bootstrap-t" in found.rows.method


def test_accuracy_on_rows_has_the_interval_of_the_mean_difference_and_clustered_mcnemar(two_runs, groups):
    first, second, _ = two_runs
    pair = paired(*(of_run(run, "gated:text", groups) for run in (first, second)))
    found = compare(*pair, "accuracy")
    right = []
    for run in (first, second):
        t = by_hand(run, "gated:text")
        named = t[[f"p_{c}" for c in CLASSES]].to_numpy().argmax(axis=1)
        right.append(np.array(CLASSES)[named] == t["label_true"].to_numpy())
    own = by_hand(first, "gated:text")["utterance_id"].map(groups).to_numpy(object)
    expected = mean_interval(right[0].astype(float) - right[1], own)
    assert (found.rows.low, found.rows.high) == pytest.approx((expected.low, expected.high), abs=0.004)
    assert found.p == pytest.approx(mcnemar(*right, own).p)
    assert "Obuchowski" in found.test
    assert np.isnan(compare(*pair, "Brier").p)


def test_training_rows_are_those_that_the_run_tells(two_runs, groups):
    first, second, _ = two_runs
    pair = paired(*(of_run(run, "gated:text", groups) for run in (first, second)))
    assert "variance factor 0.350" in compare(*pair, "accuracy").folds.method
    assert "variance factor 0.600" in compare(*pair, "accuracy", test_share=0.5).folds.method
    folds = [{"partition": p, "fold": f, "n_train": 80, "n_test": 40} for p in range(2) for f in range(5)]
    told = replace(first, info={**first.info, "folds": folds})
    table = compare_runs(told, second, groups=groups).tables["comparison"]
    assert table.loc[table["over"] == "folds", "method"].str.contains("variance factor 0.600").all()


def test_two_runs_are_compared_model_by_model_with_sentences(two_runs, groups):
    first, second, _ = two_runs
    answer = compare_runs(first, second, groups=groups)
    table = answer.tables["comparison"]
    assert list(table) == [
        "head", "first", "second", "measure", "over", "estimate", "low", "high", "p", "n", "n_groups", "method",
    ]  # fmt: skip
    assert len(table) == 4 * 4 * 2
    assert len(answer.findings) == 16
    assert answer.notes == []
    says = {finding.quantity: finding for finding in answer.findings}
    better = says[f"one: gated:{FULL} against two: gated:{FULL}, log loss"]
    assert better.high < 0
    assert better.verdict.startswith(
        f"gated: log loss of one: gated:{FULL} is below (better) that of two: gated:{FULL}"
    )
    assert "over 10 folds" in better.verdict
    assert "on the pooled rows" in better.verdict
    assert (better.head, better.p < 0.05) == ("gated", True)
    same = compare_runs(first, replace(first, name="copy"), groups=groups).findings[0]
    assert same.estimate == 0
    assert "(no test: the folds do not differ)" in same.verdict
    alone = compare_runs(first, second)
    assert "independent" in alone.notes[0]
    assert set(alone.tables["comparison"]["n_groups"]) == {N}


def test_runs_that_do_not_belong_together_are_refused(two_runs):
    first, second, _ = two_runs
    table = second.predictions

    def refused(match, other=None, models=None, **info):
        run = replace(second, predictions=table if other is None else other, info={**second.info, **info})
        with pytest.raises(UsageError, match=match):
            compare_runs(first, run, models)

    refused("run 'one' has target 'mood', run 'two' 'effort'", target="effort")
    refused("share no utterance", table.assign(utterance_id="x" + table["utterance_id"]))
    refused("no partition; fit both", table.assign(partition=table["partition"] + 2))
    refused(
        r"share 200 of 200 and 200 utterances, but have other folds: 400 of 400 shared rows",
        table.assign(fold=(table["fold"] + 1) % 5),
    )
    moved = np.array(CLASSES)[(pd.Index(CLASSES).get_indexer(table["label_true"]) + 1) % 3]
    changed = np.where(table["utterance_id"] == "u0007", moved, table["label_true"])
    refused("2 of 400 shared rows, such as u0007, have another truth", table.assign(label_true=changed))
    refused("have different targets, nominal", classes=[*CLASSES[::-1]])
    refused("have different targets", kind="ordinal")
    other = table.assign(model=table["model"].str.replace("gated", "linear"))
    refused("naming a model of each", other)
    refused("no model 'gated:smell'; it has gated:text", models=[("gated:text", "gated:smell")])


def test_models_of_other_names_and_runs_that_share_some_utterances_are_compared_on_those(two_runs, groups):
    first, second, _ = two_runs
    table = second.predictions
    fewer = replace(
        second,
        predictions=table[table["utterance_id"] < "u0150"].assign(
            model=table["model"].str.replace("gated", "linear")
        ),
    )
    pairs = [("gated:text", "linear:text+audio+video")]
    answer = compare_runs(first, fewer, pairs, groups=groups, measures=["accuracy"])
    assert answer.tables["comparison"]["n"].tolist() == [300, 300]
    assert answer.notes == ["one: gated:text is compared on 150 utterances that both predict."]
    swapped = compare_runs(fewer, first, [pairs[0][::-1]], groups=groups, measures=["accuracy"])
    assert swapped.findings[0].estimate == pytest.approx(-answer.findings[0].estimate)


def study_of(predictions, groups, **options):
    panels, _ = make_panels(predictions, groups=groups, **options)
    return Study(run_of(predictions), tuple(panels), pd.DataFrame(), None, resamples=200)


def test_the_fusion_is_set_against_unimodals_and_the_fusions_of_later_heads(two_runs, groups):
    first, second, truth = two_runs
    weaker = second.predictions.assign(
        head="linear", model=second.predictions["model"].str.replace("gated", "linear")
    )
    study = study_of(pd.concat([first.predictions, weaker, sentinel_predictions(truth)]), groups)
    answers = [evaluate(study, panel) for panel in study.panels]
    seconds = [list(dict.fromkeys(a.tables["comparison"]["second"])) for a in answers]
    assert seconds == [["text", "audio", "video", "the fusion of linear"], ["text", "audio", "video"]]
    for answer, panel in zip(answers, study.panels, strict=True):
        table = answer.tables["comparison"].set_index(["second", "measure", "over"])
        pair = of_panel(panel), of_panel(panel, "audio")
        direct = compare(*pair, "accuracy", resamples=200)
        assert table.loc[("audio", "accuracy", "folds"), "p"] == direct.folds.p
        assert table.loc[("audio", "accuracy", "rows"), "low"] == direct.rows.low
    said = [f.verdict for f in answers[0].findings if f.quantity == "the fusion against audio, accuracy"]
    assert said[0].startswith("gated: accuracy of the fusion is above (better) that of audio: difference ")
    assert "200 resamples of 45 groups" in answers[0].tables["comparison"]["method"].iloc[1]


def test_values_of_an_interval_target_are_compared(rng, groups):
    truth = rng.normal(size=N)
    parts = []
    for modalities, noise in (("text", 0.5), ("audio", 2.0), ("text+audio", 0.4)):
        parts += [
            pd.DataFrame(
                {
                    "utterance_id": groups.index, "model": f"ridge:{modalities}", "head": "ridge",
                    "modalities": modalities, "partition": 0, "fold": np.arange(N) % 5, "order": 0, "seed": seed,
                    "y_true": truth, "y_pred": truth + noise * rng.normal(size=N),
                }
            )
            for seed in range(2)
        ]  # fmt: skip
    predictions = pd.concat(parts, ignore_index=True)
    panels, _ = make_panels(predictions, kind="interval", groups=groups)
    run = Run(predictions, pd.DataFrame(), pd.DataFrame(), {"kind": "interval", "classes": [], "target": "y"})
    answer = evaluate(Study(run, tuple(panels), pd.DataFrame(), None), panels[0])
    table = answer.tables["comparison"].set_index(["second", "measure", "over"])
    mean = {
        m: np.mean([p["y_pred"] for p in parts if p["modalities"].iloc[0] == m], axis=0)
        for m in ("audio", "text+audio")
    }
    errors = [np.abs(mean[m] - truth).mean() for m in ("text+audio", "audio")]
    assert table.loc[("audio", "MAE", "rows"), "estimate"] == pytest.approx(errors[0] - errors[1])
    assert table.loc[("audio", "CCC", "folds"), "low"] > 0
    assert "below (better)" in next(f.verdict for f in answer.findings if f.quantity.endswith("audio, MAE"))


def test_one_fold_and_few_groups_give_estimates_and_say_why(two_runs):
    first, second, _ = two_runs
    once = [
        replace(r, predictions=r.predictions.query("partition == 0").assign(fold=0)) for r in (first, second)
    ]
    few = pd.Series({f"u{i:04d}": f"s{i % 5}" for i in range(N)})
    finding = compare_runs(*once, groups=few).findings[0]
    assert np.isnan([finding.low, finding.high, finding.p]).all()
    assert "over 1 fold (no test: it takes two folds at least)" in finding.verdict
    assert "above" not in finding.verdict


def lineups(rng, n=60, n_seeds=10):
    """Out-of-fold outputs, (2, S, N), of two heads that are equally good: each sees its own half of the features.

    A head is the difference of class means, trained on a bootstrap sample that its seed draws.
    """
    y = np.arange(n) % 2
    fold = rng.permutation(np.arange(n) % 5)
    X = rng.normal(size=(2, n, 2)) + 0.5 * y[:, None]
    scores = np.empty((2, n_seeds, n))
    for f in range(5):
        train, test = np.flatnonzero(fold != f), fold == f
        for half in range(2):
            drawn = rng.choice(train, (n_seeds, len(train)))
            rows, labels = X[half][drawn], y[drawn][..., None]
            means = [(rows * (labels == k)).sum(axis=1) / (labels == k).sum(axis=1) for k in range(2)]
            slope, middle = means[1] - means[0], (means[0] + means[1]) / 2
            scores[half][:, test] = ((X[half][test] - middle[:, None]) * slope[:, None]).sum(axis=-1)
    return y, fold, 1 / (1 + np.exp(-scores))


def test_folds_are_resamplings_and_seeds_are_not(rng):
    """Taking seeds x folds as independent finds differences of equal heads far too often; the corrected t does not."""
    corrected, naive = [], []
    for _ in range(200):
        y, fold, P = lineups(rng)
        cells = pd.DataFrame({"partition": 0, "fold": fold, "utterance_id": np.arange(len(y)).astype(str)})
        models = [
            Predicted(str(k), "nominal", ("a", "b"), cells, y, np.column_stack([1 - p, p]), None)
            for k, p in enumerate(P.mean(axis=1))
        ]
        corrected.append(compare(*models, "log loss", resamples=40).folds.p)
        losses = -np.log(np.where(y == 1, P, 1 - P))
        by_fold = np.array([[losses[h][:, fold == f].mean(axis=1) for f in range(5)] for h in range(2)])
        naive.append(ttest_1samp((by_fold[0] - by_fold[1]).ravel(), 0).pvalue)
    print("size", np.mean(np.array(corrected) <= 0.05), np.mean(np.array(naive) <= 0.05))
    assert np.mean(np.array(naive) <= 0.05) > 0.12
    assert 0.005 <= np.mean(np.array(corrected) <= 0.05) <= 0.075
