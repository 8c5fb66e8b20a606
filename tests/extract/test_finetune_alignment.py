"""Aligned frames: a map that only anchors fit, feature sets that say so, and every output after them too."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.linalg import expm, orthogonal_procrustes
from tunable import N, call, fit, planted_store, said_in

from mixed_signals.extract.finetune.alignment import describe, fit_map, held_out_error, relative_error
from mixed_signals.extract.finetune.cli import app
from mixed_signals.store import CrossFit, FeatureSet, UsageError, export_features, import_features, load_run
from mixed_signals.store.cli import app as store_app
from mixed_signals.store.cross_fits import ALIGNED, alignment_notes

FLAGS = ("--epochs", "2", "--folds", "2", "--device", "cpu", "--learning-rate", "3e-3", "--validation", "0.3")
NAME = "tiny.tuned"


def frames(n, width, *, turned, noise, seed=0):
    """Return vectors of one frame, and of another that is turned, moved and not quite the same."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, width)) * np.geomspace(3, 0.1, width)
    skew = turned * rng.normal(size=(width, width))
    rotation = expm(skew - skew.T)
    other = rows @ rotation + rng.normal(size=width) + noise * rng.normal(size=rows.shape)
    return rows, other, rotation


def test_many_anchors_give_the_map_that_was_planted():
    rows, other, rotation = frames(2000, 6, turned=1.0, noise=0.0)
    found = fit_map(rows[:1500], other[:1500])
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(6), atol=1e-12)
    assert np.abs(found.rotation - rotation).max() < 0.1
    assert relative_error(found(rows[1500:]), other[1500:]) < 0.01 < relative_error(rows[1500:], other[1500:])
    single = rows[:3].astype(np.float32)
    single[0] = np.nan
    assert found(single).dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found(single)).all(axis=1), [True, False, False])


def test_fewer_anchors_than_dimensions_bring_frames_nearer_where_the_bare_method_takes_them_apart():
    rows, other, _ = frames(400, 64, turned=0.02, noise=0.02)
    anchors, held = slice(0, 24), slice(24, 400)
    source, target = rows[anchors].mean(axis=0), other[anchors].mean(axis=0)
    bare, _ = orthogonal_procrustes(rows[anchors] - source, other[anchors] - target)
    moved = rows - source + target
    ours = relative_error(fit_map(rows[anchors], other[anchors])(rows)[held], other[held])
    assert ours < 0.8 * relative_error(moved[held], other[held])
    assert relative_error(((rows - source) @ bare + target)[held], other[held]) > 1.5 * ours


def test_the_error_afterwards_is_of_anchors_that_no_map_was_fitted_on():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(2, 20, 40))  # nothing to find, and enough freedom to find it
    halves = np.arange(10), np.arange(10, 20)
    fitted, held_out = (
        relative_error(fit_map(source, target)(source), target),
        held_out_error(halves, source, target),
    )
    assert held_out > 1.2 * fitted
    said = describe(halves, source, target)
    assert said["anchors"] == 20
    assert said["error_after"] == round(held_out_error(halves, source, target), 4)


@pytest.fixture(scope="module")
def made(tmp_path_factory, encoder):
    """A store with an aligned family, and what was printed when it was made."""
    store = planted_store(tmp_path_factory.mktemp("aligned"))
    result = call(app, store.path, "--text", encoder, "--align", *FLAGS)
    assert result.exit_code == 0, (result.output, result.exception)
    return store, said_in(result)


@pytest.fixture(scope="module")
def run(made):
    store, _ = made
    result = fit(store, "--features", f"text={NAME}", "--run", "one")
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def kept(store, training):
    return FeatureSet(store.path / "encoders" / "text" / f"{NAME}.{training}" / "vectors.h5")


def test_heads_of_a_fold_learn_from_all_its_training_rows_in_one_frame(made):
    store, _ = made
    ids = set(store.corpus.ids)
    for fold in range(2):
        for half in (0, 1):
            features = store[f"text/{NAME}.p{half}f{fold}"]
            fit = CrossFit.of(features)
            assert set(fit.train_ids) | set(fit.test_ids) == ids == set(features.ids[features.ok])
            assert (fit.design, fit.n_partitions) == ("three-way", 2)
            own, other = features.makers
            assert own.rows | other.rows == ids
            assert own.rows >= set(fit.test_ids)  # in the member's own frame, as without --align
            assert other.rows == own.trained_on
            assert own.rows - set(fit.test_ids) == other.trained_on
            for maker in features.makers:
                assert not maker.trained_on & (maker.rows | set(fit.test_ids))


