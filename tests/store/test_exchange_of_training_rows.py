"""What an encoder was trained on goes out with its vectors, and comes back in: no round trip makes them look unseen."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from small_store import planted_store

from mixed_signals.models import sweep
from mixed_signals.store import (
    FeatureWriter,
    Recipe,
    Status,
    UsageError,
    export_features,
    export_views,
    folds,
    import_features,
)

ANNDATA = find_spec("anndata") is not None


ENDINGS = ["npz", "parquet", pytest.param("h5ad", marks=pytest.mark.skipif(not ANNDATA, reason="no AnnData"))]


@pytest.fixture
def store(tmp_path):
    """A store whose audio features come from an encoder that was trained on the first five utterances."""
    made = planted_store(tmp_path, n=48, strengths={"text": 2.0})
    ids = made.corpus.ids
    with FeatureWriter(
        made.feature_path("audio", "tuned"),
        Recipe("tuned", "audio", weights="w"),
        ids,
        ["h"] * len(ids),
        ["x"],
        trained_on=ids[:5].tolist(),
    ) as writer:
        vectors = np.random.default_rng(0).normal(size=(len(ids), 1))
        writer.write(range(len(ids)), vectors, [Status.OK] * len(ids), [""] * len(ids))
    return made


@pytest.mark.parametrize("ending", ENDINGS)
def test_rows_that_trained_the_encoder_survive_the_round_trip(store, tmp_path, ending):
    file = export_features(store, "audio/tuned", tmp_path / f"tuned.{ending}")
    back = import_features(store, file, "audio", "back")
    assert back.trained_on == tuple(store.corpus.ids[:5])
    views = store.views(audio="back")
    with pytest.raises(UsageError, match="5 test utterances are among those that an encoder's weights were"):
        sweep(views, ("logistic",), folds=folds(views, 3), n_jobs=1)


@pytest.mark.parametrize("ending", ENDINGS)
def test_joined_vectors_have_the_training_rows_of_all_their_encoders(store, tmp_path, ending):
    file = export_views(store.views(text="planted", audio="tuned"), tmp_path / f"both.{ending}")
    assert import_features(store, file, "audio", "both").trained_on == tuple(store.corpus.ids[:5])


@pytest.mark.parametrize("ending", ENDINGS)
def test_rows_that_trained_any_of_several_encoders_survive_the_round_trip(store, tmp_path, ending):
    """As in the design nested: each encoder made some of the rows."""
    ids = store.corpus.ids.tolist()
    made_by = [
        {"weights": "a", "trained_on": ids[30:], "rows": ids[:30]},
        {"weights": "b", "trained_on": ids[:3], "rows": ids[30:]},
    ]
    with FeatureWriter(
        store.feature_path("audio", "nested"),
        Recipe("nested", "audio", weights="ab"),
        ids,
        ["h"] * len(ids),
        ["x"],
        trained_on=[*ids[:3], *ids[30:]],
        source={"made_by": made_by},
    ) as writer:
        status = [Status.MISSING, *[Status.OK] * (len(ids) - 1)]
        writer.write(range(len(ids)), np.arange(len(ids))[:, None], status, [""] * len(ids))
    file = export_features(store, "audio/nested", tmp_path / f"x.{ending}")
    back = import_features(store, file, "audio", "back")
    assert set(back.trained_on) == {*ids[:3], *ids[30:]}
    assert back.status.tolist() == store["audio/nested"].status.tolist()
    np.testing.assert_array_equal(back.stored, store["audio/nested"].stored)
    assert list(back.dimensions) == ["x"]


@pytest.mark.parametrize("said", ["no json", '["trained_on"]', '{"audio": {"trained_on": [1, null]}}'])
def test_what_others_call_provenance_is_no_training_row(store, tmp_path, said):
    ids = store.corpus.ids.astype(str)
    np.savez(tmp_path / "theirs.npz", utterance_id=ids, embedding=np.ones((len(ids), 2)), provenance=said)
    assert import_features(store, tmp_path / "theirs.npz", "audio", "theirs").trained_on == ()
