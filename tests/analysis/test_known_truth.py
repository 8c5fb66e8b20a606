"""What the toolkit says of studies whose truth is known: rows that were shuffled, and a modality that says nothing."""

import numpy as np
import pandas as pd
import pytest
import soundfile
from outside_data import outside_data
from planted_study import Design, draw, import_rows
from synthetic_study import FULL, MODALITIES

from mixed_signals.analysis import disagreement, dominance, typology
from mixed_signals.analysis.analysis import analyze
from mixed_signals.analysis.dominance.shapley import shapley_values, subset_values
from mixed_signals.analysis.study import Study
from mixed_signals.models import sweep
from mixed_signals.models.intervals import mean_interval
from mixed_signals.store import Corpus, Fold, Store, folds, import_features
from mixed_signals.store.corpora import ravdess

NAMES = dict.fromkeys(MODALITIES, "planted")
HEAD = "gated@n_scouts=0@max_epochs=20@gate_rate=0.3"
FULL_AND_ALONE = [*((m,) for m in MODALITIES), MODALITIES]


@pytest.fixture(scope="module")
def planted():
    """Three modalities that say equally much, and a split into training and test rows."""
    rng = np.random.default_rng(0)
    drawn = draw(rng, Design(n=1500, n_groups=30, strengths=dict.fromkeys(MODALITIES, 0.9)))
    train = rng.permutation(1500) < 1200
    return drawn, train


def fitted(folder, drawn, train, rows_of):
    """Fit the heads on a store in which row i of a modality's file is the vector of row rows_of(modality)[i]."""
    store = Store.create(folder, Corpus("made up", drawn.utterances().drop(columns="turn")))
    ids = drawn.panel.ids
    for modality in MODALITIES:
        named, vectors = rows_of(modality)
        import_rows(store, modality, ids[named], drawn.evidence[modality][vectors])
    fold = Fold(0, 0, ids[train], ids[~train])
    views = store.views(**NAMES)
    return sweep(views, (HEAD,), FULL_AND_ALONE, [fold], range(2), n_jobs=1, allow_shared_groups=True)


def accuracy(run, modalities):
    metrics = run.metrics.set_index(["model", "metric"])
    return float(metrics.loc[(f"{HEAD}:{modalities}", "accuracy"), "estimate"])


def attention(run):
    fused = run.gates[run.gates["modalities"] == FULL]
    return fused.groupby("modality")["gate"].mean().to_dict()


def test_rows_joined_by_position_make_text_dominate_and_the_store_cannot_join_so(tmp_path, planted):
    drawn, train = planted
    rng, everything = np.random.default_rng(1), np.arange(len(train))

    def in_order(modality):
        return everything, everything

    def by_position(modality):
        """A shuffled loader wrote audio and video; text's order, and its labels, are taken for theirs."""
        rows = everything.copy()
        if modality != "text":
            rows[train] = rng.permutation(rows[train])
        return everything, rows

    def any_order(modality):
        """The same loader, and the store: every vector keeps its name."""
        rows = rng.permutation(everything)
        return rows, rows

    true, wrong, shuffled = (
        fitted(tmp_path / name.__name__, drawn, train, name) for name in (in_order, by_position, any_order)
    )
    assert accuracy(true, FULL) == pytest.approx(0.86, abs=0.03)
    assert accuracy(wrong, FULL) == pytest.approx(0.76, abs=0.03)
    assert accuracy(wrong, FULL) < accuracy(wrong, "text") + 0.03, "fusion is worth no more than text alone"
    assert attention(true)["text"] == pytest.approx(1 / 3, abs=0.05)
    assert attention(wrong)["text"] == pytest.approx(1 / 2, abs=0.07)
    pd.testing.assert_frame_equal(shuffled.predictions, true.predictions, check_exact=True)
    pd.testing.assert_frame_equal(shuffled.gates, true.gates, check_exact=True)


