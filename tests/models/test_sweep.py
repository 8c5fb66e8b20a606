from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_store import add_vectors, planted_store, utterance_table

from mixed_signals.models import head_spec, load_head, sweep
from mixed_signals.models.plan import all_subsets
from mixed_signals.store import Corpus, Fold, Store, Target, UsageError, folds, load_run

NAMES = dict.fromkeys(("text", "audio", "video"), "planted")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    strengths = {"text": 0.0, "audio": 2.5, "video": 2.5}
    return planted_store(tmp_path_factory.mktemp("sweep"), n=160, strengths=strengths)


@pytest.fixture(scope="module")
def run(store):
    views = store.views(**NAMES)
    return sweep(views, ("logistic", "gated"), folds=folds(views, 4), seeds=(0, 1))


def test_models_come_in_the_order_of_the_call(run):
    names = list(dict.fromkeys(run.predictions["model"]))
    subsets = ["+".join(subset) for subset in all_subsets(["text", "audio", "video"])]
    expected = [f"{head}:{subset}" for head in ("logistic", "gated") for subset in subsets]
    assert names == list(dict.fromkeys(run.metrics["model"])) == ["majority", "group-majority", *expected]


def accuracy(run, model):
    metrics = run.metrics.set_index(["model", "metric"])
    return metrics.loc[(model, "accuracy"), "estimate"]


def test_seven_subsets_of_three():
    assert len(all_subsets(["text", "audio", "video"])) == 7
    assert all_subsets(["text", "audio", "video"])[-1] == ("text", "audio", "video")


def test_every_utterance_is_predicted_once_per_model_and_seed(run, store):
    table = run.predictions
    counts = table.groupby(["model", "seed"])["utterance_id"].agg(["size", "nunique"])
    assert (counts == 160).all().all()
    assert set(table[table["head"] == "gated"]["seed"]) == {0, 1}
    assert set(table[table["head"] == "logistic"]["seed"]) == {0}
    assert table["model"].nunique() == 2 * 7 + 2
    labels = store.corpus.utterances.set_index("utterance_id")["label"]
    assert (table["label_true"] == table["utterance_id"].map(labels)).all()
    p = table[["p_calm", "p_warm"]].to_numpy()
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (table["label_pred"] == np.array(["calm", "warm"])[p.argmax(axis=1)]).all()


def test_text_that_carries_nothing_is_at_chance_and_the_others_are_not(run):
    for head in ("logistic", "gated"):
        assert accuracy(run, f"{head}:text") < 0.65
        assert accuracy(run, f"{head}:audio") > 0.8
        assert accuracy(run, f"{head}:text+audio+video") > accuracy(run, f"{head}:audio") - 0.05


def test_folds_that_would_count_a_prediction_twice_are_refused(store):
    views = store.views(audio="planted")
    one, two = folds(views, 2)
    for wrong, said in (
        ([one, replace(two, fold=one.fold)], "the same partition and number"),
        ([replace(one, test_ids=np.repeat(one.test_ids, 2)), two], "names an utterance twice"),
    ):
        with pytest.raises(UsageError, match=said):
            sweep(views, ("logistic",), folds=wrong)


def test_a_class_that_has_votes_and_wins_nowhere_gets_a_probability_and_no_label(tmp_path):
    table, rng = utterance_table(96, 8), np.random.default_rng(0)
    ratings = pd.concat([table.rename(columns={"label": "value"})[["utterance_id", "value"]]] * 3)
    other = pd.DataFrame({"utterance_id": table["utterance_id"][::4], "value": "other"})
    declared = (Target("crowd", "nominal", votes="any"),)
    corpus = Corpus("rated", table, pd.concat([ratings, other]), declared=declared)
    store = Store.create(tmp_path / "s", corpus)
    X = rng.normal(size=(96, 3)) + np.where(table["label"] == "warm", 2, -2)[:, None]
    add_vectors(store, "audio/x", X)
    views = store.views(audio="x", target="crowd")
    predictions = sweep(views, ("logistic",), folds=folds(views, 4)).predictions
    fitted = predictions[predictions["head"] == "logistic"]
    assert set(fitted["label_true"]) == {"calm", "warm"}
    assert (
        0.03 < fitted["p_other"].mean() < 0.1
    )  # one vote in four has a quarter of the votes of a quarter of the rows
    assert (fitted["label_pred"] == fitted["label_true"]).mean() > 0.9


def test_seeds_do_not_change_the_folds(store):
    views = store.views(audio="planted")
    one, two = (sweep(views, ("gated",), seeds=seeds).predictions for seeds in ((0,), (7, 8)))
    fold = [dict(zip(table["utterance_id"], table["fold"], strict=True)) for table in (one, two)]
    assert fold[0] == fold[1]
    assert len(two[["utterance_id", "fold"]].drop_duplicates()) == 160


