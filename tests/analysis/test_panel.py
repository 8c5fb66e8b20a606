"""Lining up a run's predictions: joined by id, complete, and refused with a reason where they cannot be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from synthetic_study import CLASSES, FULL, planted_predictions, sentinel_predictions

from mixed_signals.analysis.panel import FUSION, make_panels
from mixed_signals.store import UsageError


@pytest.fixture
def table():
    return planted_predictions(np.random.default_rng(0), 40, n_seeds=3, n_partitions=2, noise=1.0)[0]


def only(table, **chosen):
    keep = np.ones(len(table), dtype=bool)
    for column, values in chosen.items():
        keep &= table[column].isin(values).to_numpy()
    return table[keep]


def test_every_value_lands_where_it_belongs(table):
    shuffled = table.sample(frac=1, random_state=1)
    (panel,), reasons = make_panels(shuffled)
    assert reasons == []
    assert panel.unimodals == ("text", "audio", "video")
    assert panel.outputs[FUSION].shape == (2, 3, 40, 3)
    for row in table.sample(50, random_state=2).to_dict("records"):
        model = FUSION if row["modalities"] == FULL else row["modalities"]
        i = panel.ids.tolist().index(row["utterance_id"])
        stored = panel.outputs[model][row["partition"], row["seed"], i]
        assert stored.tolist() == [row[f"p_{c}"] for c in CLASSES]
        assert CLASSES[panel.truth[i]] == row["label_true"]


def test_utterances_that_a_model_lacks_are_left_out_and_counted(table):
    gone = (table["modalities"] == "audio") & (table["seed"] == 1) & (table["utterance_id"] == "u0003")
    absent = (table["modalities"] == FULL) & table["utterance_id"].isin(["u0007", "u0008"])
    (panel,), _ = make_panels(table[~(gone | absent)])
    assert panel.left_out == 3
    assert {"u0003", "u0007", "u0008"}.isdisjoint(panel.ids)
    assert len(panel.ids) == len(panel.truth) == panel.outputs["text"].shape[2] == 37


def test_only_shared_seeds_are_used(table):
    fewer = table[~((table["modalities"] == "video") & (table["seed"] == 2))]
    (panel,), _ = make_panels(fewer)
    assert panel.seeds == ((0, 0), (1, 0))
    assert panel.left_out == 0


def test_folds_that_were_trained_once_keep_their_utterances(table):
    once = (table["modalities"] == "audio") & (table["fold"] == 3) & (table["seed"] > 0)
    (panel,), _ = make_panels(table[~once])  # as where that fold chose a head that depends on no seed
    assert panel.seeds == ((0, 0),)
    assert len(panel.ids) == 40
    assert panel.left_out == 0


def test_a_fold_that_one_model_does_not_test_takes_no_seeds_away(table):
    (panel,), _ = make_panels(table[~((table["modalities"] == "audio") & (table["fold"] == 3))])
    assert len(panel.seeds) == 3
    assert panel.left_out == 8


def test_a_seed_must_be_trained_in_every_partition(table):
    (panel,), _ = make_panels(table[~((table["partition"] == 1) & (table["seed"] == 0))])
    assert panel.seeds == ((1, 0), (2, 0))
    assert panel.outputs["text"].shape == (2, 2, 40, 3)


def test_sentinels_are_left_out_and_heads_are_chosen(table):
    truth = np.zeros(40, dtype=int)
    both = pd.concat([table, sentinel_predictions(truth), table.assign(head="logistic")])
    panels, _ = make_panels(both)
    assert [panel.head for panel in panels] == ["gated", "logistic"]
    panels, _ = make_panels(both, ["logistic"])
    assert [panel.head for panel in panels] == ["logistic"]
    with pytest.raises(UsageError, match="no head 'xgboost' in this run; it has gated, logistic"):
        make_panels(both, ["xgboost"])


@pytest.mark.parametrize(
    ("subsets", "reason"),
    [
        (["text", "audio", "video"], "no model of two or more modalities"),
        (["text", FULL], "no model of audio or video alone"),
        (["text", "audio", "text+audio", "audio+video"], "several largest subsets"),
    ],
)
def test_a_head_without_what_is_needed_is_refused(table, subsets, reason):
    table = table.copy()
    extra = only(table, modalities=["text"])
    parts = [extra.assign(modalities=name) for name in subsets if "+" in name and name != FULL]
    table = pd.concat([only(table, modalities=subsets), *parts])
    with pytest.raises(UsageError, match=reason):
        make_panels(table)
    whole = planted_predictions(np.random.default_rng(0), 40, n_seeds=2)[0].assign(head="whole")
    panels, reasons = make_panels(pd.concat([table, whole]))
    assert [panel.head for panel in panels] == ["whole"]
    assert reason in reasons[0]


def test_heads_that_lack_the_same_are_named_together(table):
    alone = only(table, modalities=["text"])
    with pytest.raises(UsageError, match=r"two modalities or more, with a model of each") as refused:
        make_panels(pd.concat([alone, alone.assign(head="logistic"), alone.assign(head="xgboost")]))
    said = str(refused.value)
    assert "gated, logistic, xgboost: no model of two or more modalities" in said
    assert said.count("no model of") == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns="seed"), "no column seed"),
        (lambda t: t.drop(columns=["p_angry", "p_warm"]), "at least two classes"),
        (lambda t: t.assign(p_warm=t["p_warm"] + 0.1), "sum to 1"),
        (lambda t: t.assign(p_warm=np.nan), "sum to 1"),
        (lambda t: t.assign(label_true="sad"), "label 'sad' has no column p_sad"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "more than one row for utterance_id u0000, head gated"),
    ],
)
def test_faulty_tables_are_named(table, spoil, message):
    with pytest.raises(UsageError, match=message):
        make_panels(spoil(table))
