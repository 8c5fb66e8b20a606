"""What ``fit-heads`` says of calls that contradict themselves or the corpus."""

import numpy as np
import pandas as pd
import pytest
from full_disk import limited
from small_store import add_vectors, planted_store, utterance_table
from typer.testing import CliRunner

from mixed_signals.models.cli import app
from mixed_signals.store import Corpus, Store, UsageError


def call(store, *words):
    return CliRunner().invoke(app, [str(store.path), "--heads", "logistic", "--no-refit", *words])


def made_of(folder, table, audio=None):
    """A store of these utterances with random text vectors, and audio ones of some."""
    store = Store.create(folder / "store", Corpus("made", table))
    for modality, rows in (("text", table), ("audio", audio)):
        if rows is not None:
            X = np.random.default_rng(0).normal(size=(len(rows), 3))
            add_vectors(store, f"{modality}/x", X, rows["utterance_id"])
    return store


def test_a_number_of_folds_beside_a_predefined_split_is_refused(tmp_path):
    store = planted_store(tmp_path, n=48, strengths={"text": 1.0})
    with pytest.raises(UsageError, match="--folds: column 'split' says what the folds are"):
        raise call(store, "--split", "split", "--folds", "5").exception


@pytest.mark.parametrize("one_class", [True, False])
def test_test_rows_of_one_class_are_warned_of_in_a_line(tmp_path, one_class):
    table = utterance_table(96, 8)
    positive = table["label"] == table["label"].iloc[0]
    table["split"] = np.where((positive if one_class else True) & (np.arange(96) % 4 == 0), "test", "train")
    ran = call(made_of(tmp_path, table), "--split", "split", "--jobs", "1", "--allow-shared-groups")
    assert ran.exit_code == 0, ran.exception
    tested = table[table["split"] == "test"]
    assert (len(set(tested["label"])) == 1) == one_class
    said = (
        f"all {len(tested)} tested rows are of one class ({table['label'].iloc[0]}): accuracy and F1 say only how "
        "often it is named, and AUROC is undefined (-)"
    )
    assert (said in ran.stdout) == one_class


@pytest.mark.parametrize(("n_values", "noted"), [(24, True), (8, False)])
def test_many_classes_that_are_all_numbers_are_noted(tmp_path, n_values, noted):
    table = utterance_table(96, 8).assign(label=[f"{i % n_values / 2}" for i in range(96)])
    ran = call(made_of(tmp_path, table), "--folds", "2", "--jobs", "1")
    assert ran.exit_code == 0, ran.exception
    said = "note: label has 24 classes, all of them numbers; if they are values, declare it as interval"
    assert (said in ran.stderr) == noted


def test_a_fold_without_a_training_row_of_a_modality_is_named(tmp_path):
    table = utterance_table(96, 8)
    store = made_of(tmp_path, table, audio=table[table["group"] == "g3"])
    said = r"fold \d of partition 0: no training row has audio; leave it out \(--subsets\)"
    with pytest.raises(UsageError, match=said):
        raise call(store, "--missing", "mask", "--folds", "2", "--jobs", "1").exception


@pytest.mark.parametrize("head", ["logistic", "xgboost"])
def test_a_full_disk_is_one_line_and_the_same_call_goes_on_once_there_is_room(tmp_path, head):
    store = made_of(tmp_path, utterance_table(96, 8))
    words = [str(store.path), "--heads", head, "--no-refit", "--folds", "2", "--jobs", "1", "--run"]
    assert CliRunner().invoke(app, [*words, "whole"]).exit_code == 0
    kept = store.path / "runs" / "whole" / "heads"
    script = "from mixed_signals.models.cli import main; main()"
    ran = limited(script, min(file.stat().st_size for file in kept.iterdir()) - 1, *words, "again")
    assert ran.returncode == 1
    said = ran.stderr.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"error: {store.path}/runs/.again.unfinished/")
    assert said[0].endswith("make room and run the same command again")
    assert CliRunner().invoke(app, [*words, "again"]).exit_code == 0
    whole, again = (
        pd.read_parquet(store.path / "runs" / name / "predictions.parquet") for name in ("whole", "again")
    )
    pd.testing.assert_frame_equal(whole, again)


def test_a_predefined_split_says_what_is_trained_on(tmp_path):
    table = utterance_table(96, 8)
    number = table["group"].str[1:].astype(int)
    table["part"] = np.select([number < 2, number < 3], ["test", "val"], "train")
    ran = call(made_of(tmp_path, table), "--split", "part", "--jobs", "1")
    assert ran.exit_code == 0, ran.exception
    assert "part: trained on train 60, val 12; tested on test 24" in ran.stdout
