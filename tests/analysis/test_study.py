"""A run opened for analysis: order in time only where there is one, short words, features as they were."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from planted_study import Design, draw
from synthetic_study import study_store

from mixed_signals.analysis.study import Study, _when
from mixed_signals.store import Corpus, Store, UsageError


def utterances(**columns):
    return pd.DataFrame({"utterance_id": [f"u{i}" for i in range(4)], **columns}).set_index("utterance_id")


def groups(*names):
    return pd.Series(names, index=[f"u{i}" for i in range(4)], dtype=object)


def test_turns_order_the_utterances_of_a_dialog_and_not_of_a_speaker_in_several():
    table = utterances(turn=[1, 2, 1, 2])
    assert _when(table, groups("a", "a", "b", "b")).tolist() == [1, 2, 1, 2]
    assert _when(table, groups("s", "s", "s", "s")) is None


def test_starts_order_what_is_in_one_medium():
    table = utterances(start=[0.0, 1.5, 0.0, 2.0], media=["a.wav", "a.wav", "b.wav", "b.wav"])
    assert _when(table, groups("a", "a", "b", "b")).tolist() == [0, 1.5, 0, 2]
    assert _when(table, groups("s", "s", "s", "s")) is None
    partly = _when(utterances(start=[0.0, np.nan, 1, 2], media=["a.wav"] * 4), groups(*"aaaa"))
    np.testing.assert_array_equal(partly, [0, np.nan, 1, 2])


def test_a_study_is_opened_by_path_and_says_in_a_line_what_it_is(tmp_path):
    study_store(tmp_path / "st", n=60)
    study = Study.open(tmp_path / "st", "study")
    assert repr(study).startswith(
        "<Study of run study: <Panel gated: 4 models of text+audio+video, 60 utterances"
    )
    assert len(repr(study)) < 200
    with pytest.raises(UsageError, match="does not say which features it used"):
        study.views  # noqa: B018


def test_the_folds_are_those_of_the_run_and_features_that_changed_are_refused(tmp_path):
    from mixed_signals.models import sweep
    from mixed_signals.store import folds

    drawn = draw(np.random.default_rng(0), Design(n=80, n_groups=8))
    store = drawn.store(tmp_path / "st", width=4)
    views = store.views(text="planted", audio="planted", video="planted")
    made = folds(views, 4)
    sweep(views, ("logistic",), folds=made, n_jobs=1).save(store, "run")
    study = Study.open(store, "run")
    for mine, fold in zip(study.folds, made, strict=True):
        assert set(mine.train_ids) == set(fold.train_ids)
        assert set(mine.test_ids) == set(fold.test_ids)
    assert set(study.views[0].ids) == set(views.ids)
    utterances = store.corpus.utterances
    first, second, *_ = views.classes
    swap = {first: second, second: first}
    swapped = utterances.assign(label=[swap.get(one, one) for one in utterances["label"]])
    moved = int(utterances["label"].isin(list(swap)).sum())
    Store.create(
        store.path,
        Corpus("other", swapped, ratings=store.corpus.ratings, declared=store.corpus.declared),
        replace=True,
    )
    changed = Study.open(Store.open(store.path), "run")
    with pytest.raises(
        UsageError, match=f"label of {moved} utterances has changed since run 'run', e.g. of "
    ):
        changed.views  # noqa: B018
    study.run.info["features"]["text"]["content"] = "another"
    with pytest.raises(
        UsageError, match="feature set text/planted is another one than run 'run' was trained on"
    ):
        Study.open(store, "run").__class__(study.run, study.panels, study.utterances, None, store).views  # noqa: B018
