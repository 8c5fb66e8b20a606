import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from mixed_signals.store import FeatureSet, FeatureWriter, MixedSignalsError, Recipe, Status, UsageError
from mixed_signals.store.features import plan_rows

RECIPE = Recipe("enc", "audio")
IDS = ["a", "b", "c", "d"]
HASHES = ["1", "2", "3", "4"]
DIMENSIONS = ["x", "y"]


def make(path, ids=IDS, hashes=HASHES, rows=None, recipe=RECIPE):
    plan = plan_rows(FeatureSet(path) if path.exists() else None, recipe, ids, hashes)
    with FeatureWriter(path, plan, recipe, ids, hashes, DIMENSIONS) as writer:
        for row in plan.rows if rows is None else rows:
            writer.write([row], np.full((1, 2), int(hashes[row]), np.float32), [Status.OK], [""])
    return FeatureSet(path)


def test_what_is_written_comes_back_in_one_contiguous_piece(tmp_path):
    features = make(tmp_path / "enc.h5")
    assert list(features.ids) == IDS
    assert list(features.dimensions) == DIMENSIONS
    assert features.ok.all()
    np.testing.assert_array_equal(features.embedding[:, 0], [1, 2, 3, 4])
    with h5py.File(features.path) as file:
        assert file["embedding"].chunks is None
        assert file["embedding"].dtype == np.float32
        np.testing.assert_array_equal(file["embedding"][:], features.embedding)


def test_rows_without_a_vector_are_nan_and_say_why(tmp_path):
    path = tmp_path / "enc.h5"
    plan = plan_rows(None, RECIPE, IDS, HASHES)
    with FeatureWriter(path, plan, RECIPE, IDS, HASHES, DIMENSIONS) as writer:
        status = [Status.OK, Status.MISSING, Status.FAILED]
        writer.write(
            [2, 0, 1], np.array([[3, 3], [9, 9], [np.inf, 1]]), [*status[:2], Status.OK], ["", "no face", ""]
        )
    features = FeatureSet(path)
    assert [Status(s).name for s in features.status] == ["MISSING", "FAILED", "OK", "PENDING"]
    assert list(features.reasons[:2]) == ["no face", "the encoder gave a value that is not finite"]
    assert np.isnan(features.embedding[[0, 1, 3]]).all()
    assert (features.embedding[2] == 3).all()


def test_nothing_is_planned_when_nothing_changed(tmp_path):
    features = make(tmp_path / "enc.h5")
    plan = plan_rows(features, RECIPE, IDS, HASHES)
    assert len(plan.rows) == 0
    assert plan.current
    assert plan.reasons == {}


def test_only_what_changed_is_made_again(tmp_path):
    path = tmp_path / "enc.h5"
    before = make(path)
    ids, hashes = ["d", "e", "a", "b"], ["4", "5", "1", "7"]  # c gone, e new, b changed, another order
    plan = plan_rows(before, RECIPE, ids, hashes)
    assert list(plan.rows) == [1, 3]
    assert plan.reasons == {"new": 1, "audio changed": 1}
    after = make(path, ids, hashes)
    np.testing.assert_array_equal(after.embedding[:, 0], [4, 5, 1, 7])
    assert after.content_fingerprint != before.content_fingerprint
    assert after.recipe_fingerprint == before.recipe_fingerprint


def test_the_order_of_rows_does_not_change_the_content(tmp_path):
    one = make(tmp_path / "one.h5")
    two = make(tmp_path / "two.h5", IDS[::-1], HASHES[::-1])
    assert one.content_fingerprint == two.content_fingerprint


def test_an_unfinished_set_goes_on_where_it_was(tmp_path):
    path = tmp_path / "enc.h5"
    half = make(path, rows=[0, 1])
    assert half.coverage == {"pending": 2, "ok": 2, "missing": 0, "failed": 0}
    plan = plan_rows(half, RECIPE, IDS, HASHES)
    assert list(plan.rows) == [2, 3]
    assert plan.reasons == {"not yet done": 2}
    assert make(path).ok.all()


def test_another_recipe_under_the_same_name_is_refused(tmp_path):
    features = make(tmp_path / "enc.h5")
    with pytest.raises(UsageError, match=r"another recipe \(pooling: '' there, 'max' now\)"):
        plan_rows(features, Recipe("enc", "audio", pooling="max"), IDS, HASHES)


def test_failed_rows_wait_until_asked_for(tmp_path):
    path = tmp_path / "enc.h5"
    plan = plan_rows(None, RECIPE, IDS, HASHES)
    with FeatureWriter(path, plan, RECIPE, IDS, HASHES, DIMENSIONS) as writer:
        writer.write(range(4), np.ones((4, 2)), [1, 3, 1, 1], ["", "broken", "", ""])
    features = FeatureSet(path)
    assert len(plan_rows(features, RECIPE, IDS, HASHES).rows) == 0
    assert list(plan_rows(features, RECIPE, IDS, HASHES, retry_failed=True).rows) == [1]


def test_one_writer_at_a_time(tmp_path):
    path = tmp_path / "enc.h5"
    plan = plan_rows(None, RECIPE, IDS, HASHES)
    with FeatureWriter(path, plan, RECIPE, IDS, HASHES, DIMENSIONS) as writer:
        with (
            pytest.raises(MixedSignalsError, match="another process"),
            FeatureWriter(path, plan, RECIPE, IDS, HASHES, DIMENSIONS),
        ):
            pass
        writer.write([0], np.ones((1, 2)), [1], [""])
        assert FeatureSet(path).ok.sum() == 1  # readers are not blocked


WRITE_FOREVER = """
import sys
from pathlib import Path
import numpy as np
from mixed_signals.store import FeatureSet, FeatureWriter, Recipe
from mixed_signals.store.features import plan_rows
path, n = Path(sys.argv[1]), 2000
ids, hashes, recipe = [str(i) for i in range(n)], ["h"] * n, Recipe("enc", "audio")
plan = plan_rows(FeatureSet(path) if path.exists() else None, recipe, ids, hashes)
print("ready", flush=True)
with FeatureWriter(path, plan, recipe, ids, hashes, [str(i) for i in range(256)]) as writer:
    for row in plan.rows:
        writer.write([row], np.full((1, 256), row, np.float32), [1], [""])
print("finished", flush=True)
"""


def test_a_killed_writer_leaves_a_file_that_opens_and_only_whole_rows_are_ok(tmp_path):
    path = tmp_path / "enc.h5"
    rng = np.random.default_rng(0)
    done = -1
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE_FOREVER, str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if not path.exists():
            continue
        features = FeatureSet(path)
        vectors = np.asarray(features.embedding)
        assert (vectors[features.ok] == np.flatnonzero(features.ok)[:, None]).all()
        assert features.ok.sum() >= done
        done = features.ok.sum()
    assert done > 0


@pytest.mark.parametrize("content", [b"", b"not hdf5", b"\x89HDF\r\n\x1a\n" + b"\0" * 100])
def test_a_file_that_is_no_feature_set_is_named(tmp_path, content):
    path = tmp_path / "enc.h5"
    path.write_bytes(content)
    with pytest.raises(MixedSignalsError, match=r"enc\.h5"):
        FeatureSet(path)


def test_object_text_is_refused_rather_than_unpickled(tmp_path):
    path = Path(tmp_path / "enc.h5")
    make(path)
    with h5py.File(path, "r+") as file:
        del file["utterance_id"]
        file["utterance_id"] = np.array(IDS, dtype=h5py.string_dtype())
    with pytest.raises(MixedSignalsError, match="not fixed-length text"):
        FeatureSet(path)
