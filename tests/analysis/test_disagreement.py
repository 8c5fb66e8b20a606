"""Disagreement against known truth: planted conflicts, seed noise alone, one model twice, and plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_study import Design, draw
from scipy.spatial.distance import jensenshannon as scipy_distance
from sklearn.metrics import cohen_kappa_score
from synthetic_study import FULL, null_predictions, planted_predictions

from mixed_signals.analysis.disagreement import evaluate, silent_models
from mixed_signals.analysis.disagreement.chance import expected_difference, expected_disagreement, strata_of
from mixed_signals.analysis.disagreement.distances import distances, jensen_shannon, margin
from mixed_signals.analysis.disagreement.floors import Repeated, excess_values, floor_values
from mixed_signals.analysis.disagreement.rates import by_chance, pairs_of, rate_table
from mixed_signals.analysis.disagreement.same_modality import SameModality
from mixed_signals.analysis.disagreement.sentences import rate_findings
from mixed_signals.analysis.disagreement.utterances import utterance_table
from mixed_signals.analysis.findings import by_quantity
from mixed_signals.analysis.inference import sign_flip
from mixed_signals.analysis.panel import FUSION, make_panels
from mixed_signals.analysis.sources import SOURCES
from mixed_signals.analysis.study import Study
from mixed_signals.models.intervals import mean_interval
from mixed_signals.models.metrics import score


def panel_of(table, n_groups=20):
    ids = table["utterance_id"].unique()
    groups = pd.Series([f"speaker {i % n_groups}" for i in range(len(ids))], index=ids)
    (panel,), _ = make_panels(table, groups=groups)
    return panel


def answer_to(panel, **options):
    study = Study(run=None, panels=(panel,), utterances=None, ratings=None, **options)
    return evaluate(replace(study, refit=False), panel)


def rates_of(panel, **options):
    return answer_to(panel, **options).tables["rates"]


def pick(rates, first, second, quantity, measure="label"):
    wanted = {"first": first, "second": second, "quantity": quantity, "measure": measure}
    (row,) = rates[np.all([rates[name] == value for name, value in wanted.items()], axis=0)].to_dict(
        "records"
    )
    return row


def test_planted_conflicts_are_found_where_they_are():
    table, _, conflicted = planted_predictions(np.random.default_rng(1), 400, n_seeds=5)
    panel = panel_of(table)
    rates = rates_of(panel)
    share = conflicted.mean()
    audio = pick(rates, "audio", FUSION, "excess")
    assert audio["estimate"] == pytest.approx(share, abs=0.02)
    assert audio["low"] > 0.2
    assert pick(rates, "audio", FUSION, "rate")["estimate"] == pytest.approx(share, abs=0.01)
    assert pick(rates, "text", FUSION, "rate")["estimate"] < 0.01
    assert pick(rates, "text", "audio", "rate")["estimate"] == pytest.approx(share, abs=0.01)
    utterances = utterance_table(panel)
    assert utterances.loc[conflicted, "jsd"].min() > utterances.loc[~conflicted, "jsd"].max()
    assert (utterances["n_labels"].to_numpy() == 1 + conflicted).mean() > 0.99


def test_one_model_under_two_names_never_disagrees():
    table, _, _ = planted_predictions(np.random.default_rng(2), 200, spread=1.0, noise=1.0, n_seeds=5)
    text = table[table["modalities"] == "text"]
    twice = pd.concat([text.assign(modalities=name) for name in ("text", "audio", "video", FULL)])
    panel = panel_of(twice)
    rates = rates_of(panel)
    zero = rates["quantity"].isin(["rate", "excess", "shift", "generalised"])
    assert set(rates.loc[zero, "measure"]) == {"label", "jsd", "margin", "p_true"}
    assert rates.loc[zero, "estimate"].abs().max() < 1e-12
    assert (rates.loc[rates["quantity"] == "floor", "estimate"] > 0.03).all()
    assert (rates.loc[rates["quantity"] == "kappa", "estimate"] == 1).all()
    utterances = utterance_table(panel)
    assert (utterances["jsd"] < 1e-12).all()
    assert (utterances["n_labels"] == 1).all()


def test_rates_average_seeds_before_labels_and_partitions_after():
    table, _, _ = planted_predictions(
        np.random.default_rng(3), 60, spread=1.5, noise=1.5, n_seeds=3, n_partitions=2
    )
    classes = ["p_angry", "p_neutral", "p_warm"]
    by_partition = []
    for _, part in table.groupby("partition"):
        mean = part.groupby(["modalities", "utterance_id"])[classes].mean()
        guess = mean.idxmax(axis=1)
        by_partition.append((guess["audio"] != guess[FULL]).mean())
    rates = rates_of(panel_of(table))
    assert by_partition[0] != by_partition[1]
    assert pick(rates, "audio", FUSION, "rate")["estimate"] == pytest.approx(np.mean(by_partition))


def test_two_modalities_are_enough():
    table, _, _ = planted_predictions(np.random.default_rng(6), 100)
    table = table[table["modalities"] != "video"]
    table.loc[table["modalities"] == FULL, "modalities"] = "text+audio"
    panel = panel_of(table)
    assert panel.unimodals == ("text", "audio")
    rates = rates_of(panel)
    assert set(zip(rates["first"], rates["second"], strict=True)) == {
        ("text", FUSION), ("audio", FUSION), ("text", "audio"), ("unimodals", "unimodals"),
    }  # fmt: skip


@given(st.integers(0, 1000), st.integers(2, 6))
def test_jensen_shannon_of_two_is_the_squared_distance_in_bits(seed, n_classes):
    p, q = np.random.default_rng(seed).dirichlet(np.full(n_classes, 0.3), size=(2, 5))
    np.testing.assert_allclose(jensen_shannon(p, q), scipy_distance(p, q, base=2, axis=1) ** 2, atol=1e-9)


def test_jensen_shannon_at_its_ends():
    eye = np.eye(3)
    assert jensen_shannon(eye[0], eye[1], eye[2]) == pytest.approx(np.log2(3))
    assert jensen_shannon(eye[0], eye[0], eye[0]) == 0
    p = np.random.default_rng(0).dirichlet(np.ones(4), size=3)
    assert jensen_shannon(*p) == pytest.approx(jensen_shannon(*p[::-1]))
    assert jensen_shannon(p[0], p[0]) == 0


def test_utterance_table_follows_the_averaged_probabilities():
    table, truth, _ = planted_predictions(np.random.default_rng(7), 50, spread=2.0, noise=1.0)
    panel = panel_of(table)
    utterances = utterance_table(panel)
    p = panel.outputs["video"].mean(axis=(0, 1))
    np.testing.assert_allclose(utterances["p_label_video"], p.max(axis=1))
    np.testing.assert_allclose(utterances["p_true_video"], p[np.arange(50), truth])
    right = (utterances["label_video"] == utterances["label_true"]).to_numpy()
    np.testing.assert_array_equal(right, p.argmax(axis=1) == truth)
    f = panel.outputs[FUSION].mean(axis=(0, 1))
    np.testing.assert_allclose(utterances["jsd_video"], jensen_shannon(p, f))
    a = panel.outputs["audio"].mean(axis=(0, 1))
    np.testing.assert_allclose(utterances["jsd_audio+video"], jensen_shannon(a, p))
    shift = margin(f, truth) - margin(p, truth)
    np.testing.assert_allclose(utterances["margin_shift_video"], shift)
    np.testing.assert_allclose(utterances["margin_shift_audio+video"], margin(p, truth) - margin(a, truth))
    assert utterances["excess_video"].isna().all()
    excess = excess_values(Repeated(panel, "seeds"), panel, pairs_of(panel))
    np.testing.assert_array_equal(
        utterance_table(panel, excess)["excess_video"], excess["label", ("video", FUSION)].excess
    )


def test_a_margin_is_above_zero_where_the_model_is_right():
    p, truth = np.random.default_rng(0).dirichlet(np.ones(4), size=(3, 200)), np.arange(200) % 4
    np.testing.assert_array_equal(margin(p, truth) > 0, p.argmax(axis=-1) == truth)
    plain = [
        [q[t] - max(q[c] for c in range(4) if c != t) for q, t in zip(part, truth, strict=True)] for part in p
    ]
    np.testing.assert_allclose(margin(p, truth), plain)


def test_the_reference_study_s_two_measures_are_plain_means():
    table, truth, _ = planted_predictions(np.random.default_rng(3), 80, spread=1.5, noise=1.0)
    panel = panel_of(table)
    rates = rates_of(panel)
    p, f = panel.mean("audio"), panel.mean(FUSION)
    assert pick(rates, "audio", FUSION, "rate")["estimate"] == np.mean(p.argmax(axis=1) != f.argmax(axis=1))
    p, f = p[np.arange(80), truth], f[np.arange(80), truth]
    found = pick(rates, "audio", FUSION, "rate", "p_true")["estimate"]
    assert found == pytest.approx(np.mean(np.abs(p - f)))
    assert pick(rates, "audio", FUSION, "shift", "p_true")["estimate"] == pytest.approx(np.mean(f - p))


def test_kappa_in_the_table_is_scikit_learn_s():
    drawn = draw(np.random.default_rng(0), Design(n=300, n_groups=30, n_classes=4))
    labels = {m: drawn.panel.labels(m)[0] for m in drawn.panel.models}
    row = pick(rates_of(drawn.panel), "text", "video", "kappa")
    assert row["estimate"] == pytest.approx(cohen_kappa_score(labels["text"], labels["video"]))
    assert row["low"] < row["estimate"] < row["high"]


def test_expected_disagreement_is_the_mean_over_all_pairs_of_a_class():
    rng = np.random.default_rng(1)
    a, b, y = rng.integers(0, 4, (3, 50))
    pairs = [np.mean([a[i] != b[j] for j in np.flatnonzero(y == y[i])]) for i in range(50)]
    assert expected_disagreement(a, b, y, 4).mean() == pytest.approx(np.mean(pairs))


def test_expected_difference_is_the_mean_over_all_pairs_of_a_stratum():
    rng = np.random.default_rng(2)
    truth, a, b = rng.normal(size=(3, 60)).round(1)
    strata = strata_of(truth, 5)
    assert len(set(strata)) == 5
    assert all(len(set(strata[truth == value])) == 1 for value in truth)
    pairs = [np.abs(a[i] - b[strata == strata[i]]).mean() for i in range(60)]
    assert expected_difference(a, b, strata).mean() == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("kind", ["nominal", "interval"])
def test_independent_models_disagree_as_chance_says_and_intervals_cover_it(kind):
    """Errors of the modalities are independent given the truth: beyond chance is 0, and its test has its size."""
    rng = np.random.default_rng(3)
    estimates, covered, rejected, fused = [], [], [], []
    for _ in range(100):
        design = Design(n=400, n_groups=30, n_classes=3, kind=kind, n_seeds=1, icc=0, noise=1.0)
        panel = draw(rng, design).panel
        distance, *_ = distances(panel)
        views = {model: distance.view(panel.seed_mean(model)) for model in panel.models}
        beyond = {
            (a, b): distance.between(views[a], views[b]).mean(axis=0) - by_chance(panel, a, b)
            for a, b in (("text", "audio"), ("text", FUSION))
        }
        fused.append(beyond["text", FUSION].mean())
        interval = mean_interval(beyond["text", "audio"], panel.groups)
        estimates.append(interval.estimate)
        covered.append(interval.low <= 0 <= interval.high)
        rejected.append(sign_flip(beyond["text", "audio"], panel.groups, resamples=200).p <= 0.05)
    assert abs(np.mean(estimates)) < 0.01
    assert 0.88 <= np.mean(covered) <= 0.99
    assert 0.01 <= np.mean(rejected) <= 0.12
    assert np.mean(fused) < -0.02  # the fusion hears text too


def test_labels_alone_are_the_table_that_the_report_draws():
    drawn = draw(np.random.default_rng(4), Design(n=200, n_groups=20))
    rates = rates_of(drawn.panel)
    pairs = by_quantity(rates[rates["measure"] == "label"])
    assert [(pair["first"], pair["second"]) for pair in pairs] == [
        ("text", FUSION), ("audio", FUSION), ("video", FUSION),
        ("text", "audio"), ("text", "video"), ("audio", "video"),
    ]  # fmt: skip
    assert all({"rate", "between", "floor", "excess"} <= set(pair) for pair in pairs)


def test_one_seed_has_no_floor_and_says_why():
    table, _, _ = planted_predictions(np.random.default_rng(4), 100, n_seeds=1)
    panel = panel_of(table, 10)
    answer = answer_to(panel)
    rates = answer.tables["rates"]
    unmeasured = rates[rates["quantity"].isin(["between", "floor", "excess"])]
    assert unmeasured["estimate"].isna().all()
    assert unmeasured["method"].str.contains("at least 5 seeds, this run has 1 seed ").all()
    assert (unmeasured["n_groups"] == 10).all()
    assert rates.loc[rates["quantity"] == "rate", "estimate"].notna().all()
    assert any("at least 5 seeds" in note for note in answer.notes)
    assert not any("excess" in finding.quantity for finding in answer.findings)


def test_findings_say_what_the_table_holds_and_cite_what_is_known():
    table, _, _ = planted_predictions(np.random.default_rng(5), 300, spread=1.0, noise=1.0, n_seeds=5)
    answer = answer_to(panel_of(table))
    said = {finding.quantity: finding for finding in answer.findings}
    excess = said["audio against fusion, excess"]
    assert "is above the seed floor of" in excess.verdict
    assert excess.p <= 0.01
    null = answer_to(panel_of(null_predictions(np.random.default_rng(1), n_seeds=5)))
    verdicts = [finding.verdict for finding in null.findings if "excess" in finding.quantity]
    assert np.mean(["is not distinguishable from the seed floor" in verdict for verdict in verdicts]) > 0.8
    assert said["audio against fusion, excess of jsd"].low > 0
    assert all(
        finding.verdict.startswith("gated: ") and finding.head == "gated" for finding in answer.findings
    )
    rates = answer.tables["rates"]
    for finding in (excess, said["audio against fusion, rate of p_true"]):
        assert finding.estimate in rates["estimate"].tolist()
    cited = {key for sentence in answer.methods for key in SOURCES if key in sentence}
    assert {"Srikanth 2025", "Lin 1991", "Cohen 1960", "Schapire 1998", "Geirhos 2020"} <= cited


def test_few_groups_take_no_side():
    table, _, _ = planted_predictions(np.random.default_rng(0), 60, n_seeds=5)
    verdicts = [finding.verdict for finding in answer_to(panel_of(table, 4)).findings]
    assert not any("above" in verdict or "below" in verdict for verdict in verdicts)
    assert any("stands (without an interval) beside the seed floor" in verdict for verdict in verdicts)


def test_an_interval_target_is_compared_in_deviations_of_the_truth():
    drawn = draw(np.random.default_rng(6), Design(n=300, n_groups=30, kind="interval"))
    panel = drawn.panel
    answer = answer_to(panel)
    rates, table = answer.tables["rates"], answer.tables["utterances"]
    a, f = panel.mean("audio")[:, 0], panel.mean(FUSION)[:, 0]
    rate = pick(rates, "audio", FUSION, "rate", "difference")["estimate"]
    assert rate == pytest.approx(np.mean(np.abs(a - f)) / panel.truth.std())
    singles = [panel.outputs[m][0, :, :, 0] for m in ("audio", FUSION)]
    loop = np.mean([np.abs(singles[0][s] - singles[1][t]) for s in range(5) for t in range(5) if s != t])
    between = pick(rates, "audio", FUSION, "between", "difference")["estimate"]
    assert between == pytest.approx(loop / panel.truth.std())
    shift = np.mean(np.abs(f - panel.truth) - np.abs(a - panel.truth)) / panel.truth.std()
    assert pick(rates, "audio", FUSION, "shift", "error")["estimate"] == pytest.approx(shift)
    pretend = drawn.predictions()
    pretend = pretend[pretend["modalities"] == FULL].assign(y_true=np.tile(a, 5))
    concordance = score(pretend, "interval", (), None).set_index("metric").loc["CCC", "estimate"]
    row = pick(rates, "audio", FUSION, "concordance", "difference")
    assert row["estimate"] == pytest.approx(concordance)
    assert row["low"] < row["estimate"] < row["high"]
    np.testing.assert_allclose(table["difference_audio"], (f - a) / panel.truth.std())
    assert table["excess_audio"].notna().all()
    assert "differ by" in " ".join(finding.verdict for finding in answer.findings)


def test_utterances_without_a_repeated_training_do_not_count_for_the_floor():
    drawn = draw(np.random.default_rng(7), Design(n=120, n_groups=12))
    (fewer,), _ = make_panels(drawn.predictions().query("utterance_id >= 'u000020'"))
    bags, pairs = Repeated(fewer, "bags"), pairs_of(drawn.panel)
    excess = excess_values(bags, drawn.panel, pairs)
    rates = rate_table(drawn.study(), drawn.panel, bags, excess, SameModality(why="none"))
    row = pick(rates, "text", FUSION, "excess")
    assert (row["n"], row["repeats"]) == (100, "bags")
    found = floor_values(fewer, distances(fewer)[0], pairs)["text", FUSION]
    assert row["estimate"] == pytest.approx(found.excess.mean())
    assert pick(rates, "text", FUSION, "rate")["n"] == 120


def test_what_says_nothing_of_the_target_has_no_disagreement_of_its_own():
    design = Design(n=300, n_groups=20, strengths={"text": 0.0, "audio": 1.5, "video": 1.5})
    study = draw(np.random.default_rng(3), design).study()
    (panel,) = study.panels
    assert silent_models(study, panel) == {"text"}
    rates = pd.DataFrame(
        [
            {
                "head": "gated", "first": first, "second": second, "measure": "label", "quantity": quantity,
                "estimate": 0.5, "low": 0.4, "high": 0.6, "p": 0.001, "n": 300, "n_groups": 20,
                "repeats": "halves", "method": "made up",
            }
            for first, second in (("text", "audio"), ("audio", "video"))
            for quantity in ("rate", "kappa", "beyond_same_modality", "same_modality", "beyond_chance", "chance")
        ]
    )  # fmt: skip
    rates = pd.concat([rates, rates[rates["quantity"] == "rate"].assign(quantity="excess", estimate=np.nan)])
    said = {f.quantity: f.verdict for f in rate_findings(rates, {"text"}) if "same modality" in f.quantity}
    assert said["audio against video, beyond same modality"].endswith(": modality disagreement.")
    assert (
        "no modality disagreement is claimed, since text" in said["text against audio, beyond same modality"]
    )
