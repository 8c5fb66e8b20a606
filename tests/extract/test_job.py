"""The job's plan with small encoders of its own: what is made, what is kept, what is refused."""

import numpy as np
import pandas as pd
import pytest
from small_encoders import Lengths, Seconds, make_sounds, make_store, run

from mixed_signals.extract import job
from mixed_signals.store import Corpus, MixedSignalsError, Status, Store, UsageError


def replaced(store, **columns):
    """The store with other columns in its corpus."""
    table = store.corpus.utterances.assign(**columns)
    return Store.create(store.path, Corpus("c", table, media_root=store.corpus.media_root), replace=True)


class Interrupted(Lengths):
    """Stops when it has seen so many texts."""

    def __init__(self, after, **options):
        super().__init__(**options)
        self.after = after

    def encode(self, packed):
        if len(self.seen) >= self.after:
            raise KeyboardInterrupt
        return super().encode(packed)


def test_each_row_gets_its_own_vector_and_its_own_fault(tmp_path):
    said = ["x" * (37 * i % 11 + 1) for i in range(30)]
    said[5], said[11], said[20], said[29] = "absent", "broken", "surprise", "  "
    (outcome,) = run(make_store(tmp_path, said), Lengths())
    features = outcome.features
    bad = {
        5: (Status.MISSING, "nothing there"),
        11: (Status.FAILED, "cannot be read"),
        20: (Status.FAILED, "KeyError: 'surprise'"),
        29: (Status.MISSING, "empty transcript"),
    }
    for row, text in enumerate(said):
        if row in bad:
            assert (features.status[row], features.reasons[row]) == bad[row]
            assert np.isnan(features.embedding[row]).all()
        else:
            assert features.embedding[row, 0] == len(text)
    assert features.provenance["recipe"]["encoder"] == "lengths"


def test_a_second_run_does_nothing_and_a_changed_text_is_done_alone(tmp_path):
    store = make_store(tmp_path, ["a", "bb", "ccc"])
    run(store, Lengths())
    again = Lengths()
    (outcome,) = run(store, again)
    assert (again.seen, again.loaded, outcome.task.plan.reasons) == ([], False, {})
    changed = Lengths()
    (outcome,) = run(replaced(store, text=["a", "bbbb", "ccc"]), changed)
    assert changed.seen == ["bbbb"]
    assert outcome.task.plan.reasons == {"text changed": 1}
    np.testing.assert_array_equal(outcome.features.embedding[:, 0], [1, 4, 3])


def test_what_was_done_before_an_interruption_is_kept(tmp_path):
    store = make_store(tmp_path, ["x"] * 20)
    with pytest.raises(KeyboardInterrupt):
        run(store, Interrupted(after=16))
    assert store["text/lengths"].ok.sum() == 16
    assert store["text/lengths"].jobs[-1]["rows"] == 20
    rest = Lengths()
    (outcome,) = run(store, rest)
    assert len(rest.seen) == 4
    assert outcome.task.plan.reasons == {"not yet done": 4}
    assert outcome.features.ok.all()


def test_utterances_that_left_the_corpus_are_told_and_dropped(tmp_path):
    store = make_store(tmp_path, ["a", "bb", "ccc"])
    run(store, Lengths())
    fewer = store.corpus.utterances.iloc[1:].assign(label=["x", "y"])
    store = Store.create(store.path, Corpus("c", fewer), replace=True)
    with pytest.raises(MixedSignalsError, match="run extract-features again, which drops them"):
        store.views(text="lengths")
    encoder = Lengths()
    (outcome,) = run(store, encoder)
    assert (outcome.task.plan.reasons, outcome.task.plan.dropped, encoder.seen) == ({}, 1, [])
    assert list(store.views(text="lengths").X[:, 0]) == [2, 3]


