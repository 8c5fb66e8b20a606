"""The floor: pairs of trainings against plain loops, no excess where there is nothing, and heads trained again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planted_study import Design, draw, import_rows
from synthetic_study import noisy

from mixed_signals.analysis.disagreement import evaluate
from mixed_signals.analysis.disagreement.distances import distances, jensen_shannon
from mixed_signals.analysis.disagreement.floors import (
    N_BAGS,
    Repeated,
    depends_on_seed,
    floor_values,
    repeated_panel,
)
from mixed_signals.analysis.disagreement.rates import rate_table
from mixed_signals.analysis.disagreement.same_modality import same_modality
from mixed_signals.analysis.disagreement.trainings import between_trainings, compared_trainings, excesses
from mixed_signals.analysis.panel import FUSION
from mixed_signals.analysis.study import Study
from mixed_signals.models import sweep
from mixed_signals.models.intervals import mean_interval
from mixed_signals.store import Corpus, Store, folds


def plain(name, p, q, truth):
    """The distance of one utterance, written out."""
    if name == "label":
        return float(p.argmax() != q.argmax())
    if name == "jsd":
        return float(jensen_shannon(p, q))
    if name == "p_true":
        return abs(p[truth] - q[truth])
    if name == "difference":
        return abs(p[0] - q[0])
    p, q = (each[truth] - max(np.delete(each, truth)) for each in (p, q))
    return abs(p - q)


@pytest.mark.parametrize(("kind", "n_seeds"), [("nominal", 4), ("nominal", 5), ("interval", 5)])
def test_pairs_of_trainings_equal_the_plain_loop(kind, n_seeds):
    design = Design(n=12, n_groups=4, n_classes=3, kind=kind, n_seeds=n_seeds, n_partitions=2)
    panel = draw(np.random.default_rng(0), design).panel
    scale = panel.truth.std() if kind == "interval" else 1
    for distance in distances(panel):
        for first, second in (("text", FUSION), ("text", "text")):
            a, b = (panel.outputs[model] for model in (first, second))
            views = {model: distance.view(panel.outputs[model]) for model in (first, second)}
            found, by_pair = between_trainings(
                distance, views[first], views[second], ~np.eye(n_seeds, dtype=bool)
            )
            assert np.nanmean(by_pair) == pytest.approx(found.mean())
            for i in range(12):
                loop = [
                    plain(distance.name, a[p, s, i], b[p, t, i], panel.truth[i]) / scale
                    for p in range(2) for s in range(n_seeds) for t in range(n_seeds) if s != t
                ]  # fmt: skip
                assert found[i] == pytest.approx(np.mean(loop), abs=1e-12), distance.name


def test_rows_may_be_compared_in_parts(monkeypatch):
    panel = draw(np.random.default_rng(0), Design(n=50, n_groups=5, n_classes=3)).panel
    label = distances(panel)[0]
    whole = floor_values(panel, label, [("text", FUSION)])["text", FUSION]
    monkeypatch.setattr("mixed_signals.analysis.disagreement.trainings._AT_ONCE", 40)
    parts = floor_values(panel, label, [("text", FUSION)])["text", FUSION]
    np.testing.assert_allclose(parts.between, whole.between)
    np.testing.assert_allclose(parts.floor, whole.floor)
    np.testing.assert_allclose(parts.means, whole.means)


def test_excess_is_zero_in_expectation_for_seed_noise_alone():
    """Over many made-up studies the mean excess is 0, whatever the distance, and intervals cover it as they say."""
    rng = np.random.default_rng(5)
    panel = draw(rng, Design(n=200, n_groups=20, n_classes=3)).panel
    means, covered = {}, {}
    for _ in range(100):
        logits = np.eye(3)[panel.truth] + rng.normal(scale=0.5, size=(200, 3))
        outputs = {model: noisy(rng, logits, 5, 1.0)[None] for model in ("text", FUSION)}
        for distance in distances(panel):
            found = floor_values(replace(panel, outputs=outputs), distance, [("text", FUSION)])[
                "text", FUSION
            ]
            interval = mean_interval(found.excess, panel.groups)
            means.setdefault(distance.name, []).append(interval.estimate)
            covered.setdefault(distance.name, []).append(interval.low <= 0 <= interval.high)
            assert found.floor.mean() > 0.03
    assert set(means) == {"label", "jsd", "margin", "p_true"}
    for name, values in means.items():
        assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(100), name
        assert min(values) < 0 < max(values), name
        assert 0.88 <= np.mean(covered[name]) <= 0.99, name


def test_excess_of_labels_is_half_the_squared_difference_of_their_chances():
    rng = np.random.default_rng(1)
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.3, 0.3, 0.4])
    a, b = (rng.choice(3, size=(1, 6, 20_000), p=chances) for chances in (p, q))
    label = distances(draw(rng, Design(n=20, n_groups=4)).panel)[0]
    excess = excesses(label, {"a": a, "b": b}, [("a", "b")], [(s, 0) for s in range(6)])["a", "b"].excess
    assert excess.mean() == pytest.approx(np.sum((p - q) ** 2) / 2, abs=0.01)
    assert excess.min() < 0


def test_a_seed_that_two_models_share_does_not_hide_their_floor():
    """What a seed does to both models alike is no agreement: a training is never compared with its own number."""
    panel = draw(np.random.default_rng(2), Design(n=200, n_groups=20, noise=1.5)).panel
    panel = replace(panel, outputs={**panel.outputs, "audio": panel.outputs["text"].copy()})
    label = distances(panel)[0]
    found = floor_values(panel, label, [("text", "audio")])["text", "audio"]
    assert np.abs(found.excess).max() < 1e-12
    assert found.between.mean() > 0.02


def test_trainings_that_share_a_seed_or_an_order_are_not_compared():
    trainings = [(seed, order) for seed in range(3) for order in range(2)]
    allowed = compared_trainings(trainings)
    for s, (seed, order) in enumerate(trainings):
        for t, (other_seed, other_order) in enumerate(trainings):
            assert allowed[s, t] == (seed != other_seed and order != other_order)
    assert (compared_trainings([(s, 0) for s in range(4)]) == ~np.eye(4, dtype=bool)).all()
    assert (compared_trainings([(0, o) for o in range(4)]) == ~np.eye(4, dtype=bool)).all()


@pytest.mark.parametrize("n_seeds", [5, 8])
def test_the_excess_of_models_that_differ_by_training_alone_is_not_found(n_seeds):
    """A training errs alike for like utterances: intervals over groups alone would find an excess."""
    design = Design(
        n=400, n_groups=20, icc=0.1, noise=0.5, noise_width=6, n_seeds=n_seeds, same={"video": "text"},
        strengths=dict.fromkeys(("text", "audio", "video"), 0.9),
    )  # fmt: skip
    over_groups, widened, p = [], [], []
    for number in range(60):
        panel = draw(np.random.default_rng([9, number]), design).panel
        found = floor_values(panel, distances(panel)[0], [("text", "video")])["text", "video"]
        interval = mean_interval(found.excess, panel.groups)
        over_groups.append(interval.low > 0)
        widened.append(found.widened(interval, (-1, 1)).low > 0)
        p.append(found.test(199, 0)[0])
    assert np.mean(over_groups) > 0.1  # which is why it is widened
    assert np.mean(widened) <= 0.05
    assert np.mean(np.array(p) <= 0.05) <= 0.12
    apart = draw(np.random.default_rng(9), replace(design, same={})).panel
    found = floor_values(apart, distances(apart)[0], [("text", "video")])["text", "video"]
    assert found.widened(mean_interval(found.excess, apart.groups), (-1, 1)).low > 0
    assert found.test(199, 0)[0] <= 0.01


def corpus_store(folder, features, labels, n_groups=12):
    n = len(labels)
    ids = np.array([f"u{i:03d}" for i in range(n)])
    utterances = pd.DataFrame(
        {
            "utterance_id": ids, "text": [f"line {i}" for i in range(n)],
            "label": np.array(["calm", "warm"])[labels], "group": [f"g{i % n_groups}" for i in range(n)],
        }
    )  # fmt: skip
    store = Store.create(folder / "store", Corpus("made up", utterances))
    for modality, X in features.items():
        import_rows(store, modality, ids, X)
    return store


@pytest.fixture(scope="module", autouse=True)
def one_worker():
    """Small heads are trained here: starting processes takes longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOKY_MAX_CPU_COUNT", "1")
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Text and audio are two samples of one thing; video says something else in a third of the utterances."""
    rng = np.random.default_rng(0)
    n = 150
    y = rng.integers(0, 2, n)
    latent = 2.0 * y - 1 + rng.normal(size=n)
    other = np.where(rng.random(n) < 1 / 3, -3, 3) * (2.0 * y - 1)
    means = {"text": latent, "audio": latent, "video": other}
    features = {m: mean[:, None] + 0.5 * rng.normal(size=(n, 4)) for m, mean in means.items()}
    store = corpus_store(tmp_path_factory.mktemp("floors"), features, y)
    views = store.views(text="planted", audio="planted", video="planted", target="label")
    subsets = [("text",), ("audio",), ("video",), ("text", "audio", "video")]
    made = folds(views, 2, group="group")
    sweep(views, heads=("logistic",), subsets=subsets, folds=made, seeds=(0,), n_jobs=1).save(store, "first")
    return Study.open(store, "first")


@pytest.fixture(scope="module")
def answer(study):
    return evaluate(study, study.panels[0])


def test_a_head_without_seeds_gets_its_floor_from_resampled_groups(study, answer):
    assert not depends_on_seed(study.panels[0])
    rates = answer.tables["rates"].set_index(["first", "second", "measure", "quantity"]).sort_index()
    excess = rates.loc[("text", "video", "label", "excess")]
    assert (excess["repeats"], excess["n_seeds"], excess["n"]) == ("bags", N_BAGS, 150)
    assert excess["low"] > 0.1
    assert rates.loc[("text", "video", "label", "floor"), "estimate"] > 0
    assert answer.tables["utterances"]["excess_text+video"].notna().all()
    said = [finding.verdict for finding in answer.findings]
    assert any("in single fits" in verdict and "above the resampling floor" in verdict for verdict in said)
    assert answer.notes == []
    assert "Breiman 1996" in " ".join(answer.methods)


def test_modality_disagreement_is_claimed_only_above_that_of_one_modality(study, answer):
    same = same_modality(study, study.panels[0])
    assert (same.of(("text", "audio")).kind, same.sets, same.why) == ("halves", {}, "")
    rates = answer.tables["rates"]
    label = rates[rates["measure"] == "label"].set_index(["first", "second", "quantity"]).sort_index()
    for m in ("text", "audio"):
        a, b = (same.panel.labels(f"{m}.{half}") for half in "ab")
        assert label.loc[(m, FUSION, "same_modality"), "estimate"] == pytest.approx((a != b).mean())
    mean = np.mean([label.loc[(m, FUSION, "same_modality"), "estimate"] for m in ("text", "audio")])
    assert label.loc[("text", "audio", "same_modality"), "estimate"] == pytest.approx(mean)
    assert label.loc[("text", "video", "beyond_same_modality"), "low"] > 0.1
    assert label.loc[("text", "video", "beyond_same_modality"), "p"] < 0.01
    said = {finding.quantity: finding.verdict for finding in answer.findings}
    assert said["text against video, beyond same modality"].endswith(": modality disagreement.")
    assert said["text against audio, beyond same modality"].endswith("no modality disagreement is claimed.")


def test_without_refits_it_is_said_what_is_missing(study):
    answer = evaluate(replace(study, refit=False), study.panels[0])
    rates = answer.tables["rates"]
    missing = rates["quantity"].isin(["excess", "floor", "same_modality", "beyond_same_modality"])
    assert rates.loc[missing, "estimate"].isna().all()
    assert rates.loc[missing, "method"].str.contains("turned off").all()
    assert len([note for note in answer.notes if "turned off" in note]) == 2
    assert not any("modality disagreement" in finding.verdict for finding in answer.findings)


def test_without_a_store_it_is_said_what_is_missing():
    drawn = draw(np.random.default_rng(0), Design(n=60, n_groups=10))
    study = drawn.study()
    answer = evaluate(study, drawn.panel)
    (note,) = answer.notes
    assert "modality disagreement is claimed" in note
    assert "in no store" in note
    assert repeated_panel(study, drawn.panel).kind == "seeds"


def test_a_modality_of_one_column_has_no_halves_and_the_others_have(tmp_path):
    rng = np.random.default_rng(1)
    y = np.arange(60) % 2
    store = corpus_store(
        tmp_path,
        {"text": rng.normal(size=(60, 1)) + y[:, None], "audio": rng.normal(size=(60, 4)) + y[:, None]},
        y,
    )
    views = store.views(text="planted", audio="planted", target="label")
    sweep(views, heads=("logistic",), folds=folds(views, 3, group="group"), seeds=(0,), n_jobs=1).save(
        store, "r"
    )
    study = Study.open(store, "r")
    found = same_modality(study, study.panels[0])
    assert "text (planted) has one column" in found.why
    rates = rate_table(study, study.panels[0], Repeated(why="not asked"), {}, found)
    same = rates[(rates["quantity"] == "same_modality") & (rates["measure"] == "label")].set_index(
        ["first", "second"]
    )
    assert same["estimate"].isna().to_dict() == {
        ("text", FUSION): True, ("audio", FUSION): False, ("text", "audio"): True,
    }  # fmt: skip
    assert "one column" in same.loc[("text", FUSION), "method"]


def test_two_encoders_of_a_modality_are_what_it_has_to_disagree_more_than(tmp_path):
    """Text has two encoders that hear the same thing, each with a column of its own that says nothing."""
    rng = np.random.default_rng(3)
    n = 150
    y = rng.integers(0, 2, n)
    latent = 2.0 * y - 1 + rng.normal(size=n)
    conflict = rng.random(n) < 1 / 3
    heard = {"planted": latent, "second": latent}
    vectors = {
        name: np.column_stack([mean + 0.2 * rng.normal(size=n), rng.normal(size=n)])
        for name, mean in heard.items()
    }
    seen = np.where(conflict, -3, 3)[:, None] * (2.0 * y - 1)[:, None] + 0.5 * rng.normal(size=(n, 4))
    store = corpus_store(tmp_path, {"text": vectors["planted"], "video": seen}, y)
    import_rows(store, "text", store.corpus.ids, vectors["second"], name="second")
    views = [store.views(text=name, video="planted", target="label") for name in ("planted", "second")]
    made = folds(views[0], 3, group="group")
    sweep(views, heads=("logistic",), folds=made, seeds=(0,), n_jobs=1).save(store, "first")
    study = Study.open(store, "first")
    (panel,) = study.panels
    same = same_modality(study, panel)
    assert same.sets == {"text": ("planted", "second")}
    assert same.models == {"text": ("text.1", "text.2"), "video": ("video.a", "video.b")}
    answer = evaluate(study, panel)
    rates = answer.tables["rates"].set_index(["first", "second", "measure", "quantity"]).sort_index()
    row = rates.loc[("text", FUSION, "label", "same_modality")]
    alone = [sweep(v, ["logistic"], [("text",)], made, (0,), n_jobs=1).predictions for v in views]
    labels = [
        p[p["modalities"] == "text"].set_index("utterance_id")["label_pred"].reindex(panel.ids) for p in alone
    ]
    assert row["estimate"] == pytest.approx((labels[0].to_numpy() != labels[1].to_numpy()).mean())
    assert row["estimate"] < 0.1  # halves, of which one knows nothing, differ in about half of the utterances
    assert (row["repeats"], row["n"]) == ("feature sets", n)
    assert row["method"].endswith("text from planted and from second")
    both = rates.loc[("text", "video", "label", "same_modality")]
    assert both["repeats"] == "feature sets and halves"
    assert rates.loc[("text", "video", "label", "beyond_same_modality"), "low"] > 0.1
    said = {finding.quantity: finding.verdict for finding in answer.findings}
    claimed = said["text against video, beyond same modality"]
    assert "two models of one modality (feature sets and halves of their own)" in claimed
    assert claimed.endswith(": modality disagreement.")
    methods = " ".join(answer.methods)
    assert "fitted to feature sets of their own (text: planted, second)" in methods
    assert "or trained on disjoint halves" in methods
    halved = same_modality(replace(study, seed=1), panel)
    np.testing.assert_array_equal(halved.panel.outputs["text.1"], same.panel.outputs["text.1"])


def test_heads_depend_on_their_seed_or_do_not():
    one_seed = draw(np.random.default_rng(0), Design(n=20, n_groups=4, n_seeds=1)).panel
    for head, seeded in (("gated", True), ("logistic", False), ("chosen", True)):
        assert depends_on_seed(replace(one_seed, head=head)) is seeded
    assert not depends_on_seed(replace(one_seed, deterministic=True))