def test_the_first_encoders_rows_are_as_it_makes_them_and_the_seconds_are_mapped_by_anchors_alone(made):
    store, _ = made
    features = store[f"text/{NAME}.p1f0"]
    first, second = kept(store, "p1f0"), kept(store, "p0f0")
    ids = features.ids
    own, other = (np.isin(ids, list(maker.rows)) for maker in features.makers)
    np.testing.assert_array_equal(features.stored[own], first.stored[own])
    cards = [
        json.loads((store.path / "encoders" / "text" / f"{NAME}.p{p}f0" / "training.json").read_text())
        for p in (0, 1)
    ]
    anchors = np.isin(ids, [*cards[0]["validation_ids"], *cards[1]["validation_ids"]])
    assert (first.ok & second.ok)[anchors].all()
    taught = np.isin(ids, [*cards[0]["train_ids"], *cards[1]["train_ids"]])
    assert not (first.ok & second.ok & taught).any()  # the map could not even be fitted on these
    expected = fit_map(second.stored[anchors], first.stored[anchors])(second.stored[other])
    np.testing.assert_allclose(features.stored[other], expected, atol=1e-5)
    said = features.provenance["aligned"]
    assert said["anchors"] == anchors.sum()
    assert set(said) == {"method", "anchors", "error_before", "error_after"}
    assert features.recipe.weights != first.recipe.weights


def test_making_says_so_and_a_second_call_makes_nothing_anew(made, encoder):
    store, printed = made
    (note,) = alignment_notes([f"text/{NAME}"])
    assert printed.count(note) == 1
    assert "misfit before misfit after" in printed
    before = {path: path.stat().st_mtime_ns for path in store.path.rglob("[!.]*") if path.is_file()}
    again = call(app, store.path, "--text", encoder, "--align", *FLAGS)
    assert again.exit_code == 0, again.output
    assert note in said_in(again)
    planned = call(app, store.path, "--text", encoder, "--align", *FLAGS, "--plan")
    assert note in said_in(planned)
    assert {path: at for path, at in before.items() if path.stat().st_mtime_ns != at} == {}
    card = (store.path / "encoders" / "text" / f"{NAME}.p0f0" / "README.md").read_text()
    assert "experimental: half of the training vectors" in card


def test_everything_after_it_says_so(made, run, tmp_path):
    store, _ = made
    (note,) = alignment_notes([f"text/{NAME}"])
    assert note in said_in(run)
    assert load_run(store, "one").info["overrides"] == [note]
    listed = said_in(call(store_app, "ls", store.path))
    assert listed.count(note) == 2  # of the feature sets, and of the run
    assert f"run one: {note}" in listed
    key = f"text/{NAME}.p0f0"
    assert ALIGNED in said_in(call(store_app, "show", store.path, key))
    assert note in said_in(call(store_app, "show", store.path))
    assert json.loads(call(store_app, "show", store.path, key, "--json").output)["aligned"] is True
    assert "experimental: half of the" in said_in(call(store_app, "doctor", store.path))
    assert note in said_in(call(store_app, "export", store.path, key, "--to", tmp_path / "x.npz"))


@pytest.mark.parametrize("ending", ["npz", "parquet", "h5ad"])
def test_what_is_exported_says_so_when_it_comes_back(made, tmp_path, ending):
    if ending == "h5ad":
        pytest.importorskip("anndata")
    store, _ = made
    features = store[f"text/{NAME}.p0f0"]
    file = export_features(store, features.key, tmp_path / f"x.{ending}")
    back = import_features(planted_store(tmp_path), file, "text", f"back-{ending}")
    assert back.aligned
    assert back.provenance["aligned"] == features.provenance["aligned"]
    assert set(back.trained_on) == set(features.trained_on)


def test_heads_are_tested_on_rows_that_taught_no_encoder_of_theirs(made, run):
    store, _ = made
    predictions = load_run(store, "one").predictions
    tested = predictions[predictions["model"] == "logistic:text"]
    assert (tested.groupby("utterance_id")["partition"].nunique() == 2).all()
    assert tested["utterance_id"].nunique() == N


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--design", "nested", "--folds", "3"], "--align: frames are aligned between the two encoders"),
        (["--split", "train"], "--align: frames are aligned between the two encoders"),
        (["--folds", "2", "--validation", "0"], "has no rows on which it stops early"),
    ],
)
def test_where_frames_cannot_be_aligned_it_is_refused(tmp_path, encoder, flags, said):
    store = planted_store(tmp_path)
    result = call(app, store.path, "--text", encoder, "--align", "--device", "cpu", *flags)
    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (store.path / "encoders").exists()


def test_aligned_and_not_aligned_have_names_of_their_own(made, encoder):
    store, _ = made
    result = call(app, store.path, "--text", encoder, *FLAGS)
    assert isinstance(result.exception, UsageError)
    assert "aligned: True there, None now" in str(result.exception)
    assert "(--name)" in str(result.exception)