def test_media_are_identified_by_content_and_times(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"one")
    table = pd.DataFrame(
        {
            "utterance_id": ["p", "q", "r"],
            "media": ["a.wav", "a.wav", "gone.wav"],
            "start": [0, 1, 0],
            "end": [1, 2, 1],
        }
    )
    store = Store.create(tmp_path / "s", Corpus("c", table, media_root=tmp_path))
    (task,) = job.plan(store, [Seconds()])
    first = task.row_hashes
    assert len(set(first)) == 3
    (tmp_path / "a.wav").write_bytes(b"two")
    (task,) = job.plan(store, [Seconds()])
    assert [x == y for x, y in zip(first, task.row_hashes, strict=True)] == [False, False, True]


def test_vectors_outlive_media_that_are_gone_for_a_while(tmp_path):
    store = make_sounds(tmp_path, [800, 1600])
    (outcome,) = run(store, Seconds())
    assert outcome.features.ok.all()
    (tmp_path / "media" / "u01.wav").unlink()
    (outcome,) = run(store, Seconds())
    assert (outcome.task.plan.reasons, list(outcome.task.gone)) == ({}, ["u01"])
    assert outcome.features.ok.all()
    (tmp_path / "media").rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="the media root is not there"):
        job.plan(store, [Seconds()])


def test_vectors_of_another_cut_do_not_outlive_media_that_are_gone(tmp_path):
    store = make_sounds(tmp_path, [800, 1600])
    run(store, Seconds())
    for name in ("u00", "u01"):
        (tmp_path / "media" / f"{name}.wav").unlink()
    (outcome,) = run(replaced(store, start=[0.05, np.nan]), Seconds())
    task = outcome.task
    assert (task.plan.reasons, list(task.gone), task.without) == ({"audio changed": 1}, ["u01"], 1)
    assert [Status(one).name for one in outcome.features.status] == ["FAILED", "OK"]
    assert outcome.features.reasons[0] == "the file does not exist"


def test_heads_are_not_trained_on_vectors_of_former_texts(tmp_path):
    store = make_store(tmp_path, ["x", "xx"])
    store = replaced(store, label=["m", "n"])
    run(store, Lengths())
    assert list(store.views(text="lengths").X[:, 0]) == [1, 2]
    store = replaced(store, text=["x", "xxxx"])
    with pytest.raises(
        MixedSignalsError, match=r"the text of 1 utterances changed since it was made, e.g. of \['u01'\]"
    ):
        store.views(text="lengths")
    run(store, Lengths())
    assert list(store.views(text="lengths").X[:, 0]) == [1, 4]


def test_a_corpus_that_is_cut_anew_does_not_get_the_vectors_of_its_former_cuts(tmp_path):
    store = make_sounds(tmp_path, [800, 1600], label=["x", "y"])
    run(store, Seconds())
    assert list(store.views(audio="seconds").X[:, 0]) == [800, 1600]
    changes = (({"start": [0.05, 0.0]}, [400, 1600]), ({"media": ["u01.wav", "u00.wav"]}, [1200, 800]))
    for change, expected in changes:
        store = replaced(store, **change)
        with pytest.raises(MixedSignalsError, match=r"the media, start or end of \d utterances changed"):
            store.views(audio="seconds")
        run(store, Seconds())
        assert list(store.views(audio="seconds").X[:, 0]) == expected


def test_a_file_under_another_name_is_not_encoded_again(tmp_path):
    store = make_sounds(tmp_path, [800, 1600], label=["x", "y"])
    run(store, Seconds())
    (tmp_path / "media" / "u00.wav").rename(tmp_path / "media" / "new.wav")
    store = replaced(store, media=["new.wav", "u01.wav"])
    (outcome,) = run(store, Seconds())
    assert outcome.task.plan.reasons == {}
    assert list(store.views(audio="seconds").X[:, 0]) == [800, 1600]