def loudness_by_band(path, n_bands=32):
    """Return mean and deviation over time of the log energy in bands that widen with pitch, (2 n_bands,)."""
    sound, _ = soundfile.read(path)
    frames = np.lib.stride_tricks.sliding_window_view(sound, 512)[::256]
    energy = np.abs(np.fft.rfft(frames * np.hanning(512))) ** 2
    edges = np.unique(np.geomspace(1, energy.shape[1], n_bands + 1).astype(int))
    bands = np.log(np.add.reduceat(energy, edges[:-1], axis=1) + 1e-6)
    return np.concatenate([bands.mean(axis=0), bands.std(axis=0)])


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """RAVDESS as a study: words, loudness by band, and action units of the face."""
    source = outside_data("ravdess")
    corpus = ravdess.read_corpus(source)
    store = Store.create(tmp_path_factory.mktemp("ravdess") / "store", corpus)
    table = corpus.utterances
    words = pd.Series(table["text"]).str.lower().str.get_dummies(sep=" ").to_numpy()
    import_rows(store, "text", table["utterance_id"], words, name="words")
    heard = [loudness_by_band(corpus.media_root / media) for media in table["media"]]
    import_rows(store, "audio", table["utterance_id"], np.stack(heard), name="loudness")
    import_features(store, source / "openface_au.npz", "video", "openface", ignore_extra=True)
    views = store.views(text="words", audio="loudness", video="openface")
    head = "gated@n_scouts=0@max_epochs=15@hidden=32"
    sweep(views, (head,), folds=folds(views, 4), seeds=range(5), n_jobs=1).save(store, "study")
    return Study.open(store, "study", resamples=200, refit=False)


def test_text_that_all_actors_say_alike_is_at_chance_and_the_rest_is_not(recordings):
    (panel,) = recordings.panels
    right = {m: (panel.labels(m)[0] == panel.truth).mean() for m in panel.outputs}
    assert right["text"] < 0.17, "64 of 480 are of the most frequent emotion"
    assert right["audio"] > 0.3
    assert right["video"] > 0.5
    assert right["fusion"] > right["audio"]
    assert len(panel.outputs) == 7
    assert len(set(panel.groups)) == 8


def test_text_that_says_nothing_decides_nothing(recordings):
    (panel,) = recordings.panels
    of = dict(zip(panel.unimodals, shapley_values(subset_values(panel, "label")), strict=True))
    text = mean_interval(of["text"], panel.groups)
    assert abs(text.estimate) < 0.05, "nats"
    assert all(mean_interval(of[m], panel.groups).low > 0.1 for m in ("audio", "video"))
    found = {f.quantity: f for f in dominance.evaluate(recordings, panel).findings}
    assert abs(found["text, shapley"].estimate) < 0.05
    assert found["video, shapley"].low > found["audio, shapley"].high > 0.3
    assert found["text, dominates unsupported"].estimate == 0
    assert abs(found["text, exchange less control"].estimate) < 0.01


def test_its_disagreement_is_told_with_intervals_over_eight_actors(recordings):
    (panel,) = recordings.panels
    answer = disagreement.evaluate(recordings, panel)
    found = {f.quantity: f for f in answer.findings}
    assert {f.n_groups for f in answer.findings} == {8}
    kappa = found["text against fusion, kappa"]
    assert kappa.low < 0.05
    assert kappa.high > -0.05
    assert found["video against fusion, kappa"].low > 0.3
    assert found["text against audio, beyond chance"].p > 0.05
    assert found["audio against video, excess"].low > 0.3
    types = typology.evaluate(recordings, panel).tables["typology"]
    assert types["estimate"].sum() == pytest.approx(1)
    assert types.set_index("type").loc["misled by text", "estimate"] < 0.02


def test_the_whole_study_is_analysed_and_says_what_is_missing(recordings):
    analysis = analyze(recordings.store, "study", refit=False, resamples=100)
    assert analysis.modalities == {analysis.heads[0]: ("text", "audio", "video")}
    assert any("text did no better than the sentinel" in said for said in analysis.warnings)
    assert any("has no ratings" in said for said in analysis.warnings)
    assert len(analysis.findings) > 30
    assert (analysis.folder / "findings.json").is_file()
    assert not any("ambigu" in finding.verdict for finding in analysis.findings), (
        "nobody rated these recordings"
    )
