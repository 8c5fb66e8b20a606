"""The data dictionary: every column of every table is described, once, and nothing else is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from planted_study import Design, draw

from mixed_signals.analysis import people
from mixed_signals.analysis.analysis import analyze
from mixed_signals.analysis.columns import SHARED, TABLES, dictionary, meaning
from mixed_signals.models import sweep
from mixed_signals.store import folds


@pytest.fixture(scope="module", params=["nominal", "interval"])
def analysis(request, tmp_path_factory):
    """A study of three modalities with heads, seeds, gates and ratings, with all that can be asked of it."""
    design = Design(n=160, n_groups=16, n_classes=2, kind=request.param, raters_see="ambiguity")
    store = draw(np.random.default_rng(0), design).store(
        tmp_path_factory.mktemp("columns") / "store", width=3
    )
    views = store.views(text="planted", audio="planted", video="planted")
    plain, gated = ("logistic" if request.param == "nominal" else "ridge"), "gated@max_epochs=2@n_scouts=0"
    cut = folds(views, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOKY_MAX_CPU_COUNT", "1")
        sweep(views, [plain, gated], "all", cut, (0, 1), n_jobs=1).save(store, "first")
        return analyze(store, "first", heads=[plain, gated], refit=False, resamples=20)


def test_every_column_of_every_table_is_described(analysis):
    assert len(analysis.tables) > 12
    said = (analysis.folder / "tables.md").read_text()
    for name, table in analysis.tables.items():
        assert f"## {name}\n" in said
        for column in table:
            found = meaning(name, column)
            assert found, f"{column} of {name}"
            assert "- `{}`: {}\n".format(*found) in said


def test_columns_of_what_people_say_are_described():
    rng = np.random.default_rng(1)
    ids = [f"u{i}" for i in range(60)]
    labels = pd.Series(rng.choice(["warm", "calm"], 60), index=ids, name="label")
    rows = [
        {
            "utterance_id": i,
            "rater": f"r{k}",
            "shown": shown,
            "value": rng.choice(["warm", "calm"]),
            "count": 1,
        }
        for i in ids
        for shown in ("audio", "video", "audio+video")
        for k in range(4)
    ]
    tables = people.evaluate(pd.DataFrame(rows), labels, resamples=20).tables
    assert set(tables) == {"people", "people_votes", "channels", "people_link", "people_kappa"}
    for name, table in tables.items():
        assert "test" not in table
        assert all(meaning(name, column) for column in table), name


def test_shared_columns_are_said_once():
    tables = {name: pd.DataFrame(columns=["head", "estimate", "n"]) for name in ("link", "control", "errors")}
    said = dictionary(tables)
    assert said.count("- `head`") == said.count("- `n`") == 1
    assert said.count("- `estimate`") == 2  # errors says it in its own words
    assert "`p`" not in said


def test_patterns_stand_for_every_model_and_pair_and_for_nothing_else():
    names = {
        column: meaning("utterances", column) for column in ("label_true", "label_text", "jsd_text+audio")
    }
    assert [found[0] for found in names.values()] == ["label_true", "label_<model>", "jsd_<pair>"]
    assert meaning("utterances", "whatever") is None
    assert meaning("rates", "label_text") is None
    assert meaning("no such table", "whatever") is None


def test_no_table_says_again_what_all_share():
    for name, table in TABLES.items():
        for column, said in table.columns.items():
            assert SHARED.get(column) != said, (name, column)