@pytest.mark.parametrize("head", ["logistic", "gated"])
def test_a_row_is_predicted_by_a_head_that_saw_the_training_rows_of_its_fold_alone(store, run, head):
    """The table's predictions are those of a head fitted here on that fold's training rows and nothing else."""
    views = store.views(**NAMES)
    fold = folds(views, 4)[2]
    columns = np.r_[views.blocks["audio"], views.blocks["video"]]
    train, held = views.select(fold.train_ids), views.select(fold.test_ids)
    seed = 1 if head == "gated" else 0
    mine = head_spec(head).make("nominal", views.classes, {"audio": (0, 6), "video": (6, 12)}, seed)
    mine.fit(train.X[:, columns], train.y, groups=train.groups)
    rows = run.predictions.query(f"model == '{head}:audio+video' and seed == {seed} and fold == 2")
    rows = rows.set_index("utterance_id").loc[held.ids]
    np.testing.assert_allclose(mine.predict_proba(held.X[:, columns]), rows[["p_calm", "p_warm"]], atol=1e-4)


def test_folds_that_share_a_group_are_refused(store):
    views = store.views(**NAMES)
    half = len(views) // 2
    shared = [Fold(0, 0, views.ids[:half], views.ids[half:])]
    with pytest.raises(
        UsageError, match=r"80 test rows are of groups \(8, e.g. g0, g1, g2.*--allow-shared-groups"
    ):
        sweep(views, ("logistic",), folds=shared)
    with pytest.raises(UsageError, match="80 test rows are of groups"):
        sweep(views, ("logistic",), folds=shared, group=None)
    twice = [Fold(0, 0, views.ids, views.ids[:3])]
    with pytest.raises(UsageError, match="names an utterance twice"):
        sweep(views, ("logistic",), folds=twice, allow_shared_groups=True)
    run = sweep(views, ("logistic",), [("audio",)], folds=shared, allow_shared_groups=True)
    assert run.info["overrides"] == [
        "80 test rows are of groups (8, e.g. g0, g1, g2) that are trained on too (--allow-shared-groups)"
    ]


def test_folds_without_groups_keep_the_sentinel_and_the_intervals(tmp_path):
    views = planted_store(tmp_path, n=96).views(text="planted")
    free = folds(views, 4, group=None)
    run = sweep(views, ("logistic",), folds=free, group=None, allow_shared_groups=True)
    assert "group-majority" in set(run.metrics["model"])
    assert set(run.metrics["n_groups"]) == {8}
    assert run.info["group"] is None


def test_a_model_says_nothing_of_rows_without_its_modalities(tmp_path):
    store = planted_store(tmp_path, n=120, strengths={"text": 2.0})
    ids = store.corpus.ids[::2]
    vectors = np.random.default_rng(0).normal(size=(len(ids), 3))
    add_vectors(store, "audio/half", vectors, ids)
    views = store.views(text="planted", audio="half", missing="mask")
    assert len(views) == 120
    run = sweep(views, ("logistic", "gated"), folds=folds(views, 4), seeds=(0,))
    for head in ("logistic", "gated"):
        predicted = (
            run.predictions[run.predictions["head"] == head].groupby("modalities")["utterance_id"].apply(set)
        )
        assert predicted["audio"] == set(ids)
        assert predicted["text"] == predicted["text+audio"] == set(views.ids)


def test_a_run_is_saved_whole_and_read_back(run, store):
    folder = run.save(store, "first")
    again = load_run(store, "first")
    pd.testing.assert_frame_equal(again.predictions, run.predictions, check_dtype=False)
    pd.testing.assert_frame_equal(again.gates, run.gates, check_dtype=False)
    pd.testing.assert_frame_equal(again.metrics, run.metrics, check_dtype=False)
    assert again.info == run.info
    assert {path.name for path in folder.iterdir()} == {
        "predictions.parquet", "gates.parquet", "metrics.json", "run.json", "heads",
    }  # fmt: skip
    assert len(list((folder / "heads").iterdir())) == 7 * 4 * (1 + 2)
    head = load_head(folder / "heads" / "logistic.audio.p0.f0.o0.s0.safetensors")
    assert list(head.classes_) == ["calm", "warm"]
    with pytest.raises(UsageError, match="exists"):
        run.save(store, "first")
    with pytest.raises(UsageError, match="runs: first"):
        load_run(store, "second")


def test_gates_are_kept_for_every_row_and_modality(run):
    table = run.gates[run.gates["model"] == "gated:text+audio+video"]
    assert len(table) == 160 * 3 * 2
    sums = table.groupby(["utterance_id", "seed"])["gate"].sum()
    np.testing.assert_allclose(sums, 1, rtol=1e-5)


def test_wrong_calls_are_refused(store):
    views = store.views(**NAMES)
    with pytest.raises(UsageError, match="heads: logistic, ridge, xgboost, gated"):
        sweep(views, ("svm",))
    with pytest.raises(UsageError, match="'smell'"):
        sweep(views, ("logistic",), subsets=[("smell",)])
    with pytest.raises(UsageError, match="seed"):
        sweep(views, ("logistic",), seeds=(1, 1))
    with pytest.raises(UsageError, match="torch sees no such device"):
        sweep(views, ("logistic",), device="cuda:7000")
    with pytest.raises(UsageError, match="no setting 'widht'"):
        sweep(views, ("gated@widht=3",))
    with pytest.raises(UsageError, match="does not learn nominal targets; use logistic"):
        sweep(views, ("ridge",))
