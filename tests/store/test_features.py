import h5py
import numpy as np
import pytest

from mixed_signals.store import FeatureSet, FeatureWriter, MixedSignalsError, Recipe, Status, UsageError
from mixed_signals.store.planning import plan_rows
from mixed_signals.store.provenance import feature_name

RECIPE = Recipe("enc", "audio")
IDS = ["a", "b", "c", "d"]
HASHES = ["1", "2", "3", "4"]
DIMENSIONS = ["x", "y"]


def make(path, ids=IDS, hashes=HASHES, rows=None, recipe=RECIPE, **options):
    """Write a set whose vectors are the numbers that stand as their hashes."""
    with FeatureWriter(path, recipe, ids, hashes, DIMENSIONS, **options) as writer:
        for row in writer.plan.rows if rows is None else rows:
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
        np.testing.assert_array_equal(file["status"][:], features.status)
        assert list(file["utterance_id"].asstr()[:]) == IDS


def test_rows_without_a_vector_are_nan_and_say_why(tmp_path):
    path = tmp_path / "enc.h5"
    with FeatureWriter(path, RECIPE, IDS, HASHES, DIMENSIONS) as writer:
        vectors = np.array([[3, 3], [9, 9], [np.inf, 1]])
        writer.write([2, 0, 1], vectors, [Status.OK, Status.MISSING, Status.OK], ["", "no face", ""])
    features = FeatureSet(path)
    assert [Status(s).name for s in features.status] == ["MISSING", "FAILED", "OK", "PENDING"]
    assert list(features.reasons[:2]) == ["no face", "the encoder gave a value that is not finite"]
    assert np.isnan(features.embedding[[0, 1, 3]]).all()
    assert (features.embedding[2] == 3).all()
    assert features.gaps() == [
        (Status.MISSING, "no face", ["a"]),
        (Status.FAILED, "the encoder gave a value that is not finite", ["b"]),
        (Status.PENDING, "", ["d"]),
    ]


def test_float16_is_kept_where_asked_and_an_overflow_is_a_failure(tmp_path):
    path = tmp_path / "enc.h5"
    recipe = Recipe("enc", "audio", store_dtype="float16")
    with FeatureWriter(path, recipe, IDS, HASHES, DIMENSIONS) as writer:
        vectors = np.array([[0.1, 1], [70000, 1], [2, 2], [3, 3]], np.float32)
        writer.write(range(4), vectors, [Status.OK] * 4, [""] * 4)
    features = FeatureSet(path)
    assert features.dtype == np.float16
    assert [Status(s).name for s in features.status] == ["OK", "FAILED", "OK", "OK"]
    assert features.reasons[1] == "7e+04 does not fit float16; extract with --store-dtype float32"
    read = np.empty((3, 2), np.float32)
    features.read(np.array([3, -1, 0]), read)
    np.testing.assert_allclose(read, [[3, 3], [np.nan, np.nan], [0.1, 1]], rtol=1e-3)
    with pytest.raises(UsageError, match="use float32 or float16"):
        Recipe("enc", "audio", store_dtype="float64")


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


def test_an_opened_set_stays_what_it_was_when_another_takes_its_name(tmp_path):
    path = tmp_path / "enc.h5"
    opened = make(path)
    make(path, ["d", "c", "b", "a"], ["4", "3", "2", "9"])
    assert list(opened.ids) == IDS  # read only now
    np.testing.assert_array_equal(opened.embedding[:, 0], [1, 2, 3, 4])
    np.testing.assert_array_equal(FeatureSet(path).embedding[:, 0], [4, 3, 2, 9])


def test_the_order_of_rows_does_not_change_the_content(tmp_path):
    one = make(tmp_path / "one.h5")
    two = make(tmp_path / "two.h5", IDS[::-1], HASHES[::-1])
    assert one.content_fingerprint == two.content_fingerprint
    assert one.content_fingerprint != make(tmp_path / "three.h5", rows=[0, 1, 2]).content_fingerprint


def test_another_recipe_under_the_same_name_is_refused(tmp_path):
    features = make(tmp_path / "enc.h5")
    with pytest.raises(UsageError, match=r"another recipe \(pooling: '' there, 'max' now\)"):
        plan_rows(features, Recipe("enc", "audio", pooling="max"), IDS, HASHES)


def test_what_a_recipe_leaves_at_its_default_does_not_count():
    assert Recipe("enc", "audio", store_dtype="float32").fingerprint == RECIPE.fingerprint
    assert Recipe("enc", "audio", layer="9").fingerprint != RECIPE.fingerprint
    assert Recipe("enc", "text").fingerprint != RECIPE.fingerprint


def test_a_vector_that_vanishes_in_float16_is_a_failure(tmp_path):
    path = tmp_path / "enc.h5"
    with FeatureWriter(
        path, Recipe("enc", "audio", store_dtype="float16"), ["a", "b"], ["1", "2"], ["x"]
    ) as writer:
        writer.write([0, 1], np.array([[1e-9], [0]]), [Status.OK] * 2, ["", ""])
    features = FeatureSet(path)
    assert [Status(s).name for s in features.status] == ["FAILED", "OK"]
    assert "1e-09 does not fit float16" in features.reasons[0]


def test_failed_rows_wait_until_asked_for(tmp_path):
    path = tmp_path / "enc.h5"
    with FeatureWriter(path, RECIPE, IDS, HASHES, DIMENSIONS) as writer:
        writer.write(range(4), np.ones((4, 2)), [1, 3, 1, 1], ["", "broken", "", ""])
    assert len(plan_rows(FeatureSet(path), RECIPE, IDS, HASHES).rows) == 0
    assert plan_rows(FeatureSet(path), RECIPE, IDS, HASHES, retry_failed=True).reasons == {"failed before": 1}
    again = make(path, retry_failed=True)
    assert again.ok.all()
    np.testing.assert_array_equal(again.embedding[:, 0], [1, 2, 1, 1])
    assert again.reasons[1] == ""


def test_the_weights_training_rows_are_remembered(tmp_path):
    assert make(tmp_path / "plain.h5").trained_on == ()
    assert make(tmp_path / "tuned.h5", trained_on=["a", "c"]).trained_on == ("a", "c")


def test_names_say_encoder_layer_pooling_and_a_name_of_ones_own():
    assert feature_name("facebook/hubert-base-ls960") == "hubert-base-ls960"
    assert feature_name("minilm", name="second") == "minilm.second"
    assert feature_name("roberta-base", "9", "mean") == "roberta-base.9.mean"


@pytest.mark.parametrize("content", [b"", b"not hdf5", b"\x89HDF\r\n\x1a\n" + b"\0" * 100])
def test_a_file_that_is_no_feature_set_is_named(tmp_path, content):
    path = tmp_path / "enc.h5"
    path.write_bytes(content)
    with pytest.raises(MixedSignalsError, match=r"enc\.h5"):
        FeatureSet(path)