def test_every_library_version_that_rows_were_made_with_is_kept(tmp_path, monkeypatch):
    from mixed_signals.extract import pipeline

    store = make_store(tmp_path, ["x"] * 20)
    monkeypatch.setattr(pipeline, "library_versions", lambda names: {"lib": "1"})
    with pytest.raises(KeyboardInterrupt):
        run(store, Interrupted(after=8))
    half = store["text/lengths"]
    monkeypatch.setattr(pipeline, "library_versions", lambda names: {"lib": "2"})
    rest = Lengths()
    run(store, rest)
    assert len(rest.seen) == 12
    whole = store["text/lengths"]
    assert whole.provenance["versions"] == [{"lib": "1"}, {"lib": "2"}]
    assert whole.ok.all()
    assert whole.recipe_fingerprint == half.recipe_fingerprint
    assert whole.content_fingerprint != half.content_fingerprint


class Together(Interrupted):
    """Vectors that depend on what shares the batch, as those of padded batches do."""

    def __init__(self, after=10**6):
        super().__init__(after, rows=8)

    def vectors(self, packed, one):
        return (np.array([len(one) / max(map(len, packed)) + len(packed)]),)


def test_an_interrupted_job_ends_with_the_vectors_of_an_uninterrupted_one(tmp_path):
    said = ["x" * (37 * i % 101 + 1) for i in range(100)]
    (tmp_path / "one").mkdir()
    (whole,) = run(make_store(tmp_path / "one", said), Together())
    store = make_store(tmp_path, said)
    for after in (16, 8, 40):
        with pytest.raises(KeyboardInterrupt):
            run(store, Together(after))
    assert store["text/lengths"].coverage["ok"] == 64
    (resumed,) = run(store, Together())
    np.testing.assert_array_equal(resumed.features.embedding, whole.features.embedding)
    assert resumed.features.content_fingerprint == whole.features.content_fingerprint


def test_a_name_of_its_own_and_float16_make_another_feature_set(tmp_path):
    store = make_store(tmp_path, ["a", "bb"])
    run(store, Lengths())
    with pytest.raises(UsageError, match="store_dtype: 'float32' there, 'float16' now"):
        run(store, Lengths(), store_dtype="float16")
    (outcome,) = run(store, Lengths(), store_dtype="float16", name="half")
    assert outcome.features.key == "text/lengths.half"
    assert outcome.features.dtype == np.float16
    assert store.feature_sets() == ["text/lengths", "text/lengths.half"]


def test_two_feature_sets_of_one_name_are_refused(tmp_path):
    with pytest.raises(UsageError, match="text/lengths: two encoders"):
        job.plan(make_store(tmp_path, ["a"]), [Lengths(), Lengths()])


def test_a_url_says_how_to_go_on_and_words_need_no_media(tmp_path):
    (tmp_path / "here").mkdir()
    table = pd.DataFrame({"utterance_id": ["p"], "text": ["x"], "media": ["a.wav"]})
    store = Store.create(tmp_path / "s", Corpus("c", table, media_root="http://127.0.0.1:9/corpus"))
    with pytest.raises(MixedSignalsError, match=r"the address is right .* or name a folder \(--media-root\)"):
        job.plan(store, [Seconds()])
    (outcome,) = run(store, Lengths())
    assert outcome.features.ok.all()
    with pytest.raises(UsageError, match="not a folder"):
        Store.open(store.path, media_root=tmp_path / "nowhere")


def test_lengths_come_from_texts_times_and_file_sizes(tmp_path):
    store = make_sounds(tmp_path, [800, 16000], text=["é", "four"], start=[0.5, 0], end=[2.0, np.nan])
    np.testing.assert_array_equal(job.rough_lengths(store, "text"), [2, 4])
    known, guessed = job.rough_lengths(store, "audio")
    assert known == 1.5
    assert guessed == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("of", [1, 2, 3, 8])
def test_shards_are_a_partition_and_of_about_equal_length(of):
    lengths = np.random.default_rng(0).gamma(2, 3, 400)
    parts = [job.Shard(number, of).members(lengths) for number in range(1, of + 1)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(400))
    sums = [lengths[part].sum() for part in parts]
    assert max(sums) < 1.15 * min(sums)
