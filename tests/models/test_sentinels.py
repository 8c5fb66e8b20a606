import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_store import add_vectors, planted_store, utterance_table

from mixed_signals.models.sentinels import group_majority, intraclass_correlation, majority
from mixed_signals.store import Corpus, Fold, Store, Target, folds


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    return planted_store(tmp_path_factory.mktemp("sentinels"), strengths={"text": 0.0}).views(text="planted")


def one_fold(views):
    return [Fold(0, 0, views.ids[24:], views.ids[:24][::-1])]


def kinds(views):
    """The same rows with a target of each kind, and the columns that its sentinels average."""
    rng = np.random.default_rng(0)
    values, several = rng.normal(3, 1, len(views)), rng.integers(0, 2, (len(views), 3))
    onehot = np.stack([views.y == "calm", views.y == "warm"], axis=1).astype(float)
    return {
        "nominal": (views, onehot),
        "ordinal": (replace(views, kind="ordinal"), onehot),
        "interval": (replace(views, kind="interval", classes=(), y=values), values),
        "multilabel": (replace(views, kind="multilabel", classes=("a", "b", "c"), y=several), several),
    }


@pytest.mark.parametrize("kind", ["nominal", "ordinal", "interval", "multilabel"])
def test_majority_is_the_mean_of_the_training_rows(views, kind):
    here, columns = kinds(views)[kind]
    ((_, ids, P),) = majority(here, one_fold(here))
    assert list(ids) == list(views.ids[:24][::-1])
    np.testing.assert_allclose(P, np.broadcast_to(columns[24:].mean(axis=0), P.shape))
    assert P.shape == (24, *columns.shape[1:])


@pytest.mark.parametrize("kind", ["nominal", "ordinal", "interval", "multilabel"])
def test_group_majority_is_the_formula_written_out(views, kind):
    here, columns = kinds(views)[kind]
    columns = columns.astype(float)
    noisy = columns.reshape(len(columns), -1)[:, 0] + np.random.default_rng(1).normal(0, 0.5, len(columns))
    groups = noisy.argsort().argsort() // 12  # rows of a group are rather alike
    rho = intraclass_correlation(columns.reshape(len(columns), -1), groups)
    assert 0.05 < rho < 0.95
    ((_, ids, P),) = group_majority(here, one_fold(here), groups)
    for utterance, said in zip(ids, P, strict=True):
        row = list(views.ids).index(utterance)
        others = (groups == groups[row]) & (np.arange(len(groups)) != row)
        k = (1 - rho) / rho
        expected = (columns[others].sum(axis=0) + k * columns.mean(axis=0)) / (others.sum() + k)
        np.testing.assert_allclose(said, expected)


@pytest.mark.parametrize("size", [3, 30])
def test_group_majority_sees_what_groups_give_away_and_nothing_else(tmp_path, size):
    """Half of the groups calm and half warm: nearly always right. Labels without regard to groups: chance."""
    n = 240
    store = planted_store(tmp_path, n=n, n_groups=n // size, strengths={"text": 0.0})
    views = store.views(text="planted")
    by_group = np.where(np.array([int(g[1:]) for g in views.groups]) % 2, "calm", "warm")
    for labels, low, high in ((by_group, 0.95, 1.0), (views.y, 0.4, 0.6)):
        here = replace(views, y=labels)
        label_of = dict(zip(here.ids, labels, strict=True))
        right = [
            np.array(here.classes)[P.argmax(axis=1)] == [label_of[utterance] for utterance in ids]
            for _, ids, P in group_majority(here, folds(here, 4), here.groups)
        ]
        assert low <= np.concatenate(right).mean() <= high


def test_a_row_alone_or_without_a_group_is_said_to_be_as_all_rows_are(views):
    labels = np.where(np.arange(len(views)) < 48, "calm", "warm").astype(object)
    groups = labels.copy()
    groups[:4] = [None, float("nan"), "", "alone"]
    here = replace(views, y=labels)
    ((_, _, P),) = group_majority(here, [Fold(0, 0, views.ids[6:], views.ids[:6])], groups)
    np.testing.assert_allclose(P[:4], 0.5)
    assert (P[4:, 0] > 0.9).all()


def test_groups_that_are_all_alike_leave_nothing_to_draw_to(views):
    labels = np.where(np.arange(len(views)) < 48, "calm", "warm").astype(object)
    ((_, _, P),) = group_majority(replace(views, y=labels), one_fold(views), labels)
    np.testing.assert_allclose(P, [[1, 0]] * 24)


def test_intraclass_correlation_is_that_of_a_plain_analysis_of_variance():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(10), rng.integers(2, 9, size=10))
    values = rng.normal(size=len(codes)) + rng.normal(size=10)[codes]
    parts = [values[codes == g] for g in range(10)]
    between = sum(len(p) * (p.mean() - values.mean()) ** 2 for p in parts) / 9
    within = sum(((p - p.mean()) ** 2).sum() for p in parts) / (len(codes) - 10)
    typical = (len(codes) - sum(len(p) ** 2 for p in parts) / len(codes)) / 9
    expected = (between - within) / (between + (typical - 1) * within)
    assert 0 < expected < 1
    assert intraclass_correlation(values[:, None], codes) == pytest.approx(expected)
    assert intraclass_correlation(np.eye(2)[[0, 1, 0, 1]], np.array([0, 0, 1, 1])) == 0


def test_votes_do_not_change_the_sentinels(tmp_path):
    table = utterance_table(48, 8)
    ratings = pd.concat([table.rename(columns={"label": "value"})[["utterance_id", "value"]]] * 3)
    other = pd.DataFrame({"utterance_id": table["utterance_id"][::4], "value": "other"})
    declared = (Target("crowd", "nominal", votes="any"),)
    corpus = Corpus("rated", table, pd.concat([ratings, other]), declared=declared)
    store = Store.create(tmp_path / "s", corpus)
    add_vectors(store, "audio/x", np.ones((48, 3)))
    views = store.views(audio="x", target="crowd")
    ((_, _, P),) = majority(views, one_fold(views))
    expected = [(views.y[24:] == label).mean() for label in views.classes]
    np.testing.assert_allclose(P, np.tile(expected, (24, 1)))
    assert expected[views.classes.index("other")] == 0


def test_a_hundred_thousand_rows_take_a_moment(views):
    n = 100_000
    ids = np.array([f"u{i:06d}" for i in range(n)], dtype=object)
    large = replace(
        views,
        utterances=pd.DataFrame({"utterance_id": ids, "group": "g"}),
        rows=np.zeros((n, 1), int),
        y=np.resize(np.array(["calm", "warm"], dtype=object), n),
    )
    each = [Fold(0, f, np.delete(ids, slice(f, None, 5)), ids[f::5]) for f in range(5)]
    groups = np.array([f"s{i % 9000}" for i in range(n)], dtype=object)
    started = time.perf_counter()
    majority(large, each)
    group_majority(large, each, groups)
    assert time.perf_counter() - started < 5
